"""The fleet at one look: filtered, counted and grouped by a label; a page of it in full, the others as squares."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from workermon import models, ports, rules
from workermon.views.document import Document
from workermon.views.fleet import WorkerQuery, WorkerRow, by_worker, row

#: How a worker stands, the worst first. ``late``: its newest collection failed, or is overdue.
State = Literal["critical", "warning", "late", "unknown", "stopped", "paused", "ok"]
STATES: tuple[State, ...] = get_args(State)
#: What EC2 may say of an instance.
STATUSES: tuple[models.Status, ...] = get_args(models.Status)

#: Seconds beyond three intervals after which a worker that was not collected counts as late.
GRACE = 30

#: Squares of one group. In a larger group each stands for several workers.
MAX_CELLS = 240

#: Groups that are drawn, the worst first; and different values of a label that are offered as a filter.
MAX_GROUPS, MAX_VALUES = 24, 200

#: What a worker without the label is grouped under.
WITHOUT = ""


class FleetQuery(WorkerQuery):
    """Which workers, and how they are grouped.

    ``group`` is a label's key, or ``region``; ``metric`` colours the squares by a metric's newest value instead of the
    state.
    """

    state: State | None = None
    group: str | None = None
    metric: str | None = None


class Cell(Document):
    """A square: one worker, or ``count`` of them, of which it shows the worst.

    ``value`` is the highest of the metric's newest values, ``None`` without a metric, or if there is none.
    """

    id: str
    name: str
    state: State
    count: int
    value: float | None


class Group(Document):
    """The workers with one value of a label."""

    value: str
    total: int
    states: dict[State, int]
    cells: tuple[Cell, ...]


class Rows(Document):
    """Workers in full, and how each stands.

    ``units`` is by metric that is collected, ``about`` the rules over each.
    """

    rows: tuple[WorkerRow, ...]
    standing: dict[str, State]
    units: dict[str, str]
    about: dict[str, tuple[str, ...]]


class Overview(Rows):
    """A page of the fleet, and the whole of what matches at one look.

    ``rows`` are of the page, those in trouble first, then by name. ``states`` counts every worker that matches but for
    the filter by state. ``keys`` are the labels that workers have, ``groups`` and ``hidden`` (how many more there are)
    are of the label that was asked for.
    """

    total: int
    matching: int
    first: int
    states: dict[State, int]
    statuses: dict[str, int]
    keys: tuple[str, ...]
    group: str | None
    groups: tuple[Group, ...]
    hidden: int
    newest: float | None


class _Seen(NamedTuple):
    """A worker that matches, how it stands, and the metric's value."""

    record: ports.Record
    state: State
    value: float | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FleetOverview:
    """Reads the fleet for people who look at it."""

    workers: ports.Workers
    alerts: ports.Alerts
    configurations: ports.Configurations
    kinds: rules.Kinds
    now: ports.Clock

    def look(self, query: FleetQuery, *, offset: int = 0, limit: int = 100) -> Overview:
        """Return ``limit`` workers from ``offset`` on, and the figures of all that match."""
        at, configuration = self.now(), self.configurations.load()
        firing = by_worker(self.alerts.open())
        keys: collections.Counter[str] = collections.Counter()
        states: collections.Counter[State] = collections.Counter()
        statuses: collections.Counter[str] = collections.Counter()
        seen: list[_Seen] = []
        total, newest = 0, None
        for record in self.workers.every():
            total += 1
            keys.update(record.worker.labels.keys())
            statuses[record.condition.status] += 1
            if (collected := record.condition.collected_at) is not None:
                newest = collected if newest is None else max(newest, collected)
            if not query.matches(record):
                continue
            state = _standing(record, firing, at)
            states[state] += 1
            if query.state in (None, state):
                seen.append(_Seen(record, state, _value(record, query.metric)))
        seen.sort(key=lambda one: (STATES.index(one.state), one.record.worker.name, one.record.worker.id))
        offset = min(offset, max(0, (len(seen) - 1) // limit * limit))
        shown = seen[offset : offset + limit]
        group = query.group or _usual(keys, total)
        groups = _groups(seen, group)
        return Overview(
            rows=tuple(row(each.record, firing.get(each.record.worker.id, ()), configuration, at) for each in shown),
            standing={each.record.worker.id: each.state for each in shown},
            total=total,
            matching=len(seen),
            first=offset,
            states={state: states[state] for state in STATES if states[state]},
            statuses=dict(sorted(statuses.items())),
            keys=tuple(sorted(keys)),
            group=group,
            groups=groups[:MAX_GROUPS],
            hidden=max(0, len(groups) - MAX_GROUPS),
            newest=newest,
            units=_units(configuration),
            about=self._about(configuration),
        )

    def some(self, worker_ids: Sequence[str]) -> Rows:
        """Return the rows of a few workers, in the order given; those that are not monitored are left out."""
        at, configuration = self.now(), self.configurations.load()
        firing = by_worker(self.alerts.open())
        records = self.workers.get(worker_ids)
        return Rows(
            rows=tuple(
                row(record, firing.get(worker_id, ()), configuration, at) for worker_id, record in records.items()
            ),
            standing={worker_id: _standing(record, firing, at) for worker_id, record in records.items()},
            units=_units(configuration),
            about=self._about(configuration),
        )

    def _about(self, configuration: models.Configuration) -> dict[str, tuple[str, ...]]:
        about: dict[str, list[str]] = {}
        for rule in configuration.rules:
            for metric in self.kinds[rule.kind].metrics(rule):
                about.setdefault(metric, []).append(rule.name)
        return {metric: tuple(names) for metric, names in about.items()}


def _units(configuration: models.Configuration) -> dict[str, str]:
    return {name: configuration.unit_of(name) for name in configuration.collect if name in configuration.metrics}


def _standing(record: ports.Record, firing: Mapping[str, Sequence[models.Alert]], at: float) -> State:
    return standing(record, {alert.notified_severity for alert in firing.get(record.worker.id, ())}, at)


def standing(record: ports.Record, severities: Collection[models.Severity | None], at: float) -> State:
    """Return how a worker stands at a time; ``severities`` are those of its alerts that fire, which come first."""
    worker, condition = record.worker, record.condition
    for severity in reversed(models.SEVERITIES):
        if severity in severities:
            return severity
    if worker.monitoring == "paused":
        return "paused"
    tried = max(worker.added_at, condition.collected_at or 0)
    if condition.last_error is not None or at - tried > 3 * worker.interval + GRACE:
        return "late"
    if condition.status in models.STOPPED | models.GONE:
        return "stopped"
    return "ok" if condition.status == "running" else "unknown"


def _value(record: ports.Record, metric: str | None) -> float | None:
    if metric is None or record.condition.status != "running":
        return None
    if metric == models.STATUS_CHECK_FAILED:
        return record.condition.checks.failed if record.condition.checks else None
    point = record.condition.latest.get(metric)
    return None if point is None else point.value


def _usual(keys: Mapping[str, int], total: int) -> str | None:
    """Return the label that most workers have; the region if there is none."""
    if not total:
        return None
    return min(keys, key=lambda key: (-keys[key], key), default="region")


def _groups(seen: Sequence[_Seen], key: str | None) -> tuple[Group, ...]:
    if key is None:
        return ()
    members: dict[str, list[_Seen]] = {}
    for one in seen:
        worker = one.record.worker
        value = worker.region if key == "region" else worker.labels.get(key, WITHOUT)
        members.setdefault(value, []).append(one)
    groups = [
        Group(
            value=value,
            total=len(own),
            states={state: number for state in STATES if (number := sum(one.state == state for one in own))},
            cells=_cells(own),
        )
        for value, own in members.items()
    ]
    return tuple(sorted(groups, key=lambda group: (STATES.index(min(group.states, key=STATES.index)), group.value)))


def _cells(own: Sequence[_Seen]) -> tuple[Cell, ...]:
    """Return a square for each worker by name, or for as many neighbours as make ``MAX_CELLS`` of them."""
    ordered = sorted(own, key=lambda one: (one.record.worker.name, one.record.worker.id))
    size = -(-len(ordered) // MAX_CELLS)
    cells = []
    for start in range(0, len(ordered), size):
        some = ordered[start : start + size]
        worst = min(some, key=lambda one: STATES.index(one.state))
        cells.append(
            Cell(
                id=worst.record.worker.id,
                name=worst.record.worker.name,
                state=worst.state,
                count=len(some),
                value=max((one.value for one in some if one.value is not None), default=None),
            )
        )
    return tuple(cells)
