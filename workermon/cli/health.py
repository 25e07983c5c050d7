"""``status``: is all of it alive."""

from __future__ import annotations

import click

from workermon import errors, models
from workermon.cli import options, output, session


@click.command()
@options.as_json
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Tell whether every part is alive; exits 0 only then.

    \b
    Example: workermon status --json
    """
    from workermon import health

    own: session.Session = ctx.obj
    found = own.call(health.status)
    if as_json:
        output.document(models.to_json(found))
    else:
        rows = [("ok" if part.ok else "DOWN", part.name, errors.printable(part.reason)) for part in found.parts]
        output.table(("STATE", "PART", "WHY"), rows, [None if part.ok else "red" for part in found.parts])
        figures = ", ".join(f"{number} {what}" for what, number in found.workers.items())
        click.echo(f"workers: {figures}; alerts: {found.alerts} firing; waiting notifications: {found.backlog}")
        for kind, number in found.troubled.items():
            click.echo(f"collection fails for {number}: {kind}")
        for name, why in found.quarantined.items():
            click.echo(f"entry set aside: {errors.printable(name)}: {errors.printable(why)}")
    ctx.exit(0 if found.ok else 1)
