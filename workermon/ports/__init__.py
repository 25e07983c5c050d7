"""What the stages need of the outside world, as protocols.

The real ones are in ``on_aws``, ``on_redis`` and ``on_celery``; ``testing`` has them in memory. One contract suite
(``tests/contract``) runs over every implementation. All of them are safe to share between threads. Where nothing
else is said they raise ``errors.RedisUnavailable`` or ``errors.AwsError`` and its kinds.
"""

from __future__ import annotations

from workermon.ports.access import AUDIT_AGE, AUDIT_ENTRIES, MAX_SESSIONS, Access, Audit
from workermon.ports.alerts import SET_BACK, Accounts, Alerts, Basis, RecordedTransition, Silences, Standing, Verdict
from workermon.ports.aws import Answer, CloudWatch, Costs, Ec2, Limiter, Publisher
from workermon.ports.cohorts import Cohorts, Pace
from workermon.ports.control import (
    BREAK,
    CANARY_BREAK,
    CANARY_STEPS,
    START_UP,
    Canary,
    Change,
    Clock,
    Configurations,
    CpuClock,
    Dispatcher,
    Leases,
    MachineClock,
    Nodes,
    Ping,
    Pulse,
    Reached,
    SavedStates,
    Schema,
    Server,
    Setup,
    Trace,
    Unreadable,
)
from workermon.ports.delivery import (
    ChannelFailures,
    FailingChannel,
    FiringLabels,
    Notifier,
    Outbox,
    Secrets,
    StuckQueue,
    Throttle,
    Violations,
)
from workermon.ports.fleet import Record, Schedule, Workers
from workermon.ports.requests import ANSWER_AGE, REQUEST_AGE, FirstRequest, IdempotencyKeys
from workermon.ports.samples import SLOT_TOLERANCE, Claim, Feed, LearnedDelays, Samples, Written

__all__ = [
    "ANSWER_AGE",
    "AUDIT_AGE",
    "AUDIT_ENTRIES",
    "BREAK",
    "CANARY_BREAK",
    "CANARY_STEPS",
    "MAX_SESSIONS",
    "REQUEST_AGE",
    "SET_BACK",
    "SLOT_TOLERANCE",
    "START_UP",
    "Access",
    "Accounts",
    "Alerts",
    "Answer",
    "Audit",
    "Basis",
    "Canary",
    "Change",
    "ChannelFailures",
    "Claim",
    "Clock",
    "CloudWatch",
    "Cohorts",
    "Configurations",
    "Costs",
    "CpuClock",
    "Dispatcher",
    "Ec2",
    "FailingChannel",
    "Feed",
    "FiringLabels",
    "FirstRequest",
    "IdempotencyKeys",
    "LearnedDelays",
    "Leases",
    "Limiter",
    "MachineClock",
    "Nodes",
    "Notifier",
    "Outbox",
    "Pace",
    "Ping",
    "Publisher",
    "Pulse",
    "Reached",
    "Record",
    "RecordedTransition",
    "Samples",
    "SavedStates",
    "Schedule",
    "Schema",
    "Secrets",
    "Server",
    "Setup",
    "Silences",
    "Standing",
    "StuckQueue",
    "Throttle",
    "Trace",
    "Unreadable",
    "Verdict",
    "Violations",
    "Workers",
    "Written",
]
