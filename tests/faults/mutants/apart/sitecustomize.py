"""A build that writes an alert's state first and its notifications after that; Python runs this file as it starts."""

from __future__ import annotations

from collections.abc import Sequence

from workermon import failpoints, ports
from workermon.on_redis import alerts, keys

_commit_many = alerts.RedisAlerts.commit_many


def commit_many(self: alerts.RedisAlerts, verdicts: Sequence[ports.Verdict]) -> list[bool]:
    """Write the state, then the outbox; whoever names the crash point behind a commit means the first write."""
    silent = [
        verdict._replace(transitions=tuple((rule, turn, None) for rule, turn, _ in verdict.transitions))
        for verdict in verdicts
    ]
    written = _commit_many(self, silent)
    failpoints.reach("evaluate.committed")
    for verdict, done in zip(verdicts, written, strict=True):
        for rule, _, told in verdict.transitions if done else ():
            if told is None:
                continue
            alert_id = told.dedup_key
            for channel in verdict.channels.get(rule, ()):
                lane = keys.lane(alert_id, channel)
                self._client.rpush(keys.LANE + lane, told.model_dump_json(by_alias=True))
                self._client.zadd(keys.OUTBOX, {lane: verdict.at}, nx=True)
                self._client.sadd(keys.lanes(alert_id), lane)
    return written


alerts.RedisAlerts.commit_many = commit_many  # type: ignore[method-assign]
