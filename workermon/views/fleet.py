"""The fleet and one worker, for ``list``, ``show``, the API and the page."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

from workermon import errors, models, ports
from workermon.rules import state
from workermon.rules.event import outcome
from workermon.views.cadence import MetricCadence, cadences
from workermon.views.document import Document, Time

#: Workers whose records are in memory at the same time.
CHUNK = 500

# --- types -------------------------------------------------------------------------------------------------------


class OpenAlert(Document):
    """A firing alert in a worker's row."""

    dedup_key: str
    rule: str
    severity: models.Severity | None
    since: Time | None
    summary: str | None


class LastError(Document):
    """Why the newest collection failed; ``kind`` is an ``AwsError.kind``."""

    kind: str
    message: str
    at: Time


class WorkerRow(Document):
    """A worker in the list of the fleet; ``interval`` in seconds, ``metrics`` the newest datapoint of each metric."""

    id: str
    name: str
    region: str
    status: models.Status
    monitoring: models.Monitoring
    interval: int
    labels: dict[str, str]
    status_checks: models.Checks | None
    last_collected_at: Time | None
    metrics: Mapping[str, models.Reading | None]
    alerts: tuple[OpenAlert, ...]
    last_error: LastError | None


class WorkerList(Document):
    """The workers of the fleet, by name."""

    workers: tuple[WorkerRow, ...]


class WorkerQuery(Document):
    """A filter of workers: all given parts have to match; ``text`` is part of a name, id or label, in any case."""

    status: str | None = None
    labels: Mapping[str, str] = {}
    text: str = ""

    def matches(self, worker: ports.WorkerSummary) -> bool:
        """Return whether a worker matches."""
        text = self.text.casefold()
        if self.status not in (None, worker.status) or not self.labels.items() <= worker.labels.items():
            return False
        return not text or any(text in word.casefold() for word in searched(worker))


def searched(worker: models.Worker | ports.WorkerSummary) -> tuple[str, ...]:
    """Return the texts that a search for a worker covers."""
    return worker.name, worker.id, *(f"{key}={value}" for key, value in worker.labels.items())


class AgedReading(models.Reading):
    """A metric's newest datapoint; ``age`` in seconds."""

    age: int


class StatusReason(Document):
    """Why an instance does not run according to EC2, and since when."""

    code: str
    message: str
    since: Time


class EventRow(Document):
    """An event that EC2 has scheduled for an instance; ``state`` is ``ahead``, or how EC2 has marked it.

    ``deadline`` is until when its start can be postponed.
    """

    id: str
    code: str
    description: str
    not_before: Time | None
    not_after: Time | None
    deadline: Time | None
    state: str


class ImpairedCheck(Document):
    """An impaired status check: since when according to EC2, and EC2's recommendation."""

    check: models.CheckName
    since: Time | None
    remediation: str | None


class WorkerDetail(WorkerRow):
    """Everything about one worker: its row in the list, and what only its own page shows."""

    metrics: Mapping[str, AgedReading | None]
    account: str
    origin: models.Origin
    added_at: Time
    detailed_monitoring: bool
    status_reason: StatusReason | None
    impaired: tuple[ImpairedCheck, ...]
    events: tuple[EventRow, ...]
    next_run: Time | None
    cadences: tuple[MetricCadence, ...] = ()


# --- views -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRows:
    """Reads workers as they stand in the list."""

    alerts: ports.Alerts
    configurations: ports.Configurations
    now: ports.Clock

    def rows(self, records: Iterable[ports.Record]) -> tuple[WorkerRow, ...]:
        """Return the rows of these workers, in their order."""
        configuration, at = self.configurations.load(), self.now()
        firing = by_worker(self.alerts.open())
        return tuple(row(record, firing.get(record.worker.id, ()), configuration, at) for record in records)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """Reads the fleet."""

    worker_rows: WorkerRows
    workers: ports.Workers

    def list(self, *, status: str | None = None, labels: Mapping[str, str] | None = None) -> WorkerList:
        """Return the workers, by name; only those with this status and all these labels, if any are given."""
        return WorkerList(
            workers=self.worker_rows.rows(self._matching(WorkerQuery(status=status, labels=labels or {})))
        )

    def _matching(self, query: WorkerQuery) -> Iterator[ports.Record]:
        """Yield them by name, read in chunks. The whole fleet is only scanned."""
        matching = sorted((worker.name, worker.id) for worker in self.workers.summaries() if query.matches(worker))
        for start in range(0, len(matching), CHUNK):
            chunk = self.workers.get([worker_id for _, worker_id in matching[start : start + CHUNK]])
            # Its status may have changed since.
            yield from (record for record in chunk.values() if query.status in (None, record.condition.status))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """Reads one worker."""

    alerts: ports.Alerts
    configurations: ports.Configurations
    schedule: ports.Schedule
    now: ports.Clock

    def show(self, record: ports.Record) -> WorkerDetail:
        """Return everything known about one worker."""
        worker, condition = record.worker, record.condition
        basis = self.alerts.load([worker.id]).get(worker.id)
        firing = [alert for alert in basis.alerts.values() if alert.open] if basis else []
        at = self.now()
        worker_row = row(record, firing, self.configurations.load(), at)
        metrics = {name: None if reading is None else aged(reading, at) for name, reading in worker_row.metrics.items()}
        return WorkerDetail(
            **dict(worker_row) | {"metrics": metrics},
            account=worker.account,
            origin=worker.origin,
            added_at=worker.added_at,
            detailed_monitoring=worker.detailed,
            status_reason=_reason(condition),
            impaired=_impaired(condition),
            events=tuple(event_row(event) for event in condition.events),
            next_run=self.schedule.next_runs([worker.id]).get(worker.id),
            cadences=cadences(condition),
        )


def label_keys(workers: ports.Workers) -> frozenset[str]:
    """Return the keys of all workers' labels."""
    return frozenset(key for worker in workers.summaries() for key in worker.labels)


def row(
    record: ports.Record, alerts: Sequence[models.Alert], configuration: models.Configuration, at: float
) -> WorkerRow:
    """Return a worker's row in the list at a time; ``alerts`` are its own firing ones."""
    worker, condition = record.worker, record.condition
    return WorkerRow(
        id=worker.id,
        name=worker.name,
        region=worker.region,
        status=condition.status,
        monitoring=worker.monitoring,
        interval=worker.interval,
        labels=worker.labels,
        status_checks=condition.checks,
        last_collected_at=condition.collected_at,
        metrics=models.readings(worker, condition, configuration, at),
        alerts=tuple(
            OpenAlert(
                dedup_key=models.alert_id(worker.id, alert.rule),
                rule=alert.rule,
                severity=alert.notified_severity,
                since=alert.since,
                summary=None if alert.last is None else alert.last.summary,
            )
            for alert in sorted(alerts, key=lambda alert: alert.rule)
        ),
        last_error=last_error(condition.last_error),
    )


def aged(reading: models.Reading, at: float) -> AgedReading:
    """Return a reading with its age at a time."""
    return AgedReading(**dict(reading), age=round(at - models.moment(reading.at)))


def event_row(event: models.ScheduledEvent) -> EventRow:
    """Return EC2's scheduled events, with their texts made printable."""
    return EventRow(
        id=errors.printable(event.id),
        code=errors.printable(event.code),
        description=errors.printable(event.description.strip()),
        not_before=event.not_before,
        not_after=event.not_after,
        deadline=event.deadline,
        state=outcome(event) or "ahead",
    )


def last_error(error: models.CollectionError | None) -> LastError | None:
    """Return why the newest collection failed, with its text made printable."""
    return None if error is None else LastError(kind=error.kind, message=errors.printable(error.message), at=error.at)


def _reason(condition: models.Condition) -> StatusReason | None:
    """Return why a worker no longer runs, if EC2 gives a reason."""
    last = condition.changes[-1] if condition.changes else None
    if last is None or last.reason is None or last.status != condition.status or condition.status not in state.DOWN:
        return None
    return StatusReason(
        code=errors.printable(last.reason.code), message=errors.printable(last.reason.message), since=last.at
    )


def _impaired(condition: models.Condition) -> tuple[ImpairedCheck, ...]:
    """Return the impaired checks, with EC2's texts made printable."""
    return tuple(
        ImpairedCheck(
            check=name,
            since=impairment.since,
            remediation=impairment.remediation and errors.printable(impairment.remediation),
        )
        for name in (condition.checks.impaired() if condition.checks else ())
        for impairment in (condition.impairments.get(name, models.Impairment()),)
    )


def by_worker(alerts: Iterable[models.Alert]) -> dict[str, list[models.Alert]]:
    """Return the alerts of workers, by the worker's id."""
    firing: dict[str, list[models.Alert]] = {}
    for alert in alerts:
        if alert.last is not None and alert.last.worker is not None:
            firing.setdefault(alert.last.worker.id, []).append(alert)
    return firing
