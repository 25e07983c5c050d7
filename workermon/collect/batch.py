"""Collects the workers of one account and region: asks EC2, then CloudWatch, then writes samples.

Three outcomes stay distinct: a datapoint; no datapoint, for which nothing is written; and a failure, for which the
worker keeps a ``CollectionError``. After a failure the next collection asks from the same time again.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from workermon import errors, failpoints, logs, models, ports
from workermon.collect import deferral, event, monitoring, series, statuses, worker_condition
from workermon.collect.account_run import Run
from workermon.collect.fetched import Fetched
from workermon.collect.retirement import Retirement

log = logs.get(__name__)

#: Instance ids. An account and region's record must not keep them after a worker was removed.
_INSTANCE = re.compile(r"\bi-[0-9a-f]{8,17}\b")


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome for each worker of a batch, by id, as in ``Report``.

    ``account_error`` is the reason if nothing could be collected in this account and region.
    """

    collected: list[str] = dataclasses.field(default_factory=list)
    repeated: list[str] = dataclasses.field(default_factory=list)
    retired: list[str] = dataclasses.field(default_factory=list)
    failed: dict[str, errors.AwsError] = dataclasses.field(default_factory=dict)
    account_error: models.CollectionError | None = None


class _Answered(NamedTuple):
    """A worker with the answers of EC2 and CloudWatch."""

    record: ports.Record
    status: models.InstanceStatus
    fetched: Fetched


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Collects workers of one account and region whose slots are claimed."""

    run: Run
    status_lookup: statuses.StatusLookup
    monitoring_check: monitoring.MonitoringCheck
    series_fetch: series.SeriesFetch
    retirement: Retirement
    samples: ports.Samples

    def collect(self, records: Sequence[ports.Record]) -> Outcome:
        """Ask EC2 for all, CloudWatch for those that run, and write. Raises only ``errors.RedisUnavailable``."""
        looked_up = self.status_lookup.look_up(records)
        self._keep_failures(records, looked_up.failed)
        seen_records = [record for record in records if record.worker.id in looked_up.by_id]
        running = [record for record in seen_records if looked_up.by_id[record.worker.id].status == "running"]
        fetched = self.series_fetch.fetch(running) if running else {}
        if changed := {record.worker.id: record for record in self.monitoring_check.changed(running, fetched)}:
            fetched |= self.series_fetch.fetch(list(changed.values()))
            seen_records = [changed.get(record.worker.id, record) for record in seen_records]
        answered = [
            _Answered(record, looked_up.by_id[record.worker.id], fetched.get(record.worker.id) or Fetched())
            for record in seen_records
        ]
        outcome = Outcome(failed=dict(looked_up.failed), account_error=self._account_error(looked_up.failed, answered))
        self._write(answered, outcome)
        failures = {
            answered_worker.record.worker.id: next(iter(answered_worker.fetched.failures.values()))
            for answered_worker in answered
            if answered_worker.fetched.failures
        }
        self._log(failures)
        outcome.failed.update(failures)
        return outcome

    def _account_error(
        self, failed: Mapping[str, errors.AwsError], answered: Sequence[_Answered]
    ) -> models.CollectionError | None:
        """Return why nothing could be collected. A worker that EC2 does not know is not a failure of its account."""
        if any(
            answered_worker.status.status == "running" and not answered_worker.fetched.failed
            for answered_worker in answered
        ):
            return None
        account_wide = [error for error in failed.values() if error.kind != errors.InstanceGone.kind]
        account_wide += [
            next(iter(answered_worker.fetched.failures.values()))
            for answered_worker in answered
            if answered_worker.fetched.failed
        ]
        if not account_wide:
            return None
        message = _INSTANCE.sub("an instance", str(account_wide[0]))
        return models.CollectionError(kind=account_wide[0].kind, message=message, at=self.run.at)

    def _write(self, answered: Sequence[_Answered], outcome: Outcome) -> None:
        writes: list[tuple[models.Sample, models.Condition, str]] = []
        may_wait, conditions = deferral.Deferral(self.run), worker_condition.Conditions(self.run)
        for record, status, fetched in answered:
            sample = worker_condition.sample_of(self.run, record.worker, status, fetched)
            after = conditions.after(record.condition, sample, status, fetched)
            # The first worker is always evaluated, and its account with it.
            if writes and (revision := may_wait.revision(record.condition, after, sample, fetched)) is not None:
                sample = dataclasses.replace(sample, steady_revision=revision)
            writes.append((sample, after, event.encode(record.worker, after, self.run.configuration)))
        replies = self.samples.write_many(writes, force=self.run.force)
        failpoints.reach("collect.written")
        retired: dict[str, models.Worker] = {}
        for (sample, _, _), written in zip(writes, replies, strict=True):
            if written.outcome == "gone":
                continue  # it was removed meanwhile
            into = outcome.repeated if written.outcome == "repeated" else outcome.collected
            into.append(sample.worker.id)
            if sample.status in models.GONE:
                retired[sample.worker.id] = sample.worker
        if retired:
            # After the sample: if the process crashes in between, the next collection retires it.
            self.retirement.retire(retired)
            outcome.retired.extend(retired)

    def _keep_failures(self, records: Sequence[ports.Record], failed: Mapping[str, errors.AwsError]) -> None:
        """Store why the status of some workers is missing, and release their claims."""
        if not failed:
            return
        self.samples.failed_many(
            [
                (
                    record.worker,
                    worker_condition.collection_error(error, str(error), self.run.at, record.condition.last_error),
                )
                for record in records
                if (error := failed.get(record.worker.id)) is not None
            ]
        )
        self._log(failed)

    def _log(self, failed: Mapping[str, errors.AwsError]) -> None:
        """Log failures, once for each kind and place."""
        alike: dict[tuple[str, str], list[str]] = {}
        for worker_id, error in failed.items():
            alike.setdefault((error.kind, error.subject), []).append(worker_id)
        for (kind, _), worker_ids in alike.items():
            log.warning(
                "collect.failed",
                scope=self.run.scope.key,
                kind=kind,
                reason=str(failed[worker_ids[0]]),
                number=len(worker_ids),
                worker_ids=worker_ids[:10],
            )
