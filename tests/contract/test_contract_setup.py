"""What every set-up promises: it is applied as a whole, or not at all."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.builders import NOW, A, AlertChange, B, C, verdict, worker
from tests.support.repositories import DEFAULT, Repository
from workermon import models, ports


def closing(repository: Repository, worker_id: str) -> ports.Verdict:
    """Return a last verdict of a worker."""
    basis = repository.alerts.load([worker_id])[worker_id]
    return verdict(basis, AlertChange("resolved", version=2)) if basis.alerts else verdict(basis)


def change(repository: Repository, **changes: Any) -> ports.Change:
    """Return a change of everything: C comes, A is another, B leaves, and there is a new configuration."""
    fleet = {record.worker.id: record.worker for record in repository.workers.every()}
    new_change = ports.Change(
        version=repository.setup.version(),
        fleet=fleet,
        added=[worker(C)],
        updated=[fleet[A].model_copy(update={"interval": 30})],
        leaving=[closing(repository, B)],
        configuration=DEFAULT.model_copy(update={"revision": 1, "retention": 7200}),
        at=NOW,
    )
    return new_change._replace(**changes)


def set_up(repository: Repository) -> tuple[object, ...]:
    """Return all that a change is about, as anybody sees it."""
    fleet = {record.worker.id: record.worker.interval for record in repository.workers.every()}
    alerts = [alert.rule for alert in repository.alerts.open()]
    return fleet, repository.configurations.load().retention, alerts, repository.outbox.backlog()


@pytest.fixture
def prepared(repository: Repository) -> Repository:
    """Give the ports with A and B, and an alert of B that fires."""
    repository.workers.add([worker(A), worker(B)])
    basis = repository.alerts.load([B])[B]
    assert repository.alerts.commit(verdict(basis, AlertChange()))
    return repository


def test_everything_at_once(prepared: Repository) -> None:
    """Added, changed and removed workers and the rules are written in one step, and all workers are pending."""
    assert set_up(prepared) == ({A: 60, B: 60}, models.DAY, ["cpu-high"], 1)
    assert prepared.setup.put(change(prepared))
    assert set_up(prepared) == ({A: 30, C: 60}, 7200, [], 2)
    assert prepared.samples.pending(NOW, 10) == [A, C]
    assert prepared.configurations.load().revision == 1
    assert [entry.transition.after for entry in prepared.alerts.history(f"{B}/cpu-high")] == [None, "critical"]


def test_an_unchanged_configuration_makes_nobody_pending(prepared: Repository) -> None:
    """Without a new configuration the revision stays and no worker is pending, but the set-up's version changes."""
    before = prepared.setup.version()
    assert prepared.setup.put(change(prepared, configuration=None))
    assert (prepared.configurations.load().revision, prepared.samples.pending(NOW, 10)) == (0, [])
    assert prepared.setup.version() != before


def _pause(repository: Repository) -> None:
    record = repository.workers.get([A])[A]
    assert repository.workers.update(record.worker.model_copy(update={"monitoring": "paused"}))


def _fire(repository: Repository) -> None:
    basis = repository.alerts.load([B])[B]
    assert repository.alerts.commit(verdict(basis, AlertChange(rule="disk-high")))


def _save(repository: Repository) -> None:
    assert repository.configurations.save(DEFAULT.model_copy(update={"revision": 1, "budget": 1.0}))


def _put(repository: Repository) -> None:
    nothing: dict[str, Any] = {"added": [], "updated": [], "leaving": [], "configuration": None}
    assert repository.setup.put(change(repository, **nothing))


def _remove(repository: Repository) -> None:
    assert repository.alerts.retire(closing(repository, A))


def _anew(repository: Repository) -> None:
    _remove(repository)
    repository.workers.add([worker(A, "second")])


@pytest.mark.parametrize("meanwhile", [_pause, _fire, _save, _put, _remove, _anew])
def test_what_changed_meanwhile_is_kept(prepared: Repository, meanwhile: Callable[[Repository], None]) -> None:
    """If any part of its basis has changed, nothing is written. It can be tried again on the new basis."""
    late = change(prepared)
    meanwhile(prepared)
    before = set_up(prepared)
    assert not prepared.setup.put(late)
    assert set_up(prepared) == before
    if meanwhile is not _remove:
        revision = prepared.configurations.load().revision + 1
        rewritten = DEFAULT.model_copy(update={"revision": revision, "retention": 7200})
        assert prepared.setup.put(change(prepared, configuration=rewritten))
        assert prepared.configurations.load().retention == 7200
        assert prepared.workers.ids() == [A, C]


def test_a_collection_does_not_conflict(prepared: Repository) -> None:
    """A collection's writes do not conflict with the worker's set-up."""
    late = change(prepared)
    prepared.samples.mark_pending([A], NOW)
    assert prepared.setup.put(late)


def test_of_two_at_once_one_is_written(prepared: Repository) -> None:
    """Of two changes over the same basis one is written, and the other one not at all."""
    changes = [
        change(
            prepared,
            configuration=DEFAULT.model_copy(update={"revision": 1, "retention": retention}),
            added=[worker(worker_id)],
        )
        for retention, worker_id in ((3600, C), (7200, "i-0ddddddd"))
    ]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(prepared.setup.put, changes))
    assert sorted(outcomes) == [False, True]
    retention, worker_id = ((3600, C), (7200, "i-0ddddddd"))[outcomes.index(True)]
    assert prepared.configurations.load().retention == retention
    assert prepared.workers.ids() == [A, worker_id]
