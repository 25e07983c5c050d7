"""``rules check``, ``test`` and ``backtest``: a config file, its test cases, and what it would have fired."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workermon import errors, models, ports
from workermon.cli import chart, files, options, output, session, tables

if TYPE_CHECKING:
    from workermon import config
    from workermon.views import backtest

    #: A rule, a worker, its datapoints, and the episodes over them.
    Drawn = tuple[str, str | None, Sequence[models.Datapoint], list[backtest.Episode]]


@click.group()
def rules() -> None:
    """Work on config files and their rules.

    \b
    Example: workermon rules check fleet.toml
    """


@rules.command()
@click.argument("file", metavar="FILE")
@options.as_json
@session.pass_session
def check(own: session.Session, file: str, as_json: bool) -> None:
    """Validate a config file, without Redis or AWS.

    If Redis can be reached, the workers that are monitored count where it says how many workers a rule applies to, and
    it warns of rules that cannot fire for them.

    \b
    Example: workermon rules check fleet.toml
    """
    from workermon import config, fleet

    found = files.read(file)
    made = config.to_configuration(found, config.DEFAULT)
    config.check_intervals(found, own.settings.min_interval)
    config.check_silences(found, time.time())
    own.check_regions(found)
    records = _monitored(own)
    coverage = fleet.check_coverage(found, made, [record.worker for record in records])
    warned = [*config.warnings(found, own.settings.secret), *coverage.warnings, *_unfirable(made, records)]
    for text in warned:
        output.warn(text)
    if as_json:
        output.document(
            {
                "valid": True,
                "warnings": warned,
                "file": found.source,
                "rules": [rule.name for rule in made.rules],
                "channels": list(made.channels),
                "workers": [worker.id for worker in found.workers or ()],
                "collect": list(made.collect),
                "coverage": [models.to_json(rule) for rule in coverage.rules],
            }
        )
        return
    click.echo(
        f"{found.source}: valid; rules: {', '.join(rule.name for rule in made.rules) or 'none'};"
        f" channels: {', '.join(made.channels)}; workers: {len(found.workers or ())}"
    )
    for rule in coverage.rules:
        click.echo(output.rule_coverage(rule))


def _monitored(own: session.Session) -> list[ports.Record]:
    """Return the workers that are monitored; none if Redis is out of reach."""
    try:
        records = list(own.get(ports.Workers).every())  # type: ignore[type-abstract]
    except errors.RedisUnavailable:
        return []
    return [record for record in records if record.condition.status not in models.GONE]


def _unfirable(configuration: models.Configuration, records: Sequence[ports.Record]) -> list[str]:
    """Return which rules cannot fire for these workers."""
    from workermon import views

    found = views.unfirable_rules(configuration, records)
    return [f"rule {rule.rule}: {rule.reason}; {rule.obstacle.todo}" for rule in found]


@rules.command()
@click.argument("file", metavar="FILE")
@options.as_json
@click.pass_context
def test(ctx: click.Context, file: str, as_json: bool) -> None:
    """Run the test cases that a config file contains for its rules.

    It exits 1 if one of them fails. It needs neither Redis nor AWS.

    \b
    Example: workermon rules test fleet.toml
    """
    from workermon import config
    from workermon.views import backtest

    found = files.read(file)
    tried = backtest.test(config.to_configuration(found, config.DEFAULT).rules, found.cases)
    if not tried:
        raise errors.InvalidInput(found.source, "has no [[rules.cases]]", "add one below a [[rules]]")
    wrong = [one for one in tried if not one.passed]
    if as_json:
        output.document({"passed": not wrong, "cases": [_case(one) for one in tried]})
    else:
        for one in tried:
            click.echo(f"{'ok' if one.passed else 'FAILED'} {one.rule}: {one.case}")
            if not one.passed:
                click.echo(f"   expected {_turns(one.expected)}; it turned {_turns(one.got)}")
        click.echo(f"{len(tried) - len(wrong)} of {len(tried)} cases passed", err=True)
    if wrong:
        ctx.exit(1)


def _case(one: backtest.Tried) -> dict[str, object]:
    expected, got = ([{"at": at, "to": to} for at, to in turns] for turns in (one.expected, one.got))
    return {"rule": one.rule, "case": one.case, "passed": one.passed, "expected": expected, "got": got}


def _turns(turns: tuple[tuple[int, str], ...]) -> str:
    return ", ".join(f"{to} at value {at}" for at, to in turns) or "not at all"


@rules.command(name="backtest")
@click.argument("file", metavar="FILE")
@click.option("--worker", "worker", type=options.Text(), metavar="WORKER", help="One worker only.")
@click.option("--csv", "trace", metavar="TRACE", help="A CSV with the columns timestamp,value.")
@click.option("--metric", type=options.Text(), help="The metric in the CSV, if the rules are about several.")
@click.option(
    "--period", type=options.Duration(), metavar="5m", help="The period of the CSV; by default its median step."
)
@click.option("--cloudwatch", "asks", is_flag=True, help="Use CloudWatch's own history; shows the price first.")
@click.option("--since", type=options.Duration(), metavar="14d", help="How far back to ask CloudWatch (14d).")
@click.option("--region", metavar="REGION", help="The region of a worker that is not monitored.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@options.as_json
@session.pass_session
def replay(
    own: session.Session,
    file: str,
    worker: str | None,
    trace: str | None,
    metric: str | None,
    period: int | None,
    asks: bool,
    since: int | None,
    region: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Show what the rules of a config file would have fired on recorded data.

    The data is a CSV trace (then neither Redis nor AWS is needed), CloudWatch's own history, or the ledger: of one
    worker or of all. CloudWatch is asked only after you have seen the price and agreed.

    \b
    Example: workermon rules backtest fleet.toml --csv cpu.csv
    """
    from workermon.views import backtest

    found = files.read(file)
    if period is not None and (trace is None or not 1 <= period <= models.DAY):
        raise errors.InvalidInput("--period", "is for a trace, 1 s to 24 h", "add --csv, or leave it out")
    if asks and trace:
        raise errors.InvalidInput("--cloudwatch", "a trace is given too", "leave one of them out")
    for option, is_given in (("--since", since is not None), ("--region", region is not None), ("--yes", yes)):
        if is_given and not asks:
            raise errors.InvalidInput(option, "is for CloudWatch's history", "add --cloudwatch, or leave it out")
    if asks:
        drawn = _on_cloudwatch(own, found, worker, metric, since or 14 * models.DAY, region, yes=yes)
    else:
        drawn = _on_trace(found, trace, worker, metric, period) if trace else _on_ledger(own, found, worker, metric)
    every = [episode for _, _, _, episodes in drawn for episode in episodes]
    document = backtest.document(every)
    if as_json:
        output.document(document)
        return
    for rule, name, points, episodes in drawn:
        spans = [(one.begin, one.end, one.severity) for one in episodes]
        click.echo(errors.printable(f"{rule}{f', {name}' if name else ''}: {len(episodes)} episodes"))
        for line in chart.draw(points, spans, min(100, shutil.get_terminal_size().columns)):
            click.echo(line)
    rows = [
        (
            one.rule,
            one.worker or "-",
            one.severity,
            models.rfc3339(one.begin),
            "-" if one.end is None else models.rfc3339(one.end),
            "open" if one.end is None else output.span(one.end - one.begin),
            "-" if one.peak is None else f"{one.peak:g}",
        )
        for one in sorted(every, key=lambda one: one.begin)
    ]
    if rows:
        tables.show(("RULE", "WORKER", "SEVERITY", "FROM", "TO", "LASTED", "PEAK"), rows)
    else:
        click.echo("nothing would have fired", err=True)


def _on_trace(file: config.File, trace: str, worker: str | None, metric: str | None, period: int | None) -> list[Drawn]:
    from workermon import config
    from workermon.views import backtest

    made = config.to_configuration(file, config.DEFAULT)
    rules = backtest.rules_for(made, metric, Path(trace).name)
    series = backtest.read_trace(files.text(trace).splitlines(), trace, period)
    return [(rule.name, worker, series.points, backtest.episodes(rule, [series], worker=worker)) for rule in rules]


def _on_cloudwatch(
    own: session.Session,
    file: config.File,
    worker: str | None,
    metric: str | None,
    since: int,
    region: str | None,
    *,
    yes: bool,
) -> list[Drawn]:
    from workermon import config
    from workermon.views import backtest

    least, most = backtest.SINCE
    if not least <= since <= most:
        why = f"{since} s is not within what CloudWatch keeps, 5 minutes to {most // models.DAY} days"
        raise errors.InvalidInput("--since", why, "write one such as 14d")
    made = config.to_configuration(file, own.container.get(ports.Configurations).load())
    rules = backtest.over_metrics(made, metric)
    if metric is not None and not rules:
        known = [rule.metric or "" for rule in backtest.over_metrics(made)]
        raise errors.NotFound(f"metric {metric}", "no rule of the file is about it", errors.nearest(metric, known))
    records, stranger = _meant(own, worker, region)
    if stranger:
        # It has no labels, so rules cannot ask for any.
        rules = [rule.model_copy(update={"labels": {}}) for rule in rules]
    begin = int(own.now()) - since
    asked = own.get(backtest.CloudWatchHistory).wanted(records, rules, made, begin)
    _agreed(asked, begin, yes=yes)
    series = own.get(backtest.CloudWatchHistory).fetch(asked)
    drawn: list[Drawn] = []
    absent: dict[str, None] = {}
    for rule in rules:
        for record in records:
            if not rule.applies_to(record.worker):
                continue
            segments = series.get((record.worker.id, rule.metric or ""), [])
            if not segments:
                absent[f"{record.worker.name}: CloudWatch has no {rule.metric} since then"] = None
            until = backtest.newest(record, rule, made, own.now())
            points = [point for segment in segments for point in segment.points]
            found = backtest.episodes(rule, segments, worker=record.worker.id, until=until)
            drawn.append((rule.name, record.worker.name, points, found))
    for text in absent:
        output.warn(text)
    return drawn


def _meant(own: session.Session, worker: str | None, region: str | None) -> tuple[list[ports.Record], bool]:
    """Return the workers, and whether they are an instance that is not monitored."""
    from workermon import fleet

    if worker is None:
        return list(own.container.get(ports.Workers).every()), False
    try:
        return own.get(fleet.Lookup).resolve([worker]), False
    except errors.UnknownWorker:
        if not models.INSTANCE_ID.fullmatch(worker):
            raise
    scope = models.AccountRegion(region=own.region(region))
    found = own.container.get(ports.Ec2).describe(scope, [worker]).get(worker)
    if found is None:
        output.warn(f"{worker}: EC2 in {scope.region} does not know it (any more); CloudWatch may")
    made = models.Worker(
        id=worker,
        name=(found.name if found else None) or worker,
        region=scope.region,
        added_at=own.now(),
        incarnation="backtest",
        detailed=found.detailed if found else False,
    )
    condition = models.Condition(status=found.status if found else "unknown")
    return [ports.Record(made, condition, {}, 0.0, None, 0)], True


def _asks() -> bool:
    """Return whether somebody can be asked."""
    return sys.stdin.isatty()


def _note(text: str) -> None:
    click.echo(errors.printable(text), err=True)


def _agreed(asked: Sequence[backtest.Wanted], begin: int, *, yes: bool) -> None:
    """Show the price and ask for confirmation."""
    from workermon.views import backtest

    number, dollars = backtest.price(asked)
    if not number:
        return
    workers = len({one.worker.id for one in asked})
    _note(
        f"CloudWatch is asked for {number} metric{'' if number == 1 else 's'} of {workers}"
        f" worker{'' if workers == 1 else 's'} since {models.rfc3339(begin)}: ${dollars:.5f}"
        f" ({number} × $0.01 / 1,000)"
    )
    coarse = max((one.spans[0].period for one in asked if len(one.spans) > 1), default=0)
    if coarse:
        _note(f"what is older than CloudWatch keeps in full is judged by averages of up to {coarse} s")
    if yes:
        return
    if not _asks():
        raise errors.InvalidInput("--cloudwatch", "that costs money, and nobody can confirm it here", "add --yes")
    if not click.confirm("ask for it?", err=True):
        raise errors.WorkermonError("rules backtest", "you did not agree", "nothing was asked of CloudWatch")


def _on_ledger(own: session.Session, file: config.File, worker: str | None, metric: str | None) -> list[Drawn]:
    from workermon import config, fleet
    from workermon.views import backtest

    if worker is not None:
        records = own.get(fleet.Lookup).resolve([worker])
    else:
        records = list(own.container.get(ports.Workers).every())
    made = config.to_configuration(file, own.container.get(ports.Configurations).load())
    rules = backtest.over_metrics(made, metric)
    drawn: list[Drawn] = []
    for rule in rules:
        for record, segments, episodes in own.get(backtest.LedgerBacktest).replay(records, rule, made):
            points = [point for segment in segments for point in segment.points]
            drawn.append((rule.name, record.worker.name, points, episodes))
    return drawn
