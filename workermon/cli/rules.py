"""``rules check``, ``test`` and ``backtest``: a config file, its cases, and what it would have fired."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workermon import errors, models, ports
from workermon.cli import chart, files, options, output, session

if TYPE_CHECKING:
    from workermon import backtest, config

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

    \b
    Example: workermon rules check fleet.toml
    """
    from workermon import config

    found = files.read(file)
    made = config.to_configuration(found, config.DEFAULT)
    config.check_intervals(found, own.settings.min_interval)
    config.check_silences(found, time.time())
    warned = config.warnings(found, own.settings.secret)
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
            }
        )
        return
    click.echo(
        f"{found.source}: valid; rules: {', '.join(rule.name for rule in made.rules) or 'none'};"
        f" channels: {', '.join(made.channels)}; workers: {len(found.workers or ())}"
    )


@rules.command()
@click.argument("file", metavar="FILE")
@options.as_json
@click.pass_context
def test(ctx: click.Context, file: str, as_json: bool) -> None:
    """Run the cases that a config file gives for its rules.

    It exits 1 where one of them turns otherwise than expected. Neither Redis nor AWS is needed.

    \b
    Example: workermon rules test fleet.toml
    """
    from workermon import backtest, config

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
@click.option("--metric", type=options.Text(), help="What the CSV holds, where the rules are about several.")
@click.option("--period", type=options.Duration(), metavar="5m", help="Its period; its median step where left out.")
@options.as_json
@session.pass_session
def replay(
    own: session.Session,
    file: str,
    worker: str | None,
    trace: str | None,
    metric: str | None,
    period: int | None,
    as_json: bool,
) -> None:
    """Tell what the rules of a config file would have fired on recorded data.

    That is a CSV trace (neither Redis nor AWS is needed then), else the ledger: of one worker, or of all.

    \b
    Example: workermon rules backtest fleet.toml --csv cpu.csv
    """
    from workermon import backtest

    found = files.read(file)
    if period is not None and (trace is None or not 1 <= period <= models.DAY):
        raise errors.InvalidInput("--period", "is for a trace, 1 s to 24 h", "add --csv, or leave it out")
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
        output.table(("RULE", "WORKER", "SEVERITY", "FROM", "TO", "LASTED", "PEAK"), rows)
    else:
        click.echo("nothing would have fired", err=True)


def _on_trace(file: config.File, trace: str, worker: str | None, metric: str | None, period: int | None) -> list[Drawn]:
    from workermon import backtest, config

    made = config.to_configuration(file, config.DEFAULT)
    rules = backtest.rules_for(made, metric, Path(trace).name)
    series = backtest.read_trace(files.text(trace).splitlines(), trace, period)
    return [(rule.name, worker, series.points, backtest.episodes(rule, [series], worker=worker)) for rule in rules]


def _on_ledger(own: session.Session, file: config.File, worker: str | None, metric: str | None) -> list[Drawn]:
    from workermon import backtest, config, fleet

    if worker is not None:
        records = own.call(fleet.resolve, [worker])
    else:
        records = list(own.container.get(ports.Workers).every())
    made = config.to_configuration(file, own.container.get(ports.Configurations).load())
    rules = [rule for rule in made.rules if rule.kind == "threshold" and metric in (None, rule.metric)]
    drawn: list[Drawn] = []
    for rule in rules:
        for record, segments, episodes in own.call(backtest.ledger, records, rule, made):
            points = [point for segment in segments for point in segment.points]
            drawn.append((rule.name, record.worker.name, points, episodes))
    return drawn
