"""``notify-test``: a test message takes the way of notifications, and the output says which process sent it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pytest

from tests.support.delivering import Receiver, Site
from workermon import errors, models, notify, ports, testing
from workermon.models import Channel
from workermon.notify import channel_test


class Node(testing.MemoryDispatcher):
    """A dispatcher whose messages a node of the site handles at once, with its own notifiers."""

    def __init__(self, site: Site, notifiers: Mapping[str, ports.Notifier]) -> None:
        super().__init__()
        site.notifiers = notifiers
        self._delivery = site.get(notify.Delivery)

    def deliver(self, alert_ids: Sequence[str]) -> None:
        self._delivery.deliver(alert_ids)


def trial(site: Site, notifiers: Mapping[str, ports.Notifier], *nodes: testing.MemoryDispatcher) -> notify.ChannelTest:
    """Return the stage that tests the channels of a site, with the running node, if there is one."""
    site.notifiers = notifiers
    for node in nodes:
        site.dispatcher, site.nodes.names = node, ["one@node"]
    return site.get(notify.ChannelTest)


@pytest.mark.parametrize("by_node", [True, False])
@pytest.mark.parametrize(
    ("kind", "statuses"), [("webhook", ["firing"]), ("slack", ["firing"]), ("pagerduty", ["firing", "resolved"])]
)
def test_a_channel_is_tried(kind: str, statuses: list[str], by_node: bool) -> None:
    """A test message is sent at once, by a node if one runs, and closes the incident that it opens."""
    site = Site()
    configuration = site.configurations.load()
    site.configurations.save(
        configuration.model_copy(update={"revision": 1, "channels": {"ops": Channel(name="ops", type=kind)}})
    )
    accepted: list[models.Notification] = []

    class Desk:
        def send(self, channel: Channel, notifications: Sequence[models.Notification]) -> None:
            accepted.extend(notifications)

    if by_node:
        sent = trial(site, {}, Node(site, {kind: Desk()})).send("ops")
    else:
        sent = trial(site, {kind: Desk()}).send("ops")
    assert (sent.messages, sent.by_node) == (len(accepted), by_node)
    assert [notification.status for notification in accepted] == statuses
    assert len({notification.dedup_key for notification in accepted}) == 1
    assert all(
        "test of channel ops" in notification.summary and notification.worker is None for notification in accepted
    )
    assert site.outbox.backlog() == 0
    assert site.outbox.due(site.clock() + models.DAY, 10) == [], "no reminder follows"


def test_a_node_that_cannot_send_says_why() -> None:
    """A node's missing secret is reported, although this process has it. It is not retried."""
    site = Site()
    site.outbox = testing.MemoryOutbox(site.store, host="build-7")
    unset = errors.InvalidInput("secret OPS_SECRET", "it is not set", "set it")
    node = Node(site, {"webhook": Receiver(unset, unset)})
    with pytest.raises(errors.DeliveryFailed) as raised:
        trial(site, {"webhook": Receiver()}, node).send("ops")
    assert str(raised.value) == (
        "channel ops: the node on build-7 could not send to it: secret OPS_SECRET: it is not set; set it"
    )
    assert site.outbox.backlog() == 0
    assert list(site.failures.load()) == ["ops"]
    for todo, error in (
        ("workermon tries again; see its log", "see its log"),
        ("workermon tries again", "correct that"),
    ):
        node = Node(site, {"webhook": Receiver(errors.DeliveryFailed("channel ops", "it answered 500", todo))})
        with pytest.raises(errors.DeliveryFailed, match=f"it answered 500; {error}"):
            trial(site, {}, node).send("ops")


def test_no_node_takes_the_test() -> None:
    """If no node answers, the command ends, and a late node does not send."""
    site, receiver = Site(), Receiver()
    readings = itertools.count(0, channel_test.DELIVERY_PATIENCE / 2)
    site.steady_clock = lambda: next(readings)
    with pytest.raises(errors.DeliveryFailed, match="no node has sent"):
        trial(site, {}, testing.MemoryDispatcher()).send("ops")
    site.clock.advance(61)
    site.deliver_due(receiver)
    assert (receiver.calls, site.outbox.backlog()) == (0, 0)


def test_a_test_that_is_accepted_ends_the_channels_alert() -> None:
    """An accepted test message resolves the channel's alert like any notification."""
    site, receiver = (
        Site("ops", "log"),
        Receiver(errors.DeliveryRefused("channel ops", "it refuses the notification (400)", "see its log", 1)),
    )
    site.enqueue()
    site.deliver_to(receiver)
    assert [alert.rule for alert in site.channel_alerts()] == ["delivery"]
    trial(site, {}, Node(site, {"webhook": receiver})).send("ops")
    assert site.channel_alerts() == []


def test_a_channel_that_is_not_there() -> None:
    """An unknown channel is an error with the nearest name."""
    with pytest.raises(errors.NotFound, match="did you mean ops"):
        trial(Site(), {}).send("opps")
