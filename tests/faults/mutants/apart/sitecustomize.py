"""A build that writes an alert's state first and its notifications afterwards. Python runs this file at the start."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from workermon import failpoints, ports
from workermon.on_redis import alerts, keys

_commit_many, _commit = alerts.RedisAlerts.commit_many, alerts.RedisAlerts.commit


def commit_many(self: alerts.RedisAlerts, verdicts: Sequence[ports.Verdict]) -> list[bool]:
    """Write the state, then the outbox."""
    written = _commit_many(self, [_silent(verdict) for verdict in verdicts])
    _reach_between("evaluate.committed", verdicts)
    for verdict, committed in zip(verdicts, written, strict=True):
        if committed:
            _put(self, verdict)
    return written


def commit(self: alerts.RedisAlerts, verdict: ports.Verdict) -> bool:
    """Do the same for an account."""
    committed = _commit(self, _silent(verdict))
    _reach_between("account.committed", [verdict])
    if committed:
        _put(self, verdict)
    return committed


def _reach_between(point: str, verdicts: Sequence[ports.Verdict]) -> None:
    """Reach the crash point between the two writes, if the second one has something to write.

    The build has one of its own beside the usual one, which a commit without a notification reaches too.
    """
    if any(recorded.notification is not None for verdict in verdicts for recorded in verdict.transitions):
        failpoints.reach("apart.written_state")
        failpoints.reach(point)


def _silent(verdict: ports.Verdict) -> ports.Verdict:
    transitions = tuple(recorded._replace(notification=None) for recorded in verdict.transitions)
    return dataclasses.replace(verdict, transitions=transitions)


def _put(self: alerts.RedisAlerts, verdict: ports.Verdict) -> None:
    for rule, _, notification in verdict.transitions:
        for channel in verdict.channels.get(rule, ()) if notification is not None else ():
            assert notification is not None
            queue = keys.queue(notification.dedup_key, channel)
            self._client.rpush(keys.QUEUE + queue, notification.model_dump_json(by_alias=True))
            self._client.zadd(keys.OUTBOX, {queue: verdict.at}, nx=True)
            self._client.sadd(keys.queues(notification.dedup_key), queue)


alerts.RedisAlerts.commit_many = commit_many  # type: ignore[method-assign]  # the mutant
alerts.RedisAlerts.commit = commit  # type: ignore[method-assign]  # the mutant
