"""Signs of life, and counters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import redis

from workermon import lua, models, ports
from workermon.on_redis import client, keys, server_errors, unreadable_records

#: Fields beside the marks: since when the listener has worked without a break, and the first collection after that.
SINCE = ("listener:since", "collect:since")

#: Seconds. A process that works more often does not record that each time. Breaks are far longer (``ports.BREAK``).
RECORDED_EVERY = 1.0
#: The parts that do. Of all others each time counts: it may be the first after a break.
FREQUENT = frozenset({"evaluate", "deliver"})


class MarkBeat(lua.Script[int], shared="liveness"):
    """Record that a part worked, and since when listener and collection have worked without a break."""

    liveness: lua.Key
    part: lua.Argument
    at: lua.Argument
    longest_break: lua.Argument
    evaluates_only: lua.Argument
    max_lead: lua.Argument


def monitoring_since(connection: redis.Redis, times: Sequence[bytes | None]) -> float | None:
    """Return since when listener and collection have worked without a break, from the fields ``SINCE``."""
    began, first = (unreadable_records.number(connection, keys.LIVENESS, at) for at in times)
    if began is None:
        return None
    return first if first is not None and first >= began else began + ports.START_UP


class RedisLiveness:
    """``ports.Liveness`` on Redis."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client
        #: When this process last recorded something, by what that was.
        self._recorded: dict[str, float] = {}

    def beat(self, part: str, at: float) -> None:
        """Record that a part did its work."""
        if part not in FREQUENT or self._is_due(part, at):
            self._beat(part, at, evaluates_only=False)
            self._recorded[part] = at

    def evaluation_started(self, at: float) -> None:
        """Record that a node evaluates, even if the listener did not enqueue it."""
        if self._is_due("evaluation started", at):
            self._beat("listener", at, evaluates_only=True)
            self._recorded["evaluation started"] = at

    def _is_due(self, name: str, at: float) -> bool:
        """Return whether this process did not record the same a moment ago. Each time costs a round trip."""
        recorded = self._recorded.get(name)
        return recorded is None or not 0 <= at - recorded < RECORDED_EVERY

    def _beat(self, part: str, at: float, *, evaluates_only: bool) -> None:
        marking = MarkBeat(
            liveness=keys.LIVENESS,
            part=part,
            at=repr(at),
            longest_break=ports.BREAK,
            evaluates_only=int(evaluates_only),
            max_lead=models.MAX_LEAD,
        )
        client.run(self._client, marking)

    def beats(self) -> dict[str, float]:
        """Return when each part last did its work."""
        return self._numbers(keys.LIVENESS, left_out=SINCE)

    def monitoring_since(self) -> float | None:
        """Return since when listener and collection have worked without a break."""
        with client.guard(self._client):
            times: Any = self._client.hmget(keys.LIVENESS, SINCE)
        return monitoring_since(self._client, times)

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter. If the connection breaks it may be added twice."""
        with client.guard(self._client):
            try:
                self._client.hincrby(keys.COUNTS, name, number)
            except redis.ResponseError as error:
                if not server_errors.is_of_one_record(error):
                    raise
                unreadable_records.note(
                    self._client, f"{keys.COUNTS} {name}", "it is not a number; counting starts again"
                )
                self._client.hset(keys.COUNTS, name, number)

    def counts(self) -> dict[str, int]:
        """Return all counters."""
        return {name: int(number) for name, number in self._numbers(keys.COUNTS).items()}

    def _numbers(self, key: str, left_out: Collection[str] = ()) -> dict[str, float]:
        """Return the fields of a hash that are numbers, but those ``left_out``. Others are recorded as unreadable."""
        with client.guard(self._client):
            fields: Any = self._client.hgetall(key)
        texts = {unreadable_records.text(field): raw for field, raw in fields.items()}
        read = {
            name: unreadable_records.number(self._client, f"{key} {name}", raw)
            for name, raw in texts.items()
            if name not in left_out
        }
        return {name: number for name, number in read.items() if number is not None}
