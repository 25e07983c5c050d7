"""The datapoints of a worker, as the ledger has them."""

from __future__ import annotations

import dataclasses

from workermon import errors, models, ports
from workermon.views.document import Document, Time


class WorkerName(Document):
    """Which worker a document is about."""

    id: str
    name: str


class Datapoint(Document):
    """One value of one metric; ``at`` is CloudWatch's timestamp."""

    at: Time
    value: float
    metric: str
    unit: str


class History(Document):
    """Datapoints in order of time; ``metric`` and ``unit`` are null if all metrics were asked for."""

    worker: WorkerName
    metric: str | None
    unit: str | None
    datapoints: tuple[Datapoint, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HistoryView:
    """Reads the ledger."""

    samples: ports.Samples
    configurations: ports.Configurations
    now: ports.Clock

    def history(self, record: ports.Record, metric: str | None, since: float) -> History:
        """Return the datapoints of a worker's metric since a time; ``None`` means every metric.

        Raises ``errors.NotFound`` if there is no such metric.
        """
        configuration = self.configurations.load()
        names = (*configuration.metrics, *models.CHECK_METRICS)
        if metric is not None and metric not in names:
            raise errors.NotFound(f"metric {metric}", "is not known", f"one of {', '.join(names)}")
        until = self.now() + models.DAY  # a datapoint may be ahead of this machine's clock
        datapoints = [
            Datapoint(at=point.at, value=point.value, metric=name, unit=configuration.unit_of(name))
            for name in (names if metric is None else (metric,))
            for point in self._points(record.worker.id, name, since, until)
        ]
        return History(
            worker=WorkerName(id=record.worker.id, name=record.worker.name),
            metric=metric,
            unit=None if metric is None else configuration.unit_of(metric),
            datapoints=tuple(sorted(datapoints, key=lambda point: point.at)),
        )

    def _points(self, worker_id: str, metric: str, since: float, until: float) -> list[models.Datapoint]:
        """Return a metric's datapoints over all periods it was kept at; at the same time the shorter period counts."""
        values: dict[int, float] = {}
        for period in sorted(self.samples.periods(worker_id, metric, since, until), reverse=True):
            series = self.samples.read([(worker_id, metric, period)], since, until)[worker_id, metric]
            values.update(series.points)
        return [models.Datapoint(at, values[at]) for at in sorted(values)]
