"""What every ledger of samples promises."""

from __future__ import annotations

import dataclasses
import random

import fakeredis
import hypothesis
import pytest
from hypothesis import strategies

from tests.contract import builders
from tests.contract.builders import NOW, A, B
from tests.support.repositories import Repository, repository_in_memory, repository_on_redis
from workermon import models, ports


@pytest.fixture
def worker(repository: Repository) -> models.Worker:
    """Give a worker that is monitored, each minute."""
    worker = builders.worker()
    repository.workers.add([worker])
    return worker


def read(
    repository: Repository,
    metric: str = "cpu_utilization",
    period: int = 60,
    since: float = NOW - 86_400,
    until: float = NOW + 86_400,
) -> list[tuple[float, float]]:
    """Read one series as (seconds after NOW, value)."""
    series = repository.samples.read([(A, metric, period)], since, until)[A, metric]
    assert series.period == period
    return [(at - NOW, value) for at, value in series.points]


def test_written_datapoints_are_read_at_their_times(repository: Repository, worker: models.Worker) -> None:
    """Values are read exactly, with zero and negative ones. Gaps stay gaps."""
    pairs = [(-120, 0.0), (0, -1.5), (60, 0.1), (300, 1e300)]
    assert builders.write(repository.samples, builders.sample(worker, *pairs)) == "accepted"
    assert read(repository) == pairs


def test_both_ends_of_a_reading_belong_to_it(repository: Repository, worker: models.Worker) -> None:
    """Both ends are included, and nothing beyond them."""
    builders.write(repository.samples, builders.sample(worker, *((at, float(at)) for at in range(-7200, 600, 60))))
    assert read(repository, since=NOW - 3660, until=NOW + 60) == [(at, float(at)) for at in range(-3660, 61, 60)]
    assert read(repository, since=NOW - 59, until=NOW - 1) == []


def test_a_reading_without_a_beginning_finds_everything(repository: Repository, worker: models.Worker) -> None:
    """A range from 1970 to far ahead is valid."""
    pairs = [(-82_800, 1.0), (0, 2.0)]
    builders.write(repository.samples, builders.sample(worker, *pairs))
    assert read(repository, since=0, until=NOW * 2) == pairs


def test_a_series_without_a_datapoint_is_empty(repository: Repository, worker: models.Worker) -> None:
    """A requested series is answered, even for an unknown worker."""
    series = [(A, "cpu_utilization", 60), (builders.B, "cpu_utilization", 300)]
    assert repository.samples.read(series, 0, NOW) == {
        (A, "cpu_utilization"): models.Series(60, ()),
        (builders.B, "cpu_utilization"): models.Series(300, ()),
    }
    assert repository.samples.read([], 0, NOW) == {}


def test_a_revised_datapoint_replaces_the_former(repository: Repository, worker: models.Worker) -> None:
    """The later value for the same time counts."""
    builders.write(repository.samples, builders.sample(worker, (0, 1.0), (60, 2.0)))
    builders.write(repository.samples, builders.sample(worker, (60, 3.0), after=700))
    assert read(repository) == [(0, 1.0), (60, 3.0)]


def test_times_off_the_period_are_kept_exactly(repository: Repository, worker: models.Worker) -> None:
    """A datapoint keeps its timestamp. Of two in one slot the later counts."""
    builders.write(repository.samples, builders.sample(worker, (7, 1.0), (67, 2.0), (60, 9.0)))
    assert read(repository) == [(7, 1.0), (67, 2.0)]


@pytest.mark.parametrize("period", [1, 7, 60, 420, 3600, 5400, 86_400])
def test_every_period_finds_its_place(repository: Repository, worker: models.Worker, period: int) -> None:
    """This includes periods that do not divide an hour or are longer than one."""
    first = NOW // period * period - NOW
    pairs = [(first - number * period, float(number)) for number in range(3600 // period + 3, -1, -1)]
    pairs = [pair for pair in pairs if pair[0] > -86_400 + 600]
    builders.write(repository.samples, builders.sample(worker, *pairs, period=period))
    assert read(repository, period=period, since=NOW - 10 * 86_400) == pairs
    assert repository.samples.periods(A, "cpu_utilization", NOW - 86_400, NOW) == [period]


def test_what_is_no_value_is_absent(repository: Repository, worker: models.Worker) -> None:
    """NaN, infinity, and times before the retention or far ahead are not stored."""
    pairs = [(0, float("nan")), (60, float("inf")), (-90_000, 1.0), (90_000, 1.0), (120, 5.0)]
    builders.write(repository.samples, builders.sample(worker, *pairs))
    assert read(repository, since=0, until=NOW * 2) == [(120, 5.0)]


def test_each_period_of_a_metric_is_a_series_of_its_own(repository: Repository, worker: models.Worker) -> None:
    """A change from five minutes to one loses and mixes no datapoints."""
    builders.write(repository.samples, builders.sample(worker, (0, 1.0), period=300))
    builders.write(repository.samples, builders.sample(worker, (300, 2.0), after=700))
    assert read(repository, period=300) == [(0, 1.0)]
    assert read(repository, period=60) == [(300, 2.0)]
    assert repository.samples.periods(A, "cpu_utilization", NOW, NOW + 600) == [60, 300]
    assert repository.samples.periods(A, "cpu_utilization", NOW + 1, NOW + 600) == [60]
    assert repository.samples.periods(A, "network_in", NOW, NOW + 600) == []


def test_a_metric_s_name_may_hold_anything(repository: Repository, worker: models.Worker) -> None:
    """A colon or a percent sign in a metric's name has no effect."""
    for number, name in enumerate(["a:60", "a%3A60", "a"]):
        series = {name: models.Series(60, builders.points((0, float(number))))}
        builders.write(repository.samples, builders.sample(worker, series=series, after=600 + 60 * number))
    assert read(repository, "a:60") == [(0, 0.0)]
    assert read(repository, "a%3A60") == [(0, 1.0)]
    assert read(repository, "a") == [(0, 2.0)]


def test_status_checks_are_a_series_whose_first_write_wins(repository: Repository, worker: models.Worker) -> None:
    """They have the slot of their collection. A second collection in that slot changes nothing."""
    name, ok = models.STATUS_CHECK_FAILED, models.Checks(system="ok", instance="ok")
    impaired = models.Checks(system="impaired", instance="ok")
    builders.write(repository.samples, builders.sample(worker, checks=ok, after=605))
    builders.write(repository.samples, builders.sample(worker, checks=impaired, after=659.5), force=True)
    builders.write(repository.samples, builders.sample(worker, checks=impaired, after=660))
    unclear = models.Checks(system="insufficient-data", instance="ok")
    builders.write(repository.samples, builders.sample(worker, checks=unclear, after=720))
    assert read(repository, name) == [(600, 0.0), (660, 1.0)]


def test_a_complete_slot_is_repeated(repository: Repository, worker: models.Worker) -> None:
    """A second collection of a slot keeps its datapoints. Condition and event do not change."""
    first, second = builders.sample(worker, (0, 1.0), after=601), builders.sample(worker, (60, 2.0), after=655)
    listening = repository.feed.listen(timeout=0.05)
    assert next(listening) is None
    assert builders.write(repository.samples, first, event="first") == "accepted"
    assert builders.write(repository.samples, second, event="second") == "repeated"
    assert builders.write(repository.samples, builders.sample(worker, after=660), event="third") == "accepted"
    assert [next(listening), next(listening)] == ["first", "third"]
    listening.close()
    assert read(repository) == [(0, 1.0), (60, 2.0)]


def test_again_writes_although_the_slot_is_complete(repository: Repository, worker: models.Worker) -> None:
    """A requested collection is written and published."""
    builders.write(repository.samples, builders.sample(worker, after=601))
    assert builders.write(repository.samples, builders.sample(worker, after=602), force=True) == "accepted"
    assert repository.workers.get([A])[A].condition.collected_at == NOW + 602


def test_a_clock_that_stepped_back_stops_nothing(repository: Repository, worker: models.Worker) -> None:
    """A slot before the last one is valid."""
    builders.write(repository.samples, builders.sample(worker, after=6000))
    assert builders.write(repository.samples, builders.sample(worker, (0, 1.0), after=600)) == "accepted"
    assert repository.workers.get([A])[A].condition.collected_at == NOW + 600


def test_a_new_interval_starts_new_slots(repository: Repository, worker: models.Worker) -> None:
    """A slot is identified by its number and its interval."""
    at = 60.0 * 29 - NOW % 60  # the same number at two intervals
    assert builders.write(repository.samples, builders.sample(worker, after=at)) == "accepted"
    rescheduled = worker.model_copy(update={"interval": 120})
    repository.workers.update(rescheduled)
    assert builders.write(repository.samples, builders.sample(rescheduled, after=at)) == "accepted"


def test_the_condition_is_what_the_last_sample_said(repository: Repository, worker: models.Worker) -> None:
    """The condition is read as written, with its error."""
    sample = builders.sample(worker, (0, 41.25), checks=models.Checks(system="ok", instance="initializing"))
    condition = builders.condition(
        sample,
        succeeded_at=NOW + 600.5,
        running_since=NOW,
        latest={"cpu_utilization": models.Datapoint(NOW, 41.25)},
        periods={"cpu_utilization": 60},
        requested_at={"cpu_utilization": NOW + 600.0},
        last_error=models.CollectionError(kind="denied", message="no", at=NOW),
    )
    repository.samples.write(sample, condition, "{}")
    assert repository.workers.get([A])[A].condition == condition


def test_a_failure_changes_only_the_error(repository: Repository, worker: models.Worker) -> None:
    """A failure is not an absence. The next success clears the error."""
    sample = builders.sample(worker, (0, 1.0))
    builders.write(repository.samples, sample)
    before = repository.workers.get([A])[A]
    last_error = models.CollectionError(kind="throttled", message="slow down", at=NOW + 660)
    repository.samples.failed(worker, last_error)
    after = repository.workers.get([A])[A]
    assert after.condition == before.condition.model_copy(update={"last_error": last_error})
    assert after._replace(condition=before.condition) == before
    builders.write(repository.samples, builders.sample(worker, after=720))
    assert repository.workers.get([A])[A].condition.last_error is None


def test_nothing_is_written_for_a_gone_incarnation(repository: Repository, worker: models.Worker) -> None:
    """A task for an earlier incarnation writes nothing."""
    for removed in (builders.worker(incarnation="earlier"), builders.worker(builders.B)):
        listening = repository.feed.listen(timeout=0.05)
        assert next(listening) is None
        assert builders.write(repository.samples, builders.sample(removed, (0, 1.0))) == "gone"
        repository.samples.failed(removed, models.CollectionError(kind="denied", message="no", at=NOW))
        assert next(listening) is None
        listening.close()
        assert (
            repository.samples.read([(removed.id, "cpu_utilization", 60)], NOW, NOW)[removed.id, "cpu_utilization"][1]
            == ()
        )
    repository.samples.mark_pending([builders.B], NOW)
    assert repository.samples.pending(NOW * 2, 10) == []
    assert repository.workers.ids() == [A]
    assert repository.workers.get([A, builders.B])[A].condition == models.Condition()


def test_what_changed_is_known_by_its_earliest_time(repository: Repository, worker: models.Worker) -> None:
    """Evaluation has to go back to the first new or revised datapoint, and no further."""

    def changed_from() -> float | None:
        changed = repository.workers.get([A])[A].changed_from
        return None if changed is None else changed - NOW

    builders.write(repository.samples, builders.sample(worker, after=540))
    assert changed_from() is None
    builders.write(repository.samples, builders.sample(worker, (60, 1.0), (120, 2.0), (180, 3.0)))
    assert changed_from() == 60
    basis = repository.alerts.load([A])[A]
    assert repository.alerts.commit(builders.verdict(basis))
    assert changed_from() is None
    builders.write(
        repository.samples, builders.sample(worker, (60, 1.0), (120, 2.0), (180, 3.0), (240, 4.0), after=660)
    )
    assert changed_from() == 240
    builders.write(
        repository.samples, builders.sample(worker, (60, 1.0), (120, 2.5), (180, 3.0), (240, 4.0), after=720)
    )
    assert changed_from() == 120
    builders.write(repository.samples, builders.sample(worker, (-4000, 1.0), after=780))
    assert changed_from() == -4000


def test_a_sample_is_pending_until_it_is_evaluated(repository: Repository) -> None:
    """The oldest pending sample is first, and newer ones do not delay it."""
    ids = [builders.C, builders.A, builders.B]
    repository.workers.add([builders.worker(worker_id) for worker_id in ids])
    for number, marked_id in enumerate(ids):
        builders.write(repository.samples, builders.sample(builders.worker(marked_id), after=600 + number))
    builders.write(repository.samples, builders.sample(builders.worker(builders.C), after=6000))
    assert repository.samples.pending(NOW + 601.5, 10) == [builders.C, builders.A]
    assert repository.samples.pending(NOW + 9999, 10) == ids
    assert repository.samples.pending(NOW + 9999, 2) == ids[:2]
    assert repository.samples.pending(NOW + 599, 10) == []
    repository.alerts.commit(builders.verdict(repository.alerts.load([A])[A]))
    assert repository.samples.pending(NOW + 9999, 10) == [builders.C, builders.B]


def test_a_repeated_sample_without_news_wakes_nobody(repository: Repository, worker: models.Worker) -> None:
    """A complete slot makes a worker pending only if a datapoint is new or revised."""
    builders.write(repository.samples, builders.sample(worker, (0, 1.0)))
    repository.alerts.commit(builders.verdict(repository.alerts.load([A])[A]))
    before = repository.workers.get([A])[A].sequence
    assert builders.write(repository.samples, builders.sample(worker, (0, 1.0), after=610)) == "repeated"
    assert repository.samples.pending(NOW * 2, 10) == []
    assert repository.workers.get([A])[A].sequence == before
    assert builders.write(repository.samples, builders.sample(worker, (60, 1.0), after=620)) == "repeated"
    assert repository.samples.pending(NOW * 2, 10) == [A]
    assert repository.workers.get([A])[A].sequence > before


def test_workers_can_be_marked_as_pending(repository: Repository, worker: models.Worker) -> None:
    """Changed rules make every known worker pending."""
    repository.samples.mark_pending(iter([A, builders.B]), NOW + 0.5)
    assert repository.samples.pending(NOW + 1, 10) == [A]
    assert repository.samples.pending(NOW, 10) == []
    repository.samples.mark_pending([], NOW)


def test_many_samples_are_written_in_one_go(repository: Repository, worker: models.Worker) -> None:
    """Each sample has its own outcome."""
    second = builders.worker(builders.B)
    repository.workers.add([second])
    written = [builders.sample(owner, (0, 1.0)) for owner in (worker, builders.worker(builders.C), second, worker)]
    outcomes = repository.samples.write_many([(sample, builders.condition(sample), "{}") for sample in written])
    assert [outcome.outcome for outcome in outcomes] == ["accepted", "gone", "accepted", "repeated"]
    requested = [(worker_id, "cpu_utilization", 60) for worker_id in (A, builders.B)]
    assert {series.points for series in repository.samples.read(requested, NOW, NOW).values()} == {
        builders.points((0, 1.0))
    }
    assert repository.samples.write_many([]) == []


_POINTS = strategies.dictionaries(
    strategies.integers(-1500, 1500), strategies.floats(allow_nan=False, width=64), max_size=30
)


@pytest.mark.parametrize("kind", ["memory", "redis"])
@hypothesis.given(
    truth=_POINTS,
    period=strategies.sampled_from([1, 7, 60, 300, 7200]),
    order=strategies.randoms(use_true_random=False),
)
@hypothesis.settings(max_examples=60, deadline=None)
def test_the_order_of_writes_does_not_matter(
    kind: str, truth: dict[int, float], period: int, order: random.Random
) -> None:
    """Any order, grouping and repetition of datapoints gives the same ledger."""
    repository = repository_in_memory() if kind == "memory" else repository_on_redis(fakeredis.FakeRedis())
    worker = builders.worker()
    repository.workers.add([worker])
    parts = list(truth.items()) + order.sample(list(truth.items()), len(truth) // 2)
    order.shuffle(parts)
    while parts:
        size = order.randint(1, len(parts))
        builders.write(repository.samples, builders.sample(worker, *parts[:size], after=1500, period=period))
        parts = parts[size:]
    finite = {at: value for at, value in truth.items() if abs(value) != float("inf")}
    slots = {(NOW + at) // period: (at, value) for at, value in sorted(finite.items())}
    assert read(repository, period=period) == list(slots.values())


def evaluated(repository: Repository, *, is_steady: bool, basis: ports.Basis[ports.Record] | None = None) -> None:
    """Commit an evaluation of the worker, by default on the present basis."""
    based = basis or repository.alerts.load([A])[A]
    assert repository.alerts.commit(dataclasses.replace(builders.verdict(based), is_steady=is_steady))


def written(repository: Repository, worker: models.Worker, number: int, steady_revision: int | None = 0) -> bool:
    """Write a sample whose evaluation may be deferred. Return whether the worker is pending then."""
    sample = builders.sample(worker, (60 * number, 1.0), after=60.0 * number, steady_revision=steady_revision)
    assert builders.write(repository.samples, sample) == "accepted"
    return repository.samples.marked([A, B]) == [A]


def test_the_sample_of_a_steady_worker_may_wait(repository: Repository, worker: models.Worker) -> None:
    """It sets no pending mark, is published and readable, and counts in the next evaluation."""
    assert written(repository, worker, 1)
    evaluated(repository, is_steady=True)
    assert not written(repository, worker, 2)
    assert not written(repository, worker, 3)
    assert repository.workers.get([A])[A].changed_from == NOW + 120
    assert read(repository) == [(60, 1.0), (120, 1.0), (180, 1.0)]
    assert written(repository, worker, 4, steady_revision=None)
    evaluated(repository, is_steady=True)
    assert repository.workers.get([A])[A].changed_from is None


def test_only_the_sample_of_a_worker_that_is_steady_by_the_same_revision_waits(
    repository: Repository, worker: models.Worker
) -> None:
    """A worker that is not evaluated yet, evaluated by other rules, set up again, or not steady is pending."""
    assert written(repository, worker, 1)
    evaluated(repository, is_steady=True)
    assert written(repository, worker, 2, steady_revision=1)
    evaluated(repository, is_steady=True)
    assert repository.workers.update(worker)
    assert written(repository, worker, 3)
    evaluated(repository, is_steady=True)
    assert not written(repository, worker, 4)
    repository.samples.mark_pending([A], NOW)
    evaluated(repository, is_steady=False)
    assert written(repository, worker, 5)


def test_a_deferred_sample_is_found_if_the_worker_is_not_steady(repository: Repository, worker: models.Worker) -> None:
    """A sample that was written during the previous evaluation is found."""
    assert written(repository, worker, 1)
    evaluated(repository, is_steady=True)
    basis = repository.alerts.load([A])[A]
    assert not written(repository, worker, 2)
    evaluated(repository, is_steady=False, basis=basis)
    assert repository.samples.marked([A]) == [A]
    assert repository.samples.marked([]) == []
