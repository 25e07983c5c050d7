"""What every store of hourly roll-ups promises: an hour is rolled up when it is over, and after each change."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.contract import builders
from tests.contract.builders import NOW, A, B
from tests.support.repositories import Repository
from workermon import collect, models, ports

CPU = "cpu_utilization"
DUE = models.HOUR + ports.ROLLUP_DELAY


@pytest.fixture(autouse=True)
def _fleet(repository: Repository) -> None:
    repository.workers.add([builders.worker(), builders.worker(B)])


def write(
    repository: Repository, *pairs: tuple[int, float], after: float, period: int = 60, worker_id: str = A
) -> None:
    """Write datapoints of cpu_utilization ``after`` seconds from NOW."""
    sample = builders.sample(builders.worker(worker_id), *pairs, after=after, period=period)
    assert builders.write(repository.samples, sample) in ("accepted", "repeated")


def roll_up(repository: Repository, after: float, limit: int = 100) -> int:
    """Roll up what is due that many seconds from NOW."""
    return collect.RollingUp(rollups=repository.rollups, now=lambda: NOW + after).roll_up(limit)


def stored(repository: Repository, metric: str = CPU, worker_id: str = A) -> list[models.RollUp]:
    """Return the roll-ups that are kept of a series."""
    return list(repository.rollups.read(worker_id, metric, NOW - models.WEEK, NOW + 2 * models.WEEK).values())


def single(value: float) -> Any:
    """Return a value rounded to six digits."""
    return pytest.approx(value, rel=1e-6)


def test_an_hour_is_rolled_up_when_it_is_over(repository: Repository) -> None:
    """It has least, mean, greatest, 95th percentile and count. It is made once, after the time for late datapoints."""
    values = random.Random(7).sample(range(10_000), 60)
    for minute, value in enumerate(values):
        write(repository, (60 * minute, value / 7), after=60 * minute + 61)
    assert roll_up(repository, DUE - 1) == 0
    assert stored(repository) == []
    assert roll_up(repository, DUE + 61) == 1
    ordered = sorted(values)
    least, mean, most, p95 = (single(part / 7) for part in (ordered[0], sum(values) / 60, ordered[-1], ordered[56]))
    assert stored(repository) == [(NOW, least, mean, most, p95, 60)]
    assert roll_up(repository, 10 * DUE) == 0


def test_a_late_or_revised_datapoint_changes_its_hour(repository: Repository) -> None:
    """The hour is rolled up again from the whole ledger. A repeated datapoint changes nothing."""
    write(repository, (0, 1.0), (60, 2.0), after=200)
    assert roll_up(repository, DUE + 200) == 1
    write(repository, (120, 6.0), after=9000)
    assert [rollup.number for rollup in stored(repository)] == [2]
    assert roll_up(repository, 9000 + ports.ROLLUP_DELAY - 1) == 0
    assert roll_up(repository, 9000 + ports.ROLLUP_DELAY) == 1
    assert stored(repository) == [models.RollUp(NOW, 1.0, 3.0, 6.0, 6.0, 3)]
    write(repository, (60, 5.0), after=20_000)
    assert roll_up(repository, 20_000 + ports.ROLLUP_DELAY) == 1
    assert stored(repository) == [models.RollUp(NOW, 1.0, 4.0, 6.0, 6.0, 3)]
    write(repository, (60, 5.0), after=30_000)
    assert roll_up(repository, 90_000) == 0


def test_each_hour_and_series_is_separate(repository: Repository) -> None:
    """Workers, metrics and weeks are separate. Hours without a datapoint are absent, not zero."""
    write(repository, (3540, 1.0), (3600, 2.0), (7200, -3.0), after=7500)
    write(repository, (0, 7.0), after=7500, worker_id=B)
    write(repository, (9 * 86_400, 8.5), after=9 * 86_400 + 60)
    assert roll_up(repository, 10 * 86_400) == 5
    rollups = repository.rollups.read(A, CPU, NOW, NOW + 20 * 86_400)
    assert {hour - NOW: (rollup.least, rollup.number) for hour, rollup in rollups.items()} == {
        0: (1.0, 1), 3600: (2.0, 1), 7200: (-3.0, 1), 9 * 86_400: (8.5, 1),
    }  # fmt: skip
    assert [rollup.mean for rollup in stored(repository, worker_id=B)] == [7.0]
    assert stored(repository, metric="memory_utilization") == []
    assert list(repository.rollups.read(A, CPU, NOW + 3600, NOW + 7199)) == [NOW + 3600]


def test_at_the_same_time_the_shorter_period_counts(repository: Repository) -> None:
    """Of two series at one time the shorter period counts. A datapoint belongs to the hour of its timestamp."""
    write(repository, (0, 10.0), (300, 20.0), after=700, period=300)
    write(repository, (300, 2.0), (360, 3.0), after=701)
    write(repository, (3780, 5.0), after=4000, period=420)
    assert roll_up(repository, 2 * DUE + 4000) == 2
    assert [(rollup.at - NOW, rollup.least, rollup.most, rollup.number) for rollup in stored(repository)] == [
        (0, 2.0, 10.0, 3), (3600, 5.0, 5.0, 1),
    ]  # fmt: skip


def test_a_claimed_hour_is_left_alone_until_its_lease_is_over(repository: Repository) -> None:
    """After a lease's end another node continues. Saving an hour that has changed leaves it due."""
    write(repository, (0, 1.0), after=100)
    (claimed,) = repository.rollups.claim(NOW + DUE, 10, 120)
    assert repository.rollups.claim(NOW + DUE + 119, 10, 120) == []
    write(repository, (60, 2.0), after=DUE + 119)
    repository.rollups.save([(claimed, {CPU: models.RollUp(NOW, 1.0, 1.0, 1.0, 1.0, 1)})], NOW + DUE + 120.0)
    assert roll_up(repository, 2 * DUE + 119) == 1
    assert [rollup.number for rollup in stored(repository)] == [2]
    assert roll_up(repository, 9 * DUE) == 0


def test_no_more_is_claimed_than_asked_for(repository: Repository) -> None:
    """The remaining hours stay due."""
    write(repository, *((3600 * hour, 1.0) for hour in range(5)), after=5 * 3600)
    assert roll_up(repository, 10 * DUE, limit=2) == 2
    assert len(stored(repository)) == 2
    assert roll_up(repository, 10 * DUE, limit=10) == 3
    assert len(stored(repository)) == 5


def test_hours_that_are_due_at_once_are_rolled_up_over_eight_minutes(repository: Repository) -> None:
    """A call takes an eighth of its limit, and more only of what is long overdue."""
    hours, limit = 20, 21
    write(repository, *((3600 * hour, 1.0) for hour in range(hours)), after=3600 * hours)
    due = 3600 * hours + ports.ROLLUP_DELAY
    rolled = [roll_up(repository, due + 60 * minute, limit=limit) for minute in range(8)]
    assert max(rolled) == 3
    assert sum(rolled) == hours
    write(repository, *((3600 * hour, 2.0) for hour in range(hours)), after=due + 600)
    assert roll_up(repository, due + 600 + ports.ROLLUP_DELAY + 481, limit=limit) == hours
    assert roll_up(repository, 2 * due, limit=limit) == 0
    assert [rollup.mean for rollup in stored(repository)] == [2.0] * hours


def test_roll_ups_of_a_removed_worker_are_gone(repository: Repository) -> None:
    """Removal deletes them, whatever was claimed. A worker added with that id begins with none."""
    write(repository, (0, 1.0), (3600, 1.0), after=4000)
    assert roll_up(repository, DUE + 500) == 1
    (claimed,) = repository.rollups.claim(NOW + 3 * DUE, 10, 120)
    basis = repository.alerts.load([A])[A]
    assert repository.alerts.retire(builders.verdict(basis, at=NOW + 9000.0))
    rolled = {CPU: models.RollUp(NOW + 3600, 1.0, 1.0, 1.0, 1.0, 1)}
    repository.rollups.save([(claimed, rolled)], NOW + 9000.0)
    repository.workers.add([builders.worker(incarnation="second")])
    repository.rollups.save([(claimed, rolled)], NOW + 9000.0)
    assert stored(repository) == []
    assert repository.rollups.claim(NOW + 20 * DUE, 10, 120) == []


def test_a_fuller_roll_up_stays(repository: Repository) -> None:
    """A roll-up of an hour that has lost datapoints does not replace one of the whole hour."""
    write(repository, (0, 1.0), after=100)
    (claimed,) = repository.rollups.claim(NOW + DUE, 10, 120)
    full = models.RollUp(NOW, 1.0, 2.0, 4.0, 4.0, 60)
    repository.rollups.save([(claimed, {CPU: full})], NOW + DUE)
    repository.rollups.save([(claimed, {CPU: models.RollUp(NOW, 1.0, 1.0, 1.0, 1.0, 59)})], NOW + DUE)
    assert stored(repository) == [full]


def test_roll_ups_are_in_a_backup(repository: Repository) -> None:
    """A restore brings them back, and a removal afterwards deletes them."""
    write(repository, (0, 1.25), (9 * 86_400, 3.5), after=9 * 86_400 + 100)
    assert roll_up(repository, 10 * 86_400) >= 1
    before = repository.rollups.read(A, CPU, NOW - models.WEEK, NOW + 20 * 86_400)
    assert before
    text = repository.saved_states.load().model_dump_json(by_alias=True, exclude_defaults=True)
    state = models.SavedState.model_validate_json(text)
    assert state.rollups
    assert repository.saved_states.replace(state, NOW + 10 * 86_400.0, force=True)
    assert repository.rollups.read(A, CPU, NOW - models.WEEK, NOW + 20 * 86_400) == before
    assert repository.saved_states.load().rollups == state.rollups
    basis = repository.alerts.load([A])[A]
    assert repository.alerts.retire(builders.verdict(basis, at=NOW + 10 * 86_400.0))
    assert repository.rollups.read(A, CPU, NOW - models.WEEK, NOW + 20 * 86_400) == {}
