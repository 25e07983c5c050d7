"""The progress of canaries: one small hash, and a channel of their own."""

from __future__ import annotations

from typing import Any

import redis

from workermon import lua, ports
from workermon.on_redis import client, keys, unreadable_records

#: The prefix of a step's name in the field that counts the canaries that did not reach it.
_LOST = "lost:"


class ReachStep(lua.Script[int], shared="numbers"):
    """Record that a canary reached a step, and publish it if ``channel`` is not empty."""

    canary: lua.Key
    step: lua.Argument
    next_step: lua.Argument
    sent_at: lua.Argument
    at: lua.Argument
    longest_break: lua.Argument
    sent: lua.Argument
    channel: lua.Argument


class RedisCanary:
    """``ports.Canary`` on Redis. Canaries are published on ``ports.canary_channel``."""

    def __init__(self, redis_client: redis.Redis, channel: str) -> None:
        self._client, self._channel = redis_client, ports.canary_channel(channel)

    def publish(self, sent_at: float, at: float, sent: int) -> None:
        """Record that a canary is published, and publish it."""
        self._reach(ports.CANARY_STEPS[0], sent_at, at, str(sent), self._channel)

    def reach(self, step: str, sent_at: float, at: float) -> None:
        """Record that a canary reached a later step."""
        self._reach(step, sent_at, at, "", "")

    def trace(self) -> ports.Trace:
        """Return how far the canaries got."""
        with client.guard(self._client):
            stored: Any = self._client.hgetall(keys.CANARY)
        texts = {unreadable_records.text(name): unreadable_records.text(value) for name, value in stored.items()}
        try:
            return ports.Trace(
                {
                    step: ports.Reached(*map(unreadable_records.finite, texts[step].split()))
                    for step in ports.CANARY_STEPS
                    if step in texts
                },
                {name.removeprefix(_LOST): int(value) for name, value in texts.items() if name.startswith(_LOST)},
                int(texts.get("sent", 0)),
            )
        except (ValueError, TypeError):
            # The next canaries write it again.
            unreadable_records.note(self._client, keys.CANARY, "a field is not what belongs there")
            with client.guard(self._client):
                self._client.delete(keys.CANARY)
            return ports.Trace({}, {}, 0)

    def _reach(self, step: str, sent_at: float, at: float, sent: str, channel: str) -> None:
        following = ports.CANARY_STEPS[ports.CANARY_STEPS.index(step) + 1 :]
        reaching = ReachStep(
            canary=keys.CANARY,
            step=step,
            next_step=following[0] if following else "",
            sent_at=repr(sent_at),
            at=repr(at),
            longest_break=ports.CANARY_BREAK,
            sent=sent,
            channel=channel,
        )
        client.run(self._client, reaching)
