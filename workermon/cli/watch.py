"""``watch``: samples and alerts as they arrive."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import click

from workermon import errors, models
from workermon.cli import down_warning, options, output, session

Message = models.Event | models.Notification


@click.command()
@click.argument("names", metavar="[WORKER]...", nargs=-1, type=options.Text())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on each line.")
@click.option("--seconds", type=options.Whole(min=1), help="End after that many seconds.")
@session.pass_session
def watch(cli_session: session.Session, names: tuple[str, ...], as_json: bool, seconds: int | None) -> None:
    """Show samples and alerts as they arrive, until Ctrl-C.

    A terminal shows a live table, with the alerts on top. A pipe gets a line for each message; the newest sample of
    each worker and the alerts that fire come first.

    \b
    Example: workermon watch render-07 --json
    """
    from workermon import fleet, views

    ids = frozenset(record.worker.id for record in cli_session.get(fleet.Lookup).resolve(names)) if names else None
    messages = _until(cli_session, cli_session.get(views.Watch).watch(ids), seconds)
    try:
        if as_json or not sys.stdout.isatty():
            _print(messages, as_json=as_json)
        else:
            _draw(cli_session, messages)
    except KeyboardInterrupt:
        return


def _until(
    cli_session: session.Session, messages: Iterator[Message | None], seconds: int | None
) -> Iterator[Message | None]:
    """Yield messages for that many seconds. Warn if the pipeline goes down meanwhile."""
    watchdog = down_warning.Watchdog(cli_session)
    end = None if seconds is None else cli_session.now() + seconds
    for message in messages:
        watchdog.look()
        yield message
        if end is not None and cli_session.now() >= end:
            return


def _print(messages: Iterator[Message | None], *, as_json: bool) -> None:
    for message in messages:
        if message is None:
            sys.stdout.flush()
        elif as_json:
            click.echo(json.dumps(models.to_json(message), ensure_ascii=False))
        else:
            click.echo(line(message))


def _draw(cli_session: session.Session, messages: Iterator[Message | None]) -> None:
    from rich.console import Console

    from workermon.cli import live_table

    coming = (message for message in messages if message is not None)
    live_table.show(coming, Console(), live_table.Board(cli_session.now, title="workermon watch"))


def line(message: Message) -> str:
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
