"""``notify-test``: a test message through a channel."""

from __future__ import annotations

import click

from workermon.cli import options, output, session


@click.command("notify-test")
@click.argument("channel", metavar="CHANNEL")
@options.as_json
@session.pass_session
def notify_test(own: session.Session, channel: str, as_json: bool) -> None:
    """Send a test message through a channel, now. If it opens an incident, another one closes it.

    \b
    Example: workermon notify-test ops
    """
    from workermon import notify

    sent = own.get(notify.ChannelTest).send(channel)
    if as_json:
        output.document({"channel": channel, "accepted": True, "messages": sent})
        return
    click.echo(f"{channel}: accepted")
