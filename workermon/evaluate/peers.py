"""The peers that workers are compared with, and their datapoints, read once per evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from workermon import models, ports, rules
from workermon.alerts import peer_groups
from workermon.evaluate import worker

#: Seconds for which a process caches the workers' labels: reading a fleet of 50,000 takes a second. An unknown worker,
#: or one with other labels, makes it read them again at once.
FRESH = 60


_ENDED = models.STOPPED | models.GONE


class _Needed(NamedTuple):
    """A group whose datapoints a rule needs, between two times (seconds)."""

    rule: models.Rule
    by: str
    value: str
    since: int
    until: float


class _FleetLabels(NamedTuple):
    """The labels of every worker, and the workers by label and value as far as requested, as of ``at`` (seconds).

    ``idle`` are paused, or do not run and will not start by themselves.
    """

    at: float
    labels: Mapping[str, Mapping[str, str]]
    idle: frozenset[str]
    by_label: dict[str, Mapping[str, Sequence[str]]]


class Fleet:
    """Which workers have which labels, as of the last read of the whole fleet. Threads may share it."""

    def __init__(self) -> None:
        self._last: _FleetLabels | None = None

    def ids(
        self, keys: Iterable[tuple[str, str]], workers: ports.Workers, expected: Iterable[models.Worker], now: float
    ) -> Mapping[tuple[str, str], Sequence[str]]:
        """Return the workers with these labels and values.

        Reads the fleet if that was long ago, or if one of the given workers differs from the cached one.
        """
        last = self._labels(
            workers,
            now,
            lambda last: all(
                last.labels.get(expected_worker.id) == expected_worker.labels for expected_worker in expected
            ),
        )
        return {(by, value): _by_value(last, by).get(value, ()) for by, value in keys}

    def members(
        self, by: str, value: str, workers: ports.Workers, expected_ids: Collection[str], now: float
    ) -> Mapping[str, Mapping[str, str]]:
        """Return the labels of each worker that belongs to a group and may run, by id.

        Reads the fleet if that was long ago, or if a worker seen in the group is missing from the cache.
        """
        last = self._labels(
            workers,
            now,
            lambda last: all(last.labels.get(worker_id, {}).get(by) == value for worker_id in expected_ids),
        )
        return {
            worker_id: last.labels[worker_id]
            for worker_id in _by_value(last, by).get(value, ())
            if worker_id not in last.idle
        }

    def _labels(self, workers: ports.Workers, now: float, is_current: Callable[[_FleetLabels], bool]) -> _FleetLabels:
        last = self._last
        if last is None or not 0 <= now - last.at < FRESH or not is_current(last):
            summaries = list(workers.summaries())
            idle = frozenset(
                summary.id for summary in summaries if summary.monitoring == "paused" or summary.status in _ENDED
            )
            last = self._last = _FleetLabels(now, {summary.id: dict(summary.labels) for summary in summaries}, idle, {})
        return last


def _by_value(fleet_labels: _FleetLabels, by: str) -> Mapping[str, Sequence[str]]:
    if by not in fleet_labels.by_label:
        by_value: dict[str, list[str]] = {}
        for worker_id, labels in fleet_labels.labels.items():
            if by in labels:
                by_value.setdefault(labels[by], []).append(worker_id)
        fleet_labels.by_label[by] = by_value
    return fleet_labels.by_label[by]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Reads the groups of an evaluation at a time ``at`` (seconds). Reads nothing if no rule compares workers."""

    workers: ports.Workers
    samples: ports.Samples
    fleet: Fleet
    configuration: models.Configuration
    kinds: rules.Kinds
    at: float

    def groups(self, cases: Sequence[worker.Case]) -> worker.Peers:
        """Return the groups that rules compare these workers with: all records at once, and all series at once."""
        if all(self.kinds[rule.kind].compares_by(rule) is None for rule in self.configuration.rules):
            return {}
        needed = _needed(cases)
        if not needed:
            return {}
        case_workers = (case.basis.record.worker for case in cases)
        of_label = self.fleet.ids(
            ((group.by, group.value) for group in needed.values()), self.workers, case_workers, self.at
        )
        ids = {key: of_label[group.by, group.value] for key, group in needed.items()}
        records_read = self.workers.get(
            list(dict.fromkeys(worker_id for worker_ids in ids.values() for worker_id in worker_ids))
        )
        records = {worker_id: record.clamped(self.at) for worker_id, record in records_read.items()}
        compared = {
            key: peer_groups.Compared.of(
                self.kinds[group.rule.kind],
                group.rule,
                group.value,
                [records[member_id] for member_id in ids[key] if member_id in records],
                self.configuration,
            )
            for key, group in needed.items()
        }
        keys = list(dict.fromkeys(key for group in compared.values() for key in group.needed_series))
        since = min(group.since - compared[key].longest_period for key, group in needed.items())
        series = self.samples.read(keys, since, max(group.until for group in needed.values()))
        return {key: group.with_series(series) for key, group in compared.items()}


def _needed(cases: Sequence[worker.Case]) -> dict[tuple[str, str], _Needed]:
    needed: dict[tuple[str, str], _Needed] = {}
    for case in cases:
        for plan in case.plans:
            by = plan.kind.compares_by(plan.rule)
            if by is None or plan.horizon is None:
                continue
            value = case.basis.record.worker.labels[by]
            key = plan.rule.name, value
            needed_here = _Needed(plan.rule, by, value, plan.needed, plan.horizon.requested_at or 0.0)
            needed_before = needed.get(key, needed_here)
            needed[key] = needed_here._replace(
                since=min(needed_here.since, needed_before.since), until=max(needed_here.until, needed_before.until)
            )
    return needed
