"""``rules check``, ``test`` and ``backtest``: a config file, its test cases, and what it would have fired."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workermon import errors, models, ports
from workermon.cli import chart, files, options, output, session, tables
from workermon.cli.review import review
from workermon.cli.suggest import suggest

if TYPE_CHECKING:
    from workermon import config
    from workermon.views import backtest, cloudwatch_history, rule_cases


#: Number of charts that are drawn even if nothing would have fired in them.
MAX_CHARTS = 12


@click.group()
def rules() -> None:
    """Work on config files and their rules.

    \b
    Example: workermon rules check fleet.toml
    """


rules.add_command(review)
rules.add_command(suggest)


@rules.command()
@click.argument("file", metavar="FILE")
@options.as_json
@session.pass_session
def check(cli_session: session.Session, file: str, as_json: bool) -> None:
    """Validate a config file, without Redis or AWS.

    If Redis can be reached, it also counts the monitored workers to which each rule applies, and warns of rules that
    cannot fire for them. For a section that the file leaves out it uses the applied one.

    \b
    Example: workermon rules check fleet.toml
    """
    from workermon import config, fleet

    text, source = files.text(file), files.source(file)
    _refuse(_mistakes(cli_session, text, source), source, as_json=as_json)
    config_file = files.parser().parse(text, source)
    configuration = config.to_configuration(config_file, config.DEFAULT)
    records = _monitored(cli_session)
    coverage = fleet.check_coverage(config_file, configuration, [record.worker for record in records])
    in_force = _in_force(cli_session)
    metrics = configuration.metrics if config_file.metrics is not None else in_force.metrics
    warned = [
        *config.warnings(config_file, cli_session.settings.secret, in_force=in_force),
        *coverage.warnings,
        *_unfirable(configuration.model_copy(update={"metrics": metrics}), records),
    ]
    for text in warned:
        output.warn(text)
    if as_json:
        output.document(
            {
                "valid": True,
                "mistakes": [],
                "warnings": warned,
                "file": config_file.source,
                "rules": [rule.name for rule in configuration.rules],
                "channels": list(configuration.channels),
                "workers": [worker.id for worker in config_file.workers or ()],
                "collect": list(configuration.collect),
                "coverage": [models.to_json(rule) for rule in coverage.rules],
            }
        )
        return
    click.echo(
        f"{config_file.source}: valid; rules: {', '.join(rule.name for rule in configuration.rules) or 'none'};"
        f" channels: {', '.join(configuration.channels)}; workers: {len(config_file.workers or ())}"
    )
    for rule in coverage.rules:
        click.echo(output.rule_coverage(rule))


def _mistakes(cli_session: session.Session, text: str, source: str) -> tuple[errors.InvalidInput, ...]:
    """Return everything that is wrong in a config file."""
    from workermon import config

    checks = (
        lambda file: config.to_configuration(file, config.DEFAULT),
        lambda file: config.check_intervals(file, cli_session.settings.min_interval),
        lambda file: config.check_silences(file, time.time()),
        cli_session.check_regions,
    )
    return files.parser().mistakes(text, source, checks)


def _refuse(mistakes: Sequence[errors.InvalidInput], source: str, *, as_json: bool) -> None:
    """Print every mistake except the last, which is raised like any other error."""
    if not mistakes:
        return
    if as_json:
        documents = [{"where": mistake.subject, "why": mistake.reason, "todo": mistake.todo} for mistake in mistakes]
        output.document({"valid": False, "file": source, "mistakes": documents})
    for mistake in mistakes[:-1]:
        click.echo(f"error: {mistake}", err=True)
    raise mistakes[-1]


def _monitored(cli_session: session.Session) -> list[ports.Record]:
    """Return the workers that are monitored; none if Redis is out of reach."""
    try:
        records = list(cli_session.get(ports.Workers).every())
    except errors.RedisUnavailable:
        return []
    return [record for record in records if record.condition.status not in models.GONE]


def _in_force(cli_session: session.Session) -> models.Configuration:
    """Return the configuration that the file would change; the default one if Redis is out of reach."""
    from workermon import config

    try:
        return cli_session.get(ports.Configurations).load()
    except errors.RedisUnavailable:
        return config.DEFAULT


def _unfirable(configuration: models.Configuration, records: Sequence[ports.Record]) -> list[str]:
    """Return which rules cannot fire for these workers."""
    from workermon import views

    unfirable = views.unfirable_rules(configuration, records)
    return [f"rule {rule.rule}: {rule.reason}; {rule.obstacle.todo}" for rule in unfirable]


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
    from workermon.views import rule_cases

    config_file = files.read(file)
    kinds = files.parser().kinds
    results = rule_cases.test(config_file, config.to_configuration(config_file, config.DEFAULT, kinds), kinds)
    if not results.cases:
        raise errors.InvalidInput(config_file.source, "has no [[rules.cases]]", "add one below a [[rules]]")
    if as_json:
        output.document(results)
    else:
        for case in results.cases:
            click.echo(f"{'ok' if case.passed else 'FAILED'} {case.rule}: {case.case}")
            if not case.passed:
                click.echo(f"   expected {_transitions_text(case.expected)}; got {_transitions_text(case.got)}")
        passed = sum(case.passed for case in results.cases)
        click.echo(f"{passed} of {len(results.cases)} cases passed", err=True)
    if not results.passed:
        ctx.exit(1)


def _transitions_text(transitions: tuple[rule_cases.CaseTransition, ...]) -> str:
    return ", ".join(map(_transition, transitions)) or "not at all"


def _transition(transition: rule_cases.CaseTransition) -> str:
    of = "" if transition.worker is None else f" (worker {transition.worker})"
    return f"{transition.to} at value {transition.at}{of}"


@rules.command(name="backtest")
@click.argument("file", metavar="FILE")
@click.option("--worker", "worker", type=options.Text(), metavar="WORKER", help="One worker only.")
@click.option("--csv", "trace", metavar="TRACE", help="A CSV with the columns timestamp,value.")
@click.option("--metric", type=options.Text(), help="The metric in the CSV, if the rules are about several.")
@click.option(
    "--period", type=options.Duration(), metavar="5m", help="The period of the CSV; by default its median step."
)
@click.option(
    "--cloudwatch", "from_cloudwatch", is_flag=True, help="Use CloudWatch's own history; shows the price first."
)
@click.option("--since", type=options.Duration(), metavar="14d", help="How far back to ask CloudWatch (14d).")
@click.option("--region", metavar="REGION", help="The region of an instance that is not monitored.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@options.as_json
@session.pass_session
def replay(
    cli_session: session.Session,
    file: str,
    worker: str | None,
    trace: str | None,
    metric: str | None,
    period: int | None,
    from_cloudwatch: bool,
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

    config_file = files.read(file)
    options.check_trace_period(period, trace)
    if from_cloudwatch and trace:
        raise errors.InvalidInput("--cloudwatch", "a trace is given too", "leave one of them out")
    for option, is_given in (("--since", since is not None), ("--region", region is not None), ("--yes", yes)):
        if is_given and not from_cloudwatch:
            raise errors.InvalidInput(option, "is only for CloudWatch's history", "add --cloudwatch, or leave it out")
    if from_cloudwatch:
        replays = _on_cloudwatch(cli_session, config_file, worker, metric, since or 14 * models.DAY, region, yes=yes)
    else:
        replays = (
            _on_trace(config_file, trace, worker, metric, period)
            if trace
            else _on_ledger(cli_session, config_file, worker, metric)
        )
    episodes = backtest.together(replays)
    if as_json:
        output.document(episodes)
        return
    names = {replay.worker.id: replay.worker.name for replay in replays if replay.worker}
    _show_episodes(episodes, names, time.time())
    _draw(replays)


def _show_episodes(episode_list: backtest.EpisodeList, names: Mapping[str, str], now: float) -> None:
    rows = [
        (
            episode.rule,
            names.get(episode.worker or "", "-"),
            episode.severity,
            output.time(models.rfc3339(episode.begin), now),
            "-" if episode.end is None else output.time(models.rfc3339(episode.end), now),
            "open" if episode.end is None else output.span(episode.end - episode.begin),
            "-" if episode.peak is None else output.quantity(episode.peak, episode.unit),
        )
        for episode in episode_list.episodes
    ]
    if rows:
        tables.show(("RULE", "WORKER", "SEVERITY", "FROM", "TO", "LASTED", "PEAK"), rows)
    else:
        click.echo("nothing would have fired", err=True)


def _draw(replays: Sequence[backtest.Replay]) -> None:
    """Draw each replay below the table; if there are many, only those in which something would have fired."""
    charted = replays if len(replays) <= MAX_CHARTS else [replay for replay in replays if replay.episodes]
    for replay in charted:
        name = f", {replay.worker.name}" if replay.worker else ""
        click.echo()
        click.echo(errors.printable(f"{replay.rule.name}{name}: {models.plural(len(replay.episodes), 'episode')}"))
        for line in chart.draw(replay, min(100, shutil.get_terminal_size().columns)):
            click.echo(line)
    if len(charted) < len(replays):
        click.echo(f"{len(replays) - len(charted)} more in which nothing would have fired are not drawn", err=True)


def _on_trace(
    file: config.File, trace_file: str, worker: str | None, metric: str | None, period: int | None
) -> tuple[backtest.Replay, ...]:
    from workermon import config, views
    from workermon.views import backtest, replayable_rules, trace

    kinds = files.parser().kinds
    configuration = config.to_configuration(file, config.DEFAULT, kinds)
    rules = replayable_rules.rules_for(configuration, kinds, metric, Path(trace_file).name)
    series = trace.read(files.text(trace_file).splitlines(), trace_file, period)
    name = None if worker is None else views.WorkerName(id=worker, name=worker)
    (read,) = replayable_rules.needed_metrics(rules[0], configuration, kinds)
    for text in replayable_rules.over_several(configuration, kinds, read):
        output.warn(f"rule {text}, so it is left out: a trace has one metric")
    return backtest.over_trace(configuration, kinds, read, series, worker=name)


def _on_cloudwatch(
    cli_session: session.Session,
    file: config.File,
    worker: str | None,
    metric: str | None,
    since: int,
    region: str | None,
    *,
    yes: bool,
) -> tuple[backtest.Replay, ...]:
    from workermon import config
    from workermon.views import cloudwatch_history, replayable_rules

    least, most = cloudwatch_history.SINCE
    if not least <= since <= most:
        reason = f"{since} s is not within what CloudWatch keeps, 5 minutes to {most // models.DAY} days"
        raise errors.InvalidInput("--since", reason, "write one such as 14d")
    parser = cli_session.get(config.Parser)
    kinds = parser.kinds
    configuration = config.to_configuration(file, cli_session.container.get(ports.Configurations).load(), kinds)
    rules = replayable_rules.over_metrics(configuration, kinds, metric)
    if metric is not None and not rules:
        metric_names = [
            metric_name
            for rule in replayable_rules.over_metrics(configuration, kinds)
            for metric_name in replayable_rules.needed_metrics(rule, configuration, kinds)
        ]
        raise errors.NotFound(
            f"metric {metric}", "no rule of the file is about it", errors.nearest(metric, metric_names)
        )
    _without_groups(configuration, parser, metric, rules)
    records, stranger = _chosen_workers(cli_session, worker, region)
    if stranger:
        # It has no labels, so rules cannot ask for any.
        rules = [rule.model_copy(update={"labels": {}}) for rule in rules]
    begin = int(cli_session.now()) - since
    requests = cli_session.get(cloudwatch_history.CloudWatchRequests).requests_for(records, rules, configuration, begin)
    _agreed(requests, begin, yes=yes)
    replays = cli_session.get(cloudwatch_history.CloudWatchHistory).replay(records, rules, configuration, requests)
    absent = {
        f"{replay.worker.name}: CloudWatch has no {replay.rule.metric} since then": None
        for replay in replays
        if replay.worker and not replay.segments and replay.rule.metric is not None
    }
    for text in absent:
        output.warn(text)
    return replays


def _without_groups(
    configuration: models.Configuration, parser: config.Parser, metric: str | None, replayed: Sequence[models.Rule]
) -> None:
    """Warn of rules that several workers decide. Refuse if there are no others to replay."""
    from workermon.views import replayable_rules

    left_out = [
        rule.name
        for rule in replayable_rules.over_metrics(configuration, parser.kinds, metric, groups=True)
        if rule not in replayed
    ]
    if left_out and not replayed:
        reason = f"several workers decide {' and '.join(left_out)}, and CloudWatch is read one worker at a time"
        raise errors.InvalidInput("--cloudwatch", reason, "leave it out: the ledger has whole groups")
    for name in left_out:
        output.warn(f"rule {name}: several workers decide it, so it is left out; replay it from the ledger")


def _chosen_workers(
    cli_session: session.Session, worker: str | None, region: str | None
) -> tuple[list[ports.Record], bool]:
    """Return the workers, and whether they are an instance that is not monitored."""
    from workermon import fleet

    if worker is None:
        return list(cli_session.container.get(ports.Workers).every()), False
    try:
        return cli_session.get(fleet.Lookup).resolve([worker]), False
    except errors.UnknownWorker:
        if not models.INSTANCE_ID.fullmatch(worker):
            raise
    scope = models.AccountRegion(region=cli_session.region(region))
    instance = cli_session.container.get(ports.Ec2).describe(scope, [worker]).get(worker)
    if instance is None:
        output.warn(f"{worker}: EC2 in {scope.region} does not know it; CloudWatch may still have its data")
    unmonitored = models.Worker(
        id=worker,
        name=(instance.name if instance else None) or worker,
        region=scope.region,
        added_at=cli_session.now(),
        incarnation="backtest",
        detailed=instance.detailed if instance else False,
    )
    condition = models.Condition(status=instance.status if instance else "unknown")
    return [ports.Record(unmonitored, condition, {}, 0.0, None, 0)], True


def _is_interactive() -> bool:
    """Return whether a user can confirm."""
    return sys.stdin.isatty()


def _note(text: str) -> None:
    click.echo(errors.printable(text), err=True)


def _agreed(requests: Sequence[cloudwatch_history.HistoryRequest], begin: int, *, yes: bool) -> None:
    """Show the price and ask for confirmation."""
    from workermon.views import cloudwatch_history

    number, dollars = cloudwatch_history.price(requests)
    if not number:
        return
    workers = len({request.worker.id for request in requests})
    _note(
        f"This asks CloudWatch for {models.plural(number, 'metric')} of {models.plural(workers, 'worker')}"
        f" since {models.rfc3339(begin)}: ${dollars:.5f}"
        f" ({number} × $0.01 / 1,000)"
    )
    coarse = max((request.spans[0].period for request in requests if len(request.spans) > 1), default=0)
    if coarse:
        _note(f"data older than CloudWatch keeps in full is evaluated by averages of up to {coarse} s")
    if yes:
        return
    if not _is_interactive():
        raise errors.InvalidInput("--cloudwatch", "it costs money, and there is no terminal to confirm it", "add --yes")
    if not click.confirm("Request it?", err=True):
        raise errors.WorkermonError("rules backtest", "the price was not confirmed", "answer y, or add --yes")


def _on_ledger(
    cli_session: session.Session, file: config.File, worker: str | None, metric: str | None
) -> tuple[backtest.Replay, ...]:
    from workermon import config, fleet
    from workermon.views import ledger_backtest, replayable_rules

    if worker is not None:
        records = cli_session.get(fleet.Lookup).resolve([worker])
    else:
        records = list(cli_session.container.get(ports.Workers).every())
    kinds = cli_session.get(config.Parser).kinds
    configuration = config.to_configuration(file, cli_session.container.get(ports.Configurations).load(), kinds)
    ledger = cli_session.get(ledger_backtest.LedgerBacktest)
    return tuple(
        replay
        for rule in replayable_rules.over_metrics(configuration, kinds, metric, groups=True)
        for replay in ledger.replay(records, rule, configuration)
    )
