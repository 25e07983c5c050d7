"""``plan``, ``apply`` and ``export``: show what a config file would change, apply it, print the set-up as one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from workermon import errors, ports
from workermon.cli import files, options, output, session

if TYPE_CHECKING:
    from workermon import config, fleet

FILE = click.argument("file", metavar="FILE")
#: The singular of each kind of thing, beside workers, that a file changes.
KINDS = {
    "rules": "rule", "channels": "channel", "collected": "metric", "silences": "silence", "settings": "setting",
}  # fmt: skip
SKIP = click.option("--skip-missing", is_flag=True, help="Leave out workers that EC2 does not have.")


@click.command()
@FILE
@SKIP
@options.as_json
@session.pass_session
def plan(own: session.Session, file: str, skip_missing: bool, as_json: bool) -> None:
    """Show what a config file would change, and what CloudWatch would cost a month.

    It changes nothing, and refuses what apply would refuse.

    \b
    Example: workermon plan fleet.toml
    """
    from workermon import config, fleet

    found = files.read(file)
    own.check_regions(found)
    config.check_silences(found, own.now())
    planned = own.get(fleet.Application).plan(found, _options(own, skip_missing))
    told = _told(found, planned)
    _strangers(found, planned)
    _starved(planned)
    if as_json:
        output.document(told)
    else:
        _show(told, same=planned.is_empty)


@click.command()
@FILE
@SKIP
@options.as_json
@session.pass_session
def apply(own: session.Session, file: str, skip_missing: bool, as_json: bool) -> None:
    """Apply a config file in one step: all of it or nothing.

    It shows what plan shows.

    \b
    Example: workermon apply fleet.toml
    """
    from workermon import config, fleet

    found = files.read(file)
    own.check_regions(found)
    config.check_silences(found, own.now())
    for text in config.warnings(found, own.settings.secret):
        output.warn(text)
    planned = own.get(fleet.Application).plan(found, _options(own, skip_missing))
    told = _told(found, planned)
    _strangers(found, planned)
    _starved(planned)
    done = own.get(fleet.Application).apply(found, _options(own, skip_missing))
    for worker_id, why in own.collect(done.added).failed.items():
        output.warn(f"{worker_id}: {why}")
    if as_json:
        output.document({**told, **{key: _plain(value) for key, value in dataclasses.asdict(done).items()}})
        return
    _show(told, same=planned.is_empty)
    changed = f"changed {', '.join(done.changed)}" if done.changed else "rules and channels are unchanged"
    click.echo(f"{found.source}: applied, revision {done.revision}; {changed}")


def _options(own: session.Session, skip_missing: bool) -> fleet.ApplyOptions:
    from workermon import fleet

    return fleet.ApplyOptions(
        region=own.default_region,
        interval=own.settings.interval,
        min_interval=own.settings.min_interval,
        missing="skip" if skip_missing else "refuse",
    )


def _told(file: config.File, planned: fleet.Plan) -> dict[str, Any]:
    from workermon import costs, models
    from workermon.config import difference

    known = {
        record.worker.id: (record.worker, {name: len(found) for name, found in record.dimensions.items()})
        for record in planned.fleet
        if record.condition.status not in models.GONE
    }
    changed = (*planned.added, *planned.updated)
    now, then = costs.monthly_change(planned.before, planned.after, known, changed, planned.removed)
    return {
        "file": file.source,
        "added": [worker.id for worker in planned.added],
        "updated": [worker.id for worker in planned.updated],
        "removed": list(planned.removed),
        "skipped": list(planned.skipped),
        **dataclasses.asdict(difference.changes(planned.before, planned.after)),
        "dollars_per_month": {"before": round(now, 2), "after": round(then, 2)},
    }


def _strangers(file: config.File, planned: fleet.Plan) -> None:
    """Warn of a silence for an unknown worker: it may be meant for later, or be misspelt."""
    workers = [record.worker for record in planned.fleet] + [*planned.added, *planned.updated]
    known = {name for worker in workers for name in (worker.id, worker.name)}
    for place, one in enumerate(file.silences or ()):
        if one.worker is not None and one.worker not in known:
            meant = errors.did_you_mean(one.worker, known)
            output.warn(f"silences[{place}].worker: there is no {one.worker} yet{f'; {meant}' if meant else ''}")


def _starved(planned: fleet.Plan) -> None:
    """Warn of a rule that stays while the file ends the collection of its metric."""
    configuration = planned.after
    for rule in configuration.rules:
        if rule.metric in configuration.metrics and rule.metric not in configuration.collect:
            output.warn(
                f"rule {rule.name}: {rule.metric} is not collected, so it can never fire; add it to [collect] metrics,"
                " or write the [[rules]] that should apply"
            )


def _show(told: dict[str, Any], *, same: bool) -> None:
    for worker_id in told["skipped"]:
        output.warn(f"{worker_id}: EC2 does not have it, so it is left out")
    if same:
        click.echo("nothing changes")
    for what in ("added", "updated", "removed"):
        for each in told[what]:
            click.echo(f"{what} {each}")
    for kind, one in KINDS.items():
        for what, names in told[kind].items():
            for name in names:
                click.echo(f"{what} {one} {errors.printable(name)}")
    price = told["dollars_per_month"]
    click.echo(f"CloudWatch: about ${price['after']:.2f} a month, ${price['before']:.2f} before")


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


@click.command()
@session.pass_session
def export(own: session.Session) -> None:
    """Print the whole set-up as a config file that apply takes.

    \b
    Example: workermon export > fleet.toml
    """
    from workermon.config import export as stage

    workers = [record.worker for record in own.container.get(ports.Workers).every()]
    click.echo(stage.text(own.container.get(ports.Configurations).load(), workers, own.now()), nl=False)
