"""The stage that counts, over a whole fleet, which metrics stopped arriving. A single worker does not show that."""

from __future__ import annotations

import dataclasses

from workermon import models, ports
from workermon.config import catalogue
from workermon.rules import horizon

#: Seconds after the first absent slot of a worker's metric until it counts as lost. By then a new configuration of its
#: agent was found (``dimensions``), and CloudWatch has caught up with any delay of its own.
LOST_AFTER = 600

#: Seconds after an instance's start within which its agent has to publish again.
STARTING = 900

#: A metric is lost in a region if at least so many workers, and at least this share of those that published it, have
#: lost it. Fewer do not concern the fleet.
MIN_WORKERS, MIN_SHARE = 3, 0.25

#: EC2's own metrics that every running instance publishes, whatever its type. If all workers have lost one, however few
#: they are, CloudWatch no longer shows this account.
ALWAYS_PUBLISHED = frozenset({"CPUUtilization", "NetworkIn", "NetworkOut"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LostMetrics:
    """Records in each account and region which metrics stopped arriving from much of the fleet."""

    workers: ports.Workers
    accounts: ports.Accounts
    configurations: ports.Configurations
    now: ports.Clock

    def survey(self) -> None:
        """Check the whole fleet once."""
        configuration, at = self.configurations.load(), self.now()
        counts_by_scope: dict[str, _Counts] = {}
        for record in self.workers.every():
            counts = counts_by_scope.setdefault(record.worker.scope.key, _Counts({}, {}))
            counts.add(record, configuration, at)
        states = self.accounts.load()
        for key, counts in counts_by_scope.items():
            lost = counts.metrics_lost(configuration)
            if key in states and states[key].lost_metrics != lost:
                self.accounts.note_lost(key, lost)


@dataclasses.dataclass(frozen=True, slots=True)
class _Counts:
    """How many workers of an account and region published each metric, and when the silent ones did so last."""

    published: dict[str, int]
    silent_since: dict[str, list[float]]

    def add(self, record: ports.Record, configuration: models.Configuration, at: float) -> None:
        """Count a worker if it runs, is monitored, and had a datapoint within the retention."""
        condition = record.condition
        started_at = condition.running_since
        if record.worker.monitoring == "paused" or started_at is None or at - started_at < STARTING:
            return
        for metric in configuration.collect:
            latest, requested_at = condition.latest.get(metric), condition.requested_at.get(metric)
            if latest is None or requested_at is None or latest.at < at - configuration.retention:
                continue
            self.published[metric] = self.published.get(metric, 0) + 1
            absent_from = horizon.absent_from(metric, condition)
            if absent_from is not None and requested_at > absent_from + LOST_AFTER:
                self.silent_since.setdefault(metric, []).append(latest.at)

    def metrics_lost(self, configuration: models.Configuration) -> tuple[models.LostMetric, ...]:
        """Return the metrics that much of the fleet has lost."""
        return tuple(
            models.LostMetric(metric=metric, workers=len(since), of=self.published[metric], since=round(min(since)))
            for metric, since in sorted(self.silent_since.items())
            if len(since) >= max(MIN_WORKERS, MIN_SHARE * self.published[metric])
            or (len(since) == self.published[metric] and _is_always_published(metric, configuration))
        )


def _is_always_published(name: str, configuration: models.Configuration) -> bool:
    metric = configuration.metrics.get(name)
    return metric is not None and metric.namespace == catalogue.EC2 and metric.metric_name in ALWAYS_PUBLISHED
