"""The state of collection in each account and region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pydantic
import redis

from workermon import lua, models, ports
from workermon.on_redis import client, keys, unreadable_records

#: The fields of a state, in this order.
FIELDS = ("at", "interval", "succeeded_at", "recovered_at", "failing_since", "last_error", "seq", "lost_metrics")

_LOST_METRICS = pydantic.TypeAdapter(tuple[models.LostMetric, ...])

#: If nobody has collected at a shorter interval for so many intervals, it is forgotten.
_FORGOTTEN_AFTER = 10


class NoteCollection(lua.Script[int], shared="numbers"):
    """Record the result of a collection in an account and region. Return 0 if it is too old to change anything."""

    accounts: lua.Key
    account: lua.Key
    name: lua.Argument
    started_at: lua.Argument
    interval: lua.Argument
    last_error: lua.Argument
    incarnation: lua.Argument
    forgotten_after: lua.Argument
    set_back: lua.Argument


class NoteLostMetrics(lua.Script[int]):
    """Record which metrics stopped arriving in an account and region. Return 0 if nothing was collected there."""

    account: lua.Key
    lost_metrics: lua.Argument


def state(redis_client: redis.Redis, key: str, fields: Sequence[Any]) -> models.AccountState | None:
    """Return the state from the ``FIELDS`` of an account's hash; ``None`` if it cannot be read."""
    try:
        return _state(key, fields)
    except (ValueError, TypeError) as error:
        reason = unreadable_records.describe(error) if isinstance(error, ValueError) else "a field is missing"
        unreadable_records.note(redis_client, keys.account(key), reason)
        return None


def _state(key: str, fields: Sequence[Any]) -> models.AccountState:
    at, interval, succeeded_at, recovered_at, failing_since, last_error, sequence, lost_metrics = fields
    return models.AccountState(
        key=key,
        at=unreadable_records.finite(at or b"0"),
        interval=int(interval),
        succeeded_at=_time(succeeded_at),
        recovered_at=_time(recovered_at),
        failing_since=_time(failing_since),
        last_error=models.CollectionError.model_validate_json(last_error, extra="ignore") if last_error else None,
        sequence=int(sequence or 0),
        lost_metrics=_LOST_METRICS.validate_json(lost_metrics, extra="ignore") if lost_metrics else (),
    )


class RedisAccounts:
    """``ports.Accounts`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def note(self, key: str, at: float, interval: int, last_error: models.CollectionError | None) -> None:
        """Record the result of a collection. A result older than the last success changes nothing."""
        noting = NoteCollection(
            accounts=keys.ACCOUNTS,
            account=keys.account(key),
            name=key,
            started_at=repr(at),
            interval=interval,
            last_error=last_error.model_dump_json() if last_error else "",
            incarnation=models.account_subject(key).incarnation,
            forgotten_after=_FORGOTTEN_AFTER,
            set_back=ports.SET_BACK,
        )
        client.run(self._client, noting)

    def note_lost(self, key: str, lost: Sequence[models.LostMetric]) -> None:
        """Record which metrics much of the fleet there has lost. No effect if nothing was collected there."""
        text = _LOST_METRICS.dump_json(tuple(lost)).decode() if lost else ""
        client.run(self._client, NoteLostMetrics(account=keys.account(key), lost_metrics=text))

    def load(self) -> dict[str, models.AccountState]:
        """Return the state of every account and region."""
        with client.guard(self._client):
            members: Any = self._client.smembers(keys.ACCOUNTS)
            names = sorted(client.texts(members))
            with self._client.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.hmget(keys.account(name), FIELDS)
                replies = pipe.execute()
        # An account removed between the two reads has no fields any more.
        account_states = {
            name: state(self._client, name, fields)
            for name, fields in zip(names, replies, strict=True)
            if any(field is not None for field in fields)
        }
        return {name: account_state for name, account_state in account_states.items() if account_state is not None}


def _time(text: bytes | None) -> float | None:
    return unreadable_records.finite(text) if text else None
