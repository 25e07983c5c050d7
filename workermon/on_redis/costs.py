"""Requests to AWS, counted by the hour, and the budget's decision about the periods."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

import redis

from workermon import lua, models
from workermon.on_redis import client, keys, unreadable_records

HOUR = 3600

#: Seconds. The last 24 hours touch 25 of these. The day before is kept for late questions.
HOUR_LIFETIME = 49 * HOUR

#: Seconds. How old a cached decision about the budget may be before it is read again.
DECISION_CACHED_FOR = 5.0


class CountRequest(lua.Script[int], shared="numbers"):
    """Add to the counts of an hour and to the totals; ``counts``: fields and numbers, alternating."""

    hour: lua.Key
    totals: lua.Key
    at: lua.Argument
    lifetime: lua.Argument
    counts: lua.Arguments


class DecideBudget(lua.Script[int]):
    """Replace the budget's decision. Return 1, or 0 if another decision was written meanwhile."""

    decision: lua.Key
    before: lua.Argument
    after: lua.Argument
    lifetime: lua.Argument


class RedisCosts:
    """``ports.Costs`` on Redis. If a connection breaks, a request may be counted twice."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client
        self._read_at = float("-inf")
        self._decided = models.BudgetDecision()

    def note(self, at: float, scope: str, operation: str, metrics: Mapping[str, int]) -> None:
        """Count a request and what it asked for, in one round trip."""
        weights = self.budget_decision().weights if metrics else {}
        counted: list[lua.Value] = [f"call {scope} {operation}", 1]
        for metric, number in metrics.items():
            counted += [f"metric {scope} {metric}", number]
            counted += [f"full {scope} {metric}", number * weights.get(metric, 1)]
        hour = keys.costs(int(at // HOUR) * HOUR)
        client.run(
            self._client,
            CountRequest(hour=hour, totals=keys.COST_TOTALS, at=repr(at), lifetime=HOUR_LIFETIME, counts=counted),
        )

    def hours(self, since: float) -> list[models.Hour]:
        """Return the hours since the hour of a given time, as far as they are kept."""
        first = int(since // HOUR) * HOUR
        starts = range(first, first + HOUR_LIFETIME + HOUR, HOUR)
        with client.guard(self._client), self._client.pipeline(transaction=False) as pipe:
            for start in starts:
                pipe.hgetall(keys.costs(start))
            replies = pipe.execute()
        return [_hour(start, fields) for start, fields in zip(starts, replies, strict=True) if fields]

    def totals(self) -> models.UsageTotals:
        """Return the totals."""
        with client.guard(self._client):
            counts: Any = self._client.hgetall(keys.COST_TOTALS)
        hour = _hour(0, counts)
        return models.UsageTotals(calls=hour.calls, metrics=hour.metrics)

    def budget_decision(self) -> models.BudgetDecision:
        """Return the budget's decision about the periods, at most some seconds old."""
        now = time.monotonic()
        if now - self._read_at > DECISION_CACHED_FOR:
            with client.guard(self._client):
                text: Any = self._client.get(keys.BUDGET_DECISION)
            self._decided = self._decision(text) if text else models.BudgetDecision()
            self._read_at = now
        return self._decided

    def _decision(self, text: bytes) -> models.BudgetDecision:
        read = unreadable_records.parsed(self._client, keys.BUDGET_DECISION, models.BudgetDecision, text)
        if read is None:
            # A new decision is only written over one that can be read.
            with client.guard(self._client):
                self._client.rename(keys.BUDGET_DECISION, f"{keys.SET_ASIDE}{keys.BUDGET_DECISION}")
        return read or models.BudgetDecision()

    def decide(self, budget_decision: models.BudgetDecision, before: models.BudgetDecision) -> bool:
        """Put a decision in force, unless another one was written meanwhile."""
        expected = "" if before == models.BudgetDecision() else before.model_dump_json()
        self._read_at = float("-inf")
        deciding = DecideBudget(
            decision=keys.BUDGET_DECISION,
            before=expected,
            after=budget_decision.model_dump_json(),
            lifetime=2 * models.DAY,
        )
        return bool(client.run(self._client, deciding))


def _hour(start: int, fields: Mapping[bytes, bytes]) -> models.Hour:
    counts: dict[str, dict[tuple[str, str], int]] = {"call": {}, "metric": {}, "full": {}}
    for field, number in fields.items():
        kind, _, scope_and_name = unreadable_records.text(field).partition(" ")
        if kind in counts:
            scope, _, name = scope_and_name.partition(" ")
            with contextlib.suppress(ValueError):  # a count that is not a number is ignored
                counts[kind][scope, name] = int(number)
    counted_since = float(start)
    with contextlib.suppress(ValueError):
        counted_since = unreadable_records.finite(fields.get(b"counted_since", b"%d" % start))
    return models.Hour(
        start=start,
        counted_since=counted_since,
        calls=counts["call"],
        metrics=counts["metric"],
        full=counts["full"],
    )
