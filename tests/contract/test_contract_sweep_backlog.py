"""What every sweep backlog promises: it contains everything a sweep would find."""

from __future__ import annotations

import dataclasses
import threading

from tests.contract import builders
from tests.contract.builders import NOW, A, AlertChange, verdict
from tests.support.repositories import DEFAULT, Repository
from workermon import models, ports

#: Seconds. Older samples were not announced.
AGE = 3.0


#: Who leads, in these tests.
CLAIM = ports.LeaseClaim("listener", "me", 60)


def look(repository: Repository, at: float = NOW) -> ports.BacklogCounts:
    """Look as a sweep at a time does."""
    backlog = repository.sweep_backlog.look(CLAIM, at, AGE, works=False)
    assert backlog is not None
    return backlog


def test_nothing_waits_at_first(repository: Repository) -> None:
    """In an empty installation every number is 0."""
    assert look(repository) == (0,) * 7


def test_the_set_up_is_counted(repository: Repository) -> None:
    """Workers, silences and failing channels are counted, and the revision is that in force."""
    assert repository.configurations.save(DEFAULT.model_copy(update={"revision": 1}))
    repository.workers.add([builders.worker()])
    repository.silences.add(models.Silence(id="s1", begins=NOW, ends=NOW + 60, reason="why", by="me", worker=A))
    repository.failures.note("ops", NOW, "it is full", retried=True)
    backlog = look(repository)
    assert (backlog.revision, backlog.workers, backlog.silences, backlog.failing_channels) == (1, 1, 1, 1)
    assert (backlog.undelivered, backlog.escalations) == (0, 0)


def test_a_sample_is_pending_once_it_is_old_enough(repository: Repository) -> None:
    """It agrees with ``Samples.pending``, even if a clock that was ahead wrote the sample."""
    repository.workers.add([builders.worker()])
    repository.samples.mark_pending([A], NOW)
    for after in (0, 1, 2.9, 3, 60, -models.MAX_LEAD, -models.MAX_LEAD - 1):
        assert look(repository, NOW + after).pending == len(repository.samples.pending(NOW + after, 10, AGE)), after


def test_what_the_outbox_finds_was_counted(repository: Repository) -> None:
    """A notification counts if it is due, or if it waits for longer than possible."""
    repository.workers.add([builders.worker()])
    basis = repository.alerts.load([A])[A]
    assert repository.alerts.commit(verdict(basis, AlertChange()))
    for after in (0, 1, -models.MAX_LEAD - 1):
        assert repository.outbox.due(NOW + after, 10), after
        assert look(repository, NOW + after).undelivered == 1, after


def test_a_reminder_counts_when_it_is_due(repository: Repository) -> None:
    """When a reminder is counted, the outbox queues the notification again."""
    repository.workers.add([builders.worker()])
    assert repository.alerts.commit(verdict(repository.alerts.load([A])[A], AlertChange()))
    (claimed,) = repository.outbox.claim(f"{A}/cpu-high", NOW, 15)
    assert repository.outbox.delivered(claimed, NOW, NOW + 3600) is None
    assert [look(repository, NOW + after).undelivered for after in (0, 3599, 3600)] == [0, 0, 1]


def test_an_escalation_counts_when_it_is_due(repository: Repository) -> None:
    """An escalation with the largest possible time counts too."""
    repository.workers.add([builders.worker()])
    escalating = verdict(repository.alerts.load([A])[A], AlertChange())
    alerts = {rule: alert.model_copy(update={"escalates_at": NOW + 600}) for rule, alert in escalating.alerts.items()}
    assert repository.alerts.commit(dataclasses.replace(escalating, alerts=alerts))
    for after in (0, 599, 600, -models.MAX_ESCALATION):
        due = repository.outbox.due_escalations(NOW + after, 10)
        assert look(repository, NOW + after).escalations == len(due), after


def test_a_request_takes_the_lease(repository: Repository) -> None:
    """Each request takes or extends the lease. Another owner gets nothing and changes nothing."""
    look(repository)
    assert not repository.leases.hold("listener", "another", 60)
    repository.leases.release("listener", "me")
    assert repository.leases.hold("listener", "another", 60)
    assert repository.sweep_backlog.look(CLAIM, NOW, AGE, works=True) is None
    assert repository.liveness.beats() == {}
    repository.leases.release("listener", "another")
    assert look(repository) == (0,) * 7


def test_a_request_extends_the_lease(repository: Repository) -> None:
    """The lease is extended by the claim's seconds from now on."""
    assert repository.leases.hold("listener", "me", 0.05)
    look(repository)
    threading.Event().wait(0.1)  # the first lease is over
    assert not repository.leases.hold("listener", "another", 60)


def test_a_request_marks_the_listener(repository: Repository) -> None:
    """It marks the listener like ``Liveness.beat``, but only after a finished sweep. A long break begins anew."""
    look(repository)
    assert repository.liveness.beats() == {}
    for at, since in ((NOW, NOW), (NOW + 9, NOW), (NOW + 20, NOW + 20)):
        assert repository.sweep_backlog.look(CLAIM, at, AGE, works=True) is not None
        assert repository.liveness.beats() == {"listener": at}
        assert repository.liveness.monitoring_since() == since + ports.START_UP
