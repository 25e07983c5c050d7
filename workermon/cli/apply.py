"""``plan``, ``apply`` and ``export``: show what a config file would change, apply it, print the set-up as one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from workermon import errors, ports
from workermon.cli import audit_recording, files, options, output, session

if TYPE_CHECKING:
    from workermon import fleet
    from workermon.config import difference

FILE = click.argument("file", metavar="FILE")
SKIP = click.option("--skip-missing", is_flag=True, help="Leave out workers that EC2 does not have.")


@click.command()
@FILE
@SKIP
@options.as_json
@session.pass_session
def plan(cli_session: session.Session, file: str, skip_missing: bool, as_json: bool) -> None:
    """Show what a config file would change, and what CloudWatch would cost a month.

    It changes nothing, and refuses what apply would refuse.

    \b
    Example: workermon plan fleet.toml
    """
    from workermon import fleet

    config_file = files.read(file)
    cli_session.check_regions(config_file)
    planned = cli_session.get(fleet.Preview).preview(config_file, _options(cli_session, skip_missing))
    _warn(planned)
    if as_json:
        output.document(planned)
    else:
        _show(planned)


@click.command(cls=audit_recording.Write)
@FILE
@SKIP
@options.as_json
@session.pass_session
def apply(cli_session: session.Session, file: str, skip_missing: bool, as_json: bool) -> None:
    """Apply a config file in one step: all of it or nothing.

    It also shows what plan shows.

    \b
    Example: workermon apply fleet.toml
    """
    from workermon import fleet

    config_file = files.read(file)
    cli_session.check_regions(config_file)
    applied = cli_session.get(fleet.Application).apply(config_file, _options(cli_session, skip_missing))
    _warn(applied)
    for worker_id, error in cli_session.collect(applied.added).failed.items():
        output.warn(f"{worker_id}: {error}")
    if as_json:
        output.document(applied)
        return
    _show(applied)
    changed = f"changed {', '.join(applied.changed)}" if applied.changed else "rules and channels are unchanged"
    click.echo(f"{config_file.source}: applied, revision {applied.revision}; {changed}")


def _options(cli_session: session.Session, skip_missing: bool) -> fleet.ApplyOptions:
    from workermon import fleet

    return fleet.ApplyOptions(
        region=cli_session.default_region,
        interval=cli_session.settings.interval,
        min_interval=cli_session.settings.min_interval,
        missing="skip" if skip_missing else "refuse",
    )


def _warn(report: fleet.ChangeReport) -> None:
    for text in report.warnings:
        output.warn(text)


def _show(report: fleet.ChangeReport) -> None:
    if report.is_empty:
        click.echo("nothing changes")
    for line in (*_fleet_lines(report), *_configuration_lines(report)):
        click.echo(line)
    for rule in report.rules:
        click.echo(output.rule_coverage(rule))
    price, by_cadence = report.dollars_per_month, report.dollars_by_cadence
    click.echo(f"a month by cadence: fixed ${by_cadence.fixed:.2f}, adaptive about ${by_cadence.adaptive:.2f}")
    for metric, number in report.series.items():
        if number > report.workers:
            click.echo(f"{metric}: {number} series")
    click.echo(f"CloudWatch: about ${price.after:.2f} a month, ${price.before:.2f} before")


def _fleet_lines(report: fleet.ChangeReport) -> Iterator[str]:
    for change, worker_ids in (("added", report.added), ("updated", report.updated), ("removed", report.removed)):
        for worker_id in worker_ids:
            reason = ": taken over, because [discover] matches it too" if worker_id in report.taken_over else ""
            yield f"{change} {worker_id}{reason}"


def _configuration_lines(report: fleet.ChangeReport) -> Iterator[str]:
    details = {
        (difference.what, difference.name): ", ".join(map(str, difference.changes)) for difference in report.differences
    }
    for kind, names in _changes(report):
        for how, changed in (("added", names.added), ("changed", names.changed), ("removed", names.removed)):
            for name in changed:
                detail = f": {details[kind, name]}" if how == "changed" and details.get((kind, name)) else ""
                yield errors.printable(f"{how} {kind} {name}{detail}")


def _changes(report: fleet.ChangeReport) -> tuple[tuple[str, difference.Names], ...]:
    """Return the changes, by the singular of their kind."""
    return (
        ("rule", report.rule_changes),
        ("channel", report.channels),
        ("metric", report.collected),
        ("silence", report.silences),
        ("setting", report.settings),
    )


@click.command()
@session.pass_session
def export(cli_session: session.Session) -> None:
    """Print the whole set-up as a config file that apply takes.

    \b
    Example: workermon export > fleet.toml
    """
    from workermon.config.export import text

    workers = [record.worker for record in cli_session.container.get(ports.Workers).every()]
    click.echo(text(cli_session.container.get(ports.Configurations).load(), workers, cli_session.now()), nl=False)
    output.unreadable(cli_session.container.get(ports.Unreadable).load())
