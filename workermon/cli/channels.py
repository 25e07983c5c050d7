"""``notify-test``: a test message through a channel."""

from __future__ import annotations

import click

from workermon.cli import audit_recording, options, output, session


@click.command("notify-test", cls=audit_recording.Write)
@click.argument("channel", metavar="CHANNEL")
@options.as_json
@session.pass_session
def notify_test(cli_session: session.Session, channel: str, as_json: bool) -> None:
    """Send a test message through a channel, by a node, as notifications are sent.

    If no node runs, this command sends it. If the message opens an incident, another one closes it.

    \b
    Example: workermon notify-test ops
    """
    from workermon import notify

    sent = cli_session.get(notify.ChannelTest).send(channel)
    if as_json:
        sender = "node" if sent.by_node else "command"
        output.document(
            {"channel": channel, "accepted": True, "messages": sent.messages, "sent_by": sender, "host": sent.host}
        )
        return
    sent_by = f"a node on {sent.host}" if sent.by_node else f"this command on {sent.host}, because no node runs"
    click.echo(f"{channel}: accepted, sent by {sent_by}")
