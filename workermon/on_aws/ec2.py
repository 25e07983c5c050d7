"""EC2: state, status checks and tags of instances. Its dicts stay in this module."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

import botocore.exceptions

from workermon import logs, models
from workermon.on_aws import error_kinds, session

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

log = logs.get(__name__)

T = TypeVar("T")

#: Ids in one call: the limit of DescribeInstanceStatus.
MAX_IDS = 100

#: Instances in a page: the limit of DescribeInstanceStatus and DescribeInstances.
PAGE_SIZE = 1000

#: Characters kept of EC2's descriptions.
_MAX_TEXT_LENGTH = 500

_STATUSES = frozenset(get_args(models.Status))
_CHECKS = frozenset(get_args(models.Check))
#: The checks under EC2's names.
_CHECK_KEYS: dict[models.CheckName, str] = {
    "system": "SystemStatus",
    "instance": "InstanceStatus",
    "attached_ebs": "AttachedEbsStatus",
    "application": "ApplicationStatus",
    "performance": "PerformanceStatus",
}
#: EC2 names the ids that it rejects: "The instance IDs 'i-1, i-2' do not exist", 'Invalid id: "i-3"'.
_UNKNOWN = frozenset({"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed", "InvalidInstanceId"})
_WORD = re.compile(r"[\w-]+")


class AwsEc2:
    """``ports.Ec2`` over boto3."""

    def __init__(self, sessions: session.Sessions) -> None:
        self._sessions = sessions

    def describe(self, scope: models.AccountRegion, instance_ids: Sequence[str]) -> dict[str, models.Instance]:
        """Return the instances of these ids that DescribeInstances knows.

        Raises ``errors.AwsUnreachable`` for an answer that leaves out an id. EC2 names the ids that it does not know.
        """

        def ask(client: EC2Client, ids: list[str]) -> list[models.Instance]:
            pages = client.get_paginator("describe_instances").paginate(InstanceIds=ids)
            instances = [_instance(instance, scope.region) for instance in _instances(pages)]
            if left_out := set(ids).difference(instance.id for instance in instances):
                raise LookupError(f"it leaves out {min(left_out)}")
            return instances

        return {instance.id: instance for instance in self._in_calls(scope, instance_ids, ask)}

    def statuses(self, scope: models.AccountRegion, instance_ids: Sequence[str]) -> dict[str, models.InstanceStatus]:
        """Return state and status checks of these ids, stopped ones included."""

        def ask(client: EC2Client, ids: list[str]) -> list[models.InstanceStatus]:
            pages = client.get_paginator("describe_instance_status").paginate(InstanceIds=ids, IncludeAllInstances=True)
            return [_status(status) for page in pages for status in page["InstanceStatuses"]]

        return {status.id: status for status in self._in_calls(scope, instance_ids, ask)}

    def list_statuses(self, scope: models.AccountRegion, zone: str | None) -> Iterator[list[models.InstanceStatus]]:
        """Yield state and status checks of all instances of a region or zone, a page at a time."""
        filters: dict[str, Any] = {"Filters": [{"Name": "availability-zone", "Values": [zone]}]} if zone else {}
        with self._sessions.asking("EC2", scope):
            paginator = self._sessions.ec2(scope).get_paginator("describe_instance_status")
            for page in paginator.paginate(
                IncludeAllInstances=True, PaginationConfig={"PageSize": PAGE_SIZE}, **filters
            ):
                yield [_status(status) for status in page["InstanceStatuses"]]

    def find(self, scope: models.AccountRegion, tags: Mapping[str, str]) -> list[models.Instance]:
        """Return every instance that carries all these tags and is neither terminated nor shutting down."""
        filters: list[Any] = [
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
            *({"Name": f"tag:{key}", "Values": [value]} for key, value in tags.items()),
        ]
        with self._sessions.asking("EC2", scope):
            client = self._sessions.ec2(scope)
            pages = client.get_paginator("describe_instances").paginate(
                Filters=filters, PaginationConfig={"PageSize": PAGE_SIZE}
            )
            instances = [_instance(document, scope.region) for document in _instances(pages)]
        # EC2 reads * and ? in a filter's value as wildcards. A tag here must match literally.
        matching = {
            instance.id: instance
            for instance in instances
            if tags.items() <= instance.tags.items() and instance.status not in models.GONE
        }
        return [matching[instance_id] for instance_id in sorted(matching)]

    def time(self, scope: models.AccountRegion) -> float | None:
        """Return the time of EC2's own clock, from the date of its answer. A refusal has a date, too."""
        with self._sessions.asking("EC2", scope):
            client = self._sessions.ec2(scope)
            try:
                response: Mapping[str, Any] = client.describe_instance_status(MaxResults=5)
            except botocore.exceptions.ClientError as error:
                response = error.response
        return error_kinds.aws_time(response)

    def _in_calls(
        self, scope: models.AccountRegion, instance_ids: Sequence[str], ask: Callable[[EC2Client, list[str]], list[T]]
    ) -> Iterator[T]:
        unique_ids = list(dict.fromkeys(instance_ids))
        for start in range(0, len(unique_ids), MAX_IDS):
            with self._sessions.asking("EC2", scope):
                yield from self._ask_without_unknown(scope, unique_ids[start : start + MAX_IDS], ask)

    def _ask_without_unknown(
        self, scope: models.AccountRegion, ids: list[str], ask: Callable[[EC2Client, list[str]], list[T]]
    ) -> list[T]:
        """Ask for these ids, then again without those that EC2 does not know."""
        while ids:
            try:
                return ask(self._sessions.ec2(scope), ids)
            except botocore.exceptions.ClientError as error:
                if error.response.get("Error", {}).get("Code") not in _UNKNOWN:
                    raise
                unknown = set(ids).intersection(_WORD.findall(str(error.response["Error"].get("Message"))))
                if not unknown:
                    break  # it names none of our ids: search by halves
                log.info("ec2.unknown_instances", region=scope.region, instance_ids=sorted(unknown))
                ids = [instance_id for instance_id in ids if instance_id not in unknown]
        if len(ids) <= 1:
            return []
        half = len(ids) // 2
        return [*self._ask_without_unknown(scope, ids[:half], ask), *self._ask_without_unknown(scope, ids[half:], ask)]


# An answer without its list raises. Read as "no instances", it would retire a fleet.
def _instances(pages: Any) -> Iterator[Any]:
    reservations = itertools.chain.from_iterable(page["Reservations"] for page in pages)
    return itertools.chain.from_iterable(reservation.get("Instances") or () for reservation in reservations)


def _instance(document: Any, region: str) -> models.Instance:
    tags = {tag["Key"]: tag.get("Value", "") for tag in document.get("Tags") or ()}
    return models.Instance(
        id=document["InstanceId"],
        region=region,
        status=_state(document.get("State")),
        name=tags.get("Name") or None,
        # "pending": its next datapoints arrive once a minute.
        detailed=(document.get("Monitoring") or {}).get("State") in ("enabled", "pending"),
        tags=tags,
        reason=_reason(document.get("StateReason")),
    )


def _status(document: Any) -> models.InstanceStatus:
    checks, impaired = _checks(*[(document.get(key) or {}).get("Status") for key in _CHECK_KEYS.values()])
    return models.InstanceStatus(
        id=document["InstanceId"],
        status=_state(document.get("InstanceState")),
        zone=str(document.get("AvailabilityZone") or ""),
        checks=checks,
        impairments={name: _impairment(document[_CHECK_KEYS[name]]) for name in impaired},
        events=tuple(_event(event) for event in document.get("Events") or ()),
    )


def _event(document: Any) -> models.ScheduledEvent:
    code = str(document.get("Code") or "unknown")
    return models.ScheduledEvent(
        id=str(document.get("InstanceEventId") or code),
        code=code,
        description=str(document.get("Description") or "")[:_MAX_TEXT_LENGTH],
        not_before=_time(document.get("NotBefore")),
        not_after=_time(document.get("NotAfter")),
        deadline=_time(document.get("NotBeforeDeadline")),
    )


def _time(document: Any) -> int | None:
    """Return a time from botocore or EC2 in whole seconds; ``None`` if it is missing or unreadable."""
    try:
        moment = document if isinstance(document, datetime) else datetime.fromisoformat(str(document or ""))
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _reason(document: Any) -> models.StateReason | None:
    code = str((document or {}).get("Code") or "")
    return (
        models.StateReason(code=code[:_MAX_TEXT_LENGTH], message=str(document.get("Message") or "")[:_MAX_TEXT_LENGTH])
        if code
        else None
    )


def _state(document: Any) -> models.Status:
    name = (document or {}).get("Name")
    return cast(models.Status, name) if name in _STATUSES else "unknown"


@functools.lru_cache(maxsize=1024)
def _checks(*statuses: str | None) -> tuple[models.Checks | None, tuple[models.CheckName, ...]]:
    """Return the checks, and which are impaired; ``None`` for the checks if one of the first two is missing.

    Not every region and instance has the others. Nearly all instances share a few results.
    """
    system, instance, *optional_checks = map(_check, statuses)
    if not (system and instance):
        return None, ()
    ebs, application, performance = (
        None if optional_check == "not-applicable" else optional_check for optional_check in optional_checks
    )
    checks = models.Checks(
        system=system, instance=instance, attached_ebs=ebs, application=application, performance=performance
    )
    return checks, checks.impaired()


def _impairment(check: Any) -> models.Impairment:
    """Return since when a check is impaired (from the check or its details), and what EC2 recommends."""
    times = [_time(item.get("ImpairedSince")) for item in (check, *(check.get("Details") or ()))]
    remediation = str(check.get("Remediation") or "").strip()[:_MAX_TEXT_LENGTH]
    return models.Impairment(
        since=min((at for at in times if at is not None), default=None), remediation=remediation or None
    )


def _check(status: str | None) -> models.Check | None:
    if not status:
        return None
    # EC2 may add a status one day; it counts as neither ok nor impaired.
    return cast(models.Check, status) if status in _CHECKS else "insufficient-data"
