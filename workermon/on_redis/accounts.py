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

_NOTE = client.Script.load("note_collection")

_LOAD = client.Script.load("load_accounts")


_FORGET = client.Script.load("forget_account")


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
