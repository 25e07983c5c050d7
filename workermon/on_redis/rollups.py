"""Hourly roll-ups: one hash holds a worker's week, by metric. A sorted set holds the hours that are due."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import redis

from workermon import lua, models, ports
from workermon.on_redis import client, datapoint_packing, keys, unreadable_records


class ClaimRollups(lua.Script[list[bytes]]):
    """Claim hours whose roll-up is due; return worker and hour of each."""

    rollups_due: lua.Key
    now: lua.Argument
    limit: lua.Argument
    lease_ends_at: lua.Argument


class SaveRollups(lua.Script[int]):
    """Write the roll-ups of a worker's hour. Return 0, and write nothing, if another process has written meanwhile."""

    worker: lua.Key
    rollups: lua.Key
    rollups_due: lua.Key
    incarnation: lua.Argument
    member: lua.Argument
    lease_ends_at: lua.Argument
    week: lua.Argument
    lifetime: lua.Argument
    series: lua.Arguments


class RedisRollUps:
    """``ports.RollUps`` on Redis. ``lifetime`` returns for how many seconds roll-ups are kept from now on."""

    def __init__(self, redis_client: redis.Redis, lifetime: Callable[[], int] = lambda: models.ROLLUPS) -> None:
        self._client = redis_client
        self._lifetime = lifetime

    def claim(self, now: float, limit: int, lease: float) -> list[ports.LedgerHour]:
        """Claim due hours, with their datapoints."""
        lease_ends_at = round(now + lease, 3)
        claiming = ClaimRollups(
            rollups_due=keys.ROLLUPS_DUE, now=repr(now), limit=limit, lease_ends_at=repr(lease_ends_at)
        )
        claimed = [self._hour(member) for member in client.run(self._client, claiming)]
        hours = [claim for claim in claimed if claim is not None]
        with client.guard(self._client), self._client.pipeline(transaction=False) as pipe:
            for worker_id, hour in hours:
                pipe.hget(keys.worker(worker_id), "incarnation")
                # A datapoint is stored under the hour in which its slot began.
                pipe.hgetall(keys.ledger(worker_id, hour - models.HOUR))
                pipe.hgetall(keys.ledger(worker_id, hour))
            replies: list[Any] = pipe.execute()
        claims = []
        for (worker_id, hour), incarnation, *fields in zip(
            hours, replies[::3], replies[1::3], replies[2::3], strict=True
        ):
            points = self._points(worker_id, hour, fields)
            claims.append(
                ports.LedgerHour(worker_id, unreadable_records.text(incarnation or b""), hour, lease_ends_at, points)
            )
        return claims

    def _hour(self, member: bytes) -> tuple[str, int] | None:
        """Parse a mark into worker and hour. A malformed mark is removed."""
        worker_id, _, hour = unreadable_records.text(member).rpartition(" ")
        if worker_id and hour.isdecimal():
            return worker_id, int(hour)
        with client.guard(self._client):
            self._client.zrem(keys.ROLLUPS_DUE, member)
        return None

    def _points(
        self, worker_id: str, hour: int, hashes: Sequence[Mapping[bytes, bytes]]
    ) -> dict[str, tuple[models.Datapoint, ...]]:
        """Return an hour's datapoints by metric, in order. If two have the same time, the shorter period counts."""
        points_by_metric: dict[str, list[tuple[int, int, float]]] = {}
        for start, fields in ((hour - models.HOUR, hashes[0]), (hour, hashes[1])):
            try:
                for (metric, period), parts in datapoint_packing.fields(fields).items():
                    for phase, data in parts:
                        points = datapoint_packing.datapoints(data, start, period, phase, 0, hour + models.HOUR)
                        points_by_metric.setdefault(metric, []).extend(
                            (at, -period, value) for at, value in points if hour <= at < hour + models.HOUR
                        )
            except ValueError:
                unreadable_records.note(self._client, keys.ledger(worker_id, start), "a field is not a series")
        return {
            metric: tuple(map(models.datapoint, sorted({at: value for at, _, value in sorted(points)}.items())))
            for metric, points in points_by_metric.items()
            if points
        }

    def save(self, rolled: Sequence[tuple[ports.LedgerHour, Mapping[str, models.RollUp]]], now: float) -> None:
        """Write roll-ups into their weeks, each hour in a step of its own. Hours of one week go in sequence."""
        unsaved = list(rolled)
        while unsaved:
            weeks = {(hour.worker_id, models.week_of(hour.hour)): (hour, series) for hour, series in reversed(unsaved)}
            self._save(list(weeks.values()), now)
            saved = {id(hour) for hour, _ in weeks.values()}
            unsaved = [item for item in unsaved if id(item[0]) not in saved]

    def _save(self, rolled: Sequence[tuple[ports.LedgerHour, Mapping[str, models.RollUp]]], now: float) -> None:
        with client.guard(self._client), self._client.pipeline(transaction=False) as pipe:
            for hour, _ in rolled:
                pipe.hgetall(keys.rollups(hour.worker_id, models.week_of(hour.hour)))
            weeks: list[dict[bytes, bytes]] = pipe.execute()
        lifetime = self._lifetime()
        calls = []
        for (hour, rollups), stored_week in zip(rolled, weeks, strict=True):
            week = models.week_of(hour.hour)
            lifetime_left = math.ceil(week + models.WEEK + lifetime - now)
            series: list[lua.Value] = []
            for metric, rollup in rollups.items() if lifetime and lifetime_left > 0 else ():
                before = stored_week.get(metric.encode(), b"")
                hours = self._unpacked(hour.worker_id, week, before)
                if hour.hour in hours and hours[hour.hour].number > rollup.number:
                    continue
                series += [metric, before, models.pack(week, {**hours, hour.hour: rollup})]
            calls.append(
                SaveRollups(
                    worker=keys.worker(hour.worker_id),
                    rollups=keys.rollups(hour.worker_id, week),
                    rollups_due=keys.ROLLUPS_DUE,
                    incarnation=hour.incarnation,
                    member=f"{hour.worker_id} {hour.hour}",
                    lease_ends_at=repr(hour.lease_ends_at),
                    week=week,
                    lifetime=max(lifetime_left, 1),
                    series=series,
                )
            )
        client.run_each(self._client, calls)

    def _unpacked(self, worker_id: str, week: int, packed: bytes) -> dict[int, models.RollUp]:
        try:
            return models.unpack(week, packed) if packed else {}
        except ValueError:
            unreadable_records.note(self._client, keys.rollups(worker_id, week), "a field is not a week of roll-ups")
            return {}

    def read(self, worker_id: str, metric: str, since: float, until: float) -> dict[int, models.RollUp]:
        """Return the stored roll-ups, read in one round trip."""
        weeks = range(models.week_of(since), models.week_of(until) + 1, models.WEEK)
        with client.guard(self._client), self._client.pipeline(transaction=False) as pipe:
            for week in weeks:
                pipe.hget(keys.rollups(worker_id, week), metric)
            replies: list[bytes | None] = pipe.execute()
        return {
            hour: rollup
            for week, packed in zip(weeks, replies, strict=True)
            for hour, rollup in self._unpacked(worker_id, week, packed or b"").items()
            if since <= hour <= until
        }
