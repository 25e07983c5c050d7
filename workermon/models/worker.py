"""A monitored EC2 instance, and its data from EC2."""

from __future__ import annotations

import functools
from typing import Literal

from pydantic import Field

from workermon.models.base import DAY, Frozen, InstanceId, Text
from workermon.models.checks import CheckName, Checks, Impairment

Status = Literal["pending", "running", "stopping", "stopped", "shutting-down", "terminated", "unknown"]
#: Statuses in which an instance is gone for good.
GONE: frozenset[Status] = frozenset({"shutting-down", "terminated"})
#: Statuses of an instance that is stopped and may start again.
STOPPED: frozenset[Status] = frozenset({"stopping", "stopped"})
Monitoring = Literal["active", "paused"]
Origin = Literal["command", "file", "discover"]


#: The account of boto3's own credentials.
DEFAULT_ACCOUNT = "default"


def account_and_region(key: str) -> tuple[str, str]:
    """Return the account and the region from an ``AccountRegion.key``.

    >>> account_and_region("lab/eu-west-1")
    ('lab', 'eu-west-1')
    """
    account, _, region = key.rpartition("/")
    return account, region


class MonitoringAccount(Frozen):
    """The account through which the CloudWatch of another one, the ``source`` (its id), is read.

    ``account``, ``role_arn`` and ``external_id`` are those of the monitoring account's credentials.
    """

    source: str
    account: str = DEFAULT_ACCOUNT
    role_arn: str | None = None
    external_id: str | None = Field(default=None, repr=False)


class AccountRegion(Frozen):
    """An account (``default``: boto3's own credentials) and a region: where calls go.

    ``role_arn`` and ``external_id`` tell how to access that account, ``monitored_by`` through which other account
    CloudWatch has its metrics. They are not part of its identity.
    """

    region: str
    account: str = DEFAULT_ACCOUNT
    role_arn: str | None = None
    external_id: str | None = Field(default=None, repr=False)
    monitored_by: MonitoringAccount | None = None

    @property
    def of_cloudwatch(self) -> AccountRegion:
        """Return where calls to CloudWatch go: itself, or the monitoring account in the same region."""
        through = self.monitored_by
        if through is None:
            return self
        return AccountRegion(
            region=self.region, account=through.account, role_arn=through.role_arn, external_id=through.external_id
        )

    @property
    def key(self) -> str:
        """Return the name under which its limits, cohorts and figures are stored."""
        return f"{self.account}/{self.region}"

    def group(self, interval: int) -> str:
        """Return the name of the group of its workers with this interval, in seconds, which cohorts divide."""
        return f"{self.key}/{interval}"


class Worker(Frozen):
    """A monitored EC2 instance, as its user set it up; ``interval`` in seconds.

    ``incarnation`` is new each time the worker is added, so that nothing left over from before matches it.
    ``detailed``: CloudWatch has a datapoint each minute, not each five. ``named_by_user``: its user gave the name, so
    it does not follow the instance's ``Name`` tag. ``found_by_tag``: a command found it by its tags, so ``[discover]``
    may take it over.
    """

    id: InstanceId
    name: Text
    named_by_user: bool = False
    region: str
    account: str = DEFAULT_ACCOUNT
    role_arn: str | None = None
    external_id: str | None = Field(default=None, repr=False)
    monitored_by: MonitoringAccount | None = None
    interval: int = Field(default=60, ge=1, le=DAY)
    labels: dict[str, str] = {}
    monitoring: Monitoring = "active"
    origin: Origin = "command"
    found_by_tag: bool = False
    added_at: float
    incarnation: str
    detailed: bool = False

    @property
    def scope(self) -> AccountRegion:
        """Return the account and region where its calls go."""
        return _scope(self.region, self.account, self.role_arn, self.external_id, self.monitored_by)


@functools.lru_cache(maxsize=1024)
def _scope(
    region: str, account: str, role_arn: str | None, external_id: str | None, monitored_by: MonitoringAccount | None
) -> AccountRegion:
    """Return the scope of all workers of an account and region: there are few, and each is asked for many times."""
    return AccountRegion(
        region=region, account=account, role_arn=role_arn, external_id=external_id, monitored_by=monitored_by
    )


class StateReason(Frozen):
    """Why EC2 changed an instance's state: its code, such as ``Client.UserInitiatedShutdown``, and its message."""

    code: str
    message: str = ""


class ScheduledEvent(Frozen):
    """An event that EC2 has scheduled for an instance; times in seconds, ``None`` if EC2 gives none.

    Its start can be postponed until ``deadline``. ``seen_at`` is the first collection that listed it at ``not_before``.
    ``by_queue``: the event queue warned of it, and EC2 does not list it.
    """

    id: str
    code: str
    description: str = ""
    not_before: int | None = None
    not_after: int | None = None
    deadline: int | None = None
    seen_at: float | None = None
    by_queue: bool = False


class Instance(Frozen):
    """One instance in EC2's DescribeInstances; ``name`` is its ``Name`` tag.

    ``reason`` is that of its last change of state, ``None`` if EC2 gives none.
    """

    id: str
    region: str
    status: Status
    name: str | None = None
    detailed: bool = False
    tags: dict[str, str] = {}
    reason: StateReason | None = None


class InstanceStatus(Frozen):
    """One instance in EC2's DescribeInstanceStatus; ``checks`` is ``None`` if EC2 gave none.

    ``impairments`` has details of the impaired checks. ``events`` is ``None`` if EC2 was not asked for them. ``reason``
    comes from DescribeInstances, if that was called. ``zone`` is its availability zone, empty if unknown.
    """

    id: str
    status: Status
    zone: str = ""
    checks: Checks | None = None
    impairments: dict[CheckName, Impairment] = {}
    events: tuple[ScheduledEvent, ...] | None = ()
    reason: StateReason | None = None
