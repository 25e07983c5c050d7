"""The event on the channel: what a worker shows after a collection."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from workermon.models.base import Frozen, InstanceId, rfc3339
from workermon.models.configuration import Configuration
from workermon.models.sample import STATUS_CHECK_FAILED, Condition
from workermon.models.worker import Checks, Status, Worker


class Reading(Frozen):
    """A metric's newest datapoint as the event shows it."""

    value: float
    unit: str
    at: str


def readings(worker: Worker, condition: Condition, configuration: Configuration) -> dict[str, Reading | None]:
    """Return what a worker shows: the newest datapoint of each metric and of its status checks, ``None`` for none.

    A worker that does not run has no CloudWatch metrics: its last values are history, not readings.
    """
    latest = condition.latest if condition.status == "running" else {}
    shown: dict[str, Reading | None] = {}
    for name in configuration.collect:
        point = latest.get(name)
        unit = configuration.metrics[name].unit if name in configuration.metrics else ""
        shown[name] = None if point is None else Reading(value=point.value, unit=unit, at=rfc3339(point.at))
    shown[STATUS_CHECK_FAILED] = None
    failed = condition.checks.failed if condition.checks else None
    if failed is not None and condition.collected_at is not None:
        slot = condition.collected_at // worker.interval * worker.interval
        shown[STATUS_CHECK_FAILED] = Reading(value=failed, unit="count", at=rfc3339(slot))
    return shown


class Event(Frozen):
    """``worker.metrics.collected`` on the channel; fields are only ever added while ``schema`` is 1."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

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
    def of(cls, worker: Worker, condition: Condition, configuration: Configuration) -> Event:
        """Return the event of a worker's last collection; ``id`` is worker and slot.

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
            metrics=readings(worker, condition, configuration),
        )
