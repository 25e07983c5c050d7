"""Decisions of ``workermon up`` before it starts a process."""

from __future__ import annotations

from workermon import errors
from workermon.local import supervisor, up


def test_a_large_fleet_has_more_processes_that_collect() -> None:
    """Each process has its number of workers. There are at most as many as cores, and at least one."""
    assert [up.collectors_for(workers, 2) for workers in (0, 20_000, 20_001, 50_000, 200_000)] == [1, 1, 2, 2, 2]
    assert [up.collectors_for(workers, 8) for workers in (0, 20_000, 20_001, 50_000, 200_000)] == [1, 1, 2, 3, 8]
    assert up.collectors_for(200_000, 1) == 1


def test_processes_that_collect_are_added_while_the_fleet_grows() -> None:
    """Each is started once. None ends when the fleet shrinks, and an unknown size changes nothing."""
    sizes: list[int | Exception] = [10, 50_000, errors.RedisUnavailable("Redis", "away", "wait"), 10, 70_000]
    added: list[list[str]] = []

    def fleet_size() -> int:
        size = sizes.pop(0)
        if isinstance(size, Exception):
            raise size
        return size

    collectors = up.Collectors(lambda number: up.collecting({}, 8, number), fleet_size, cores=8)

    def stopped(seconds: float) -> bool:
        added.append([child.name for child in collectors.missing()])
        return not sizes

    collectors.watch(stopped)
    assert added == [[], ["collect-2", "collect-3"], [], [], ["collect-4"]]


def test_processes_that_collect_differ_in_their_names_only() -> None:
    """Celery tells nodes apart by their names, and these share a queue."""
    first, second = (child for child in up.children({}, collectors=2) if child.name.startswith("collect"))
    assert isinstance(second, supervisor.Child)
    assert set(first.argv) ^ set(second.argv) == {
        part for child in (first, second) for part in child.argv if part.startswith("collect")
    }
    assert first.env == second.env
