"""The cohorts of the schedule, and the learned times at which they are best due."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, cast

import redis

from workermon import ports, settings
from workermon.on_redis import client, keys, unreadable_records


class RedisCohorts:
    """``ports.Cohorts`` on Redis, in the keys of the schedule."""

    def __init__(self, redis_client: redis.Redis) -> None:
        self._client = redis_client

    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Return the numbers of each group's cohorts."""
        groups = list(self.all_learned())
        with client.guard(self._client), self._client.pipeline(transaction=False) as pipe:
            for group in groups:
                pipe.zrange(settings.SCHEDULE_COHORT + group, 0, -1)
            replies = pipe.execute()
        return {
            group: tuple(sorted(int(number) for number in numbers if number.isdigit()))
            for group, numbers in zip(groups, replies, strict=True)
        }

    def learned(self, group: str) -> dict[str, Any] | None:
        """Return the learned times of a group."""
        with client.guard(self._client):
            text = cast("bytes | None", self._client.hget(keys.COHORTS_LEARNED, group))
        return None if text is None else _object(text)

    def all_learned(self) -> dict[str, dict[str, Any]]:
        """Return the learned times of every group."""
        return {
            unreadable_records.text(group): _object(text) for group, text in self._fields(keys.COHORTS_LEARNED).items()
        }

    def learn(self, group: str, values: Mapping[str, Any]) -> None:
        """Store the learned times of a group."""
        with client.guard(self._client):
            self._client.hset(keys.COHORTS_LEARNED, group, json.dumps(values, separators=(",", ":")))

    def note_pace(self, node: str, pace: ports.Pace) -> None:
        """Record how fast a node collects."""
        with client.guard(self._client):
            self._client.hset(keys.COHORTS_PACES, node, f"{pace.seconds:.6f} {pace.at:.3f}")

    def paces(self) -> dict[str, ports.Pace]:
        """Return the newest record of each node, without unreadable ones."""
        paces = {}
        for node, text in self._fields(keys.COHORTS_PACES).items():
            numbers = _numbers(text)
            if len(numbers) == 2:
                paces[unreadable_records.text(node)] = ports.Pace(*numbers)
        return paces

    def phases(self) -> dict[str, float]:
        """Return the cohorts with a place of their own."""
        phases = {}
        for cohort, text in self._fields(settings.SCHEDULE_PHASES).items():
            if numbers := _numbers(text):
                phases[unreadable_records.text(cohort)] = numbers[0]
        return phases

    def place(self, phases: Mapping[str, float]) -> None:
        """Store the places of cohorts."""
        if phases:
            with client.guard(self._client):
                self._client.hset(
                    settings.SCHEDULE_PHASES, mapping={cohort: f"{phase:.3f}" for cohort, phase in phases.items()}
                )

    def forget(self, groups: Collection[str], cohorts: Collection[str], nodes: Collection[str]) -> None:
        """Delete what belongs to groups and cohorts that no longer exist."""
        obsolete = ((keys.COHORTS_LEARNED, groups), (settings.SCHEDULE_PHASES, cohorts), (keys.COHORTS_PACES, nodes))
        with client.guard(self._client), self._client.pipeline(transaction=False) as pipe:
            for name, fields in obsolete:
                if fields:
                    pipe.hdel(name, *fields)
            pipe.execute()

    def _fields(self, name: str) -> dict[bytes, bytes]:
        with client.guard(self._client):
            return cast("dict[bytes, bytes]", self._client.hgetall(name))


def _object(text: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _numbers(text: bytes) -> list[float]:
    try:
        return [unreadable_records.finite(part) for part in text.split()]
    except ValueError:
        return []
