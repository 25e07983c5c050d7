"""Every key in Redis: what it holds, who writes it, and how long it lives. Nothing else names a key.

======================================================  =========  ====================================================
key                                                     type       owner, lifetime
======================================================  =========  ====================================================
``workermon:workers``                                   zset       workers; the fleet's ids; permanent
``workermon:worker:<id>``                               hash       workers, samples; until the worker is removed
``workermon:ledger:<id>:<start>``                       hash       samples; the end of its time plus the retention
``workermon:alerts:<id>``                               hash       alerts; until the worker is removed
``workermon:unjudged``                                  zset       samples; worker ids by time of write; permanent
``workermon:open``                                      zset       alerts; ids of firing alerts by since; permanent
``workermon:alert-history:<alert>``                     list       alerts; 30 days after the last entry
``workermon:alert-history:attempts:<alert>``            list       outbox; 30 days after the last attempt
``workermon:alert-history:index``                       zset       alerts; ids of alerts by last entry; 30 days
``workermon:outbox``                                    zset       outbox; lanes by the time of the next try; permanent
``workermon:outbox:lane:<channel>:<alert>``             list       alerts, outbox; until all of it is delivered
``workermon:outbox:state:<channel>:<alert>``            hash       outbox; lease, fence and tries; as its lane
``workermon:outbox:last:<alert>``                       string     alerts; the present state; 30 days
``workermon:outbox:fence``                              string     outbox; counts claims, for ever
``workermon:configuration``                             hash       configurations; document and revision; permanent
``workermon:pulse``                                     hash       pulse; when each part last worked; permanent
``workermon:counts``                                    hash       pulse; permanent
``workermon:lease:<name>``                              string     leases; the lease itself
======================================================  =========  ====================================================
"""

from __future__ import annotations

import re

PREFIX = "workermon:"

#: Keys that may stay without a lifetime, with the keys of Celery's transport and of RedBeat, which own theirs.
_PERMANENT = re.compile(
    rb"workermon:(workers|worker:.+|alerts:.+|unjudged|open|configuration|pulse|counts"
    rb"|outbox|outbox:lane:.+|outbox:state:.+|outbox:fence|collect:.+|redbeat.*)"
    rb"|redbeat.*|_kombu\..+|unacked.*|workermon\.(collect|evaluate|deliver).*|.+\.pidbox|celeryev\..+"
)


def permanent(key: bytes) -> bool:
    """Tell whether a key may be without a lifetime."""
    return _PERMANENT.fullmatch(key) is not None
