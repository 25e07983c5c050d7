"""The fleet at a glance: filtered, counted and grouped by a label; one page in full, the others as squares."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from workermon import models, ports, rules
from workermon.views.document import Document
from workermon.views.fleet import WorkerQuery, WorkerRow, by_worker, row, searched
from workermon.views.paging import Page, Position, page

#: States of workers, the worst first. ``late``: the newest collection failed, or is overdue.
State = Literal["critical", "warning", "late", "unknown", "stopped", "paused", "ok"]
STATES: tuple[State, ...] = get_args(State)
_RANKS = {state: rank for rank, state in enumerate(STATES)}
#: Statuses of an instance in EC2.
STATUSES: tuple[models.Status, ...] = get_args(models.Status)

#: Seconds beyond three intervals after which a worker without a collection counts as late.
GRACE = 30

#: Squares of one group. In a larger group each stands for several workers.
MAX_CELLS = 240

#: Groups to draw, the worst first; and values of a label offered as a filter.
MAX_GROUPS, MAX_VALUES = 24, 200

#: The group of workers without the label.
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

    ``value`` is the highest of the metric's newest values, ``None`` without a metric or a value.
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
    """Workers in full, and the state of each.

    ``units`` has the unit of each collected metric, ``about`` the rules over each.
    """

    rows: tuple[WorkerRow, ...]
    worker_states: dict[str, State]
    units: dict[str, str]
    about: dict[str, tuple[str, ...]]


class Overview(Rows):
    """A page of the fleet, and an overview of everything that matches.

    ``rows`` are those of the page, workers in trouble first, then by name. ``states`` counts every worker that matches
    all filters except the one by state. ``keys`` are the labels that workers have. ``groups`` and ``hidden`` (how many
    more there are) are those of the requested label.
    """

    total: int
    matching: int
    first: int
    states: dict[State, int]
    statuses: dict[str, int]
    keys: tuple[str, ...]
    group: str
    groups: tuple[Group, ...]
    hidden: int
    newest: float | None


class Entry(NamedTuple):
    """What the overview needs of a worker: only a part of its record, because there may be 50,000 of them.

    ``state`` is its state without alerts. ``text`` is what a search covers, ``values`` are the newest ones of its
    metrics while it runs.
    """

    id: str
    name: str
    region: str
    labels: Mapping[str, str]
    status: models.Status
    state: State
    collected_at: float | None
    values: Mapping[str, float]
    text: str


#: A matching worker, and its state.
Seen = tuple[Entry, State]


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """Every worker by name, as of ``at``, and the totals: labels and statuses."""

    at: float
    entries: tuple[Entry, ...]
    keys: Mapping[str, int]
    statuses: Mapping[str, int]
    newest: float | None

    @classmethod
    def of(cls, at: float, entries: Iterable[Entry]) -> Snapshot:
        """Return a snapshot of workers in any order."""
        ordered = tuple(sorted(entries, key=lambda entry: (entry.name, entry.id)))
        return cls(
            at=at,
            entries=ordered,
            keys=collections.Counter(itertools.chain.from_iterable(entry.labels for entry in ordered)),
            statuses=collections.Counter(entry.status for entry in ordered),
            newest=max((entry.collected_at for entry in ordered if entry.collected_at), default=None),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FleetSnapshot:
    """Reads the whole fleet, which takes its time if there are tens of thousands of workers."""

    workers: ports.Workers
    now: ports.Clock

    def snapshot(self) -> Snapshot:
        """Read every worker."""
        at = self.now()
        return Snapshot.of(at, (_entry(worker, at) for worker in self.workers.summaries()))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RowsView:
    """Reads a few workers in full."""

    workers: ports.Workers
    alerts: ports.Alerts
    configurations: ports.Configurations
    kinds: rules.Kinds
    now: ports.Clock

    def rows_of(self, worker_ids: Sequence[str], firing: Mapping[str, Sequence[models.Alert]] | None = None) -> Rows:
        """Return the rows of a few workers, in the given order, without those that are not monitored.

        ``firing`` are the firing alerts, if they were already read.
        """
        at, configuration = self.now(), self.configurations.load()
        firing = by_worker(self.alerts.open()) if firing is None else firing
        records = self.workers.get(worker_ids)
        return Rows(
            rows=tuple(
                row(record, firing.get(worker_id, ()), configuration, at) for worker_id, record in records.items()
            ),
            worker_states={
                worker_id: worker_state(
                    ports.WorkerSummary.of(record), {alert.notified_severity for alert in firing.get(worker_id, ())}, at
                )
                for worker_id, record in records.items()
            },
            units={
                name: configuration.unit_of(name) for name in configuration.collect if name in configuration.metrics
            },
            about=self._about(configuration),
        )

    def _about(self, configuration: models.Configuration) -> dict[str, tuple[str, ...]]:
        about: dict[str, list[str]] = {}
        for rule in configuration.rules:
            for metric in self.kinds[rule.kind].metrics(rule):
                about.setdefault(metric, []).append(rule.name)
        return {metric: tuple(names) for metric, names in about.items()}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FleetOverview:
    """Reads the fleet for people who look at it: of a snapshot only what fires and the workers of one page are new."""

    rows_view: RowsView
    alerts: ports.Alerts

    def look(self, snapshot: Snapshot, query: FleetQuery, *, offset: int = 0, limit: int = 100) -> Overview:
        """Return ``limit`` workers from ``offset`` on, with their present values, and the totals of all that match."""
        firing = by_worker(self.alerts.open())
        worst = {worker_id: severity for worker_id, alerts in firing.items() if (severity := _worst(alerts))}
        everybody = not (query.text or query.labels or query.status)
        matching = snapshot.entries if everybody else [entry for entry in snapshot.entries if _matches(entry, query)]
        entries: list[Seen] = [(entry, worst.get(entry.id) or entry.state) for entry in matching]
        states = collections.Counter(state for _, state in entries)
        if query.state is not None:
            entries = [entry for entry in entries if entry[1] == query.state]
        offset = min(offset, max(0, (len(entries) - 1) // limit * limit))
        ordered = (entry.id for state in STATES if states[state] for entry, own_state in entries if own_state == state)
        rows = self.rows_view.rows_of(list(itertools.islice(ordered, offset, offset + limit)), firing)
        group = query.group or _usual(snapshot.keys)
        groups, hidden = _groups(entries, group, query.metric)
        return Overview(
            rows=rows.rows,
            worker_states=rows.worker_states,
            units=rows.units,
            about=rows.about,
            total=len(snapshot.entries),
            matching=len(entries),
            first=offset,
            states={state: states[state] for state in STATES if states[state]},
            statuses=dict(sorted(snapshot.statuses.items())),
            keys=tuple(sorted(snapshot.keys)),
            group=group,
            groups=groups,
            hidden=hidden,
            newest=snapshot.newest,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FleetPages:
    """Reads the fleet page by page, for programs."""

    rows_view: RowsView

    def page(self, snapshot: Snapshot, query: WorkerQuery, *, limit: int, after: Position | None) -> Page[WorkerRow]:
        """Return a page of the matching workers, by name.

        Rows have present values. A worker that no longer matches, or is gone, is left out.
        """
        matching = [entry for entry in snapshot.entries if _matches(entry, query)]
        chosen = page(matching, lambda entry: (entry.name, entry.id), limit=limit, after=after)
        rows = self.rows_view.rows_of([entry.id for entry in chosen.rows]).rows
        return Page(tuple(row for row in rows if query.status in (None, row.status)), chosen.next)


def _entry(worker: ports.WorkerSummary, at: float) -> Entry:
    latest = worker.latest if worker.status == "running" else {}
    return Entry(
        id=worker.id,
        name=worker.name,
        region=worker.region,
        labels=worker.labels,
        status=worker.status,
        state=worker_state(worker, (), at),
        collected_at=worker.collected_at,
        values={name: value for name, (_, value) in latest.items()},
        text="\n".join(searched(worker)).casefold(),
    )


def worker_state(worker: ports.WorkerSummary, severities: Collection[models.Severity | None], at: float) -> State:
    """Return a worker's state at a time; ``severities`` are those of its firing alerts, which take precedence."""
    if severities:
        return "critical" if "critical" in severities else "warning"
    if worker.monitoring == "paused":
        return "paused"
    tried = max(worker.added_at, worker.collected_at or 0)
    if worker.last_error is not None or at - tried > 3 * worker.interval + GRACE:
        return "late"
    if worker.status == "running":
        return "ok"
    return "stopped" if worker.status in models.STOPPED | models.GONE else "unknown"


def _worst(alerts: Iterable[models.Alert]) -> State | None:
    severities = {alert.notified_severity for alert in alerts}
    return "critical" if "critical" in severities else "warning" if severities else None


def _matches(entry: Entry, query: WorkerQuery) -> bool:
    return (
        query.status in (None, entry.status)
        and query.labels.items() <= entry.labels.items()
        and query.text.casefold() in entry.text
    )


def _usual(keys: Mapping[str, int]) -> str:
    """Return the label that most workers have; the region if there is none."""
    return min(keys, key=lambda key: (-keys[key], key), default="region")


def _groups(shown_entries: Sequence[Seen], key: str, metric: str | None) -> tuple[tuple[Group, ...], int]:
    """Return the groups to draw, those with the worst worker first, and how many more there are."""
    members: dict[str, list[Seen]] = {}
    for entry in shown_entries:
        value = entry[0].region if key == "region" else entry[0].labels.get(key, WITHOUT)
        members.setdefault(value, []).append(entry)
    counted = {value: collections.Counter(state for _, state in entries) for value, entries in members.items()}
    ranked = sorted(members, key=lambda value: (min(map(_RANKS.__getitem__, counted[value])), value))
    groups = tuple(
        Group(
            value=value,
            total=len(members[value]),
            states={state: counted[value][state] for state in STATES if counted[value][state]},
            cells=_cells(members[value], metric),
        )
        for value in ranked[:MAX_GROUPS]
    )
    return groups, max(0, len(ranked) - MAX_GROUPS)


def _cells(entries: Sequence[Seen], metric: str | None) -> tuple[Cell, ...]:
    """Return a square for each worker by name, or for as many neighbours as make ``MAX_CELLS`` of them."""
    size = -(-len(entries) // MAX_CELLS)
    cells = []
    for start in range(0, len(entries), size):
        chunk = entries[start : start + size]
        entry, state = min(chunk, key=lambda pair: _RANKS[pair[1]])
        values = [entry.values[metric] for entry, _ in chunk if metric in entry.values] if metric is not None else []
        cells.append(Cell(id=entry.id, name=entry.name, state=state, count=len(chunk), value=max(values, default=None)))
    return tuple(cells)
