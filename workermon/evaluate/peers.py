"""The peers that workers are compared with, and their datapoints, read once for each evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from workermon import models, ports, rules
from workermon.alerts import peer_groups
from workermon.evaluate import worker

#: Seconds for which a process remembers who has which labels: to look over a fleet of 50,000 takes a second. One that
#: it does not know, or that has other labels, has it look again at once.
FRESH = 60


_ENDED = models.STOPPED | models.GONE


class _Needed(NamedTuple):
    """A group whose datapoints a rule needs, from one time to another (seconds)."""

    rule: models.Rule
    by: str
    value: str
    since: int
    until: float


class _Look(NamedTuple):
    """The labels of every worker, and the workers by label and value where that was asked, as of ``at`` (seconds).

    ``idle`` are paused, or do not run and will not by themselves.
    """

    at: float
    labels: Mapping[str, Mapping[str, str]]
    idle: frozenset[str]
    by_label: dict[str, Mapping[str, Sequence[str]]]


class Fleet:
    """Which workers have which labels, as of the last read of the whole fleet; threads may share it."""

    def __init__(self) -> None:
        self._last: _Look | None = None

    def ids(
        self, keys: Iterable[tuple[str, str]], workers: ports.Workers, seen: Iterable[models.Worker], now: float
    ) -> Mapping[tuple[str, str], Sequence[str]]:
        """Return the workers that have these labels and values.

        It looks over the fleet if that is long ago, or if one of the workers that were seen is not as remembered.
        """
        last = self._look(workers, now, lambda last: all(last.labels.get(one.id) == one.labels for one in seen))
        return {(by, value): _by_value(last, by).get(value, ()) for by, value in keys}

    def members(
        self, by: str, value: str, workers: ports.Workers, seen: Collection[str], now: float
    ) -> Mapping[str, Mapping[str, str]]:
        """Return the labels of each worker that belongs to a group and may run, by id.

        It looks over the fleet if that is long ago, or if one that was seen in the group is not remembered there.
        """
        last = self._look(workers, now, lambda last: all(last.labels.get(one, {}).get(by) == value for one in seen))
        return {one: last.labels[one] for one in _by_value(last, by).get(value, ()) if one not in last.idle}

    def _look(self, workers: ports.Workers, now: float, is_current: Callable[[_Look], bool]) -> _Look:
        last = self._last
        if last is None or not 0 <= now - last.at < FRESH or not is_current(last):
            glances = list(workers.glances())
            idle = frozenset(one.id for one in glances if one.monitoring == "paused" or one.status in _ENDED)
            last = self._last = _Look(now, {one.id: dict(one.labels) for one in glances}, idle, {})
        return last


def _by_value(look: _Look, by: str) -> Mapping[str, Sequence[str]]:
    if by not in look.by_label:
        found: dict[str, list[str]] = {}
        for worker_id, labels in look.labels.items():
            if by in labels:
                found.setdefault(labels[by], []).append(worker_id)
        look.by_label[by] = found
    return look.by_label[by]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Reads the groups of an evaluation at a time ``at`` (seconds); nothing if no rule compares workers."""

    workers: ports.Workers
    samples: ports.Samples
    fleet: Fleet
    configuration: models.Configuration
    kinds: rules.Kinds
    at: float

    def groups(self, cases: Sequence[worker.Case]) -> worker.Peers:
        """Return the groups with which rules compare these workers: all records at once, and all series at once."""
        if all(self.kinds[rule.kind].compares_by(rule) is None for rule in self.configuration.rules):
            return {}
        needed = _needed(cases)
        if not needed:
            return {}
        seen = (case.basis.record.worker for case in cases)
        of_label = self.fleet.ids(((each.by, each.value) for each in needed.values()), self.workers, seen, self.at)
        ids = {key: of_label[each.by, each.value] for key, each in needed.items()}
        found = self.workers.get(list(dict.fromkeys(worker_id for every in ids.values() for worker_id in every)))
        records = {worker_id: record.as_of(self.at) for worker_id, record in found.items()}
        compared = {
            key: peer_groups.Compared.of(
                each.rule, each.value, [records[one] for one in ids[key] if one in records], self.configuration
            )
            for key, each in needed.items()
        }
        keys = list(dict.fromkeys(key for each in compared.values() for key in each.needed_series))
        since = min(each.since - compared[key].longest_period for key, each in needed.items())
        series = self.samples.read(keys, since, max(each.until for each in needed.values()))
        return {key: each.with_series(series) for key, each in compared.items()}


def _needed(cases: Sequence[worker.Case]) -> dict[tuple[str, str], _Needed]:
    needed: dict[tuple[str, str], _Needed] = {}
    for case in cases:
        for plan in case.plans:
            by = plan.kind.compares_by(plan.rule)
            if by is None or plan.horizon is None:
                continue
            value = case.basis.record.worker.labels[by]
            key = plan.rule.name, value
            own = _Needed(plan.rule, by, value, plan.needed, plan.horizon.asked or 0.0)
            known = needed.get(key, own)
            needed[key] = own._replace(since=min(own.since, known.since), until=max(own.until, known.until))
    return needed
