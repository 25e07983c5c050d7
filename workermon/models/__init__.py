"""What the stages hand to one another: frozen, and validated where it enters.

Times are seconds since 1970 (UTC) inside and RFC 3339 at the border; durations are seconds.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from workermon import errors

INSTANCE_ID = re.compile(r"i-(?:[0-9a-f]{8}|[0-9a-f]{17})")

#: Seconds. The longest interval and period that make sense: a day.
DAY = 86_400

#: Seconds. How late a datapoint may come, or be revised, and still find its place, where nothing else is said.
LATENESS = 900

Severity = Literal["warning", "critical"]
#: From the least to the worst; ``None`` (well) comes before them.
SEVERITIES: tuple[Severity, ...] = ("warning", "critical")
Status = Literal["pending", "running", "stopping", "stopped", "shutting-down", "terminated", "unknown"]
#: States in which an instance is gone for good.
GONE: frozenset[Status] = frozenset({"shutting-down", "terminated"})
Check = Literal["ok", "impaired", "insufficient-data", "not-applicable", "initializing"]
Monitoring = Literal["active", "paused"]
Origin = Literal["command", "file", "discover"]
Kind = Literal["threshold", "no-data", "state", "event", "collector"]


@functools.lru_cache(maxsize=4096)
def rfc3339(at: float) -> str:
    """Write a time for people and JSON: UTC, milliseconds only where there are any.

    >>> rfc3339(1_700_000_000)
    '2023-11-14T22:13:20Z'
    """
    moment = datetime.fromtimestamp(at, UTC)
    digits = "milliseconds" if round(at * 1000) % 1000 else "seconds"
    return moment.isoformat(timespec=digits).replace("+00:00", "Z")


def moment(text: str) -> float:
    """Read what ``rfc3339`` wrote; raises ``ValueError`` for anything else.

    >>> moment("2023-11-14T22:13:20.500Z")
    1700000000.5
    """
    return datetime.fromisoformat(text).timestamp()


_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": DAY, "w": 7 * DAY}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*([smhdw]?)")


def seconds(text: str | int | float) -> int:
    """Read a duration such as ``60s``, ``1.5m``, ``24h`` or plain seconds; whole seconds only.

    Raises ``ValueError`` saying why for anything else (``nan``, negative, empty, parts of a second).
    """
    found = _DURATION.fullmatch(str(text).strip().lower())
    if not found:
        raise ValueError(f"{errors.printable(str(text))!r} is no duration such as 30s, 5m or 24h")
    value = float(found[1]) * _UNITS[found[2]]
    if value != int(value):
        raise ValueError(f"{errors.printable(str(text))!r} is not a whole number of seconds")
    return int(value)


def _one_line(text: str) -> str:
    if errors.printable(text) != text:
        raise ValueError("has a control character, such as a newline or an escape sequence")
    if not text.strip() or text != text.strip():
        raise ValueError("is empty or has spaces at an end")
    return text


def _instance_id(text: str) -> str:
    if not INSTANCE_ID.fullmatch(text):
        raise ValueError("is no instance id: 'i-' and 8 or 17 hexadecimal digits, such as i-0abc123def4567890")
    return text


InstanceId = Annotated[str, AfterValidator(_instance_id)]
#: A short text of a user's: one line, no control characters.
Text = Annotated[str, Field(max_length=256), AfterValidator(_one_line)]


class Frozen(BaseModel):
    """The base of what is passed on: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Datapoint(NamedTuple):
    """One value of one metric: ``at`` is CloudWatch's timestamp (the start of the period), whole seconds."""

    at: int
    value: float


#: Makes a datapoint of a pair without a step through Python, which thousands of them take.
datapoint: Callable[[tuple[int, float]], Datapoint] = functools.partial(tuple.__new__, Datapoint)


class Series(NamedTuple):
    """Datapoints of one metric in order of time, at most one a slot; ``period`` in seconds."""

    period: int
    points: tuple[Datapoint, ...]


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


class Query(Frozen):
    """One metric of one worker as CloudWatch is asked for it; ``period`` in seconds, ``since`` a time."""

    worker_id: str
    metric: str
    namespace: str
    metric_name: str
    dimensions: tuple[tuple[str, str], ...]
    statistic: str
    period: int
    since: int


class CollectionError(Frozen):
    """Why the last collection of a worker failed: ``kind`` is an ``AwsError.kind``.

    ``since`` is when the same message first stood there without a success in between.
    """

    kind: str
    message: str
    at: float
    since: float | None = None


class StatusChange(Frozen):
    """From ``at``, the first collection that saw it, a worker had a status; ``seen`` is the last that did.

    ``seen`` is ``None`` as long as it has it. ``reason`` is EC2's, of a worker that does not run.
    """

    at: float
    status: Status
    seen: float | None = None
    reason: StateReason | None = None


class Condition(Frozen):
    """What is known of a worker from its collections.

    ``slot`` is ``floor(collected_at / interval)``. ``latest`` is the newest datapoint of each metric. ``asked`` is
    the time up to which each metric was last asked for with success: slots after it are not absent but unknown.
    ``expected`` is the datapoint that each metric waits for, ``delays`` how many seconds after its period's end one
    is waited for before it counts as absent. ``running_since`` is the first collection that saw it running without
    a break. ``trouble`` beside a success is of single metrics. ``changes`` are those of the status since it last ran,
    and those within the last hour; none where it runs on. ``events`` are those that EC2 has scheduled, ``events_at``
    is when they last changed.
    """

    status: Status = "unknown"
    checks: Checks | None = None
    slot: int | None = None
    collected_at: float | None = None
    succeeded_at: float | None = None
    running_since: float | None = None
    latest: dict[str, Datapoint] = {}
    periods: dict[str, int] = {}
    asked: dict[str, float] = {}
    expected: dict[str, int] = {}
    delays: dict[str, float] = {}
    last_error: CollectionError | None = None
    changes: tuple[StatusChange, ...] = ()
    events: tuple[ScheduledEvent, ...] = ()
    events_at: float | None = None


class Sample(Frozen):
    """What one collection of one worker brought; ``series`` only holds what CloudWatch gave."""

    worker: Worker
    collected_at: float
    status: Status
    checks: Checks | None = None
    series: dict[str, Series] = {}
    asked: dict[str, float] = {}

    @property
    def slot(self) -> int:
        """Return the slot of this collection, ``floor(t / interval)``."""
        return int(self.collected_at // self.worker.interval)


class Reading(Frozen):
    """A metric's newest datapoint as the event shows it."""

    value: float
    unit: str
    at: str


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


class Levels(Frozen):
    """A number for each severity that is told apart; one at least."""

    warning: float | None = Field(default=None, allow_inf_nan=False)
    critical: float | None = Field(default=None, allow_inf_nan=False)

    def of(self, severity: Severity) -> float | None:
        """Return the number of that severity."""
        return self.critical if severity == "critical" else self.warning


class Count(Frozen):
    """``m`` of the last ``n`` expected slots."""

    m: int = Field(ge=1)
    n: int = Field(ge=1, le=1440)

    def __str__(self) -> str:
        return f"{self.m} of {self.n}"


class Flapping(Frozen):
    """An alert that fires or resolves ``turns`` times within ``within`` seconds of data time flaps.

    It does so until it has held still for as long.
    """

    turns: int = Field(ge=2, le=1440)
    within: int = Field(ge=1, le=7 * DAY)


class Rule(Frozen):
    """When a metric is in trouble and when it is well again; only the kind ``threshold`` has a ``metric``.

    ``above`` and ``below`` are strict. ``clear`` is the hysteresis, the threshold itself where left out. For
    ``no-data`` only ``intervals`` and ``severity`` count. For ``state`` it is ``states``, ``severity`` and which codes
    of EC2 are ``expected``. For ``event`` it is ``codes`` (empty: all), from how many seconds ``ahead`` on they are
    told (``None``: at once), and ``severity``, unless each is as bad as its code says (``by_code``). ``notify`` are all
    channels; ``routes`` says which of them hear of what, where not all hear of everything.
    """

    name: str
    kind: Literal["threshold", "no-data", "state", "event"] = "threshold"
    metric: str | None = None
    above: Levels | None = None
    below: Levels | None = None
    breach: Count = Count(m=3, n=3)
    clear: Levels | None = None
    recover: Count = Count(m=2, n=2)
    missing: Literal["breach", "ok", "keep"] = "keep"
    intervals: int = 3
    severity: Severity = "critical"
    states: tuple[Literal["stopped", "terminated"], ...] = ("stopped", "terminated")
    expected: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    ahead: int | None = None
    by_code: bool = False
    labels: dict[str, str] = {}
    notify: tuple[str, ...] = ("log",)
    routes: dict[Severity, tuple[str, ...]] | None = None
    flapping: Flapping | None = None

    def channels(self, severity: Severity) -> tuple[str, ...]:
        """Return the channels that hear of that severity."""
        return self.notify if self.routes is None else self.routes.get(severity, ())

    def applies_to(self, worker: Worker) -> bool:
        """Tell whether the worker carries every label asked for."""
        return not self.labels or all(worker.labels.get(key) == value for key, value in self.labels.items())


class SeverityChange(NamedTuple):
    """From ``at`` on an alert is at ``severity`` (``None``: well)."""

    at: int
    severity: Severity | None
    #: Which severities are latched, as bits: 1 warning, 2 critical. ``severity`` is the highest of them.
    latched: int


class FlapState(Frozen):
    """Whether an alert flaps, after all turns before those of its trail.

    ``recent`` are the times of the last turns from well or to well, ``fires`` what the last of them turned to.
    """

    fires: bool = False
    recent: tuple[int, ...] = ()
    flaps: bool = False


class RuleState(Frozen):
    """How far a rule is judged for one worker, and with what outcome: the fold's state.

    ``cursor`` is the time of the last slot judged. ``trail`` lists the turns since one lateness before the cursor,
    and the one before those, so that the state at any of these times can be taken up again; ``trimmed``: there were
    turns before it. ``metric`` and ``period`` (seconds) are what the fold walks; ``start``: what is before that time
    plays no part in it. Of the kinds ``state`` and ``event`` ``metric`` is that name; ``events`` are those that were
    told, each with its time.
    """

    cursor: int | None = None
    trail: tuple[SeverityChange, ...] = ()
    trimmed: bool = False
    metric: str | None = None
    period: int | None = None
    start: int | None = None
    damping: FlapState | None = None
    events: tuple[str, ...] = ()

    @property
    def severity(self) -> Severity | None:
        """Return the state at the cursor."""
        return self.trail[-1].severity if self.trail else None


class Silence(Frozen):
    """Alerts that are not to be told from ``begins`` until ``ends``: those that all of what it names is true of."""

    id: str
    worker_id: str | None = None
    labels: dict[str, str] = {}
    rule: str | None = None
    begins: float
    ends: float
    reason: Text
    by: Text


class Maintenance(Frozen):
    """A silence of the config file: from ``begins`` until ``ends``, or ``duration`` seconds at each time of a schedule.

    ``worker`` is an instance id or a name; ``schedule`` are the five fields of cron, on the clocks of ``timezone``.
    ``id`` names what it says, all but the reason.
    """

    id: str
    worker: str | None = None
    labels: dict[str, str] = {}
    rule: str | None = None
    reason: Text
    begins: float | None = None
    ends: float | None = None
    schedule: str | None = None
    duration: int | None = None
    timezone: str = "UTC"


class Acknowledgement(Frozen):
    """Who has seen an alert, and when; it holds for the episode that began at ``since`` only."""

    alert_id: str
    since: int | None
    by: Text
    at: float


class Transition(Frozen):
    """A change of an alert: at ``at`` (the time of the deciding datapoint) it went from ``before`` to ``after``.

    ``points`` are those of the window that decided, ``count`` how many of how many of its slots did (``2 of 3``).
    ``correction``: a revised past, not a new turn of events. ``silenced_by``: the silence because of which its
    notification went nowhere. ``cause`` is what EC2 says of it; ``key`` names it where its time alone does not.
    """

    at: int
    before: Severity | None
    after: Severity | None
    value: float | None = None
    threshold: float | None = None
    points: tuple[Datapoint, ...] = ()
    count: str | None = None
    correction: bool = False
    reason: str = ""
    silenced_by: str | None = None
    damped: bool = False
    cause: str | None = None
    key: str | None = None


class Subject(Frozen):
    """The worker as a notification names it; ``account`` is the name of its section, ``default`` for none."""

    id: str
    name: str
    region: str
    account: str = "default"
    labels: dict[str, str] = {}


class Notification(Frozen):
    """What people and machines are told (``docs/messages.md``).

    ``at`` is the deciding time, ``created_at`` when the judgement was made, ``points`` what decided.
    ``reminder``: it was accepted before, and still holds.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    schema_: Literal[1] = Field(default=1, alias="schema")
    id: str
    version: int
    dedup_key: str
    kind: Kind
    status: Literal["firing", "resolved"]
    severity: Severity
    rule: str
    metric: str | None
    value: float | None
    threshold: float | None
    since: str
    at: str
    created_at: str | None = None
    worker: Subject | None
    summary: str
    reason: str | None = None
    scope: dict[str, str] | None = None
    points: tuple[Datapoint, ...] = ()
    reminder: bool = False


class Alert(Frozen):
    """One rule of one worker over its life: the fold's state, and what was told of it last.

    ``version`` counts the notifications of this ``dedup_key``; ``since`` is when the present episode began;
    ``channels`` are those that were told of it, and so have to hear of its end. ``silenced_by``: the silence because
    of which nobody heard of what it is at now; that is told when the silence is over. ``flapping``: its turns are
    damped; ``flapping_told``: people have heard so, and are told when it has held still.
    """

    rule: str
    rule_state: RuleState = RuleState()
    version: int = 0
    since: int | None = None
    notified_severity: Severity | None = None
    last: Notification | None = None
    channels: tuple[str, ...] = ()
    silenced_by: str | None = None
    flapping: bool = False
    flapping_told: bool = False

    @property
    def open(self) -> bool:
        """Tell whether people were last told that it fires."""
        return self.notified_severity is not None


class Attempt(Frozen):
    """One try to deliver one notification to one channel; ``error`` is ``None`` when it was accepted."""

    notification_id: str
    channel: str
    at: float
    error: str | None = None


class HistoryEntry(Frozen):
    """An entry of an alert's history: a transition, the notification that told it if one did, and the attempts."""

    transition: Transition
    notification: Notification | None = None
    rule: str
    worker_id: str
    attempts: tuple[Attempt, ...] = ()


class ClaimedNotification(Frozen):
    """A notification claimed for delivery to one channel, under a lease whose ``fence`` no other claim has."""

    alert_id: str
    channel: str
    notification: Notification
    fence: int
    attempt: int


#: The rule of the alert that notifications could not be delivered; it always holds.
DELIVERY = "delivery"


class Sent(NamedTuple):
    """When something was sent last (where it never was: since when it is to be), and how often it was."""

    at: float
    times: int


#: Seconds between two canaries.
CANARY_EVERY = 60

#: The canary's parcel in the outbox, under an id that no alert has, and what stands where a channel's name does.
CANARY, CANARY_CHANNEL = "workermon/canary", "canary"


def delivery_alert(channel: str) -> str:
    """Name the alert about the delivery to a channel.

    >>> delivery_alert("ops")
    'channel:ops/delivery'
    """
    return f"channel:{channel}/{DELIVERY}"


def is_delivery_alert(alert_id: str) -> bool:
    """Tell whether an alert is about the delivery to a channel."""
    return alert_id.startswith("channel:") and alert_id.endswith(f"/{DELIVERY}")


def channel_of(alert_id: str) -> str:
    """Return the channel that an alert about a delivery is about.

    >>> channel_of(delivery_alert("ops"))
    'ops'
    """
    return alert_id.removeprefix("channel:").removesuffix(f"/{DELIVERY}")


class SilencedNotification(Notification):
    """What is told of the delivery to a channel, but for a silence: it is recorded and goes nowhere."""

    silenced_by: str


def of_delivery(text: bytes | str) -> Notification:
    """Read what was told of the delivery to a channel, or would have been."""
    data = json.loads(text)
    return (
        SilencedNotification if isinstance(data, dict) and data.get("silenced_by") else Notification
    ).model_validate(data)


def told_of_delivery(channel: str, notification: Notification) -> HistoryEntry:
    """Return the entry of history for what was told of the delivery to a channel."""
    firing = notification.status == "firing"
    transition = Transition(
        at=int(moment(notification.at)),
        before=None if firing else notification.severity,
        after=notification.severity if firing else None,
        reason=notification.reason or notification.summary,
        silenced_by=notification.silenced_by if isinstance(notification, SilencedNotification) else None,
    )
    return HistoryEntry(transition=transition, notification=notification, rule=DELIVERY, worker_id=f"channel:{channel}")


def alert_of_delivery(notification: Notification) -> Alert:
    """Return how the alert about the delivery to a channel stands after what was told of it last."""
    firing = notification.status == "firing"
    return Alert(
        rule=DELIVERY,
        version=notification.version,
        since=int(moment(notification.since)) if firing else None,
        notified_severity=notification.severity if firing else None,
        last=notification,
        silenced_by=notification.silenced_by if isinstance(notification, SilencedNotification) else None,
    )


#: Variables that configure AWS and workermon itself. No config file may have them sent anywhere.
PROTECTED_VARIABLES = ("AWS_", "WORKERMON_")


def is_protected_variable(name: str) -> bool:
    """Tell whether an environment variable is never given away as a secret.

    >>> is_protected_variable("AWS_SECRET_ACCESS_KEY"), is_protected_variable("OPS_SECRET")
    (True, False)
    """
    return name.upper().startswith(PROTECTED_VARIABLES)


class SecretRef(Frozen):
    """A secret by name only: an environment variable, or a file whose content it is (less a final newline)."""

    env: str | None = None
    file: str | None = None


class Channel(Frozen):
    """Where notifications go; which fields a type has is said in docs/channels.md.

    ``url`` and ``secret`` may be by name only. ``template`` replaces the text for people, ``per_minute`` is the most
    that is sent in any minute, ``group_wait`` for how many seconds a group is gathered (``None``: what suits the type;
    0: nothing is grouped), ``repeat`` after how many what still fires is told again. ``options`` are
    of a type of a user's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str
    type: str
    url: str | SecretRef | None = None
    secret: SecretRef | None = None
    allow_private: bool = False
    template: str | None = None
    per_minute: float | None = None
    group_wait: int | None = None
    repeat: int | None = None
    topic_arn: str | None = None
    host: str | None = None
    port: int | None = None
    security: Literal["starttls", "tls", "none"] | None = None
    user: str | None = None
    sender: str | None = Field(default=None, alias="from")
    to: tuple[str, ...] = ()
    options: dict[str, str] = {}


class Metric(Frozen):
    """A catalogue entry: what CloudWatch is asked for under our name.

    ``period`` in seconds, ``None``: as EC2 publishes it (60 with detailed monitoring, else 300).
    ``merge`` says what becomes of several series of one worker (its filesystems, say).
    """

    name: Text
    namespace: str
    metric_name: str
    statistic: str = "Average"
    unit: str = "percent"
    period: int | None = None
    merge: Literal["max", "sum"] = "max"


class Account(Frozen):
    """How to become another AWS account: the role, and its external id by the name of the secret."""

    role_arn: str
    external_id: SecretRef | None = None


class Discover(Frozen):
    """Which instances belong to the fleet by their tags; no region: the one that boto3 is configured for."""

    regions: tuple[str, ...] = ()
    tags: dict[str, str] = {}
    account: str | None = None
    interval: int | None = None
    labels: dict[str, str] = {}


class Limit(Frozen):
    """How fast one API of one account and region may be asked: ``bucket`` requests at once, ``rate`` each second."""

    bucket: float = Field(ge=1, le=100_000)
    rate: float = Field(gt=0, le=100_000)


class Configuration(Frozen):
    """What is in force: rules, channels, the catalogue; ``revision`` grows with each change.

    ``collect`` is what is asked for; ``chosen`` what the file named for it (``None``: nothing, so the defaults and
    what the rules need). ``budget`` is in dollars a day (UTC), ``None``: no limit. ``limits`` is by API
    (``bill.LIMITS`` where left out). ``lateness``: for how many seconds a datapoint may come late, or be revised, and
    find its place.
    """

    revision: int = 0
    rules: tuple[Rule, ...]
    channels: dict[str, Channel]
    metrics: dict[str, Metric]
    collect: tuple[str, ...]
    retention: int = DAY
    lateness: int = LATENESS
    chosen: tuple[str, ...] | None = None
    accounts: dict[str, Account] = {}
    discover: Discover | None = None
    budget: float | None = None
    limits: dict[str, Limit] = {}
    silences: tuple[Maintenance, ...] = ()


#: The key of what is of the whole installation and of no account and region, and the rule about its budget.
EVERYWHERE, BUDGET = "*/*", "budget"


class AccountState(Frozen):
    """How collection goes in an account and region (``key`` as ``Scope.key``).

    ``trouble`` is why the newest collection there failed as a whole, ``None`` where it did not; ``failing_since`` the
    first failure after the last success. ``interval`` is the shortest one collected there lately, ``at`` the newest
    collection; times and durations in seconds. ``sequence`` counts what was noted.
    """

    key: str
    at: float
    interval: int
    succeeded_at: float | None = None
    recovered_at: float | None = None
    failing_since: float | None = None
    last_error: CollectionError | None = None
    sequence: int = 0

    @property
    def account(self) -> str:
        """Return the account's name."""
        return self.key.rpartition("/")[0]

    @property
    def region(self) -> str:
        """Return the region."""
        return self.key.rpartition("/")[2]


class Hour(Frozen):
    """What was asked of AWS within an hour from ``start`` on (a time), counted from ``begun`` on.

    ``calls`` are requests by ``(scope key, operation)``, ``metrics`` the metrics asked by ``(scope key,
    namespace/name)``, ``full`` those that would have been asked without a budget.
    """

    start: int
    begun: float
    calls: dict[tuple[str, str], int] = {}
    metrics: dict[tuple[str, str], int] = {}
    full: dict[tuple[str, str], int] = {}


class BudgetDecision(Frozen):
    """What the budget makes of the periods: ``factors`` by metric, those above 1 only; decided ``at`` a time.

    ``weights`` are the same by CloudWatch's ``namespace/name``. ``projected`` and ``budget`` are dollars of the day
    (UTC) that ``at`` is in; ``since`` is when these factors were decided.
    """

    at: float = 0.0
    period_multipliers: dict[str, int] = {}
    weights: dict[str, int] = {}
    projected: float = 0.0
    budget: float | None = None
    since: float = 0.0


def to_json(model: BaseModel) -> dict[str, Any]:
    """Return the plain JSON object of a model, by the names of the contract."""
    return model.model_dump(mode="json", by_alias=True)
