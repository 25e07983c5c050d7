"""``rules review``: what a change of a config file would have fired, and whom it would have notified."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from workermon import errors, models, ports
from workermon.cli import files, options, output, session, tables

if TYPE_CHECKING:
    from workermon import config
    from workermon.views import backtest, rule_review

#: Episodes of a rule that a comment lists one by one.
MAX_LISTED = 10


@click.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option(
    "--since", type=options.Duration(), metavar="7d", help="How far back; by default everything that is recorded."
)
@click.option("--csv", "trace", metavar="TRACE", help="A CSV with the columns timestamp,value.")
@click.option("--metric", type=options.Text(), help="The metric in the CSV, if the rules are about several.")
@click.option(
    "--period", type=options.Duration(), metavar="5m", help="The period of the CSV; by default its median step."
)
@click.option("--markdown", is_flag=True, help="Print Markdown, for a comment on a change request.")
@options.as_json
@session.pass_session
def review(
    cli_session: session.Session,
    old: str,
    new: str,
    since: int | None,
    trace: str | None,
    metric: str | None,
    period: int | None,
    markdown: bool,
    as_json: bool,
) -> None:
    """Compare what two config files would have fired, whom they would have notified, and what they cost.

    The data is the ledger, or a CSV trace (then neither Redis nor AWS is needed, and nothing is priced). Nothing is
    applied.

    \b
    Example: workermon rules review old.toml new.toml --markdown
    """
    options.check_trace_period(period, trace)
    if markdown and as_json:
        raise errors.InvalidInput("--markdown", "--json is given too", "leave one of them out")
    configs = files.read(old), files.read(new)
    result = (
        _of_trace(configs, files.parser(), trace, metric, period, since)
        if trace
        else _of_ledger(cli_session, configs, metric, since)
    )
    if as_json:
        output.document(result)
    elif markdown:
        for line in _markdown(result):
            click.echo(line)
    else:
        _show(result)


def _of_trace(
    configs: tuple[config.File, config.File],
    parser: config.Parser,
    trace_file: str,
    metric: str | None,
    period: int | None,
    since: int | None,
) -> rule_review.Review:
    from workermon import config
    from workermon.views import backtest, replayable_rules, rule_review, trace

    kinds = parser.kinds
    series = trace.read(files.text(trace_file).splitlines(), trace_file, period)
    configurations = [config.to_configuration(file, config.DEFAULT, kinds) for file in configs]
    name = Path(trace_file).name
    if metric is None:
        # A rule that only one of them has also tells which metric is meant.
        every = configurations[1].model_copy(update={"rules": (*configurations[1].rules, *configurations[0].rules)})
        rule, *_ = replayable_rules.rules_for(every, kinds, None, name)
        (metric,) = replayable_rules.needed_metrics(rule, every, kinds)
    sides = [
        rule_review.Side(
            source=file.source,
            configuration=configuration,
            replays=backtest.over_trace(configuration, kinds, metric, series),
        )
        for file, configuration in zip(configs, configurations, strict=True)
    ]
    if not any(side.replays for side in sides):
        metric_names = [
            metric_name
            for loaded in configurations
            for rule in replayable_rules.over_metrics(loaded, kinds)
            for metric_name in kinds[rule.kind].metrics(rule)
        ]
        raise errors.NotFound(
            f"metric {metric}", "no rule of the files is about it", errors.nearest(metric, metric_names)
        )
    begin = None if since is None or not series.points else series.points[-1].at + series.period - since
    return rule_review.compare(sides[0], sides[1], kinds, since=begin)


def _of_ledger(
    cli_session: session.Session, configs: tuple[config.File, config.File], metric: str | None, since: int | None
) -> rule_review.Review:
    from workermon import config, fleet
    from workermon.views import ledger_backtest, replayable_rules, rule_review

    kinds = cli_session.get(config.Parser).kinds
    in_force = cli_session.container.get(ports.Configurations).load()
    records = list(cli_session.container.get(ports.Workers).every())
    before, after = (config.to_configuration(file, in_force, kinds) for file in configs)
    ledger = cli_session.get(ledger_backtest.LedgerBacktest)
    # What is recorded is that of the retention in force, whatever the files say.
    sides = [
        rule_review.Side(
            source=file.source,
            configuration=configuration,
            replays=[
                replay
                for rule in replayable_rules.over_metrics(configuration, kinds, metric, groups=True)
                for replay in ledger.replay(
                    records, rule, configuration.model_copy(update={"retention": in_force.retention})
                )
            ],
        )
        for file, configuration in zip(configs, (before, after), strict=True)
    ]
    begin = None if since is None else cli_session.now() - since
    result = rule_review.compare(sides[0], sides[1], kinds, since=begin, workers=len(records))
    price = cli_session.get(fleet.Pricing).price(fleet.Comparison(before=before, after=after, fleet=records), ask=False)
    dollars = rule_review.Dollars(before=price.dollars.before, after=price.dollars.after)
    return result.model_copy(update={"dollars_per_month": dollars})


# --- text --------------------------------------------------------------------------------------------------------

HEAD = ("RULE", "CHANGE", "FIRED", "NOTIFIED", "FIRED FOR")


def _show(result: rule_review.Review) -> None:
    rows = [_row(rule) for rule in result.rules]
    if rows:
        tables.show(HEAD, rows)
    else:
        click.echo("no rule of the files can be replayed", err=True)
    for rule in result.rules:
        for line in (*_keys(rule), *_episodes(rule)):
            click.echo(errors.printable(f"{rule.rule}: {line}"))
    for line in _lines(result):
        click.echo(errors.printable(line))


def _row(rule: rule_review.RuleReview) -> tuple[str, ...]:
    seconds = (output.span(rule.seconds.before), output.span(rule.seconds.after))
    counts = [_counts(rule.fired), _counts(rule.notified), seconds[0] if len({*seconds}) == 1 else " → ".join(seconds)]
    return (rule.rule, rule.change, *(counts if rule.recorded else ["nothing recorded", "-", "-"]))


def _counts(counts: rule_review.Counts) -> str:
    return str(counts.after) if counts.before == counts.after else f"{counts.before} → {counts.after}"


def _keys(rule: rule_review.RuleReview) -> Iterator[str]:
    yield from rule.keys


def _episodes(rule: rule_review.RuleReview) -> Iterator[str]:
    """Describe the episodes that only one of the files has, at most a few."""
    for effect, episodes in (("would fire", rule.appeared), ("would no longer fire", rule.vanished)):
        for episode in episodes[:MAX_LISTED]:
            yield f"{effect} {_span(episode)}"
        if len(episodes) > MAX_LISTED:
            yield f"{effect} {len(episodes) - MAX_LISTED} times more"


def _span(episode: backtest.Episode) -> str:
    until = "and goes on" if episode.end is None else f"until {models.rfc3339(episode.end)}"
    for_worker = f" for {episode.worker}" if episode.worker else ""
    return f"{episode.severity}{for_worker} from {models.rfc3339(episode.begin)} {until}"


def _lines(result: rule_review.Review) -> Iterator[str]:
    for channel in result.channels:
        yield f"channel {channel.channel}: notified of {_counts(channel.notified)} alerts"
    if result.not_replayed:
        yield f"not recorded, so not compared: {', '.join(result.not_replayed)}"
    price = result.dollars_per_month
    if price is not None:
        yield f"CloudWatch: about ${price.after:.2f} a month, ${price.before:.2f} before"


# --- Markdown ----------------------------------------------------------------------------------------------------


def _markdown(result: rule_review.Review) -> Iterator[str]:
    """Yield the lines of a comment: a table of the rules, what is different, and the price."""
    yield f"### Rules: {_cell(result.old)} → {_cell(result.new)}"
    yield ""
    over = "a trace" if result.workers is None else models.plural(result.workers, "worker")
    if result.since is not None and result.until is not None:
        yield f"Over {over}, from {models.rfc3339(result.since)} to {models.rfc3339(result.until)}."
    else:
        yield f"Over {over}; nothing is recorded."
    yield ""
    if result.rules:
        yield from _table(tuple(name.capitalize() for name in HEAD), [_row(rule) for rule in result.rules])
        yield ""
    changed = [(rule, [*_keys(rule), *_episodes(rule)]) for rule in result.rules]
    if any(lines for _, lines in changed):
        yield "<details><summary>What is different</summary>"
        yield ""
        for rule, lines in changed:
            for line in lines:
                yield f"- `{rule.rule}`: {_cell(line)}"
        yield ""
        yield "</details>"
        yield ""
    for line in _lines(result):
        yield f"- {_cell(line)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---' for _ in head)} |"
    for row in rows:
        yield f"| {' | '.join(_cell(cell) for cell in row)} |"


def _cell(text: str) -> str:
    """Return text that Markdown shows unchanged, in one line."""
    escaped = errors.printable(text).replace("\\", "\\\\")
    for character in "|*_`<>[]":
        escaped = escaped.replace(character, f"\\{character}")
    return escaped
