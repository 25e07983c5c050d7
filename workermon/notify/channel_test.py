"""Tests a channel: sends a test message as notifications are sent, through a node."""

from __future__ import annotations

import dataclasses
import platform
import secrets
import time
from collections.abc import Mapping, Sequence

from workermon import errors, models, ports
from workermon.notify import channel_type
from workermon.notify.channel_type import ChannelType

#: Seconds that nodes may take to answer before this process sends the message.
NODE_PATIENCE = 1.0

#: Seconds for a node to send all messages: more than two attempts can take.
DELIVERY_PATIENCE = 30.0

#: Seconds between two checks of the result.
INTERVAL = 0.1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTestResult:
    """A channel accepted ``messages`` messages. ``by_node``: a node sent them; otherwise this process, as no node runs.

    ``host`` is the machine or container that sent them, ``None`` if unknown.
    """

    messages: int
    by_node: bool
    host: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTest:
    """Sends test messages through channels of the configuration."""

    configurations: ports.Configurations
    channel_types: Mapping[str, ChannelType]
    notifiers: Mapping[str, ports.Notifier]
    outbox: ports.Outbox
    dispatcher: ports.Dispatcher
    nodes: ports.Nodes
    now: ports.Clock
    steady: ports.SteadyClock

    def send(self, name: str) -> ChannelTestResult:
        """Send a test message through a channel, and its end if it opens something.

        A node sends it, because secrets and networks may differ between nodes and commands. If no node runs, this
        process sends it. Raises ``errors.NotFound`` for an unknown channel, ``errors.DeliveryFailed`` if a node could
        not send it, otherwise the error of the attempt.
        """
        channels = self.configurations.load().channels
        channel = channels.get(name)
        if channel is None:
            subject, todo = f"channel {errors.printable(name)[:64]}", errors.nearest(name, channels)
            raise errors.NotFound(subject, "it is not in the configuration", todo)
        messages = _messages(channel, channel_type.of(channel, self.channel_types), self.now())
        if self.nodes.ping(NODE_PATIENCE):
            return self._by_node(name, messages)
        return self._from_here(channel, messages)

    def _from_here(self, channel: models.Channel, messages: Sequence[models.Notification]) -> ChannelTestResult:
        notifier = self.notifiers.get(channel.type)
        if notifier is None:
            subject, todo = f"channel {channel.name}", "install the package that provides it"
            raise errors.InvalidInput(subject, channel_type.cannot_send(channel), todo)
        for message in messages:
            notifier.send(channel, [message])
        return ChannelTestResult(messages=len(messages), by_node=False, host=platform.node())

    def _by_node(self, channel: str, messages: Sequence[models.Notification]) -> ChannelTestResult:
        alert_id = messages[0].dedup_key
        self.outbox.post(channel, messages, self.now())
        self.dispatcher.deliver([alert_id])
        ends_at = self.steady() + DELIVERY_PATIENCE
        while self.steady() < ends_at:
            attempts = self.outbox.attempts(alert_id)
            for attempt in attempts:
                _check(channel, attempt)
            if len(attempts) == len(messages):
                return ChannelTestResult(messages=len(messages), by_node=True, host=attempts[0].host)
            time.sleep(INTERVAL)
        reason = f"no node has sent the message within {DELIVERY_PATIENCE:g} s"
        raise errors.DeliveryFailed(f"channel {channel}", reason, "see 'workermon status'")


def _check(channel: str, attempt: models.Attempt) -> None:
    if attempt.error is None:
        return
    reason, _, todo = attempt.error.removeprefix(f"channel {channel}: ").partition("; ")
    message = f"the node on {attempt.host or 'an unknown host'} could not send to it: {reason}"
    # A test message is not tried again.
    todo = todo.removeprefix("workermon tries again").removeprefix("; ")
    raise errors.DeliveryFailed(f"channel {channel}", message, todo or "correct that, and test again")


def _messages(channel: models.Channel, kind: ChannelType, at: float) -> list[models.Notification]:
    """Return a test message, and the one that closes what it opens.

    No kind of notification is about a channel; ``collector`` is the closest, because it is not about a worker.
    """
    identity = secrets.token_hex(8)
    statuses = ("firing", "resolved") if kind.opens else ("firing",)
    return [
        models.Notification.model_validate(
            {
                "id": f"test-{identity}-{version}",
                "version": version,
                "dedup_key": models.alert_of_test(identity),
                "kind": "collector",
                "status": status,
                "severity": "warning",
                "rule": models.TEST,
                "metric": None,
                "value": None,
                "threshold": None,
                "since": models.rfc3339(int(at)),
                "at": models.rfc3339(int(at)),
                "created_at": models.rfc3339(at),
                "worker": None,
                "scope": {"account": "*", "region": "*"},
                "summary": f"test of channel {channel.name}: nothing is wrong",
            }
        )
        for version, status in enumerate(statuses, start=1)
    ]
