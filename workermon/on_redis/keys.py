"""Every key in Redis: what it holds, who writes it, and how long it lives. Nothing else names a key.

==========================================  ======  ====================================================================
key                                         type    owner; lifetime
==========================================  ======  ====================================================================
``workermon:workers``                       zset    workers: the fleet's ids, all with score 0; permanent
``workermon:worker:<id>``                   hash    workers, samples: spec, condition …; until the worker is removed
``workermon:ledger:<id>:<hour>``            hash    samples: datapoints of an hour; the end of the hour plus retention
``workermon:learnt:<scope>``                hash    learnt: delays, listings, by name; 7 days after the last write
``workermon:pending``                      zset    samples: worker ids by the time of the write; permanent
``workermon:alerts:<id>``                   hash    alerts: state and version; until the subject is removed (that of a
                                                    channel or the installation: 30 days after an alert is over)
``workermon:open``                          zset    alerts: ids of the alerts that fire, by since; permanent
``workermon:alert-history:of:<alert>``      list    alerts: transitions, newest first; 30 days after the last
``workermon:alert-history:attempts:<alert>``  zset  outbox: attempts by fence; 30 days after the last
``workermon:alert-history:last:<alert>``    string  alerts: the last notification; 30 days
``workermon:alert-history:versions:<id>``   hash    alerts: last version of each rule; 30 days
``workermon:alert-history:index``           zset    alerts: ids of alerts by last entry; 30 days after the last
``workermon:outbox``                        zset    outbox: queues by the time of the next try; permanent
``workermon:outbox:queue:<queue>``          list    alerts, outbox: notifications; until all are delivered
``workermon:outbox:state:<queue>``          hash    outbox: fence and tries of the head; as its queue
``workermon:outbox:lease:<queue>``          string  outbox: who sends the head; the lease, 15 s at most
``workermon:outbox:queues:<alert>``         set     alerts, outbox: the alert's queues; as those
``workermon:outbox:reminders``              zset    outbox: queues by the time of the next reminder; permanent
``workermon:outbox:fence``                  string  outbox: counts the claims; permanent
``workermon:throttle-window:<group>``       string  throttle: when a group closes; some waits of it
``workermon:throttle:<channel>``            hash    throttle: a token bucket; an hour after the last message
``workermon:alert-history:ack:<alert>``     string  silences: who has seen it; 30 days
``workermon:silences``                      hash    silences: those in force, by id; permanent
``workermon:configuration``                 hash    configurations: document, revision, changes; permanent
``workermon:pulse``                         hash    pulse: when each part last worked; permanent
``workermon:counts``                        hash    pulse: what went by; permanent
``workermon:canary``                        hash    canary: when one came to each step; permanent
``workermon:lease:<name>``                  string  leases: the owner; the lease
``workermon:limit:<scope>:<operation>``     hash    limiter: a token bucket; an hour after the last request
``workermon:limits``                        set     limiter: buckets that are slowed; an hour after the last was
``workermon:costs:<hour>``                  hash    costs: requests and metrics asked; 49 hours
``workermon:budget-decision``               string  costs: what the budget makes of the periods; 2 days
``workermon:accounts``                      set     accounts: accounts and regions collected from; permanent
``workermon:account:<scope>``               hash    accounts: how collection goes there; until nobody collects there
==========================================  ======  ====================================================================

An ``<id>`` is that of a worker; of alerts it is that of a subject: a worker, a ``<scope>``, the installation (``*/*``)
or ``channel:<channel>``. An ``<alert>`` is ``<id>/<rule>``, a ``<queue>`` is ``<channel, percent-encoded>:<alert>``, an
``<hour>`` its start in seconds, a ``<scope>`` is ``<account>/<region>``. What is named ``alert-history`` and ``outbox``
stands on its own and outlives its subject.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from workermon import models

#: Seconds. What is known of an alert after its last transition is kept for this long.
HISTORY = 30 * 86_400
#: Seconds. What is learnt of an account and region is kept for this long after the last lesson.
LESSONS = 7 * 86_400
#: Entries of one alert's history, and attempts kept of one alert.
ENTRIES = 100
#: Alerts in the index of histories.
ALERTS = 10_000

WORKERS = "workermon:workers"
PENDING = "workermon:pending"
OPEN = "workermon:open"
HISTORY_INDEX = "workermon:alert-history:index"
OUTBOX = "workermon:outbox"
FENCE = "workermon:outbox:fence"
REMINDERS = "workermon:outbox:reminders"
LAST = "workermon:alert-history:last:"
SILENCES = "workermon:silences"
CONFIGURATION = "workermon:configuration"
PULSE = "workermon:pulse"
CANARY = "workermon:canary"
COUNTS = "workermon:counts"
LIMITS = "workermon:limits"
BUDGET_DECISION = "workermon:budget-decision"
ACCOUNTS = "workermon:accounts"
LEDGER = "workermon:ledger:"
QUEUE, STATE, LEASE = "workermon:outbox:queue:", "workermon:outbox:state:", "workermon:outbox:lease:"

#: Keys that may stay without a lifetime, with those of Celery's transport and of RedBeat, which own theirs.
_PERMANENT = re.compile(
    rb"workermon:(workers|worker:.+|alerts:.+|pending|open|silences|configuration|pulse|counts|canary"
    rb"|accounts|account:.+"
    rb"|outbox|outbox:(queue|state|queues):.+|outbox:fence|outbox:reminders|redbeat:.+|schedule:.+|unacked.*|binding.+)"
    rb"|workermon\.(collect|evaluate|deliver).*|.+\.workermon\.pidbox|workermon\.events.+"
)


def permanent(key: bytes) -> bool:
    """Tell whether a key may be without a lifetime."""
    return _PERMANENT.fullmatch(key) is not None


def worker(worker_id: str) -> str:
    """Name a worker's hash."""
    return f"workermon:worker:{worker_id}"


def ledger(worker_id: str, hour: int | str) -> str:
    """Name a worker's datapoints of the hour that starts then."""
    return f"{LEDGER}{worker_id}:{hour}"


def learned_delays(scope: models.AccountRegion) -> str:
    """Name what is learnt of an account and region; who becomes another role is told apart."""
    return f"workermon:learnt:{scope.key}" + (f":{scope.role_arn}" if scope.role_arn else "")


def alerts(subject: str) -> str:
    """Name the state of a subject's alerts."""
    return f"workermon:alerts:{subject}"


def history(alert_id: str) -> str:
    """Name the history of an alert."""
    return f"workermon:alert-history:of:{alert_id}"


def attempts(alert_id: str) -> str:
    """Name the attempts to deliver notifications of an alert."""
    return f"workermon:alert-history:attempts:{alert_id}"


def last(alert_id: str) -> str:
    """Name the last notification of an alert."""
    return f"workermon:alert-history:last:{alert_id}"


def acknowledged(alert_id: str) -> str:
    """Name who has seen an alert."""
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


def of_queue(member: str) -> tuple[str, str]:
    """Return the alert's id and the channel of a queue."""
    channel, _, alert_id = member.partition(":")
    return alert_id, unquote(channel)


def lease(name: str) -> str:
    """Name a lease."""
    return f"workermon:lease:{name}"


def limit(name: str) -> str:
    """Name the bucket of an account, region and operation."""
    return f"workermon:limit:{name}"


def costs(hour: int) -> str:
    """Name what was asked of AWS in the hour that starts then."""
    return f"workermon:costs:{hour}"


def throttle(channel: str) -> str:
    """Name the bucket of a channel."""
    return f"workermon:throttle:{quote(channel, safe='')}"


def window(group: str) -> str:
    """Name the window of a group of notifications."""
    return f"workermon:throttle-window:{group}"


def account(key: str) -> str:
    """Name how collection goes in an account and region."""
    return f"workermon:account:{key}"
