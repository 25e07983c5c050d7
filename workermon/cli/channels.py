"""``notify-test``: a test message through a channel."""

from __future__ import annotations

import typing

import click

from workermon.cli import options, output, session


@click.command("notify-test")
@click.argument("channel", metavar="CHANNEL")
@options.as_json
@session.pass_session
def notify_test(own: session.Session, channel: str, as_json: bool) -> None:
    """Send a test message through a channel, at once; what it opens (an incident) it closes again.

    \b
    Example: workermon notify-test ops
    """
    from workermon import runtime

    sent = runtime.try_channel(typing.cast(typing.Any, own.container), channel)
    if as_json:
        output.document({"channel": channel, "accepted": True, "messages": sent})
        return
    click.echo(f"{channel}: accepted")
