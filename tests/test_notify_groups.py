"""Grouping: transitions of many workers at once are one message for people, and one each for the pager."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
import redis

from tests.support.notifications import many, notification, of
from tests.support.repositories import install, repository_on_redis
from workermon import errors, models, testing
from workermon.models import Channel
from workermon.notify import groups, text
from workermon.notify.channels import slack
from workermon.on_redis import client

NOW = 1_700_000_000.0


@pytest.fixture(autouse=True)
def _no_settling(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Send a group as soon as all that is due of it is claimed, unless several deliver at once."""
    if "redis_url" not in request.fixturenames:
        monkeypatch.setattr(groups, "SEARCHED_FOR", 0.0)


class Chat:
    """A notifier of a type that groups. It keeps one list for each message. ``plan`` has its refusals."""

    def __init__(self, *plan: Exception) -> None:
        self.plan = list(plan)
        self.messages: list[list[str]] = []
        self.calls = 0

    def send(self, channel: Channel, notifications: Sequence[models.Notification]) -> None:
        self.calls += 1
        if self.plan:
            raise self.plan.pop(0)
        self.messages.append(
            sorted(f"{sent_notification.dedup_key}#{sent_notification.version}" for sent_notification in notifications)
        )


class Pager:
    """A notifier of a type that groups nothing."""

    def __init__(self) -> None:
        self.accepted: list[str] = []

    def send(self, channel: Channel, notifications: Sequence[models.Notification]) -> None:
        self.accepted.extend(sent_notification.dedup_key for sent_notification in notifications)


class Site(testing.Monitor):
    """Fifty workers, and the channels ``chat`` and ``pager``."""

    def __init__(self, workers: int = 50, **chat: Any) -> None:
        channels = {
            "chat": Channel(name="chat", type="slack", **chat),
            "pager": Channel(name="pager", type="pagerduty", per_minute=60_000),
        }
        super().__init__(models.Configuration(rules=(), channels=channels, metrics={}, collect=()), NOW)
        self.ids = [f"i-0abc{number:04x}" for number in range(workers)]
        for worker_id in self.ids:
            self.add_worker(worker_id, name=f"render-{worker_id[-4:]}")
        self.chat, self.pager = Chat(), Pager()
        self.versions = dict.fromkeys(self.ids, 0)

    def enqueue(self, *ids: str, rule: str = "cpu-high", account: str = "default", region: str = "us-east-1") -> None:
        """Commit the next transition of a rule on these workers."""
        for worker_id in ids:
            self.versions[worker_id] += 1
            firing = self.versions[worker_id] % 2
            new_notification = notification(
                self.versions[worker_id], id=f"{worker_id}-{rule}-{self.versions[worker_id]}",
                dedup_key=f"{worker_id}/{rule}", rule=rule,
                status="firing" if firing else "resolved", created_at=models.rfc3339(self.clock()),
                worker={"id": worker_id, "name": f"render-{worker_id[-4:]}", "region": region, "account": account},
            )  # fmt: skip
            self.record(new_notification, "chat", "pager")

    def deliver(self, *alert_ids: str) -> None:
        """Deliver these alerts, or what is due."""
        self.notifiers = {"slack": self.chat, "pagerduty": self.pager}
        super().deliver(*alert_ids)

    def pass_time(self, seconds: int) -> None:
        """Let time pass, delivering each second."""
        for _ in range(seconds):
            self.clock.advance(1)
            self.deliver()


def test_fifty_at_once_are_one_message() -> None:
    """Fifty workers that fail within seconds are one message with a list. The pager gets each at once."""
    site = Site()
    for start in range(0, 50, 10):
        site.enqueue(*site.ids[start : start + 10])
        site.deliver()
        site.clock.advance(1)
    assert (site.chat.messages, len(site.pager.accepted)) == ([], 50)
    site.pass_time(slack.TYPE.group_wait)
    (message,) = site.chat.messages
    assert message == sorted(f"{worker_id}/cpu-high#1" for worker_id in site.ids)
    assert site.outbox.backlog() == 0
    attempts = site.outbox.attempts(f"{site.ids[0]}/cpu-high")
    assert [attempt.error for attempt in attempts] == [None, None]


def test_one_alone_is_a_message_of_its_own() -> None:
    """A single alert waits for its group, and then is reported as always."""
    site = Site(1)
    site.enqueue(*site.ids)
    site.deliver()
    site.pass_time(slack.TYPE.group_wait - 1)
    assert site.chat.messages == []
    site.pass_time(1)
    assert site.chat.messages == [[f"{site.ids[0]}/cpu-high#1"]]


def test_rules_do_not_mix() -> None:
    """Each rule has its own group."""
    site = Site(6)
    site.enqueue(*site.ids[:3])
    site.enqueue(*site.ids[3:], rule="disk-high")
    site.deliver()
    site.pass_time(slack.TYPE.group_wait)
    assert sorted(len(message) for message in site.chat.messages) == [3, 3]


def test_accounts_and_regions_do_not_mix() -> None:
    """One rule's alerts of two accounts and two regions are three messages, each with its place."""
    site = Site(6)
    site.enqueue(*site.ids[:2])
    site.enqueue(*site.ids[2:4], account="lab")
    site.enqueue(*site.ids[4:], account="lab", region="eu-west-1")
    site.deliver()
    site.pass_time(slack.TYPE.group_wait)
    assert sorted(site.chat.messages) == [
        [f"{worker_id}/cpu-high#1" for worker_id in site.ids[start : start + 2]] for start in (0, 2, 4)
    ]
    lab = {"id": "i-0abc", "name": "one", "region": "us-east-1", "account": "lab"}
    lines = text.body(of("email"), [notification(worker=lab), notification(worker=lab)]).splitlines()
    assert lines[0].endswith("cpu-high: 2 alerts in us-east-1, account lab")
    assert "(one (i-0abc) in us-east-1, account lab)" in lines[1]


def test_a_message_that_may_be_shown_twice_says_so() -> None:
    """Chats do not merge: a repeated message is marked. A pager merges, and gets the same message again."""
    site = Site(2)
    messages: list[str] = []

    class Slow(Chat):
        def send(self, channel: Channel, notifications: Sequence[models.Notification]) -> None:
            messages.append(notifications[0].summary)
            super().send(channel, notifications)

    site.chat = Slow(*[errors.DeliveryFailed("channel chat", "no answer within 10 s", "workermon tries again")] * 2)
    site.enqueue(*site.ids)
    site.deliver()
    site.pass_time(slack.TYPE.group_wait + 10)
    assert len(messages) == 3
    assert [line.endswith(" (retry)") for line in messages] == [False, True, True]
    (recorded,) = site.alerts.history(f"{site.ids[0]}/cpu-high")
    assert recorded.notification is not None
    assert recorded.notification.summary == messages[0], "the history has what was decided"


def test_a_group_that_is_refused_is_given_up_together() -> None:
    """A group with a final refusal delays nothing, and one channel alert reports it."""
    site = Site()
    site.chat.plan = [
        errors.DeliveryRefused("channel chat", "it refuses the notification (404 Not Found)", "see its log")
    ]
    site.enqueue(*site.ids)
    site.enqueue(*site.ids)
    site.deliver()
    site.pass_time(3 * slack.TYPE.group_wait)
    assert [message[0] for message in site.chat.messages] == [f"{site.ids[0]}/cpu-high#2"]
    assert [len(message) for message in site.chat.messages] == [50]
    about = site.alerts.history("channel:chat/delivery")
    assert [entry.transition.after for entry in about] == [None, "critical"]


def test_who_comes_later_is_in_the_next_group() -> None:
    """Later transitions form the next group, and each alert keeps its order."""
    site = Site(10)
    site.enqueue(*site.ids[:5])
    site.deliver()
    site.pass_time(slack.TYPE.group_wait)
    site.enqueue(*site.ids[5:])
    site.enqueue(*site.ids[:5])
    site.pass_time(slack.TYPE.group_wait + 1)
    assert [len(message) for message in site.chat.messages] == [5, 10]
    assert site.chat.messages[1][0] == f"{site.ids[0]}/cpu-high#2"


def test_a_transition_within_the_window_keeps_its_order() -> None:
    """An alert that fires and resolves within one window is in the message twice, in order."""
    site = Site(3)
    site.enqueue(*site.ids)
    site.enqueue(*site.ids)
    site.deliver()
    site.pass_time(slack.TYPE.group_wait + 5)
    told_of = [entry for message in site.chat.messages for entry in message if entry.startswith(site.ids[0])]
    assert told_of == [f"{site.ids[0]}/cpu-high#1", f"{site.ids[0]}/cpu-high#2"]
    assert len(site.chat.messages) == 2


def test_a_group_that_is_not_taken_stays_together() -> None:
    """A failed group is tried again as a whole. Each of its alerts has the attempt recorded."""
    site = Site()
    site.chat.plan = [errors.DeliveryFailed("channel chat", "it answered 503", "workermon tries again")] * 3
    site.enqueue(*site.ids)
    site.deliver()
    site.pass_time(slack.TYPE.group_wait + 30)
    assert site.chat.calls == 4
    assert [len(message) for message in site.chat.messages] == [50]
    errors_of = [attempt.error for attempt in site.outbox.attempts(f"{site.ids[7]}/cpu-high")]
    assert sum(error is not None for error in errors_of) == 3


def test_nothing_waits_where_nothing_is_grouped() -> None:
    """With group_wait 0 each notification is sent at once and alone."""
    site = Site(4, group_wait=0)
    site.enqueue(*site.ids)
    site.deliver()
    assert [len(message) for message in site.chat.messages] == [1, 1, 1, 1]


def test_a_wave_notifies_in_time() -> None:
    """Alerts that fire over minutes are sent within two windows each, in few messages."""
    site = Site(120)
    for worker_id in site.ids:
        site.enqueue(worker_id)
        site.pass_time(1)
    site.pass_time(3 * slack.TYPE.group_wait)
    assert sum(len(message) for message in site.chat.messages) == 120
    assert len(site.chat.messages) <= 16


def test_a_group_takes_one_token() -> None:
    """A group counts once towards the channel's rate."""
    site = Site(per_minute=2)
    site.enqueue(*site.ids)
    site.deliver()
    site.pass_time(slack.TYPE.group_wait)
    assert [len(message) for message in site.chat.messages] == [50]


# --- the text of a message ---------------------------------------------------------------------------------------


def test_a_list_says_how_many_and_which() -> None:
    """The message counts and lists the alerts, the worst first, with how to silence them all."""
    group = [*many(2, severity="warning"), *many(1), *many(1, status="resolved")]
    lines = text.body(of("email"), group).splitlines()
    assert lines[0] == "[FIRING 1 critical, 2 warning; RESOLVED 1] cpu-high: 4 alerts in us-east-1"
    assert lines[1].startswith("[FIRING critical] render-000")
    assert lines[4].startswith("[RESOLVED] render-000")
    assert lines[-1] == "silence: workermon silence --rule cpu-high --for 2h --reason '…'"


def test_a_long_list_is_cut() -> None:
    """A list of hundreds names some and counts the others."""
    lines = text.body(of("email"), many(500)).splitlines()
    assert len(lines) < 70
    assert "and 440 more: see 'workermon alerts'" in lines


def _move_to(site: Site, connection: redis.Redis) -> None:
    """Have the site's records lie on a server."""
    fleet = [record.worker for record in site.workers.every()]
    install(site, repository_on_redis(connection, site.configurations.load()))
    site.workers.add(fleet)


def test_fifty_at_once_on_redis(redis_url: str) -> None:
    """On a real server fifty at once are one message, each with its attempt, and no key is left."""
    with contextlib.closing(client.connect(redis_url)) as connection:
        site = Site()
        _move_to(site, connection)
        site.enqueue(*site.ids)
        site.deliver()
        assert (site.chat.messages, len(site.pager.accepted)) == ([], 50)
        site.pass_time(slack.TYPE.group_wait)
        assert [len(message) for message in site.chat.messages] == [50]
        assert site.outbox.backlog() == 0
        (recorded,) = site.alerts.history(f"{site.ids[3]}/cpu-high")
        assert sorted(attempt.channel for attempt in recorded.attempts) == ["chat", "pager"]


def test_deliveries_at_once_send_one_message(redis_url: str) -> None:
    """If several processes deliver a burst at once, one of them sends one message."""
    with contextlib.closing(client.connect(redis_url)) as connection:
        site = Site(150)
        _move_to(site, connection)
        site.enqueue(*site.ids)
        site.deliver()
        site.clock.advance(slack.TYPE.group_wait)
        due = site.outbox.due(site.clock(), 1000)
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            for part in [pool.submit(site.deliver, *due[start::3]) for start in range(3)]:
                part.result()
        assert [len(message) for message in site.chat.messages] == [150]
        assert site.outbox.backlog() == 0
        assert connection.keys("workermon:lease:*") == []
