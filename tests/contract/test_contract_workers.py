"""What every repository of workers promises."""

from __future__ import annotations

import pytest

from tests.contract import builders
from tests.contract.builders import NOW, A, B, C
from tests.support.repositories import Repository
from workermon import errors, models, ports


def test_an_added_worker_is_found_as_it_was_set_up(repository: Repository) -> None:
    """get returns the worker as it was added."""
    worker = builders.worker(labels={"team": "vfx"}, external_id="x", role_arn="arn:aws:iam::123456789012:role/r")
    repository.workers.add([worker])
    record = repository.workers.get([worker.id, builders.B])[worker.id]
    assert record.worker == worker
    assert record.condition == models.Condition()
    assert (record.dimensions, record.changed_from, record.sequence) == ({}, None, 0)


def test_unknown_workers_are_left_out(repository: Repository) -> None:
    """Asking for an unknown worker is not an error."""
    assert repository.workers.get([builders.A]) == {}
    assert repository.workers.get([]) == {}
    assert repository.workers.ids() == []
    assert list(repository.workers.every()) == []


def test_adding_is_all_or_nothing(repository: Repository) -> None:
    """If one worker is monitored already, no other is added."""
    repository.workers.add([builders.worker(builders.B)])
    with pytest.raises(errors.InvalidInput, match=rf"{builders.B}.*monitored already"):
        repository.workers.add([builders.worker(builders.A), builders.worker(builders.B, "second")])
    assert repository.workers.ids() == [builders.B]
    assert repository.workers.get([builders.B])[builders.B].worker.incarnation == "first"


def test_who_is_monitored_is_known_without_reading_them(repository: Repository) -> None:
    """Of some ids the monitored ones are returned."""
    repository.workers.add([builders.worker(builders.A)])
    assert repository.workers.monitored([builders.A, builders.B]) == {builders.A}
    assert repository.workers.monitored([]) == set()


def test_a_worker_named_twice_is_refused(repository: Repository) -> None:
    """Two set-ups of one worker in one call are refused."""
    with pytest.raises(errors.InvalidInput, match="named twice"):
        repository.workers.add([builders.worker(), builders.worker(name="other")])
    assert repository.workers.ids() == []


def test_adding_the_same_incarnation_again_changes_nothing(repository: Repository) -> None:
    """An add may be repeated if its answer was lost."""
    worker = builders.worker()
    repository.workers.add([worker])
    repository.workers.add([worker])
    assert repository.workers.ids() == [worker.id]


def test_adding_nobody_is_well(repository: Repository) -> None:
    """An empty list succeeds and adds nothing."""
    repository.workers.add([])
    assert repository.workers.ids() == []


def test_the_fleet_comes_in_order_and_in_chunks(repository: Repository) -> None:
    """However small the chunk, every worker comes once, ordered by id."""
    ids = [f"i-{number:08x}" for number in range(25)]
    repository.workers.add([builders.worker(worker_id) for worker_id in reversed(ids)])
    assert repository.workers.ids() == ids
    for chunk in (1, 7, 25, 500):
        assert [record.worker.id for record in repository.workers.every(chunk)] == ids


def test_an_update_replaces_the_set_up_only(repository: Repository) -> None:
    """The worker's condition stays."""
    worker = builders.worker()
    repository.workers.add([worker])
    builders.write(repository.samples, builders.sample(worker, (0, 1.0)))
    paused = worker.model_copy(update={"monitoring": "paused", "name": "render-07"})
    assert repository.workers.update(paused)
    record = repository.workers.get([worker.id])[worker.id]
    assert record.worker == paused
    assert record.condition.status == "running"


def test_an_update_of_another_incarnation_is_refused(repository: Repository) -> None:
    """The set-up of an earlier incarnation cannot replace the present one."""
    repository.workers.add([builders.worker()])
    assert not repository.workers.update(builders.worker(incarnation="earlier", name="old"))
    assert not repository.workers.update(builders.worker(builders.B))
    assert repository.workers.get([builders.A])[builders.A].worker.name == builders.A
    assert repository.workers.ids() == [builders.A]


def test_dimensions_are_remembered(repository: Repository) -> None:
    """The result of ListMetrics is read back by metric, in its order."""
    worker = builders.worker()
    repository.workers.add([worker])
    dimensions: dict[str, list[tuple[tuple[str, str], ...]]] = {
        "mem": [(("InstanceId", worker.id),)],
        "disk": [(("InstanceId", worker.id), ("path", "/")), ()],
    }
    assert repository.workers.found_dimensions(worker, dimensions, builders.NOW + 0.25)
    record = repository.workers.get([worker.id])[worker.id]
    assert record.dimensions == dimensions
    assert record.dimensions_at == builders.NOW + 0.25


def test_dimensions_of_several_searches_are_all_remembered(repository: Repository) -> None:
    """Processes that search for different metrics at the same time do not overwrite each other's results."""
    worker = builders.worker()
    repository.workers.add([worker])
    memory: list[tuple[tuple[str, str], ...]] = [(("InstanceId", worker.id),)]
    disk: list[tuple[tuple[str, str], ...]] = [(("InstanceId", worker.id), ("path", "/"))]
    assert repository.workers.found_dimensions(worker, {"mem": memory, "swap": []}, builders.NOW)
    assert repository.workers.found_dimensions(worker, {"disk": disk}, builders.NOW + 1)
    assert repository.workers.found_dimensions(worker, {"swap": memory}, builders.NOW + 2)
    record = repository.workers.get([worker.id])[worker.id]
    assert record.dimensions == {"mem": memory, "disk": disk, "swap": memory}
    assert record.dimensions_at == builders.NOW + 2


def test_dimensions_of_a_gone_incarnation_are_dropped(repository: Repository) -> None:
    """A late answer for a removed worker leaves nothing behind."""
    assert not repository.workers.found_dimensions(builders.worker(), {"mem": []}, builders.NOW)
    assert repository.workers.get([builders.A]) == {}


def test_a_queue_message_is_remembered_until_a_later_one(repository: Repository) -> None:
    """The time at which the event queue last named a worker is stored. An older or unknown one changes nothing."""
    worker = builders.worker()
    repository.workers.add([worker])
    assert repository.workers.get([worker.id])[worker.id].requested_at is None
    repository.workers.request_collection([worker.id, builders.B], builders.NOW + 5.5)
    repository.workers.request_collection([worker.id], builders.NOW)
    record = repository.workers.get([worker.id])[worker.id]
    assert (record.requested_at, record.is_requested) == (builders.NOW + 5.5, True)
    assert repository.workers.ids() == [worker.id]
    repository.workers.request_collection([], builders.NOW)


def test_a_warning_is_kept_once_and_marks_its_worker(repository: Repository) -> None:
    """It stays among the condition's events after collections. Known warnings and unknown workers change nothing."""
    worker = builders.worker()
    repository.workers.add([worker])
    warning = models.ScheduledEvent(
        id="e 1\u00e9", code="spot-interruption", description="x", not_before=builders.NOW + 120,
        not_after=builders.NOW + 720, seen_at=builders.NOW + 0.5, by_queue=True,
    )  # fmt: skip
    assert repository.workers.warn(worker.id, warning, builders.NOW)
    assert not repository.workers.warn(worker.id, warning, builders.NOW + 1)
    assert not repository.workers.warn(builders.B, warning, builders.NOW)
    record = repository.workers.get([worker.id])[worker.id]
    assert (record.condition.events, record.sequence, record.is_requested) == ((warning,), 1, True)
    assert repository.samples.pending(builders.NOW, 10) == [worker.id]
    sample = builders.sample(worker, (0, 1.0))
    repository.samples.write(sample, models.Condition(status="running", collected_at=sample.collected_at), "{}")
    assert repository.workers.get([worker.id])[worker.id].condition.events == (warning,)
    second = warning.model_copy(update={"id": "e2"})
    assert repository.workers.warn(worker.id, second, builders.NOW + 720 + 2 * models.DAY)
    assert repository.workers.get([worker.id])[worker.id].condition.events == (second,)
    assert repository.workers.ids() == [worker.id]


def test_workers_with_many_series_are_known(repository: Repository) -> None:
    """Workers with many series of a metric are listed. Usual workers and those without series are not."""
    repository.workers.add([builders.worker(), builders.worker(B), builders.worker(C)])
    bare: dict[str, list[tuple[tuple[str, str], ...]]] = {"mem": [()] * 30}
    assert repository.workers.found_dimensions(builders.worker(B), bare, builders.NOW)
    usual: dict[str, list[tuple[tuple[str, str], ...]]] = {"mem": [(("InstanceId", C),)]}
    assert repository.workers.found_dimensions(builders.worker(C), usual, builders.NOW)
    assert repository.workers.with_series(30) == [B]


def test_a_glance_leaves_out_the_same_times_as_the_record(repository: Repository) -> None:
    """Times in the future, by a wrong clock, are left out."""
    repository.workers.add([builders.worker(), builders.worker(B, added_at=NOW + 5000.0), builders.worker(C)])
    sample = builders.sample(builders.worker(), (0, 97.5), after=4000.0)
    builders.write(repository.samples, sample)
    repository.samples.failed(builders.worker(C), models.CollectionError(kind="denied", message="no", at=NOW + 900.0))
    summaries = [summary.clamped(NOW) for summary in repository.workers.summaries()]
    assert summaries == [ports.WorkerSummary.of(record.clamped(NOW)) for record in repository.workers.every()]
    assert (summaries[0].collected_at, summaries[1].added_at) == (None, NOW)
    assert summaries[2].last_error is not None
    assert summaries[2].last_error.at == NOW


def test_a_glance_shows_what_the_record_has(repository: Repository) -> None:
    """Every worker is listed in order, with and without checks, datapoints and errors."""
    repository.workers.add(
        [
            builders.worker(),
            builders.worker(B, labels={"team": "vfx"}, account="lab", monitoring="paused", interval=300, name="b"),
            builders.worker(C),
        ]
    )
    sample = builders.sample(builders.worker(), (0, 97.5), checks=models.Checks(system="ok", instance="impaired"))
    condition = builders.condition(sample, latest={"cpu_utilization": models.Datapoint(NOW, 97.5)})
    repository.samples.write(sample, condition, "{}")
    repository.samples.failed(builders.worker(C), models.CollectionError(kind="denied", message="no", at=1.5))
    summaries = list(repository.workers.summaries())
    assert summaries == [ports.WorkerSummary.of(record) for record in repository.workers.every()]
    assert [summary.id for summary in summaries] == [A, B, C]
    assert summaries[0].checks == (("system", "ok"), ("instance", "impaired"))
    assert summaries[0].latest == {"cpu_utilization": (NOW, 97.5)}
    assert (summaries[1].labels, summaries[1].account) == ({"team": "vfx"}, "lab")
    assert summaries[2].last_error is not None
