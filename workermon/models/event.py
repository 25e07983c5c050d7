"""The event on the channel: what a worker shows after a collection."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from workermon.models.base import Frozen, InstanceId, rfc3339
from workermon.models.checks import STATUS_CHECK_FAILED, Checks
from workermon.models.configuration import Configuration
from workermon.models.sample import Condition
from workermon.models.worker import Status, Worker


class Reading(Frozen):
    """A metric's newest datapoint as the event shows it.

    ``old``: two newer ones should be there by now. It is left out of JSON if it is not.
    """

    value: float
    unit: str
    at: str
    old: bool = Field(default=False, exclude_if=lambda old: not old)


def readings(
    worker: Worker, condition: Condition, configuration: Configuration, at: float
) -> dict[str, Reading | None]:
    """Return what a worker shows at a time: the newest datapoint of each metric and of its status checks.

    ``None`` stands for none.

    A worker that does not run has no CloudWatch metrics: its last values are history, not readings.
    """
    latest = condition.latest if condition.status == "running" else {}
    values: dict[str, Reading | None] = {}
    for name in configuration.collect:
        point = latest.get(name)
        unit = configuration.metrics[name].unit if name in configuration.metrics else ""
        if point is None:
            values[name] = None
            continue
        old = at > _old_from(worker, condition, name, point.at)
        values[name] = Reading(value=point.value, unit=unit, at=rfc3339(point.at), old=old)
    values[STATUS_CHECK_FAILED] = None
    failed = condition.checks.failed if condition.checks else None
    if failed is not None and condition.collected_at is not None:
        slot = condition.collected_at // worker.interval * worker.interval
        old = at > _old_from(worker, condition, STATUS_CHECK_FAILED, slot)
        values[STATUS_CHECK_FAILED] = Reading(value=failed, unit="count", at=rfc3339(slot), old=old)
    return values


def _old_from(worker: Worker, condition: Condition, metric: str, at: float) -> float:
    """Return the time from which a datapoint is old: when it was due, and two more should have been seen after it."""
    period = condition.learned_periods.get(metric, condition.periods.get(metric, worker.interval))
    due_at = at + period + condition.delays.get(metric, 0.0)
    apart = condition.periods_apart(metric)
    return due_at + max(2, 1 + apart) * max(period, worker.interval)


class Event(Frozen):
    """``worker.metrics.collected`` on the channel; fields are only ever added while ``schema`` is 1."""

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

        ``at`` is the time at which it is shown, by default that of the collection: it says which values are old.
        Raises ``ValueError`` for a worker that was never collected.
        """
        if condition.collected_at is None:
            raise ValueError(f"{worker.id} was never collected")
        return cls(
            id=f"{worker.id}:{int(condition.collected_at // worker.interval)}",
            worker_id=worker.id,
            worker_name=worker.name,
            region=worker.region,
            collected_at=rfc3339(condition.collected_at),
            status=condition.status,
            status_checks=condition.checks,
            metrics=readings(worker, condition, configuration, condition.collected_at if at is None else at),
        )
