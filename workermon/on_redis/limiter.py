"""How fast AWS may be asked: a token bucket for each account, region and API, shared by all worker processes.

A caller that finds the bucket empty reserves the next token and waits for it, if the wait is short enough. A bucket
that is more than half full lends some tokens for a second, so that most requests need no round trip. Lent tokens reduce
the bucket's capacity, so that all processes together never exceed its limit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import redis

from workermon import errors, logs, lua, models
from workermon.on_redis import client, keys

log = logs.get(__name__)

#: Seconds that one request may wait. A collection has about ten requests, with their retries, and 100 s in total.
PATIENCE = 5.0

#: Seconds for which tokens are lent, and how many.
LENT_FOR, MAX_LENT = 1.0, 5

#: A refusal halves the rate, at most once a second, because requests sent together are refused together.
CUT_FACTOR, MIN_BETWEEN_CUTS = 0.5, 1.0

#: Share of the full rate regained each second: from half to full takes 100 s.
RECOVERY = 0.005

#: Requests a second. However often AWS refuses, a request is sent every few seconds.
MIN_RATE = 0.25

#: Seconds. After a silence one request tests the API. Longer than a request takes to time out (on_aws/session.py).
TRIAL = 50.0
#: Seconds of silence before that test.
SUSPENSION = 5.0
#: Seconds. One request without an answer is no proof. Two within that time suspend the API.
FAILURE_WINDOW = 60.0

#: Seconds. How long the configuration's limits are cached.
LIMITS_CACHED_FOR = 10.0

#: Seconds. An unused bucket is full by then, so it need not be kept.
LIFETIME = 3600


class TakeRequest(lua.Script[list[Any]]):
    """Take or reserve a token. Return the tokens taken, the seconds to wait, and 1 if the API does not answer."""

    bucket: lua.Key
    capacity: lua.Argument
    rate: lua.Argument
    patience: lua.Argument
    lent_for: lua.Argument
    max_lent: lua.Argument
    recovery: lua.Argument
    slowest: lua.Argument
    trial: lua.Argument
    lifetime: lua.Argument
    max_lead: lua.Argument


class SlowDown(lua.Script[int]):
    """Lower the rate after AWS throttled a request; return 1, or 0 if it was lowered a moment ago."""

    bucket: lua.Key
    slower: lua.Argument
    pause: lua.Argument
    recovery: lua.Argument
    lifetime: lua.Argument


class NoteSilence(lua.Script[int]):
    """Record that a request got no answer. Return 1 if the API is now suspended."""

    bucket: lua.Key
    suspension: lua.Argument
    failure_window: lua.Argument
    lifetime: lua.Argument


class ListSlowed(lua.Script[list[list[Any]]]):
    """Return the name of each slowed bucket, its share of the full rate, and 1 if its API does not answer."""

    slowed_names: lua.Key
    recovery: lua.Argument
    bucket_prefix: lua.Argument


class _Grant(NamedTuple):
    """Borrowed tokens, valid until a time of ``time.monotonic``."""

    tokens: int
    until: float


class RedisLimiter:
    """``ports.Limiter`` on Redis. ``limit_of`` returns the limit of an API by its name."""

    def __init__(
        self,
        redis_client: redis.Redis,
        limit_of: Callable[[str], models.Limit],
        wait: Callable[[float], None] = time.sleep,
        patience: float = PATIENCE,
    ) -> None:
        self._client, self._limit_of, self._wait, self._patience = redis_client, limit_of, wait, patience
        self._lock = threading.Lock()
        self._grants: dict[str, _Grant] = {}
        self._trials: set[str] = set()
        self._limits: dict[str, tuple[float, models.Limit]] = {}

    def take(self, scope: str, api: str) -> None:
        """Return when one request may be sent. Raises if that would take too long."""
        name = f"{scope}:{api}"
        started = time.monotonic()
        with self._lock:
            grant = self._grants.get(name)
            if grant is not None and grant.tokens > 0 and started < grant.until:
                self._grants[name] = grant._replace(tokens=grant.tokens - 1)
                return
        limit = self._limit(api)
        taking = TakeRequest(
            bucket=keys.limit(name),
            capacity=limit.bucket,
            rate=limit.rate,
            patience=self._patience,
            lent_for=LENT_FOR,
            max_lent=MAX_LENT,
            recovery=RECOVERY,
            slowest=MIN_RATE,
            trial=TRIAL,
            lifetime=LIFETIME,
            max_lead=models.MAX_LEAD,
        )
        reply = client.run(self._client, taking)
        granted, wait, silent = int(reply[0]), float(reply[1]), bool(reply[2])
        subject = f"{api} in {scope}"
        if not granted and silent:
            raise errors.AwsUnreachable(
                subject, "it did not answer a moment ago", f"workermon tries again within {max(1, round(wait))} s"
            )
        if not granted:
            raise errors.AwsThrottled(
                subject,
                f"the rate shared by all worker processes is used up for {wait:.0f} s",
                "workermon asks again at the next collection; collect less often, or raise [limits]",
            )
        if silent:
            with self._lock:
                self._trials.add(name)
        if granted > 1:
            with self._lock:
                # Counted from before the request, so never longer than the bucket reserves it.
                self._grants[name] = _Grant(granted - 1, started + LENT_FOR)
        if wait > 0:
            self._wait(wait)

    def throttled(self, scope: str, api: str) -> None:
        """Halve the rate. It recovers gradually."""
        name = f"{scope}:{api}"
        with self._lock:
            self._grants.pop(name, None)
        slowing = SlowDown(
            bucket=keys.limit(name), slower=CUT_FACTOR, pause=MIN_BETWEEN_CUTS, recovery=RECOVERY, lifetime=LIFETIME
        )
        if client.run(self._client, slowing):
            self._list(name)
            log.warning("limiter.slowed", scope=scope, api=api)

    def silent(self, scope: str, api: str) -> None:
        """Let one request at a time test the API, until one is answered."""
        name = f"{scope}:{api}"
        with self._lock:
            self._grants.pop(name, None)
        noting = NoteSilence(
            bucket=keys.limit(name), suspension=SUSPENSION, failure_window=FAILURE_WINDOW, lifetime=LIFETIME
        )
        if client.run(self._client, noting):
            self._list(name)
            log.warning("limiter.no_answer", scope=scope, api=api)

    def answered(self, scope: str, api: str) -> None:
        """End a silence. Costs nothing if this process did not test the API."""
        name = f"{scope}:{api}"
        with self._lock:
            if name not in self._trials:
                return
            self._trials.discard(name)
        with client.guard(self._client):
            self._client.hdel(keys.limit(name), "silent_until", "silent_at")
        log.info("limiter.answers_again", scope=scope, api=api)

    def slowed(self) -> dict[tuple[str, str], float]:
        """Return for each slowed API the share of its full rate."""
        listing = ListSlowed(slowed_names=keys.LIMITS, recovery=RECOVERY, bucket_prefix=keys.limit(""))
        shares = {}
        for name, share, silent in client.run(self._client, listing):
            scope, _, api = name.decode().rpartition(":")
            shares[scope, api] = 0.0 if silent else float(share)
        return shares

    def _list(self, name: str) -> None:
        with client.guard(self._client):
            self._client.sadd(keys.LIMITS, name)
            self._client.expire(keys.LIMITS, LIFETIME)

    def _limit(self, api: str) -> models.Limit:
        now = time.monotonic()
        cached = self._limits.get(api)
        if cached is None or now - cached[0] > LIMITS_CACHED_FOR:
            cached = self._limits[api] = (now, self._limit_of(api))
        return cached[1]
