"""Every key in Redis: what it holds, who writes it, and how long it lives. ``KEY_PATTERNS`` has them all.

A ``<subject>`` is what an alert is about: a worker's id, a ``<scope>``, the installation (``*/*``),
``channel:<channel>`` or ``group:<label>=<value>``. An ``<alert>`` is ``<subject>/<rule>``, a ``<queue>`` is
``<channel, percent-encoded>:<alert>``, an ``<hour>`` its start in seconds, a ``<scope>`` is ``<account>/<region>``.
Keys that begin with ``alert-history`` and ``outbox`` outlive their subject. ``settings`` has the names that Celery,
Kombu and RedBeat use for us.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote

from workermon import models, settings

#: Bytes of all stored transitions, as JSON. The oldest are dropped first. In total they take half as much again.
HISTORY_BYTES = 256_000_000
#: Attempts to deliver that are kept for each alert.
ATTEMPTS = 500
#: The lock of the beat that runs.
BEAT_LOCK = f"{settings.REDBEAT_PREFIX}:lock"


class KeyPattern(NamedTuple):
    """A key, or all keys of a form; ``lifetime`` describes until when it is kept."""

    name: str
    type: str
    owner: str
    content: str
    lifetime: str
    #: Whether Redis itself expires it.
    expires: bool = False


KEY_PATTERNS = (
    KeyPattern("workermon:schema", "string", "schema", "the version of all that is stored", "permanent"),
    KeyPattern("workermon:workers", "zset", "workers", "the fleet's ids, all with score 0", "permanent"),
    KeyPattern(
        "workermon:worker:<id>",
        "hash",
        "workers, samples, status_listings",
        "spec, condition …",
        "the worker is removed",
    ),
    KeyPattern(
        "workermon:ledger:<id>:<hour>",
        "hash",
        "samples",
        "datapoints of an hour",
        "the end of the hour plus retention",
        expires=True,
    ),
    KeyPattern(
        "workermon:rollups:<id>:<week>",
        "hash",
        "rollups",
        "hourly roll-ups of a week, packed, by metric",
        "the end of the week plus `rollups`",
        expires=True,
    ),
    KeyPattern("workermon:rollups-due", "zset", "samples, rollups", "<id> <hour> by when it is rolled up", "permanent"),
    KeyPattern(
        "workermon:learned-delays:<scope>",
        "hash",
        "learned_delays",
        "delays, listings, by name",
        "7 days after the last write",
        expires=True,
    ),
    KeyPattern(
        "workermon:pending", "zset", "samples", "ids of workers and groups by the time of the write", "permanent"
    ),
    KeyPattern("workermon:groups", "set", "alerts", "the subjects that are groups", "permanent"),
    KeyPattern(
        "workermon:group:<subject>",
        "hash",
        "alerts",
        "what is new of a group",
        "30 days after its last worker left",
    ),
    KeyPattern("workermon:group-members:<subject>", "hash", "alerts", "what each member says of each rule", "all left"),
    KeyPattern(
        "workermon:alerts:<subject>",
        "hash",
        "alerts",
        "state and version",
        "its subject is removed; of a channel or the installation 30 days after",
    ),
    KeyPattern("workermon:open", "zset", "alerts", "ids of the alerts that fire, by since", "permanent"),
    KeyPattern(
        "workermon:alert-history:timeline",
        "zset",
        "alerts",
        "<number> <alert> of each transition, by its time",
        f"`[alerts] history` after the last; {HISTORY_BYTES // 10**6} MB at most",
        expires=True,
    ),
    KeyPattern(
        "workermon:alert-history:entries", "hash", "alerts", "transitions by number", "as the timeline", expires=True
    ),
    KeyPattern("workermon:alert-history:bytes", "string", "alerts", "bytes of those", "as the timeline", expires=True),
    KeyPattern(
        "workermon:alert-history:numbers", "string", "alerts", "counts transitions", "as the timeline", expires=True
    ),
    KeyPattern(
        "workermon:alert-history:numbers-of:<alert>",
        "zset",
        "alerts",
        "the alert's numbers",
        "as the timeline",
        expires=True,
    ),
    KeyPattern(
        "workermon:alert-history:attempts:<alert>",
        "zset",
        "outbox",
        f"attempts by fence, {ATTEMPTS} at most",
        "`[alerts] history` after the last",
        expires=True,
    ),
    KeyPattern(
        "workermon:alert-history:last:<alert>",
        "string",
        "alerts",
        "the last notification",
        "`[alerts] history`",
        expires=True,
    ),
    KeyPattern(
        "workermon:alert-history:versions:<subject>",
        "hash",
        "alerts",
        "last version of each rule",
        "`[alerts] history`",
        expires=True,
    ),
    KeyPattern(
        "workermon:alert-history:of:<alert>",
        "list",
        "schema",
        "transitions of schema 1, newest first",
        "they are migrated, 30 days at most",
        expires=True,
    ),
    KeyPattern(
        "workermon:alert-history:index",
        "zset",
        "schema",
        "alerts of schema 1 by last entry",
        "they are migrated, 30 days at most",
        expires=True,
    ),
    KeyPattern("workermon:outbox", "zset", "outbox", "queues by the time of the next try", "permanent"),
    KeyPattern("workermon:outbox:queue:<queue>", "list", "alerts, outbox", "notifications", "all are delivered"),
    KeyPattern("workermon:outbox:state:<queue>", "hash", "outbox", "fence and tries of the head", "as its queue"),
    KeyPattern(
        "workermon:outbox:lease:<queue>",
        "string",
        "outbox",
        "who sends the head",
        "the lease, 15 s at most",
        expires=True,
    ),
    KeyPattern("workermon:outbox:queues:<alert>", "set", "alerts, outbox", "the alert's queues", "as those queues"),
    KeyPattern("workermon:outbox:reminders", "zset", "outbox", "queues by the time of the next reminder", "permanent"),
    KeyPattern(
        "workermon:outbox:escalations", "zset", "alerts", "alerts by the time of their next escalation", "permanent"
    ),
    KeyPattern(
        "workermon:outbox:failing", "hash", "channel_failures", "channels that accept nothing", "they accept again"
    ),
    KeyPattern(
        "workermon:outbox:labels:<queue>",
        "string",
        "firing_labels",
        "labels under which an alert fires at its receiver",
        "it is over, 30 days at most",
        expires=True,
    ),
    KeyPattern("workermon:outbox:fence", "string", "outbox", "counts the claims", "permanent"),
    KeyPattern(
        "workermon:throttle-window:<group>",
        "string",
        "throttle",
        "when a group closes",
        "some waits of it",
        expires=True,
    ),
    KeyPattern(
        "workermon:throttle:<channel>",
        "hash",
        "throttle",
        "a token bucket",
        "an hour after the last message",
        expires=True,
    ),
    KeyPattern("workermon:alert-history:ack:<alert>", "string", "silences", "who has seen it", "30 days", expires=True),
    KeyPattern("workermon:silences", "hash", "silences", "those in force, by id", "permanent"),
    KeyPattern("workermon:tokens", "hash", "access", "role and hash of each token, by name", "permanent"),
    KeyPattern("workermon:sessions", "hash", "access", "sessions of browsers, by hash", "permanent; 1,000 at most"),
    KeyPattern("workermon:csrf-key", "string", "access", "what CSRF tokens are made with", "permanent"),
    KeyPattern("workermon:audit", "zset", "audit", "ids of entries by time", "400 days; 10,000 at most", expires=True),
    KeyPattern("workermon:audit:entries", "hash", "audit", "who did what", "as workermon:audit", expires=True),
    KeyPattern(
        "workermon:idempotency-key:<key>",
        "string",
        "idempotency_keys",
        "the answer to a request of the API",
        "an hour",
        expires=True,
    ),
    KeyPattern("workermon:configuration", "hash", "configurations", "document, revision, changes", "permanent"),
    KeyPattern("workermon:pulse", "hash", "liveness", "when each part last worked", "permanent"),
    KeyPattern(
        "workermon:unreadable",
        "hash",
        "unreadable_records",
        "records that cannot be read, with the reason",
        "permanent",
    ),
    KeyPattern(
        "workermon:set-aside:<key>",
        "any",
        "unreadable",
        "what was kept under a key that is of another type",
        "30 days",
        expires=True,
    ),
    KeyPattern("workermon:counts", "hash", "liveness", "what went by", "permanent"),
    KeyPattern("workermon:canary", "hash", "canary", "when one came to each step", "permanent"),
    KeyPattern("workermon:lease:<name>", "string", "leases", "the owner", "the lease", expires=True),
    KeyPattern(
        "workermon:limit:<scope>:<operation>",
        "hash",
        "limiter",
        "a token bucket",
        "an hour after the last request",
        expires=True,
    ),
    KeyPattern(
        "workermon:limits", "set", "limiter", "buckets that are slowed", "an hour after the last was", expires=True
    ),
    KeyPattern(
        "workermon:status-listing:<scope>",
        "string",
        "status_listings",
        "how the last listing of the instances' statuses went",
        "an hour",
        expires=True,
    ),
    KeyPattern("workermon:cost-totals", "hash", "costs", "requests and metrics asked since the start", "permanent"),
    KeyPattern("workermon:costs:<hour>", "hash", "costs", "requests and metrics asked", "49 hours", expires=True),
    KeyPattern(
        "workermon:budget-decision", "string", "costs", "what the budget makes of the periods", "2 days", expires=True
    ),
    KeyPattern("workermon:accounts", "set", "accounts", "accounts and regions collected from", "permanent"),
    KeyPattern("workermon:account:<scope>", "hash", "accounts", "how collection goes there", "nobody collects there"),
    # The schedule, in the same database.
    KeyPattern(
        f"{settings.REDBEAT_PREFIX}<entry>", "hash", "RedBeat", "an entry: definition and meta", "its worker is removed"
    ),
    KeyPattern(
        f"{settings.REDBEAT_PREFIX}:schedule", "zset", "RedBeat", "entries by the time of the next run", "permanent"
    ),
    KeyPattern(f"{settings.REDBEAT_PREFIX}:statics", "set", "RedBeat", "entries of the configuration", "permanent"),
    KeyPattern(BEAT_LOCK, "string", "RedBeat", "which beat runs", "5 s", expires=True),
    KeyPattern(settings.SCHEDULE_COHORTS, "hash", "schedule", "worker id → <scope>/<interval>#<number>", "permanent"),
    KeyPattern(
        f"{settings.SCHEDULE_COHORT}<scope>/<interval>", "zset", "schedule", "cohort number → members", "permanent"
    ),
    KeyPattern(
        settings.SCHEDULE_PHASES, "hash", "cohorts", "cohort → seconds into the interval when it is due", "permanent"
    ),
    KeyPattern(
        "workermon:schedule:learned",
        "hash",
        "cohorts",
        "<scope>/<interval> → when its datapoints come, by metric",
        "permanent",
    ),
    KeyPattern("workermon:schedule:paces", "hash", "cohorts", "node → CPU seconds of a cohort, and when", "permanent"),
    KeyPattern(settings.SCHEDULE_QUARANTINE, "hash", "schedule", "name of a broken entry → reason, time", "permanent"),
    KeyPattern(settings.SCHEDULE_TICK, "string", "scheduler", "when beat last looked for what is due", "permanent"),
    KeyPattern(
        settings.SCHEDULE_CANARY, "hash", "scheduler", "when a canary was last sent, and how often", "permanent"
    ),
    # The messages, in the broker's database.
    KeyPattern("workermon.<queue>", "list", "Kombu", "messages that wait, of each priority", "they are taken"),
    KeyPattern(settings.UNACKED, "hash", "Kombu", "messages that nodes have in their hands", "they are done"),
    KeyPattern(settings.UNACKED_INDEX, "zset", "Kombu", "the same by time", "they are done"),
    KeyPattern(settings.UNACKED_MUTEX, "string", "Kombu", "who looks for lost messages", "300 s", expires=True),
    KeyPattern(settings.BINDING % "<exchange>", "set", "Kombu", "the queues of an exchange", "permanent"),
    KeyPattern(settings.BINDING_PERMANENT % "<exchange>", "set", "Kombu", "those of them that stay", "permanent"),
    KeyPattern(settings.BINDING_DEADLINES, "zset", "Kombu", "when the others are over", "permanent"),
    KeyPattern("<node>.workermon.pidbox<priority>", "list", "Kombu", "answers to remote control", "they are taken"),
)

#: Seconds. Remains of a deleted subject or notification are kept for this long.
HISTORY = 30 * 86_400
#: Seconds. Learned values of an account and region are kept for this long after the last update.
LESSONS = 7 * 86_400
#: Learned times at which cohorts are best due, and how fast the nodes collect.
COHORTS_LEARNED = "workermon:schedule:learned"
COHORTS_PACES = "workermon:schedule:paces"

SCHEMA = "workermon:schema"
WORKERS = "workermon:workers"
PENDING = "workermon:pending"
GROUPS = "workermon:groups"
OPEN = "workermon:open"
TIMELINE = "workermon:alert-history:timeline"
HISTORY_ENTRIES = "workermon:alert-history:entries"
HISTORY_SIZE = "workermon:alert-history:bytes"
HISTORY_NUMBERS = "workermon:alert-history:numbers"
#: Schema 1: the alerts by their last entry, and the histories by alert.
OLD_INDEX = "workermon:alert-history:index"
OLD_HISTORY = "workermon:alert-history:of:"
OUTBOX = "workermon:outbox"
FENCE = "workermon:outbox:fence"
FAILING_CHANNELS = "workermon:outbox:failing"
REMINDERS = "workermon:outbox:reminders"
ESCALATIONS = "workermon:outbox:escalations"
HISTORY_PREFIX = "workermon:alert-history:"
LAST = "workermon:alert-history:last:"
LABELS = "workermon:outbox:labels:"
SILENCES = "workermon:silences"
TOKENS = "workermon:tokens"
SESSIONS = "workermon:sessions"
CSRF_KEY = "workermon:csrf-key"
AUDIT = "workermon:audit"
AUDIT_ENTRIES = "workermon:audit:entries"
CONFIGURATION = "workermon:configuration"
LIVENESS = "workermon:pulse"
CANARY = "workermon:canary"
COUNTS = "workermon:counts"
UNREADABLE = "workermon:unreadable"
SET_ASIDE = settings.SET_ASIDE
LIMITS = "workermon:limits"
BUDGET_DECISION = "workermon:budget-decision"
COST_TOTALS = "workermon:cost-totals"
ACCOUNTS = "workermon:accounts"
LEDGER = "workermon:ledger:"
ROLLUPS = "workermon:rollups:"
ROLLUPS_DUE = "workermon:rollups-due"
QUEUE, STATE, LEASE = "workermon:outbox:queue:", "workermon:outbox:state:", "workermon:outbox:lease:"


def _regex(name: str) -> str:
    return re.sub(r"<[^<>]+>", ".*", re.escape(name))


_COMPILED_PATTERNS = [(re.compile(_regex(pattern.name), re.DOTALL), pattern) for pattern in KEY_PATTERNS]


def patterns_of(key: bytes) -> list[KeyPattern]:
    """Return the patterns that a key may match."""
    name = key.decode("utf-8", "backslashreplace")
    return [pattern for regex, pattern in _COMPILED_PATTERNS if regex.fullmatch(name)]


def permanent(key: bytes) -> bool:
    """Return whether a key may be without a lifetime."""
    return any(not pattern.expires for pattern in patterns_of(key))


def worker(worker_id: str) -> str:
    """Name a worker's hash."""
    return f"workermon:worker:{worker_id}"


def ledger(worker_id: str, hour: int | str) -> str:
    """Name a worker's datapoints of the hour that starts at that time."""
    return f"{LEDGER}{worker_id}:{hour}"


def rollups(worker_id: str, week: int | str) -> str:
    """Name a worker's roll-ups of the week that starts at that time."""
    return f"{ROLLUPS}{worker_id}:{week}"


def learned_delays(scope: models.AccountRegion) -> str:
    """Name the learned values of an account and region. Each assumed role has its own."""
    return f"workermon:learned-delays:{scope.key}" + (f":{scope.role_arn}" if scope.role_arn else "")


def alerts(subject: str) -> str:
    """Name the state of a subject's alerts."""
    return f"workermon:alerts:{subject}"


def numbers_of(alert_id: str) -> str:
    """Name the numbers of an alert's transitions."""
    return f"workermon:alert-history:numbers-of:{alert_id}"


def group(subject: str) -> str:
    """Name the hash of what changed in a group."""
    return f"workermon:group:{subject}"


def group_members(subject: str) -> str:
    """Name what the members of a group reported."""
    return f"workermon:group-members:{subject}"


def attempts(alert_id: str) -> str:
    """Name the attempts to deliver notifications of an alert."""
    return f"workermon:alert-history:attempts:{alert_id}"


def last(alert_id: str) -> str:
    """Name the last notification of an alert."""
    return f"workermon:alert-history:last:{alert_id}"


def acknowledged(alert_id: str) -> str:
    """Name the acknowledgement of an alert."""
    return f"workermon:alert-history:ack:{alert_id}"


def versions(subject: str) -> str:
    """Name the last versions of a subject's notifications."""
    return f"workermon:alert-history:versions:{subject}"


def queues(alert_id: str) -> str:
    """Name the set of an alert's queues."""
    return f"workermon:outbox:queues:{alert_id}"


def queue(alert_id: str, channel: str) -> str:
    """Name an alert on a channel, as a member of the outbox."""
    return f"{quote(channel, safe='')}:{alert_id}"


def firing_labels(alert_id: str, channel: str) -> str:
    """Name the labels under which an alert fires at a channel's receiver."""
    return LABELS + queue(alert_id, channel)


def of_queue(member: str) -> tuple[str, str]:
    """Return the alert's id and the channel of a queue."""
    channel, _, alert_id = member.partition(":")
    return alert_id, unquote(channel)


def idempotency_key(key: str) -> str:
    """Name the first request of a key."""
    return f"workermon:idempotency-key:{key}"


def lease(name: str) -> str:
    """Name a lease."""
    return f"workermon:lease:{name}"


def limit(name: str) -> str:
    """Name the request bucket of an account, region and operation."""
    return f"workermon:limit:{name}"


def costs(hour: int) -> str:
    """Name the requests to AWS in the hour that starts at that time."""
    return f"workermon:costs:{hour}"


def throttle(channel: str) -> str:
    """Name the message bucket of a channel."""
    return f"workermon:throttle:{quote(channel, safe='')}"


def window(group: str) -> str:
    """Name the window of a group of notifications."""
    return f"workermon:throttle-window:{group}"


def status_listing(key: str) -> str:
    """Name the outcome of listing the statuses of an account and region."""
    return f"workermon:status-listing:{key}"


def account(key: str) -> str:
    """Name the state of collection in an account and region."""
    return f"workermon:account:{key}"
