"""What every store of alerts promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.contract import builders
from tests.contract.builders import NOW, A, AlertChange, B
from tests.support.present import present
from tests.support.repositories import DEFAULT, Repository
from workermon import models, ports


@pytest.fixture
def worker(repository: Repository) -> models.Worker:
    """Give a worker that is monitored."""
    worker = builders.worker()
    repository.workers.add([worker])
    return worker


def load(repository: Repository, worker_id: str = A) -> ports.Basis[ports.Record]:
    """Load the basis of one worker."""
    return repository.alerts.load([worker_id])[worker_id]


def judge(repository: Repository, *changes: AlertChange, at: float = NOW, worker_id: str = A) -> bool:
    """Load, evaluate and commit."""
    return repository.alerts.commit(builders.verdict(load(repository, worker_id), *changes, at=at))


def silent(repository: Repository, times: Sequence[int]) -> None:
    """Record a transition of ``cpu-high`` at each of these times without notifications, ten in each commit."""
    for first in range(0, len(times), 10):
        judge(repository, *(AlertChange(notified=False, at=at) for at in times[first : first + 10]), at=NOW + first)


def test_a_basis_of_known_workers_only(repository: Repository, worker: models.Worker) -> None:
    """A worker without alerts has an empty basis, an unknown one has none."""
    bases = repository.alerts.load([A, B])
    assert set(bases) == {A}
    assert bases[A].record == repository.workers.get([A])[A]
    assert bases[A] == ports.Basis(models.worker_subject(worker), bases[A].record)
    assert repository.alerts.load([]) == {}


def test_a_commit_is_loaded_back(repository: Repository, worker: models.Worker) -> None:
    """State, version and the last notification are read back as written."""
    verdict = builders.verdict(load(repository), AlertChange(), AlertChange("resolved", "disk-high", notified=False))
    assert repository.alerts.commit(verdict)
    basis = load(repository)
    assert basis.alerts == verdict.alerts
    assert basis.version == 1
    assert basis.last_versions == {"cpu-high": 1}


def test_of_two_commits_on_one_basis_one_wins(repository: Repository, worker: models.Worker) -> None:
    """The other commit changes nothing, not even history or outbox."""
    basis = load(repository)
    assert repository.alerts.commit(builders.verdict(basis, AlertChange()))
    assert not repository.alerts.commit(builders.verdict(basis, AlertChange("resolved", version=2)))
    assert load(repository).alerts["cpu-high"].notified_severity == "critical"
    assert len(repository.alerts.history()) == 1
    assert repository.outbox.backlog() == 1


def test_many_commits_are_steps_of_their_own(repository: Repository, worker: models.Worker) -> None:
    """A verdict whose basis has changed is refused. The others are committed."""
    repository.workers.add([builders.worker(B)])
    stale, fresh = load(repository), load(repository, B)
    assert judge(repository, AlertChange())
    verdicts = [builders.verdict(stale, AlertChange("resolved", version=2)), builders.verdict(fresh, AlertChange())]
    assert repository.alerts.commit_many(verdicts) == [False, True]
    assert (
        load(repository).alerts["cpu-high"].notified_severity
        == load(repository, B).alerts["cpu-high"].notified_severity
        == "critical"
    )
    assert repository.alerts.commit_many([]) == []


def test_a_commit_on_changed_rules_is_refused(repository: Repository, worker: models.Worker) -> None:
    """The rules of the evaluation must still be in force."""
    basis = load(repository)
    assert repository.configurations.save(DEFAULT.model_copy(update={"revision": 1}))
    assert not repository.alerts.commit(builders.verdict(basis, AlertChange()))
    assert repository.alerts.history() == []
    basis = load(repository)
    assert basis.revision == 1
    assert repository.alerts.commit(builders.verdict(basis, AlertChange()))


def test_a_commit_for_a_gone_incarnation_is_refused(repository: Repository, worker: models.Worker) -> None:
    """After a removal and an addition, an old evaluation changes nothing of the new incarnation."""
    basis = load(repository)
    assert repository.alerts.retire(builders.verdict(basis))
    repository.workers.add([builders.worker(incarnation="second")])
    assert not repository.alerts.commit(builders.verdict(basis, AlertChange()))
    basis = load(repository)
    assert (basis.alerts, basis.version, basis.revision, basis.last_versions) == ({}, 0, 0, {})


def test_a_sample_written_meanwhile_is_evaluated_next(repository: Repository, worker: models.Worker) -> None:
    """A commit clears only the pending marks that it has read."""
    builders.write(repository.samples, builders.sample(worker, (0, 1.0)))
    basis = load(repository)
    builders.write(repository.samples, builders.sample(worker, (60, 1.0), after=660))
    assert repository.alerts.commit(builders.verdict(basis))
    assert repository.samples.pending(NOW * 2, 10) == [A]
    assert load(repository).record.changed_from == NOW
    assert judge(repository)
    assert repository.samples.pending(NOW * 2, 10) == []
    assert load(repository).record.changed_from is None


def test_open_alerts_come_oldest_first(repository: Repository, worker: models.Worker) -> None:
    """An alert is open from the notification that it fires to the one that it resolves."""
    repository.workers.add([builders.worker(B)])
    assert repository.alerts.open() == []
    judge(repository, AlertChange(at=NOW + 60), AlertChange(rule="disk-high", at=NOW - 60))
    judge(repository, AlertChange(at=NOW), worker_id=B)
    opened = repository.alerts.open()
    firing = [(present(present(alert.last).worker).id, alert.rule) for alert in opened]
    assert firing == [(A, "disk-high"), (B, "cpu-high"), (A, "cpu-high")]
    assert opened[0] == load(repository).alerts["disk-high"]
    judge(repository)
    assert repository.alerts.open() == opened
    judge(repository, AlertChange("resolved", "disk-high", version=2))
    assert repository.alerts.open() == opened[1:]


def test_an_open_alert_with_a_new_beginning_takes_its_place(repository: Repository, worker: models.Worker) -> None:
    """Open alerts are ordered by their present episodes."""
    judge(repository, AlertChange(at=NOW), AlertChange(rule="disk-high", at=NOW + 60))
    judge(repository, AlertChange(at=NOW + 120, version=2))
    assert [alert.rule for alert in repository.alerts.open()] == ["disk-high", "cpu-high"]


def test_an_alert_that_a_verdict_lacks_is_gone(repository: Repository, worker: models.Worker) -> None:
    """A verdict replaces all of a worker's alerts."""
    judge(repository, AlertChange(), AlertChange(rule="disk-high"))
    basis = load(repository)
    verdict = builders.verdict(basis)
    del verdict.alerts["cpu-high"]
    assert repository.alerts.commit(verdict)
    assert set(load(repository).alerts) == {"disk-high"}
    assert [alert.rule for alert in repository.alerts.open()] == ["disk-high"]


def test_history_of_one_alert_begins_with_the_newest(repository: Repository, worker: models.Worker) -> None:
    """Each transition is read back unchanged, with its notification."""
    verdict = builders.verdict(load(repository), AlertChange())
    repository.alerts.commit(verdict)
    judge(repository, AlertChange("resolved", notified=False, at=NOW + 60), at=NOW + 60)
    judge(repository, AlertChange(rule="disk-high"))
    history = repository.alerts.history(f"{A}/cpu-high")
    assert [(entry.transition.after, entry.notification is None) for entry in history] == [
        (None, True),
        ("critical", False),
    ]
    rule, transition, notification = verdict.transitions[0]
    assert history[1] == models.HistoryEntry(transition=transition, notification=notification, rule=rule, subject=A)
    assert repository.alerts.history(f"{A}/cpu-high", limit=1) == history[:1]
    assert repository.alerts.history(f"{A}/nothing") == []


def test_history_of_all_comes_by_time(repository: Repository, worker: models.Worker) -> None:
    """The newest transitions of all alerts are first, in any order of recording."""
    ids = [f"i-{number:08x}" for number in range(60)]
    repository.workers.add([builders.worker(worker_id) for worker_id in ids])
    for step in (1, 0):
        for number, subject_id in enumerate(ids):
            after = step * 1000 + number
            judge(
                repository,
                AlertChange(version=2 - step, at=NOW + after, notified=False),
                worker_id=subject_id,
                at=NOW + 2000 - after,
            )
    everything = repository.alerts.history(limit=1000)
    assert [entry.subject for entry in everything] == ids[::-1] + ids[::-1]
    assert repository.alerts.history(limit=70) == everything[:70]
    assert repository.alerts.history(limit=3) == everything[:3]
    assert repository.alerts.history(limit=0) == []


def test_the_timeline_can_be_entered_at_any_time(repository: Repository, worker: models.Worker) -> None:
    """Both ends are included. Of transitions at one time none is skipped or repeated."""
    silent(repository, [NOW + number // 50 for number in range(300)])
    numbers = [record.number for record in repository.alerts.timeline()]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) == 300
    assert [record.number for record in repository.alerts.timeline(NOW + 1, NOW + 4)] == numbers[50:250]
    assert list(repository.alerts.timeline(NOW + 6)) == []


def test_an_alert_can_be_read_from_any_transition_on(repository: Repository, worker: models.Worker) -> None:
    """Transitions are read in the order of recording, whatever the subject."""
    silent(repository, [NOW + (number * 7) % 250 for number in range(250)])
    judge(repository, AlertChange(rule="disk-high", notified=False))
    records = list(repository.alerts.recorded(f"{A}/cpu-high"))
    assert [record.entry.transition.at - NOW for record in records] == [
        (number * 7) % 250 for number in range(249, -1, -1)
    ]
    assert list(repository.alerts.recorded(f"{A}/cpu-high", records[10].number)) == records[10:]
    assert list(repository.alerts.recorded(f"{A}/cpu-high", records[-1].number - 1)) == []


def test_history_is_kept_by_age(repository: Repository, worker: models.Worker) -> None:
    """Any number of transitions is kept as long as the setting says, and no longer."""
    judge(repository, AlertChange(rule="disk-high", notified=False))
    silent(repository, [NOW + number for number in range(1100)])
    assert len(repository.alerts.history(limit=5000)) == 1101
    assert len(repository.alerts.history(f"{A}/cpu-high", limit=5000)) == 1100
    late = NOW + models.ALERT_HISTORY + 1050
    for number in range(12):  # a commit takes off a hundred at most
        judge(repository, AlertChange(notified=False, at=late + number), at=late)
    seconds = [entry.transition.at - NOW for entry in repository.alerts.history(limit=5000)]
    assert seconds[12:] == list(range(1099, 1049, -1))
    assert [entry.transition.at - NOW for entry in repository.alerts.history(f"{A}/cpu-high", limit=5000)] == seconds
    assert repository.alerts.history(f"{A}/disk-high") == []


def test_attempts_are_joined_to_what_they_delivered(repository: Repository, worker: models.Worker) -> None:
    """History has each attempt of each notification, and no others."""
    judge(repository, AlertChange(channels=("ops",)))
    judge(repository, AlertChange("resolved", version=2, channels=("ops",)))
    outbox, alert_id = repository.outbox, f"{A}/cpu-high"
    (claimed,) = outbox.claim(alert_id, NOW, 15)
    outbox.failed(claimed, NOW + 1, "HTTP 503", NOW + 5)
    (claimed,) = outbox.claim(alert_id, NOW + 5, 15)
    outbox.delivered(claimed, NOW + 6)
    (claimed,) = outbox.claim(alert_id, NOW + 6, 15)
    outbox.give_up(claimed, NOW + 7, "HTTP 404")
    resolved, firing = repository.alerts.history(alert_id)
    assert [(attempt.channel, attempt.at - NOW, attempt.error) for attempt in firing.attempts] == [
        ("ops", 1, "HTTP 503"),
        ("ops", 6, None),
    ]
    assert [(attempt.notification_id, attempt.error) for attempt in resolved.attempts] == [
        (f"{alert_id}#2", "HTTP 404")
    ]


def test_retiring_forgets_the_worker_but_not_its_story(repository: Repository, worker: models.Worker) -> None:
    """Undelivered notifications and the history outlive the worker."""
    builders.write(repository.samples, builders.sample(worker, (0, 1.0)))
    judge(repository, AlertChange())
    verdict = builders.verdict(load(repository), AlertChange("resolved", version=2))
    assert repository.alerts.retire(verdict)
    assert repository.workers.ids() == []
    assert repository.workers.get([A]) == {}
    assert repository.alerts.load([A]) == {}
    assert repository.alerts.open() == []
    assert repository.samples.pending(NOW * 2, 10) == []
    assert repository.samples.read([(A, "cpu_utilization", 60)], NOW, NOW)[A, "cpu_utilization"].points == ()
    assert [present(entry.notification).status for entry in repository.alerts.history()] == ["resolved", "firing"]
    assert repository.outbox.backlog() == 2
    assert not repository.alerts.retire(verdict)


def test_retiring_needs_the_present_alerts(repository: Repository, worker: models.Worker) -> None:
    """A last verdict on an old basis is refused. One under changed rules is not."""
    basis = load(repository)
    judge(repository, AlertChange())
    assert not repository.alerts.retire(builders.verdict(basis))
    assert repository.workers.ids() == [A]
    basis = load(repository)
    repository.configurations.save(DEFAULT.model_copy(update={"revision": 1}))
    assert repository.alerts.retire(builders.verdict(basis, AlertChange("resolved", version=2)))


def test_nothing_brings_a_retired_worker_back(repository: Repository, worker: models.Worker) -> None:
    """Every write that was under way is refused, because the incarnation is gone."""
    basis, late = load(repository), builders.sample(worker, (0, 1.0))
    repository.alerts.retire(builders.verdict(basis))
    assert builders.write(repository.samples, late) == "gone"
    repository.samples.failed(worker, models.CollectionError(kind="denied", message="no", at=NOW))
    assert not repository.workers.found_dimensions(worker, {}, NOW)
    assert not repository.workers.update(worker)
    assert not repository.alerts.commit(builders.verdict(basis, AlertChange()))
    repository.samples.mark_pending([A], NOW)
    assert repository.workers.ids() == []
    assert repository.samples.pending(NOW * 2, 10) == []
    assert repository.alerts.load([A]) == {}
    assert repository.alerts.history() == []


def test_versions_grow_over_removal_and_adding(repository: Repository, worker: models.Worker) -> None:
    """Versions never decrease, so that receivers can order by them."""
    judge(repository, AlertChange(version=7))
    repository.alerts.retire(builders.verdict(load(repository), AlertChange("resolved", version=8)))
    repository.workers.add([builders.worker(incarnation="second")])
    basis = load(repository)
    assert (basis.alerts, basis.version, basis.revision, basis.last_versions) == ({}, 0, 0, {"cpu-high": 8})


def test_notifications_are_announced_on_the_feed(repository: Repository, worker: models.Worker) -> None:
    """Each is published once, as the JSON of a webhook. Silenced and unnotified transitions are not published."""
    listening = repository.feed.listen(timeout=0.05)
    assert next(listening) is None
    deaf = repository.feed.listen(alerts=False, timeout=0.05)
    assert next(deaf) is None
    judge(
        repository,
        AlertChange(),
        AlertChange(rule="disk-high", notified=False),
        AlertChange(rule="muted", silenced_by="s1"),
    )
    repository.alerts.retire(builders.verdict(load(repository), AlertChange("resolved", version=2)))
    announced = [models.Notification.model_validate_json(present(next(listening))) for _ in range(2)]
    assert [(notification.dedup_key, notification.status, notification.version) for notification in announced] == [
        (f"{A}/cpu-high", "firing", 1),
        (f"{A}/cpu-high", "resolved", 2),
    ]
    assert next(listening) is None
    assert next(deaf) is None
    listening.close()
    deaf.close()


# --- alerts about no worker --------------------------------------------------------------------------------------


def of_installation(repository: Repository) -> ports.Basis[None]:
    """Return the basis of the installation."""
    return repository.alerts.load_monitor_alerts().installation


def of_channel(repository: Repository) -> ports.Basis[None]:
    """Return the basis of a channel."""
    return repository.alerts.load_channel("ops")


OTHERS = pytest.mark.parametrize(
    ("basis_of", "subject"),
    [(of_installation, models.INSTALLATION), (of_channel, models.channel_subject("ops"))],
)


@OTHERS
def test_every_subject_is_committed_as_a_worker_is(
    repository: Repository, basis_of: Callable[[Repository], ports.Basis[None]], subject: models.SubjectKey
) -> None:
    """State, version, history, outbox and open alerts are committed. Of two commits on one basis one succeeds."""
    basis = basis_of(repository)
    assert basis == ports.Basis(subject, None)
    firing = builders.verdict(basis, AlertChange(channels=("chat", "log", "chat")))
    assert repository.alerts.commit(firing)
    assert not repository.alerts.commit(builders.verdict(basis, AlertChange("resolved", version=2))), (
        "another was faster"
    )
    basis = basis_of(repository)
    assert (basis.alerts, basis.version, basis.last_versions) == (firing.alerts, 1, {"cpu-high": 1})
    assert repository.alerts.open() == [firing.alerts["cpu-high"]]
    alert_id = f"{subject.id}/cpu-high"
    assert repository.outbox.due(NOW, 10) == [alert_id]
    claims = repository.outbox.claim(alert_id, NOW, 15)
    assert sorted(claimed.channel for claimed in claims) == ["chat", "log"]
    assert repository.alerts.commit(
        builders.verdict(basis, AlertChange("resolved", version=2, channels=("chat",)), at=NOW + 5)
    )
    over, fired = repository.alerts.history(alert_id)
    assert (fired.transition.after, over.transition.after, over.subject) == ("critical", None, subject.id)
    assert len(repository.alerts.history()) == 2
    assert repository.alerts.open() == []


@OTHERS
def test_a_changed_configuration_refuses_every_subject(
    repository: Repository, basis_of: Callable[[Repository], ports.Basis[None]], subject: models.SubjectKey
) -> None:
    """A verdict with earlier channels or an earlier budget is refused."""
    basis = basis_of(repository)
    assert repository.configurations.save(DEFAULT.model_copy(update={"revision": 1}))
    assert not repository.alerts.commit(builders.verdict(basis, AlertChange()))
    assert repository.alerts.commit(builders.verdict(basis_of(repository), AlertChange()))


@OTHERS
def test_a_retired_subject_leaves_its_story(
    repository: Repository, basis_of: Callable[[Repository], ports.Basis[None]], subject: models.SubjectKey
) -> None:
    """Its alerts are deleted. History and versions stay."""
    assert repository.alerts.commit(builders.verdict(basis_of(repository), AlertChange()))
    assert repository.alerts.retire(builders.verdict(basis_of(repository), AlertChange("resolved", version=2)))
    basis = basis_of(repository)
    assert (basis.alerts, basis.version, basis.last_versions) == ({}, 0, {"cpu-high": 2})
    assert repository.alerts.open() == []
    assert len(repository.alerts.history(f"{subject.id}/cpu-high")) == 2


def test_what_a_silence_keeps_from_people_is_no_news(repository: Repository) -> None:
    """A silenced transition is recorded with the silence. It is neither notified nor published."""
    listening = repository.feed.listen(timeout=0.05)
    assert next(listening) is None
    muted = builders.verdict(of_channel(repository), AlertChange(channels=(), silenced_by="s1"))
    assert repository.alerts.commit(muted)
    assert next(listening) is None
    assert repository.outbox.backlog() == 0
    [entry] = repository.alerts.history("channel:ops/cpu-high")
    assert entry.transition.silenced_by == "s1"
    assert repository.alerts.commit(builders.verdict(of_channel(repository), AlertChange(version=2)))
    assert next(listening) is not None
    listening.close()
