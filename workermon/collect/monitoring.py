"""Before a datapoint of EC2 counts as absent, EC2 is asked again whether the instance's monitoring is detailed.

If detailed monitoring was switched off, a datapoint arrives each five minutes instead of each minute. Then no datapoint
is absent, and no rule may treat it as such.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from workermon import errors, logs, ports
from workermon.collect.account_run import Run
from workermon.collect.fetched import Fetched
from workermon.config import catalogue
from workermon.rules import horizon

log = logs.get(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class MonitoringCheck:
    """Asks EC2 about those workers of one run with a datapoint that would count as absent now."""

    run: Run
    ec2: ports.Ec2
    workers: ports.Workers

    def changed(self, records: Sequence[ports.Record], fetched: Mapping[str, Fetched]) -> list[ports.Record]:
        """Return the up-to-date records of workers whose monitoring is no longer detailed.

        ``fetched`` is what CloudWatch returned for them. Raises only ``errors.RedisUnavailable``.
        """
        metrics = self.run.cloudwatch_metrics()
        by_monitoring = [
            metric.name for metric in metrics if metric.namespace == catalogue.EC2 and metric.period is None
        ]
        doubtful = [
            record.worker.id
            for record in records
            if record.worker.detailed and self._lacks_datapoint(record, fetched[record.worker.id], by_monitoring)
        ]
        if not doubtful:
            return []
        try:
            described = self.ec2.describe(self.run.scope, doubtful)
        except errors.WorkermonError as error:
            refusal, number = errors.of_aws(error), len(doubtful)
            log.warning("collect.monitoring_unknown", scope=self.run.scope.key, number=number, reason=str(refusal))
            return []
        basic = {worker_id for worker_id, instance in described.items() if not instance.detailed}
        if basic:
            self._note(basic)
        return [_with_basic(record) for record in records if record.worker.id in basic]

    def _lacks_datapoint(self, record: ports.Record, fetched: Fetched, by_monitoring: Sequence[str]) -> bool:
        """Return whether this is the first request after which the next datapoint of one of these metrics is absent."""
        condition = record.condition
        for name in by_monitoring:
            requested_at = condition.requested_at.get(name)
            if requested_at is None or name not in fetched.answered:  # a slot that was not requested is unknown
                continue
            absent_from = horizon.absent_from(name, condition, fetched.points_of(name))
            if absent_from is not None and requested_at <= absent_from < self.run.at:
                return True
        return False

    def _note(self, worker_ids: set[str]) -> None:
        """Store it in the present record: a user may have changed the worker while EC2 was asked."""
        for record in self.workers.get(sorted(worker_ids)).values():
            self.workers.update(_with_basic(record).worker)
        log.info("collect.monitoring_basic", scope=self.run.scope.key, worker_ids=sorted(worker_ids)[:10])


def _with_basic(record: ports.Record) -> ports.Record:
    return record._replace(worker=record.worker.model_copy(update={"detailed": False}))
