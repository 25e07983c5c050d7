"""A worker's datapoints from the ledger."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from workermon import errors, models, ports
from workermon.models import fields
from workermon.rules import rollup
from workermon.views import recorded_values
from workermon.views.document import Document, Time


class WorkerName(Document):
    """The worker that a document is about."""

    id: str
    name: str


class Datapoint(Document):
    """One value of one metric; ``at`` is CloudWatch's timestamp."""

    at: Time
    value: float
    metric: str
    unit: str


class History(Document):
    """Datapoints in order of time; ``metric`` and ``unit`` are null if all metrics were requested."""

    worker: WorkerName
    metric: str | None
    unit: str | None
    datapoints: tuple[Datapoint, ...]


class HourlyDatapoint(Document):
    """A metric's datapoints in the hour that starts at ``at``: minimum, mean, maximum, and their number.

    ``p95`` is the smallest value that 95 % of them do not exceed.
    """

    at: Time
    min: float
    avg: float
    max: float
    p95: float
    count: int
    metric: str
    unit: str


class HourlyHistory(Document):
    """Hours in order of time, without those that have no datapoint. The last one may still be running.

    ``step`` is in seconds; ``metric`` and ``unit`` are null if all metrics were requested.
    """

    worker: WorkerName
    metric: str | None
    unit: str | None
    step: int
    datapoints: tuple[HourlyDatapoint, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HistoryView:
    """Reads single datapoints."""

    samples: ports.Samples
    configurations: ports.Configurations
    now: ports.Clock

    def history(self, record: ports.Record, metric: str | None, since: float) -> History:
        """Return the datapoints of a worker's metric since a time; ``None`` means every metric.

        Raises ``errors.NotFound`` if there is no such metric.
        """
        configuration = self.configurations.load()
        until = self.now() + models.DAY  # a datapoint may be ahead of this machine's clock
        datapoints = [
            Datapoint(at=point.at, value=point.value, metric=name, unit=configuration.unit_of(name))
            for name in _names(configuration, metric)
            for point in _points(self.samples, record.worker.id, name, since, until)
        ]
        return History(
            worker=WorkerName(id=record.worker.id, name=record.worker.name),
            metric=metric,
            unit=None if metric is None else configuration.unit_of(metric),
            datapoints=tuple(sorted(datapoints, key=lambda point: point.at)),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """Reads the hours of a metric: roll-ups that are kept, and those of what the ledger has."""

    samples: ports.Samples
    rollups: ports.RollUps
    configurations: ports.Configurations
    now: ports.Clock

    def read(self, worker_id: str, metric: str, since: float) -> list[models.RollUp]:
        """Return the hours of a metric from the hour of a time on, in order.

        Hours that the ledger covers are computed again, so that they include a datapoint that has just arrived.
        """
        first, until = int(since // models.HOUR) * models.HOUR, self.now() + models.DAY
        stored = self.rollups.read(worker_id, metric, first, until)
        oldest = int((self.now() - self.configurations.load().retention) // models.HOUR) * models.HOUR
        fresh = rollup.by_hour(_points(self.samples, worker_id, metric, max(first, oldest), until))
        merged = rollup.more_complete(stored, fresh)
        return [merged[hour] for hour in sorted(merged)]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HourlyHistoryView:
    """Reads hourly roll-ups."""

    hours: Hours
    configurations: ports.Configurations
    now: ports.Clock

    def hourly(self, record: ports.Record, metric: str | None, since: float, step: int = models.HOUR) -> HourlyHistory:
        """Return the hours of a worker's metric from the hour of a time on; ``None`` means every metric.

        Raises ``errors.InvalidInput`` for a ``step`` (seconds) other than an hour, ``errors.NotFound`` if there is no
        such metric.
        """
        if step != models.HOUR:
            reason = f"{fields.written(step)} is not a step that is kept"
            raise errors.InvalidInput("step", reason, "use 1h, or leave it out for single datapoints")
        configuration = self.configurations.load()
        datapoints = [
            HourlyDatapoint(
                at=hour, min=least, avg=mean, max=most, p95=p95, count=count, metric=name,
                unit=configuration.unit_of(name),
            )
            for name in _names(configuration, metric)
            for hour, least, mean, most, p95, count in self.hours.read(record.worker.id, name, since)
        ]  # fmt: skip
        return HourlyHistory(
            worker=WorkerName(id=record.worker.id, name=record.worker.name),
            metric=metric,
            unit=None if metric is None else configuration.unit_of(metric),
            step=step,
            datapoints=tuple(sorted(datapoints, key=lambda point: point.at)),
        )


def _points(samples: ports.Samples, worker_id: str, metric: str, since: float, until: float) -> list[models.Datapoint]:
    """Return a metric's datapoints over all its periods."""
    periods = samples.periods(worker_id, metric, since, until)
    return recorded_values.merged(
        samples.read([(worker_id, metric, period)], since, until)[worker_id, metric] for period in periods
    )


def _names(configuration: models.Configuration, metric: str | None) -> Sequence[str]:
    """Return the requested metrics. Raises ``errors.NotFound`` if there is none of that name."""
    names = (*configuration.metrics, *models.CHECK_METRICS)
    if metric is None:
        return names
    if metric not in names:
        raise errors.NotFound(f"metric {metric}", "is not known", f"use one of: {', '.join(names)}")
    return (metric,)
