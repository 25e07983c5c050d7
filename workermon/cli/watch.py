"""``watch``: samples and alerts as they come."""

from __future__ import annotations

import json
import sys

import click

from workermon import errors, models
from workermon.cli import options, output, session


@click.command()
@click.argument("names", metavar="[WORKER]...", nargs=-1, type=options.Text())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("--seconds", type=click.IntRange(min=1), help="End after that many seconds.")
@session.pass_session
def watch(own: session.Session, names: tuple[str, ...], as_json: bool, seconds: int | None) -> None:
    """Show samples and alerts as they come, until Ctrl-C.

    The newest sample of each worker and the alerts that fire come first.

    \b
    Example: workermon watch render-07 --json
    """
    from workermon import fleet, views

    ids = frozenset(record.worker.id for record in own.get(fleet.Lookup).resolve(names)) if names else None
    until = None if seconds is None else own.now() + seconds
    try:
        for message in own.get(views.Watch).watch(ids):
            if message is None:
                sys.stdout.flush()
            elif as_json:
                click.echo(json.dumps(models.to_json(message), ensure_ascii=False))
            else:
                click.echo(line(message))
            if until is not None and own.now() >= until:
                return
    except KeyboardInterrupt:
        return


def line(message: models.Event | models.Notification) -> str:
    """Return a sample or an alert as one line."""
    if isinstance(message, models.Notification):
        colour = "green" if message.status == "resolved" else "red" if message.severity == "critical" else "yellow"
        text = f"{message.at} {message.status} {message.rule} {message.severity}: {message.summary}"
        return click.style(errors.printable(text), fg=colour)
    readings = " ".join(
        f"{name}={output.reading(reading).replace(' ', '')}"
        for name, reading in message.metrics.items()
        if reading is not None
    )
    return errors.printable(f"{message.collected_at} {message.worker_name} {message.status} {readings or '-'}")
