"""``apply``: a config file made so."""

from __future__ import annotations

import click

from workermon.cli import files, options, output, session


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--skip-missing", is_flag=True, help="Leave out workers that EC2 does not have, instead of refusing.")
@options.as_json
@session.pass_session
def apply(own: session.Session, file: str, skip_missing: bool, as_json: bool) -> None:
    """Make the set-up what a config file says: all or nothing.

    \b
    Example: workermon apply fleet.toml
    """
    from workermon import fleet

    found = files.read(file)
    own.check_regions(found)
    done = own.call(
        fleet.apply,
        found,
        region=own.default_region,
        interval=own.settings.interval,
        least=own.settings.min_interval,
        missing="skip" if skip_missing else "refuse",
    )
    for worker_id, why in own.collect(done.added).failed.items():
        output.warn(f"{worker_id}: {why}")
    for worker_id in done.skipped:
        output.warn(f"{worker_id}: EC2 does not have it, so it was left out")
    if as_json:
        output.document({"file": found.source, **{key: _plain(value) for key, value in done._asdict().items()}})
        return
    for what, which in (("added", done.added), ("updated", done.updated), ("removed", done.removed)):
        for each in which:
            click.echo(f"{what} {each}")
    changed = f"changed {', '.join(done.changed)}" if done.changed else "rules and channels are unchanged"
    click.echo(f"{found.source}: applied, revision {done.revision}; {changed}")


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
