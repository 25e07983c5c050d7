"""The ledger of samples: one step writes what a collection fetched and announces it on the channel."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, cast

import redis

from workermon import lua, models, ports
from workermon.on_redis import client, datapoint_packing, keys, unreadable_records, workers

#: Hours. For a longer span the ledger's first and last hour are read first.
_LONG_SPAN = 30

#: Samples that are written in one step: it takes the server about a millisecond.
STEP = 20

#: The outcome of a sample that could not be written beside others.
_FAILED = b"failed"

_AT = operator.itemgetter(0)


class ClaimSlots(lua.Script[list[bytes]], shared="slots"):
    """Claim a slot of each worker; return a ``ports.Claim`` for each. ``slots``: incarnation and slot of each."""

    worker_hashes: lua.Keys
    milliseconds: lua.Argument
    tolerance: lua.Argument
    slots: lua.Arguments


class WriteSamples(lua.Script[list[bytes]], shared="slots"):
    """Write and announce what a collection fetched of some workers; return an outcome for each.

    An outcome is one of ``ports.Written``, or ``_FAILED``. ``layouts`` and ``samples`` are as in the script.
    """

    pending: lua.Key
    rollups_due: lua.Key
    hashes: lua.Keys
    force: lua.Argument
    retention: lua.Argument
    tolerance: lua.Argument
    channel: lua.Argument
    rollup_delay: lua.Argument
    layouts: lua.Argument
    samples: lua.Arguments


class MarkPending(lua.Script[int], shared="numbers"):
    """Mark a worker as pending, if it exists."""

    worker: lua.Key
    pending: lua.Key
    worker_id: lua.Argument
    at: lua.Argument


def _slot(interval: int, number: int) -> str:
    return f"{interval}:{number}"


_Write = tuple[models.Sample, models.Condition, str]


#: Metric, period and times of each series in a sample.
_Shape = tuple[tuple[str, int, tuple[int, ...]], ...]


class _Hour(NamedTuple):
    """The position of a sample's datapoints within an hour, as ``WriteSamples`` expects it.

    ``places`` are the positions of the values among all values of the sample.
    """

    start: int
    layout: int
    places: tuple[int, ...]


class _Packing:
    """Packs samples that are written together. Their times are nearly always equal, only their values differ."""

    def __init__(self, retention: int) -> None:
        self.retention = retention
        self._hours: dict[_Shape, list[_Hour]] = {}
        #: Runs of datapoints, each with its number.
        self._layouts: dict[str, int] = {}

    @property
    def layouts(self) -> str:
        """Return all layouts so far, as ``WriteSamples`` expects them."""
        return "".join(f"{runs}\n" for runs in self._layouts)

    def hours(self, sample: models.Sample) -> list[tuple[int, int, bytes]]:
        """Return the start, the number of the layout and the data of each hour."""
        by_metric = sample.ledger_series(self.retention)
        shape = tuple([(metric, series.period, tuple(map(_AT, series.points))) for metric, series in by_metric.items()])
        hours = self._hours.get(shape)
        if hours is None:
            hours = self._hours[shape] = self._lay_out(shape)
        values = [value for series in by_metric.values() for _, value in series.points]
        return [
            (hour.start, hour.layout, datapoint_packing.packed([values[place] for place in hour.places]))
            for hour in hours
        ]

    def _lay_out(self, shape: _Shape) -> list[_Hour]:
        """Return where the datapoints of a sample belong."""
        lines: dict[int, list[str]] = {}
        places: dict[int, list[int]] = {}
        before = 0
        for metric, period, times in shape:
            first_wins = int(metric in models.CHECK_METRICS)
            for run in datapoint_packing.runs(metric, period, times):
                line = f"{run.field} {run.offset} {run.at} {run.period} {first_wins} {len(run.places)}\n"
                lines.setdefault(run.hour, []).append(line)
                places.setdefault(run.hour, []).extend(before + place for place in run.places)
            before += len(times)
        numbered = {hour: self._layouts.setdefault("".join(of), len(self._layouts) + 1) for hour, of in lines.items()}
        return [_Hour(hour, number, tuple(places[hour])) for hour, number in numbered.items()]


class RedisSamples:
    """``ports.Samples`` on Redis.

    ``retention`` returns for how many seconds datapoints are kept from now on, ``rollups`` the same for roll-ups.
    """

    def __init__(
        self,
        redis_client: redis.Redis,
        channel: str,
        retention: Callable[[], int],
        rollups: Callable[[], int] = lambda: models.ROLLUPS,
    ) -> None:
        self._client = redis_client
        self._channel = channel
        self._retention = retention
        self._rollups = rollups

    def claim(self, claimants: Sequence[models.Worker], now: float, lease: float) -> list[ports.Claim]:
        """Claim each worker's slot, all in one step."""
        if not claimants:
            return []
        slots: list[lua.Value] = []
        for worker in claimants:
            slots += [worker.incarnation, _slot(worker.interval, int(now // worker.interval))]
        claim = ClaimSlots(
            worker_hashes=[keys.worker(worker.id) for worker in claimants],
            milliseconds=max(1, int(lease * 1000)),
            tolerance=ports.SLOT_TOLERANCE,
            slots=slots,
        )
        return [cast("ports.Claim", outcome.decode()) for outcome in client.run(self._client, claim)]

    def write(
        self, sample: models.Sample, condition: models.Condition, event: str, *, force: bool = False
    ) -> ports.Written:
        """Write datapoints, condition, the pending mark and the event in one step."""
        return self.write_many([(sample, condition, event)], force=force)[0]

    def write_many(self, writes: Sequence[_Write], *, force: bool = False) -> list[ports.Written]:
        """Write many samples in one round trip, those of some workers in a step."""
        packing = _Packing(self._retention())
        steps = [writes[start : start + STEP] for start in range(0, len(writes), STEP)]
        calls = [self._call(step, packing, force=force) for step in steps]
        replies: list[Any] = []
        for step, reply in zip(steps, client.run_each(self._client, calls), strict=True):
            replies += [reply] * len(step) if isinstance(reply, Exception) else reply
        return [self._outcome(write, reply, force=force) for write, reply in zip(writes, replies, strict=True)]

    def _outcome(self, write: _Write, reply: Any, *, force: bool) -> ports.Written:
        """Return the outcome of a sample from the script's reply, which may be an error."""
        if reply == _FAILED:
            return self.write_many([write], force=force)[0]  # alone it is written, or says why it is not
        if isinstance(reply, Exception):
            unreadable_records.note(self._client, keys.worker(write[0].worker.id), f"no sample is written: {reply}")
            return ports.Written("gone")
        return ports.Written(reply.decode())

    def _call(self, writes: Sequence[_Write], packing: _Packing, *, force: bool) -> WriteSamples:
        hashes: list[str] = []
        parts: list[lua.Value] = []
        for sample, condition, event in writes:
            worker, hours = sample.worker, packing.hours(sample)
            hashes += [keys.worker(worker.id), *(keys.ledger(worker.id, hour) for hour, _, _ in hours)]
            parts += [
                worker.id,
                worker.incarnation,
                _slot(worker.interval, sample.slot),
                repr(sample.collected_at),
                workers.written_condition(worker, condition),
                condition.last_error.model_dump_json() if condition.last_error else "",
                event,
                "" if sample.steady_revision is None else sample.steady_revision,
                len(hours),
                *[part for hour in hours for part in hour],
            ]
        return WriteSamples(
            pending=keys.PENDING,
            rollups_due=keys.ROLLUPS_DUE,
            hashes=hashes,
            force=int(force),
            retention=packing.retention,
            tolerance=ports.SLOT_TOLERANCE,
            channel=self._channel,
            rollup_delay=ports.ROLLUP_DELAY if self._rollups() > 0 else "",
            layouts=packing.layouts,
            samples=parts,
        )

    def failed(self, worker: models.Worker, last_error: models.CollectionError) -> None:
        """Store why a collection failed, and release the slot's claim."""
        self.failed_many([(worker, last_error)])

    def failed_many(self, failures: Sequence[tuple[models.Worker, models.CollectionError]]) -> None:
        """Do that for many workers in one round trip, each in a step of its own."""
        calls = [
            workers.setting(worker, last_error=last_error.model_dump_json(), claim="")
            for worker, last_error in failures
        ]
        client.run_many(self._client, calls)

    def read(
        self, series_keys: Sequence[tuple[str, str, int]], since: float, until: float
    ) -> dict[tuple[str, str], models.Series]:
        """Return the series of each (worker id, metric, period in seconds), read in one round trip."""
        periods: dict[str, set[int]] = {}
        for worker_id, _, period in series_keys:
            periods.setdefault(worker_id, set()).add(period)
        hours = self._hours(periods, since, until)
        series: dict[tuple[str, str], models.Series] = {}
        for worker_id, metric, period in series_keys:
            points: list[models.Datapoint] = []
            phases = set()
            for hour, fields in hours.get(worker_id, {}).items():
                for phase, data in fields.get((metric, period), ()):
                    phases.add(phase)
                    points += datapoint_packing.datapoints(
                        data, hour, period, phase, int(since // period), int(until // period)
                    )
            if len(phases) > 1:
                points = datapoint_packing.merged(period, points)
            series[worker_id, metric] = models.Series(
                period, tuple([point for point in points if since <= point.at <= until])
            )
        return series

    def periods(self, worker_id: str, metric: str, since: float, until: float) -> list[int]:
        """Return the periods in seconds at which the ledger holds datapoints of a metric."""
        hours = self._hours({worker_id: {models.DAY}}, since, until).get(worker_id, {})
        present = {period for fields in hours.values() for name, period in fields if name == metric}
        return [
            period
            for period in sorted(present)
            if any(
                since <= point.at <= until
                for hour, fields in hours.items()
                for phase, data in fields.get((metric, period), ())
                for point in datapoint_packing.datapoints(
                    data, hour, period, phase, int(since // period), int(until // period)
                )
            )
        ]

    def _hours(
        self, periods: dict[str, set[int]], since: float, until: float
    ) -> dict[str, dict[int, dict[tuple[str, int], list[tuple[int, bytes]]]]]:
        """Return the grouped fields of each worker's hours that may hold datapoints between two times."""
        spans = {
            worker_id: (
                min(datapoint_packing.hour_of(since, period) for period in of),
                int(until // datapoint_packing.HOUR) * datapoint_packing.HOUR,
            )
            for worker_id, of in periods.items()
        }
        with client.guard(self._client), self._client.pipeline(transaction=False) as pipe:
            long = [key for key, (first, last) in spans.items() if last - first > _LONG_SPAN * datapoint_packing.HOUR]
            if long:
                for worker_id in long:
                    pipe.hmget(keys.worker(worker_id), "first_hour", "last_hour")
                for worker_id, (begin, end) in zip(long, pipe.execute(), strict=True):
                    first, last = spans[worker_id]
                    # Nothing was ever written, so the span is empty.
                    name = keys.worker(worker_id)
                    began, end_at = (unreadable_records.number(self._client, name, raw) for raw in (begin, end))
                    if began is None or end_at is None:
                        spans[worker_id] = (1, 0)
                    else:
                        spans[worker_id] = max(first, int(began)), min(last, int(end_at))
            requests = [
                (worker_id, hour)
                for worker_id, (first, last) in spans.items()
                for hour in range(first, last + 1, datapoint_packing.HOUR)
            ]
            for worker_id, hour in requests:
                pipe.hgetall(keys.ledger(worker_id, hour))
            replies = cast("list[dict[bytes, bytes]]", pipe.execute())
        hours: dict[str, dict[int, dict[tuple[str, int], list[tuple[int, bytes]]]]] = {}
        for (worker_id, hour), fields in zip(requests, replies, strict=True):
            try:
                if fields:
                    hours.setdefault(worker_id, {})[hour] = datapoint_packing.fields(fields)
            except ValueError:
                unreadable_records.note(self._client, keys.ledger(worker_id, hour), "a field is not a series")
        return hours

    def pending(self, now: float, limit: int, age: float = 0.0) -> list[str]:
        """Return workers whose sample is at least that old and not evaluated yet, oldest first."""
        with client.guard(self._client), self._client.pipeline(transaction=False) as pipe:
            pipe.zrangebyscore(keys.PENDING, "-inf", now - age, start=0, num=limit)
            pipe.zrangebyscore(keys.PENDING, f"({now + models.MAX_LEAD!r}", "+inf", start=0, num=limit)
            due, ahead = pipe.execute()
        return client.texts([*due, *ahead][:limit])

    def marked(self, worker_ids: Sequence[str]) -> list[str]:
        """Return the pending ones of these workers, in one command."""
        if not worker_ids:
            return []
        with client.guard(self._client):
            marks: Any = self._client.zmscore(keys.PENDING, list(worker_ids))
        return [worker_id for worker_id, at in zip(worker_ids, marks, strict=True) if at is not None]

    def mark_pending(self, worker_ids: Iterable[str], at: float) -> None:
        """Mark workers as pending, so that their rules are evaluated."""
        marks = [
            MarkPending(
                worker=keys.worker(worker_id) if models.group_of(worker_id) is None else keys.group(worker_id),
                pending=keys.PENDING,
                worker_id=worker_id,
                at=repr(at),
            )
            for worker_id in worker_ids
        ]
        client.run_many(self._client, marks)
