"""What every store promises of backup and restore: the whole state is restored in one step."""

from __future__ import annotations

from tests.contract import builders
from tests.contract.builders import NOW, A, AlertChange
from tests.support.repositories import DEFAULT, Repository
from workermon import models, ports

ALERT = f"{A}/cpu-high"


def fill(repository: Repository) -> models.SavedState:
    """Set up an installation with an alert that one channel has accepted and another has not."""
    assert repository.configurations.save(DEFAULT.model_copy(update={"revision": 1}))
    repository.workers.add([builders.worker()])
    builders.write(repository.samples, builders.sample(builders.worker(), (0, 97.5)))
    assert repository.alerts.commit(
        builders.verdict(repository.alerts.load([A])[A], AlertChange(channels=("ops", "log")))
    )
    for claimed in repository.outbox.claim(ALERT, NOW, 15):
        if claimed.channel == "ops":
            repository.outbox.delivered(claimed, NOW, NOW + 3600)
        else:
            repository.outbox.failed(claimed, NOW, "no", NOW + 60)
    repository.silences.add(models.Silence(id="s", rule="r", begins=NOW, ends=NOW + 10, reason="why", by="me"))
    repository.silences.acknowledge(models.Acknowledgement(alert_id=ALERT, since=5, by="me", at=NOW))
    return repository.saved_states.load()


def test_what_is_read_can_be_put_back(repository: Repository) -> None:
    """Fleet, alerts, history, attempts, silences and acks are restored. Only undelivered notifications wait."""
    state = fill(repository)
    alerts, history = repository.alerts.open(), repository.alerts.history()
    basis = repository.alerts.load([A])[A]
    repository.silences.remove(["s"])
    text = state.model_dump_json(by_alias=True, exclude_defaults=True)
    read = models.SavedState.model_validate_json(text)
    assert read == state
    assert repository.saved_states.replace(read, NOW + 5.0, force=True)
    assert repository.alerts.open() == alerts != []
    assert repository.alerts.history() == history
    present = repository.alerts.load([A])[A]
    assert (present.alerts, present.version, present.last_versions) == (
        basis.alerts, basis.version, basis.last_versions,
    )  # fmt: skip
    assert present.record.worker == basis.record.worker
    assert present.record.condition == basis.record.condition
    assert repository.outbox.due(NOW + 5.0, 10) == [ALERT]
    (claimed,) = repository.outbox.claim(ALERT, NOW + 5.0, 15)
    assert claimed.channel == "log"
    repository.outbox.delivered(claimed, NOW + 5.0)
    assert [attempt.error for attempt in repository.outbox.attempts(ALERT)][-1] is None
    assert len(repository.outbox.attempts(ALERT)) == 3
    assert [silence.id for silence in repository.silences.every()] == ["s"]
    assert repository.silences.acknowledged([ALERT])[ALERT].since == 5
    (reminding,) = (queue for queue in repository.saved_states.load().queues if queue.remind_at is not None)
    assert reminding == models.SavedQueue(alert_id=ALERT, channel="ops", remind_at=NOW + 3600)


def test_a_state_that_is_not_empty_stays(repository: Repository) -> None:
    """Without force a restore into a store with data writes nothing. An empty store is restored."""
    assert repository.saved_states.replace(models.SavedState(), NOW)
    state = fill(repository)
    assert not repository.saved_states.replace(models.SavedState(), NOW)
    assert repository.saved_states.load() == state
    assert repository.saved_states.replace(models.SavedState(), NOW, force=True)
    assert repository.workers.ids() == []
    assert repository.alerts.open() == []
    assert repository.outbox.backlog() == 0


def test_what_is_of_this_version_stays_as_it_is(repository: Repository) -> None:
    """Preparing a store of this version loses nothing, also when repeated."""
    repository.schema.prepare()
    state = fill(repository)
    repository.schema.prepare()
    assert repository.saved_states.load() == state


def test_what_was_to_escalate_escalates(repository: Repository) -> None:
    """Pending escalations are restored with their alerts, and with nothing else."""
    fill(repository)
    basis = repository.alerts.load([A])[A]
    alerts = {"cpu-high": basis.alerts["cpu-high"].model_copy(update={"escalates_at": NOW + 900.0})}
    assert repository.alerts.commit(ports.Verdict(basis, alerts, (), {}, NOW))
    state = repository.saved_states.load()
    assert repository.saved_states.replace(models.SavedState(), NOW, force=True)
    assert repository.outbox.due_escalations(NOW + 900, 10) == []
    assert repository.saved_states.replace(state, NOW, force=True)
    assert repository.outbox.due_escalations(NOW + 899, 10) == []
    assert repository.outbox.due_escalations(NOW + 900, 10) == [ALERT]
