"""The event on the channel: a worker's values after a collection."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic_core import to_json

from workermon.models.base import Frozen, InstanceId, rfc3339
from workermon.models.checks import STATUS_CHECK_FAILED, Checks
from workermon.models.configuration import Configuration
from workermon.models.sample import Condition
from workermon.models.worker import Status, Worker


class Reading(Frozen):
    """A metric's newest datapoint as shown in the event.

    ``old``: two newer ones should have arrived by now. JSON has the field only if it is true.
    """

    value: float
    unit: str
    at: str
    old: bool = Field(default=False, exclude_if=lambda old: not old)


def readings(
    worker: Worker, condition: Condition, configuration: Configuration, at: float
) -> dict[str, Reading | None]:
    """Return a worker's values at a time: the newest datapoint of each metric and of its status checks.

    ``None`` means that there is none.
    """
    values = _values(worker, condition, configuration, at)
    return {metric: None if row is None else Reading(**row) for metric, row in values.items()}


def _values(
    worker: Worker, condition: Condition, configuration: Configuration, at: float
) -> dict[str, dict[str, Any] | None]:
    """Return the fields of each ``Reading``, with ``old`` only for an old one.

    A worker that does not run has no CloudWatch metrics: its last values are history, not readings.
    """
    latest = condition.latest if condition.status == "running" else {}
    by_metric: dict[str, dict[str, Any] | None] = {}
    for name in configuration.collect:
        point, metric = latest.get(name), configuration.metrics.get(name)
        by_metric[name] = None
        if point is not None:
            unit = "" if metric is None else metric.unit
            reading = by_metric[name] = {"value": point.value, "unit": unit, "at": rfc3339(point.at)}
            if _is_old(worker, condition, name, point.at, at):
                reading["old"] = True
    by_metric[STATUS_CHECK_FAILED] = None
    failed = condition.checks.failed if condition.checks else None
    if failed is not None and condition.collected_at is not None:
        slot = condition.collected_at // worker.interval * worker.interval
        reading = by_metric[STATUS_CHECK_FAILED] = {"value": failed, "unit": "count", "at": rfc3339(slot)}
        if _is_old(worker, condition, STATUS_CHECK_FAILED, slot, at):
            reading["old"] = True
    return by_metric


def _is_old(worker: Worker, condition: Condition, metric: str, at: float, now: float) -> bool:
    """Return whether a datapoint is old: two more should have been fetched since then."""
    period = condition.learned_periods.get(metric, condition.periods.get(metric, worker.interval))
    look = max(period, worker.interval)
    if now <= at + period + 2 * look:
        return False  # nearly always; the rest only makes it later
    apart = condition.periods_apart(metric)
    return now > at + period + condition.delays.get(metric, 0.0) + max(2, 1 + apart) * look


class Event(Frozen):
    """``worker.metrics.collected`` on the channel. While ``schema`` is 1, fields are only added."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, defer_build=True)

    schema_: Literal[1] = Field(default=1, alias="schema")
    event: Literal["worker.metrics.collected"] = "worker.metrics.collected"
    id: str
    worker_id: InstanceId
    worker_name: str
    region: str
    collected_at: str
    status: Status
    status_checks: Checks | None
    metrics: dict[str, Reading | None]

    @classmethod
    def of(cls, worker: Worker, condition: Condition, configuration: Configuration, at: float | None = None) -> Event:
        """Return the event of a worker's last collection; ``id`` is worker and slot.

        ``at`` is the time for which it is shown, by default that of the collection. It decides which values are old.
        Raises ``ValueError`` for a worker that was never collected.
        """
        return cls.model_validate(_document(worker, condition, configuration, at))

    @staticmethod
    def json_of(worker: Worker, condition: Condition, configuration: Configuration) -> str:
        """Return the JSON of what ``of`` returns, built directly because each collection of each worker needs one."""
        return to_json(_document(worker, condition, configuration, None)).decode()


def _document(worker: Worker, condition: Condition, configuration: Configuration, at: float | None) -> dict[str, Any]:
    collected_at = condition.collected_at
    if collected_at is None:
        raise ValueError(f"{worker.id} was never collected")
    return {
        "schema": 1,
        "event": "worker.metrics.collected",
        "id": f"{worker.id}:{int(collected_at // worker.interval)}",
        "worker_id": worker.id,
        "worker_name": worker.name,
        "region": worker.region,
        "collected_at": rfc3339(collected_at),
        "status": condition.status,
        "status_checks": condition.checks,
        "metrics": _values(worker, condition, configuration, collected_at if at is None else at),
    }
