"""Why a worker has no datapoint of a metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workermon import models, ports, rules
from workermon.config import catalogue
from workermon.views.document import Document

#: What to do about datapoints that always arrive too late.
LATE_TODO = "raise lateness in [collect], or rules see them when it is too late"


class MissingMetric(Document):
    """A metric without datapoints from a worker, or without recent ones, and the reason."""

    metric: str
    reason: str


def missing(record: ports.Record, metric: models.Metric, learned: Mapping[str, Any]) -> MissingMetric | None:
    """Return why a worker has no datapoint of a collected metric; ``None`` if it has one and none is absent.

    ``learned`` has the learned values of its account and region.
    """
    reason = _reason(record, metric, learned)
    return None if reason is None else MissingMetric(metric=metric.name, reason=reason)


def _reason(record: ports.Record, metric: models.Metric, learned: Mapping[str, Any]) -> str | None:
    condition = record.condition
    requested_at, latest = condition.requested_at.get(metric.name), condition.latest.get(metric.name)
    if requested_at is None:
        return f"no request to AWS for it has succeeded yet: {_never_asked(record)}"
    many, seconds = condition.late.get(metric.name, (0, 0))
    if many == models.MANY_LATE:
        return f"its datapoints arrive {seconds} s after their period, which is later than lateness; {LATE_TODO}"
    if latest is not None:
        absent_from = rules.absent_from(metric.name, condition)
        if absent_from is None or requested_at <= absent_from:
            return None
        return (
            f"no datapoint after {models.rfc3339(latest.at)}, though AWS was asked until {models.rfc3339(requested_at)}"
        )
    until = models.rfc3339(requested_at)
    if metric.namespace == catalogue.EC2 or catalogue.published(metric, record.dimensions):
        return f"CloudWatch has no datapoint of it, asked until {until}"
    if any(record.dimensions.get(variant.key) for variant in metric.variants):
        return f"[[metrics]] include and exclude leave none of its series; asked until {until}"
    names = " or ".join(variant.metric_name for variant in metric.variants)
    not_published = f"nobody publishes {metric.namespace} {names} under InstanceId={record.worker.id}"
    foreign = [models.ForeignSeries.from_learned(learned, variant.key).described() for variant in metric.variants]
    reason = next((text for text in foreign if text is not None), None)
    return not_published if reason is None else f"{not_published}; {reason}"


def _never_asked(record: ports.Record) -> str:
    condition = record.condition
    if condition.last_error is not None:
        return f"{condition.last_error.kind}: {condition.last_error.message}"
    if record.worker.monitoring == "paused":
        return "monitoring is paused"
    if condition.collected_at is None:
        return "the worker was never collected"
    if condition.status != "running":
        return f"the instance is {condition.status}"
    return "the next collections look up its dimensions"
