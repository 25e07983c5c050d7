"""How collection goes in each account and region, and the alerts about that."""

from __future__ import annotations

from typing import Any

import redis

from workermon import models, ports
from workermon.on_redis import alerts, client, keys

#: It is the same through all its life; the script that writes verdicts compares one.
_INCARNATION = "scope"

#: Intervals after which a shorter one, that nobody collects at any more, is forgotten.
_FORGOTTEN = 10

# KEYS: scopes, scope. ARGV: name, time, interval, trouble ('' for none), incarnation, forgotten after, set back.
_NOTE = client.Script("""
local scope, at, interval = KEYS[2], tonumber(ARGV[2]), tonumber(ARGV[3])
local had = redis.call('HMGET', scope, 'at', 'succeeded_at', 'failing_since', 'interval', 'interval_at')
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('HSET', scope, 'incarnation', ARGV[5])
local shortest = tonumber(had[4])
if not shortest or interval <= shortest or at - tonumber(had[5]) > tonumber(ARGV[6]) * shortest then
  redis.call('HSET', scope, 'interval', interval, 'interval_at', ARGV[2])
end
local set_back = math.max(tonumber(had[2]) or 0, tonumber(had[1]) or 0) - at > tonumber(ARGV[7])
if had[2] and at <= tonumber(had[2]) and not set_back then return 0 end
if at > (tonumber(had[1]) or 0) or set_back then redis.call('HSET', scope, 'at', ARGV[2]) end
if ARGV[4] == '' then
  redis.call('HSET', scope, 'succeeded_at', ARGV[2])
  if had[3] then
    redis.call('HSET', scope, 'recovered_at', ARGV[2])
    redis.call('HDEL', scope, 'failing_since', 'trouble')
  end
else
  if not had[3] or at < tonumber(had[3]) then redis.call('HSET', scope, 'failing_since', ARGV[2]) end
  redis.call('HSET', scope, 'trouble', ARGV[4])
end
redis.call('HINCRBY', scope, 'seq', 1)
return 1
""")

# KEYS: scopes, configuration. ARGV: prefixes of scope, alerts and versions. Returns the revision, then each scope.
_LOAD = client.Script("""
local found = {redis.call('HGET', KEYS[2], 'revision')}
for _, name in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  found[#found + 1] = {
    name,
    redis.call('HMGET', ARGV[1] .. name, 'at', 'interval', 'succeeded_at', 'recovered_at', 'failing_since', 'trouble',
      'seq'),
    redis.call('HMGET', ARGV[2] .. name, 'version', 'alerts'),
    redis.call('HGETALL', ARGV[3] .. name),
  }
end
return found
""")


# KEYS: scopes, scope, alerts. ARGV: name, version.
_FORGET = client.Script("""
if (redis.call('HGET', KEYS[3], 'version') or '0') ~= ARGV[2] then return 0 end
redis.call('SREM', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2], KEYS[3])
return 1
""")


class RedisAccounts:
    """``ports.Scopes`` on Redis; its verdicts are written as those of workers are."""

    def __init__(self, redis_client: redis.Redis, channel: str) -> None:
        self._client = redis_client
        self._alerts = alerts.RedisAlerts(redis_client, channel)

    def note(self, scope: str, at: float, interval: int, last_error: models.CollectionError | None) -> None:
        """Note how a collection went; one older than the last success changes nothing."""
        said = last_error.model_dump_json() if last_error else ""
        _NOTE.run(
            self._client,
            [keys.SCOPES, keys.scope(scope)],
            [scope, repr(at), interval, said, _INCARNATION, _FORGOTTEN, ports.SET_BACK],
        )

    def load(self) -> dict[str, ports.AccountBasis]:
        """Return the basis of a judgement of every scope, read in one step."""
        revision, *rows = _LOAD.run(
            self._client,
            [keys.SCOPES, keys.CONFIGURATION],
            [keys.scope(""), keys.alerts(""), keys.versions("")],
        )
        return {name.decode(): _basis(name.decode(), rest, int(revision or 0)) for name, *rest in rows}

    def forget(self, scope: str, version: int) -> bool:
        """Forget how it went there, unless its alerts moved on."""
        names = [keys.SCOPES, keys.scope(scope), keys.alerts(scope)]
        return bool(_FORGET.run(self._client, names, [scope, version]))

    def commit(self, verdict: ports.AccountVerdict) -> bool:
        """Write alert, history and outbox in one step, where the basis still holds."""
        return self._write("commit", verdict)

    def retire(self, verdict: ports.AccountVerdict) -> bool:
        """Commit a last verdict and forget the scope, in one step."""
        return self._write("leave", verdict)

    def _write(self, mode: str, verdict: ports.AccountVerdict) -> bool:
        state = verdict.basis.state
        subject = alerts.Subject(state.key, keys.scope(state.key), _INCARNATION, state.sequence)
        return self._alerts.write(mode, subject, verdict)


def _basis(name: str, rest: Any, revision: int) -> ports.AccountBasis:
    (at, interval, succeeded, recovered, failing, last_error, sequence), (version, state), told = rest
    return ports.AccountBasis(
        state=models.AccountState(
            key=name,
            at=float(at or 0),
            interval=int(interval),
            succeeded_at=_time(succeeded),
            recovered_at=_time(recovered),
            failing_since=_time(failing),
            last_error=models.CollectionError.model_validate_json(last_error) if last_error else None,
            sequence=int(sequence or 0),
        ),
        alerts=alerts.STATE.validate_json(state) if state else {},
        version=int(version or 0),
        revision=revision,
        last_versions={rule.decode(): int(last) for rule, last in zip(told[::2], told[1::2], strict=True)},
    )


def _time(text: bytes | None) -> float | None:
    return float(text) if text else None
