"""What every outbox promises."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import pytest

from tests.contract import builders
from tests.contract.builders import NOW, A, AlertChange
from tests.support.present import present
from tests.support.repositories import Repository
from tests.support.waiting import eventually
from workermon import models, ports

ALERT = f"{A}/cpu-high"
#: Seconds. A lease that no test outlives, and one that is over when it is looked at.
LONG, SHORT = 60.0, 0.001


class Notify(Protocol):
    """Commits transitions of the worker, one after the other."""

    def __call__(
        self, *statuses: str, channels: tuple[str, ...] = ("ops",), rule: str = "cpu-high", at: int = NOW
    ) -> None: ...


@pytest.fixture
def notify(repository: Repository) -> Notify:
    """Give a function that commits transitions of the worker, one after the other."""
    repository.workers.add([builders.worker()])
    versions = iter(range(1, 1000))

    def commit(*statuses: str, channels: tuple[str, ...] = ("ops",), rule: str = "cpu-high", at: float = NOW) -> None:
        for status in statuses:
            basis = repository.alerts.load([A])[A]
            change = AlertChange(status, rule, channels, version=next(versions))
            assert repository.alerts.commit(builders.verdict(basis, change, at=at))

    return commit


def claim(repository: Repository, now: float = NOW, lease: float = LONG) -> list[models.ClaimedNotification]:
    """Claim the alert's due notification."""
    return repository.outbox.claim(ALERT, now, lease)


def reclaim(repository: Repository) -> list[models.ClaimedNotification]:
    """Claim after another short lease has ended."""
    return eventually(lambda: claim(repository), description="the end of the lease")


def brief(claims: Iterable[models.ClaimedNotification]) -> list[tuple[str, int, int]]:
    """Show notifications by channel, version and attempt."""
    return [(claimed.channel, claimed.notification.version, claimed.attempt) for claimed in claims]


def test_what_waits_for_a_channel_can_be_hastened(repository: Repository, notify: Notify) -> None:
    """Hastening a channel makes all its queues due. It leaves other channels and empty queues alone."""
    notify("firing", channels=("ops", "log"))
    for claimed in claim(repository):
        assert repository.outbox.failed(claimed, NOW, "busy", NOW + 3600)
    repository.outbox.make_due("ops", NOW + 1)
    assert brief(claim(repository, NOW + 1)) == [("ops", 1, 2)]
    repository.outbox.make_due("nobody", NOW + 1)
    assert repository.outbox.due(NOW + 1, 10) == []


def test_an_empty_outbox_has_nothing_to_do(repository: Repository) -> None:
    """In an empty outbox nothing is due and nothing can be claimed."""
    assert repository.outbox.due(NOW, 10) == []
    assert claim(repository) == []
    assert repository.outbox.backlog() == 0


def test_a_notification_waits_for_each_channel(repository: Repository, notify: Notify) -> None:
    """A channel that is named twice is notified once. A claim returns the whole notification."""
    assert repository.outbox.pending() == {}
    notify("firing", channels=("ops", "log", "ops"))
    assert repository.outbox.backlog() == 2
    assert repository.outbox.pending() == {"log": 1, "ops": 1}
    assert repository.outbox.due(NOW, 10) == [ALERT]
    claims = claim(repository)
    assert brief(claims) == [("log", 1, 1), ("ops", 1, 1)]
    assert claims[0].notification == builders.notification(ALERT, 1)
    assert claims[0].fence != claims[1].fence


def test_a_notification_without_a_channel_waits_for_nobody(repository: Repository, notify: Notify) -> None:
    """A rule without channels adds nothing to the outbox."""
    notify("firing", channels=())
    assert repository.outbox.backlog() == 0
    assert repository.outbox.due(NOW, 10) == []


def test_a_channel_s_name_may_hold_anything(repository: Repository, notify: Notify) -> None:
    """Colons and slashes in a channel's name have no effect."""
    notify("firing", channels=("a:b/c %é",))
    (claimed,) = claim(repository)
    assert (claimed.channel, claimed.alert_id) == ("a:b/c %é", ALERT)
    assert repository.outbox.delivered(claimed, NOW) is None
    assert repository.outbox.backlog() == 0


def test_of_two_claims_one_wins(repository: Repository, notify: Notify) -> None:
    """A notification under a lease is neither due nor claimed again."""
    notify("firing")
    assert len(claim(repository)) == 1
    assert claim(repository) == []
    assert repository.outbox.due(NOW + 1e6, 10) == []
    assert repository.outbox.backlog() == 1


def test_an_alert_keeps_its_order(repository: Repository, notify: Notify) -> None:
    """The next notification is due when the previous one is accepted."""
    notify("firing", "resolved", "firing")
    for version in (1, 2, 3):
        claims = claim(repository)
        assert brief(claims) == [("ops", version, 1)]
        assert claim(repository) == []
        assert repository.outbox.delivered(claims[0], NOW) is None
    assert claim(repository) == []
    assert repository.outbox.due(NOW * 2, 10) == []
    assert repository.outbox.backlog() == 0


def test_a_clock_that_was_ahead_keeps_nothing_waiting(repository: Repository, notify: Notify) -> None:
    """A wait that began in the future ends. It shortens no other wait, and a new one starts normally."""
    notify("firing")
    assert repository.outbox.due(NOW - 1800, 10) == [ALERT], "it was put there by a clock half an hour ahead"
    assert repository.outbox.due(NOW - models.MAX_LEAD, 10) == []
    for number, ahead in enumerate((600, models.DAY)):
        (claimed,) = claim(repository, NOW + ahead)
        assert claimed.attempt == number + 1
        assert repository.outbox.failed(claimed, NOW + ahead, "HTTP 503", NOW + ahead + 30)
        assert repository.outbox.due(NOW, 10) == [ALERT]
    (claimed,) = claim(repository)
    assert repository.outbox.postpone(claimed, NOW + 600, NOW + 610)
    assert repository.outbox.due(NOW, 10) == [ALERT]
    (claimed,) = claim(repository)
    assert repository.outbox.failed(claimed, NOW, "HTTP 429", NOW + 3600)
    assert repository.outbox.due(NOW + 1, 10) == []
    assert claim(repository, NOW + 1) == []


def test_a_failure_waits_for_its_time(repository: Repository, notify: Notify) -> None:
    """A failed notification is tried again after its wait. Later ones of the alert wait too."""
    notify("firing")
    (claimed,) = claim(repository)
    assert repository.outbox.failed(claimed, NOW, "HTTP 503", NOW + 30)
    notify("resolved")
    assert repository.outbox.due(NOW + 29, 10) == []
    assert claim(repository, NOW + 29) == []
    assert repository.outbox.due(NOW + 30, 10) == [ALERT]
    assert brief(claim(repository, NOW + 30)) == [("ops", 1, 2)]


def test_no_channel_blocks_another(repository: Repository, notify: Notify) -> None:
    """A failing channel delays its own queue only."""
    notify("firing", channels=("ops", "log"))
    log, ops = claim(repository)
    repository.outbox.failed(ops, NOW, "HTTP 503", NOW + 3600)
    repository.outbox.delivered(log, NOW)
    notify("resolved", channels=("ops", "log"))
    assert repository.outbox.due(NOW, 10) == [ALERT]
    assert brief(claim(repository)) == [("log", 2, 1)]
    assert repository.outbox.backlog() == 3


def test_no_alert_blocks_another(repository: Repository, notify: Notify) -> None:
    """The longest due notifications are claimed first, up to the limit."""
    notify("firing", rule="a", at=NOW + 2)
    notify("firing", rule="b", at=NOW + 1)
    notify("firing", rule="c", at=NOW + 3)
    repository.outbox.claim(f"{A}/b", NOW + 9, LONG)
    assert repository.outbox.due(NOW + 9, 10) == [f"{A}/a", f"{A}/c"]
    assert repository.outbox.due(NOW + 9, 1) == [f"{A}/a"]
    assert repository.outbox.due(NOW + 2, 10) == [f"{A}/a"]


def test_giving_up_makes_room_for_the_next(repository: Repository, notify: Notify) -> None:
    """Giving up a notification makes the next one of the queue due."""
    notify("firing", "resolved")
    (claimed,) = claim(repository)
    assert repository.outbox.give_up(claimed, NOW, "HTTP 400")
    assert brief(claim(repository)) == [("ops", 2, 1)]


def test_a_lease_that_is_over_is_free(repository: Repository, notify: Notify) -> None:
    """If a sender dies, another can claim. The attempt counts, and the old fence is no longer valid."""
    notify("firing")
    (dead,) = claim(repository, lease=SHORT)
    (alive,) = reclaim(repository)
    assert brief([alive]) == [("ops", 1, 2)]
    assert alive.fence != dead.fence
    assert not repository.outbox.failed(dead, NOW, "late", NOW + 3600)
    assert not repository.outbox.give_up(dead, NOW, "late")
    assert repository.outbox.delivered(dead, NOW) is None
    assert repository.outbox.backlog() == 1
    assert repository.outbox.delivered(alive, NOW) is None
    assert repository.outbox.backlog() == 0


def test_a_late_outcome_counts_where_nobody_came_between(repository: Repository, notify: Notify) -> None:
    """An outcome after the lease's end counts if nobody else has claimed since. Nothing is sent twice."""
    notify("firing")
    (claimed,) = claim(repository, lease=SHORT)
    eventually(lambda: repository.outbox.due(NOW, 1), description="the end of the lease")
    assert repository.outbox.delivered(claimed, NOW) is None
    assert repository.outbox.backlog() == 0


def test_who_was_overtaken_says_the_last_word_again(repository: Repository, notify: Notify) -> None:
    """If a stale 'firing' was sent after 'resolved', the 'resolved' is sent again."""
    notify("firing", "resolved")
    (stale,) = claim(repository, lease=SHORT)
    (quick,) = reclaim(repository)
    assert repository.outbox.delivered(quick, NOW) is None
    (quick,) = claim(repository)
    assert repository.outbox.delivered(quick, NOW) is None
    repeated = present(repository.outbox.delivered(stale, NOW))
    assert (repeated.alert_id, repeated.channel, repeated.notification.version) == (ALERT, "ops", 2)
    assert repository.outbox.delivered(repeated, NOW) is None
    assert repository.outbox.backlog() == 0


def test_who_was_overtaken_while_the_last_word_is_on_its_way_says_it_again(
    repository: Repository, notify: Notify
) -> None:
    """If two notifications are sent at once, the latest state is sent again: their order is unknown."""
    notify("firing", "resolved")
    (stale,) = claim(repository, lease=SHORT)
    (quick,) = reclaim(repository)
    repository.outbox.delivered(quick, NOW)
    (on_its_way,) = claim(repository)
    assert present(repository.outbox.delivered(stale, NOW)).notification.version == 2
    assert repository.outbox.delivered(on_its_way, NOW) is None


def test_what_will_be_sent_anyway_is_not_sent_twice(repository: Repository, notify: Notify) -> None:
    """If the latest notification still waits to be claimed, it is not enqueued again."""
    notify("firing", "resolved")
    (stale,) = claim(repository, lease=SHORT)
    (quick,) = reclaim(repository)
    repository.outbox.delivered(quick, NOW)
    assert repository.outbox.delivered(stale, NOW) is None
    assert brief(claim(repository)) == [("ops", 2, 1)]


def test_the_last_word_is_kept_where_saying_it_again_failed(repository: Repository, notify: Notify) -> None:
    """If sending the present state again fails, it waits in its queue and is the last one sent."""
    notify("firing", "resolved")
    (stale,) = claim(repository, lease=SHORT)
    (quick,) = reclaim(repository)
    repository.outbox.delivered(quick, NOW)
    (quick,) = claim(repository)
    repository.outbox.delivered(quick, NOW)
    repeated = present(repository.outbox.delivered(stale, NOW))
    assert not repository.outbox.failed(repeated, NOW, "HTTP 503", NOW + 10)
    assert repository.outbox.due(NOW + 9, 10) == []
    assert repository.outbox.due(NOW + 10, 10) == [ALERT]
    (claimed,) = claim(repository, NOW + 10)
    assert claimed.notification.version == 2
    assert repository.outbox.delivered(claimed, NOW) is None
    assert repository.outbox.backlog() == 0


def test_an_unclear_failure_that_was_overtaken_has_the_last_word_said_again(
    repository: Repository, notify: Notify
) -> None:
    """A request that timed out may have arrived late, so the latest state is sent again."""
    notify("firing", "resolved")
    (stale,) = claim(repository, lease=SHORT)
    (quick,) = reclaim(repository)
    repository.outbox.delivered(quick, NOW)
    (quick,) = claim(repository)
    repository.outbox.delivered(quick, NOW)
    assert not repository.outbox.failed(stale, NOW, "timed out", NOW + 10)
    assert [claimed.notification.version for claimed in claim(repository, NOW + 10)] == [2]


def test_settling_twice_is_settling_once(repository: Repository, notify: Notify) -> None:
    """Reporting an outcome again changes nothing, for example if the first answer was lost."""
    notify("firing", "resolved", "firing")
    (claimed,) = claim(repository)
    assert repository.outbox.delivered(claimed, NOW) is None
    assert repository.outbox.backlog() == 2
    (second,) = claim(repository)
    assert repository.outbox.failed(second, NOW, "HTTP 503", NOW)
    assert repository.outbox.backlog() == 2


def test_the_outbox_outlives_the_worker(repository: Repository, notify: Notify) -> None:
    """A worker's last notifications are delivered in order after its removal, and after it is added again."""
    notify("firing")
    basis = repository.alerts.load([A])[A]
    repository.alerts.retire(builders.verdict(basis, AlertChange("resolved", channels=("ops",), version=2)))
    repository.workers.add([builders.worker(incarnation="second")])
    for version in (1, 2):
        (claimed,) = claim(repository)
        assert claimed.notification.version == version
        repository.outbox.delivered(claimed, NOW)
    assert repository.outbox.backlog() == 0


def deliver(repository: Repository, now: float = NOW, remind_at: float | None = None) -> list[tuple[int, bool]]:
    """Claim the head of each queue, have it accepted, and return it."""
    claims = claim(repository, now)
    for claimed in claims:
        assert repository.outbox.delivered(claimed, now, remind_at) is None
    return [(claimed.notification.version, claimed.notification.reminder) for claimed in claims]


def test_what_still_fires_is_notified_again(repository: Repository, notify: Notify) -> None:
    """A notification to be repeated is due again at its time, as a reminder, as often as requested."""
    notify("firing")
    assert deliver(repository, NOW, NOW + 100) == [(1, False)]
    assert repository.outbox.due(NOW + 99, 10) == []
    assert repository.outbox.due(NOW + 100, 10) == [ALERT]
    assert deliver(repository, NOW + 100, NOW + 200) == [(1, True)]
    assert repository.outbox.due(NOW + 199, 10) == []
    assert repository.outbox.due(NOW + 200, 10) == [ALERT]
    (claimed,) = claim(repository, NOW + 200)
    assert claimed.notification == builders.notification(ALERT, 1, reminder=True)
    assert repository.outbox.delivered(claimed, NOW + 200) is None
    assert repository.outbox.due(NOW + 10_000, 10) == []


def test_what_is_over_is_not_notified_again(repository: Repository, notify: Notify) -> None:
    """A resolved alert notifies at once and is not repeated."""
    notify("firing")
    deliver(repository, NOW, NOW + 100)
    notify("resolved", at=NOW + 50)
    assert repository.outbox.due(NOW + 50, 10) == [ALERT]
    assert deliver(repository, NOW + 50) == [(2, False)]
    assert repository.outbox.due(NOW + 1000, 10) == []


def test_no_reminder_before_the_end_is_delivered(repository: Repository, notify: Notify) -> None:
    """While the end of an alert waits, no reminder is added."""
    notify("firing")
    deliver(repository, NOW, NOW + 100)
    notify("resolved", at=NOW + 50)
    assert repository.outbox.due(NOW + 200, 10) == [ALERT]
    assert repository.outbox.backlog() == 1


def test_a_reminder_may_be_skipped(repository: Repository, notify: Notify) -> None:
    """A skipped reminder leaves no attempt, and may be due again later."""
    notify("firing")
    deliver(repository, NOW, NOW + 100)
    repository.outbox.due(NOW + 100, 10)
    (claimed,) = claim(repository, NOW + 100)
    assert repository.outbox.skip(claimed, NOW + 100, NOW + 300)
    assert not repository.outbox.skip(claimed, NOW + 100, NOW + 300)
    assert repository.outbox.backlog() == 0
    (recorded,) = repository.alerts.history(ALERT)
    assert len(recorded.attempts) == 1
    assert repository.outbox.due(NOW + 300, 10) == [ALERT]


def test_what_was_tried_in_vain_for_long_is_stuck(repository: Repository, notify: Notify) -> None:
    """A stuck queue shows its attempts, first error and last error. New and accepted ones are not stuck."""
    notify("firing", channels=("ops", "log"))
    assert repository.outbox.stuck(NOW + 999) == []
    for after, error in ((0, "refused"), (40, "timeout")):
        for claimed in claim(repository, now=NOW + after):
            if claimed.channel == "log":
                repository.outbox.delivered(claimed, NOW)
            else:
                repository.outbox.failed(claimed, NOW + after, error, NOW + after + 1)
    assert repository.outbox.stuck(NOW - 1) == []
    assert repository.outbox.stuck(NOW) == [ports.StuckQueue(ALERT, "ops", 2, NOW, "timeout")]
    (claimed,) = claim(repository, now=NOW + 80)
    repository.outbox.delivered(claimed, NOW + 81)
    assert repository.outbox.stuck(NOW + 999) == []


def test_messages_are_posted_without_an_alert(repository: Repository) -> None:
    """Test messages are sent in order. They leave attempts but no history, and posting one twice changes nothing."""
    messages = [builders.notification("test-1/notify-test", version) for version in (1, 2)]
    for _ in range(2):
        repository.outbox.post("ops", messages, NOW)
    assert repository.outbox.due(NOW, 10) == ["test-1/notify-test"]
    for version in (1, 2):
        (claimed,) = repository.outbox.claim("test-1/notify-test", NOW, LONG)
        assert claimed.notification == messages[version - 1]
        repository.outbox.delivered(claimed, NOW + version)
    assert repository.outbox.due(NOW + models.DAY, 10) == []
    attempts = repository.outbox.attempts("test-1/notify-test")
    assert [(attempt.notification_id, attempt.at, attempt.error) for attempt in attempts] == [
        (message.id, NOW + version, None) for version, message in enumerate(messages, start=1)
    ]
    assert repository.alerts.history() == []
    assert repository.outbox.attempts("test-2/notify-test") == []


def test_escalations_are_found_when_they_are_due(repository: Repository) -> None:
    """A verdict sets when an alert escalates next. It is found from then on, until a verdict changes it."""
    repository.workers.add([builders.worker()])

    def commit(*, retire: bool = False, **times: float | None) -> None:
        basis = repository.alerts.load([A])[A]
        alerts = {rule: models.Alert(rule=rule, escalates_at=at) for rule, at in times.items()}
        verdict = ports.Verdict(basis, alerts, (), {}, NOW)
        assert (repository.alerts.retire if retire else repository.alerts.commit)(verdict)

    def due(at: float, limit: int = 10) -> list[str]:
        return repository.outbox.due_escalations(at, limit)

    commit(late=NOW + 900.5, soon=NOW + 60.0, never=None)
    assert due(NOW + 59) == []
    assert due(NOW + 60) == [f"{A}/soon"]
    assert due(NOW + 1000) == [f"{A}/soon", f"{A}/late"]
    assert due(NOW + 1000, 1) == [f"{A}/soon"]
    commit(late=NOW + 2000.0, soon=None)
    assert due(NOW + 1000) == []
    assert due(NOW + 2000) == [f"{A}/late"]
    assert due(NOW + 2000 - models.MAX_ESCALATION - models.MAX_LEAD - 1) == [f"{A}/late"], "a wrong clock wrote it"
    commit()
    assert due(NOW + 9999) == []
    commit(late=NOW)
    commit(retire=True, late=NOW)
    assert due(NOW + 9999) == []
