"""A monitored EC2 instance, and what EC2 says of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from workermon.models.base import DAY, Frozen, InstanceId, Text

Status = Literal["pending", "running", "stopping", "stopped", "shutting-down", "terminated", "unknown"]
#: States in which an instance is gone for good.
GONE: frozenset[Status] = frozenset({"shutting-down", "terminated"})
#: States of an instance that is stopped and may start again.
STOPPED: frozenset[Status] = frozenset({"stopping", "stopped"})
Check = Literal["ok", "impaired", "insufficient-data", "not-applicable", "initializing"]
Monitoring = Literal["active", "paused"]
Origin = Literal["command", "file", "discover"]


class AccountRegion(Frozen):
    """Where a call goes: the account (``default`` is boto3's own credentials) and the region.

    ``role_arn`` and ``external_id`` say how to become that account; they take no part in its identity.
    """

    region: str
    account: str = "default"
    role_arn: str | None = None
    external_id: str | None = Field(default=None, repr=False)

    @property
    def key(self) -> str:
        """Name this scope where a limiter, a cohort or a figure is kept for it."""
        return f"{self.account}/{self.region}"


class Worker(Frozen):
    """A monitored EC2 instance, as its user set it up.

    ``incarnation`` is new each time that the worker is added, so that what an earlier life left behind matches
    nothing; ``detailed`` says whether CloudWatch has a datapoint a minute (else each five). ``named``: its user
    gave the name; otherwise it follows the instance's ``Name`` tag.
    """

    id: InstanceId
    name: Text
    named: bool = False
    region: str
    account: str = "default"
    role_arn: str | None = None
    external_id: str | None = Field(default=None, repr=False)
    interval: int = Field(default=60, ge=1, le=DAY)
    labels: dict[str, str] = {}
    monitoring: Monitoring = "active"
    origin: Origin = "command"
    added_at: float
    incarnation: str
    detailed: bool = False

    @property
    def scope(self) -> AccountRegion:
        """Return where its calls go."""
        return AccountRegion(
            region=self.region, account=self.account, role_arn=self.role_arn, external_id=self.external_id
        )


class Checks(Frozen):
    """EC2's two status checks."""

    system: Check
    instance: Check

    @property
    def failed(self) -> float | None:
        """Return 1 when one is impaired, 0 when both are ok, else ``None``: EC2 cannot tell (yet)."""
        if "impaired" in (self.system, self.instance):
            return 1.0
        return 0.0 if self.system == self.instance == "ok" else None


class StateReason(Frozen):
    """Why EC2 changed an instance's state: its code, such as ``Client.UserInitiatedShutdown``, and its words."""

    code: str
    message: str = ""


class ScheduledEvent(Frozen):
    """What EC2 has scheduled for an instance; times in seconds, ``None`` where it tells none.

    ``deadline`` is until when its start may be put off. ``seen_at`` is the first collection that found it at
    ``not_before``.
    """

    id: str
    code: str
    description: str = ""
    not_before: int | None = None
    not_after: int | None = None
    deadline: int | None = None
    seen_at: float | None = None


class Instance(Frozen):
    """What EC2's DescribeInstances tells of one instance; ``name`` is its ``Name`` tag.

    ``reason`` is of its last change of state, where EC2 gives one.
    """

    id: str
    region: str
    status: Status
    name: str | None = None
    detailed: bool = False
    tags: dict[str, str] = {}
    reason: StateReason | None = None


class InstanceStatus(Frozen):
    """What EC2's DescribeInstanceStatus tells of one instance; no checks where EC2 gave none.

    ``events`` is ``None`` where EC2 was not asked for them. ``reason`` is that of DescribeInstances, where it was.
    """

    id: str
    status: Status
    checks: Checks | None = None
    events: tuple[ScheduledEvent, ...] | None = ()
    reason: StateReason | None = None
