"""The status of workers from EC2: state, status checks, scheduled events, and the reason of a stop."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from workermon import errors, logs, models, ports
from workermon.collect.account_run import Run
from workermon.rules import state

log = logs.get(__name__)

#: Seconds. For a moment some of EC2's servers may not know a newly launched instance (eventual consistency).
SETTLING = 300

#: Intervals for which a listed status is good.
MAX_AGE = 0.75
#: Seconds by which the clocks of two nodes may differ.
CLOCKS = 5.0

#: Seconds. If EC2 knows none of several workers, the credentials are probably those of another account. After this
#: long the workers count as terminated anyway.
WRONG_ACCOUNT_GRACE = 3600


@dataclasses.dataclass(frozen=True, slots=True)
class Statuses:
    """EC2's answers by worker id; ``failed`` has the reason for each worker without an answer."""

    by_id: dict[str, models.InstanceStatus]
    failed: dict[str, errors.AwsError]


@dataclasses.dataclass(frozen=True, slots=True)
class StatusLookup:
    """Asks EC2 for the workers of one run. ``is_listed``: their account and region was listed a moment ago."""

    run: Run
    ec2: ports.Ec2
    listings: ports.StatusListings
    is_listed: bool

    def look_up(self, records: Sequence[ports.Record]) -> Statuses:
        """Return the status of each worker. Raises only ``errors.RedisUnavailable``."""
        listed = self._listed(records) if self.is_listed and not self.run.force else {}
        requested = [record.worker.id for record in records if record.worker.id not in listed]
        try:
            answered = self.ec2.statuses(self.run.scope, requested) if requested else {}
            if listed and requested and not answered:
                # These may be the credentials of another account by now. Then EC2 knows none of the listed ones either.
                listed, requested = {}, [record.worker.id for record in records]
                answered = self.ec2.statuses(self.run.scope, requested)
        except errors.WorkermonError as error:
            return Statuses(listed, dict.fromkeys(requested, errors.of_aws(error)))
        answered = listed | answered
        missing = [record for record in records if record.worker.id not in answered]
        confirmed = self._confirm_missing(missing, nobody_known=not answered)
        return Statuses(self._with_reasons(records, answered) | confirmed.by_id, confirmed.failed)

    def _listed(self, records: Sequence[ports.Record]) -> dict[str, models.InstanceStatus]:
        """Return the listed statuses, without those that are old or change a worker's state: EC2 is asked for them."""
        listed = self.listings.get([record.worker.id for record in records])
        current = {}
        for record in records:
            at, status = listed.get(record.worker.id, (-math.inf, None))
            newest = max(self.run.at - MAX_AGE * record.worker.interval, record.condition.collected_at or 0.0)
            if status is not None and newest < at <= self.run.at + CLOCKS and status.status == record.condition.status:
                current[record.worker.id] = status
        return current

    def _confirm_missing(self, records: Sequence[ports.Record], *, nobody_known: bool) -> Statuses:
        """Return the status of workers that DescribeInstanceStatus left out. DescribeInstances has to confirm it.

        ``nobody_known``: it left out all workers, so these may be the credentials of another account.
        """
        if not records:
            return Statuses({}, {})
        worker_ids = [record.worker.id for record in records]
        try:
            described = self.ec2.describe(self.run.scope, worker_ids)
        except errors.WorkermonError as error:
            return Statuses({}, dict.fromkeys(worker_ids, errors.of_aws(error)))
        confirmed = Statuses({}, {})
        denial = self._wrong_account(len(records)) if nobody_known and not described and len(records) > 1 else None
        for record in records:
            worker_id = record.worker.id
            if denial is not None and not self._has_lasted(record, str(denial), WRONG_ACCOUNT_GRACE):
                confirmed.failed[worker_id] = denial
            elif worker_id in described:
                instance = described[worker_id]
                confirmed.by_id[worker_id] = models.InstanceStatus(
                    id=worker_id, status=instance.status, events=None, reason=instance.reason
                )
            elif record.condition.status != "unknown" or self.run.at - record.worker.added_at > SETTLING:
                # EC2 knew it before, and two answers now lack it.
                confirmed.by_id[worker_id] = models.InstanceStatus(
                    id=worker_id, status="terminated", events=None, reason=state.UNKNOWN_TO_EC2
                )
            else:
                confirmed.failed[worker_id] = errors.InstanceGone(
                    f"EC2 in {self.run.scope.region}",
                    f"{worker_id} is not known there",
                    "check its id, region and account; workermon keeps looking for five minutes after it was added",
                )
        return confirmed

    def _with_reasons(
        self, records: Sequence[ports.Record], answered: dict[str, models.InstanceStatus]
    ) -> dict[str, models.InstanceStatus]:
        """Return the statuses. Workers that ran until now get EC2's reason, if there is one."""
        stopped = [
            record.worker.id
            for record in records
            if (now := answered.get(record.worker.id)) is not None
            and now.status != "running"
            and state.needs_reason(record.condition, now.status, self.run.at)
        ]
        if not stopped:
            return answered
        scope = self.run.scope
        try:
            described = self.ec2.describe(scope, stopped)
        except errors.WorkermonError as error:
            log.warning("collect.no_reasons", scope=scope.key, number=len(stopped), reason=str(errors.of_aws(error)))
            return answered
        # If this answer says that an instance runs, its reason belongs to another change.
        reasons = {instance.id: instance.reason for instance in described.values() if instance.status in state.DOWN}
        return answered | {
            worker_id: answered[worker_id].model_copy(update={"reason": reasons[worker_id]})
            for worker_id in stopped
            if worker_id in reasons
        }

    def _wrong_account(self, number: int) -> errors.AwsDenied:
        scope = self.run.scope
        log.warning("collect.no_instance_known", scope=scope.key, number=number)
        role = f" as {scope.role_arn}" if scope.role_arn else ""
        return errors.AwsDenied(
            f"EC2 in {scope.region}{role}",
            "it knows none of the workers there, as it would with credentials of another account",
            f"check credentials, role and region; after {WRONG_ACCOUNT_GRACE // 60} minutes they count as terminated",
        )

    def _has_lasted(self, record: ports.Record, message: str, seconds: int) -> bool:
        last_error = record.condition.last_error
        if last_error is None or last_error.message != message or last_error.since is None:
            return False
        return self.run.at - last_error.since >= seconds
