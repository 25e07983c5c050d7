"""What a collection requests and fetches: datapoints, samples, and conditions of workers."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from workermon.models.base import DAY, Dimensions, Frozen, leads
from workermon.models.checks import CHECK_METRICS, Check, CheckName, Checks, Impairment, check_values
from workermon.models.worker import ScheduledEvent, StateReason, Status, Worker, account_and_region


class Datapoint(NamedTuple):
    """One value of one metric: ``at`` is CloudWatch's timestamp (the start of the period), in whole seconds."""

    at: int
    value: float


#: Makes a datapoint from a pair without running Python code: there are thousands of them.
datapoint: Callable[[tuple[int, float]], Datapoint] = functools.partial(tuple.__new__, Datapoint)


_at = operator.itemgetter(0)
_value = operator.itemgetter(1)


class Series(NamedTuple):
    """Datapoints of one metric in order of time, at most one per slot; ``period`` in seconds."""

    period: int
    points: tuple[Datapoint, ...]

    def until(self, at: float) -> Series:
        """Return the series without datapoints after a time."""
        if not self.points or self.points[-1].at <= at:
            return self
        return Series(self.period, self.points[: bisect.bisect_right(self.points, at, key=_at)])

    def over_by(self, at: float) -> Series:
        """Return the series without periods that were still running at a time.

        CloudWatch also returns the running period. Its sum, and even its average, will still change.
        """
        return self.until(at - self.period)


class Query(NamedTuple):
    """A request to CloudWatch for one metric of one worker; ``period`` in seconds, ``since`` a time."""

    worker_id: str
    metric: str
    namespace: str
    metric_name: str
    dimensions: Dimensions
    statistic: str
    period: int
    since: int


class CollectionError(Frozen):
    """Why the last collection of a worker failed: ``kind`` is an ``AwsError.kind``.

    ``since`` is when the same message first appeared, without a success in between.
    """

    kind: str
    message: str
    at: float
    since: float | None = None

    def clamped(self, now: float) -> CollectionError:
        """Return the error with future times set to the present."""
        if not (leads(self.at, now) or leads(self.since, now)):
            return self
        return self.model_copy(
            update={"at": min(self.at, now), "since": None if self.since is None else min(self.since, now)}
        )


class StatusChange(Frozen):
    """A status of a worker from ``at``, the first collection that saw it, to ``seen_until``, the last one.

    ``seen_until`` is ``None`` while the status lasts. ``reason`` is EC2's, for a worker that does not run.
    """

    at: float
    status: Status
    seen_until: float | None = None
    reason: StateReason | None = None


#: Periods between two requests for a metric that is far from every threshold, with adaptive cadence.
RELAXED = 5

#: Reasons for how often a metric is requested (``rules.cadence``).
CadenceReason = Literal["far", "rising", "near", "watched", "new", "budget"]


class Cadence(NamedTuple):
    """How many periods lie between two requests for a metric, and why."""

    periods: int
    reason: CadenceReason


#: So many consecutive datapoints later than ``lateness`` show that they always arrive late.
MANY_LATE = 3


class Condition(Frozen):
    """What is known of a worker from its collections.

    ``slot`` is ``floor(collected_at / interval)``. ``running_since`` is the first collection that saw the worker
    running without a break. If ``last_error`` exists beside a success, it is about single metrics. ``changes`` are the
    status changes since the worker last ran, and those of the last hour; none while it keeps running. ``events`` are
    the events that EC2 has scheduled, ``events_at`` is when they last changed. ``impairments`` has EC2's details of
    impaired checks.

    By metric: ``latest`` is the newest datapoint, and ``requested_at`` the time up to which the metric was last
    requested with success: a slot after it is unknown, not absent. ``expected`` is the awaited datapoint, and
    ``delays`` has for how many seconds after its period's end it is awaited before it counts as absent. ``periods`` are
    those of the requests to CloudWatch and of the ledger. ``learned_periods`` has the metrics that are published less
    often, with their period. It is learned from ``spacing``, the times of their newest datapoints. All in seconds.
    ``late`` has the metrics whose newest datapoints were later than ``lateness``: how many in a row (at most
    ``MANY_LATE``), and how many seconds after its period the last one arrived. ``cadence`` is how often a metric is
    requested, if not in each period. ``unseen_since`` is the newest datapoint before a request that came periods later
    than the next one.

    ``full_at`` is when the metrics requested then were last requested with everything that may arrive late; ``None`` if
    the next collection has to do so. In between, collections request new datapoints only.
    """

    # A factory makes an empty dict directly. For ``= {}`` pydantic makes a deep copy, nine of them for each record.
    status: Status = "unknown"
    checks: Checks | None = None
    impairments: dict[CheckName, Impairment] = {}
    slot: int | None = None
    collected_at: float | None = None
    succeeded_at: float | None = None
    running_since: float | None = None
    latest: dict[str, Datapoint] = Field(default_factory=dict)
    periods: dict[str, int] = Field(default_factory=dict)
    requested_at: dict[str, float] = Field(default_factory=dict)
    expected: dict[str, int] = Field(default_factory=dict)
    delays: dict[str, float] = Field(default_factory=dict)
    spacing: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    late: dict[str, tuple[int, int]] = Field(default_factory=dict)
    learned_periods: dict[str, int] = Field(default_factory=dict)
    cadence: dict[str, Cadence] = Field(default_factory=dict)
    unseen_since: dict[str, int] = Field(default_factory=dict)
    full_at: float | None = None
    last_error: CollectionError | None = None
    changes: tuple[StatusChange, ...] = ()
    events: tuple[ScheduledEvent, ...] = ()
    events_at: float | None = None

    def with_warnings(self, warnings: Sequence[ScheduledEvent]) -> Condition:
        """Return the condition with the event queue's warnings among its events."""
        if not warnings:
            return self
        listed_events = (event for event in self.events if not event.by_queue)
        ordered = sorted((*listed_events, *warnings), key=lambda event: (event.not_before or math.inf, event.id))
        return self.model_copy(update={"events": tuple(ordered)})

    def periods_apart(self, metric: str) -> int:
        """Return how many periods lie between two requests for a metric."""
        cadence = self.cadence.get(metric)
        return 1 if cadence is None else cadence.periods

    @property
    def newest(self) -> int:
        """Return the time of CloudWatch's newest datapoint, which does not depend on our clocks; 0 if there is none."""
        return max((point.at for name, point in self.latest.items() if name not in CHECK_METRICS), default=0)

    def leads(self, now: float) -> bool:
        """Return whether a clock that was ahead wrote it: one of its times is in the future."""
        newest = max(
            self.collected_at or 0.0,
            self.succeeded_at or 0.0,
            self.running_since or 0.0,
            self.full_at or 0.0,
            self.events_at or 0.0,
            *self.requested_at.values(),
            *[max(change.at, change.seen_until or 0.0) for change in self.changes],
        )
        return leads(newest, now)

    def clamped(self, now: float) -> Condition:
        """Return the condition without future times; the same object if there are none.

        What was observed stays. The time of observation becomes unknown until the next collection.
        """
        last_error = self.last_error and self.last_error.clamped(now)
        if not self.leads(now):
            return self if last_error is self.last_error else self.model_copy(update={"last_error": last_error})

        def clamped_time(at: float | None) -> float | None:
            return None if leads(at, now) else at

        changes = tuple(
            change.model_copy(
                update={
                    "at": min(change.at, now),
                    "seen_until": None if change.seen_until is None else min(change.seen_until, now),
                }
            )
            for change in self.changes
        )
        return self.model_copy(
            update={
                "slot": None,
                "collected_at": clamped_time(self.collected_at),
                "succeeded_at": clamped_time(self.succeeded_at),
                "running_since": clamped_time(self.running_since),
                "full_at": clamped_time(self.full_at),
                "latest": {name: point for name, point in self.latest.items() if not leads(point.at, now)},
                "requested_at": {name: at for name, at in self.requested_at.items() if not leads(at, now)},
                "expected": {name: at for name, at in self.expected.items() if not leads(at, now + DAY)},
                "last_error": last_error,
                "changes": changes,
                "events": tuple(
                    event.model_copy(update={"seen_at": clamped_time(event.seen_at)}) for event in self.events
                ),
                "events_at": clamped_time(self.events_at),
            }
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The result of one collection of one worker; ``series`` holds only what CloudWatch has.

    ``steady_revision`` is the configuration's revision: if the worker is steady by it, the evaluation may wait.
    ``None``: it is evaluated at once.
    """

    worker: Worker
    collected_at: float
    status: Status
    checks: Checks | None = None
    series: Mapping[str, Series] = dataclasses.field(default_factory=dict)
    requested_at: Mapping[str, float] = dataclasses.field(default_factory=dict)
    steady_revision: int | None = None

    @property
    def slot(self) -> int:
        """Return the slot of this collection, ``floor(t / interval)``."""
        return int(self.collected_at // self.worker.interval)

    def ledger_series(self, retention: int) -> dict[str, Series]:
        """Return the sample's contribution to the ledger, by metric: its series, and the status checks as series.

        The status checks have the slot of their collection as time and the worker's interval as period. A datapoint is
        left out if its value is not finite, if it is older than ``retention`` (seconds), or if it is more than a day
        ahead of the collection.
        """
        first, last = self.collected_at - retention, self.collected_at + DAY
        series = {**self.check_series, **self.series}
        return {metric: _valid(points, first, last) for metric, points in series.items()}

    @property
    def check_series(self) -> Mapping[str, Series]:
        """Return the status checks as series, by metric."""
        if self.checks is None:
            return {}
        period = self.worker.interval
        return _check_series(self.checks.outcomes, period, self.slot * period)


@functools.lru_cache(maxsize=1024)
def _check_series(outcomes: tuple[Check | None, ...], period: int, at: int) -> Mapping[str, Series]:
    """Return series of one datapoint each. Nearly all workers of a batch have the same."""
    return {metric: Series(period, (Datapoint(at, value),)) for metric, value in check_values(outcomes).items()}


def _valid(series: Series, first: float, last: float) -> Series:
    points = series.points
    # Points are in order of time. One sum instead of a look at each value.
    if not points or (first <= points[0].at and points[-1].at <= last and math.isfinite(sum(map(_value, points)))):
        return series  # nearly always
    valid = (point for point in series.points if first <= point.at <= last and math.isfinite(point.value))
    return series._replace(points=tuple(valid))


#: The rule about metrics that stopped arriving from much of a fleet. It always applies.
LOST_METRICS = "lost-metrics"


class LostMetric(Frozen):
    """A metric that ``workers`` of the ``of`` workers that published it have lost, the first at ``since``."""

    metric: str
    workers: int
    of: int
    since: int


class AccountState(Frozen):
    """Whether collection works in an account and region (``key`` is ``AccountRegion.key``).

    ``last_error`` is why the newest collection there failed as a whole, ``None`` if it did not; ``failing_since`` is
    the first failure after the last success. ``interval`` is the shortest interval recently collected there, ``at`` the
    newest collection; times and durations in seconds. ``sequence`` counts the recorded collections. ``lost_metrics``
    stopped arriving from much of the fleet there.
    """

    key: str
    at: float
    interval: int
    succeeded_at: float | None = None
    recovered_at: float | None = None
    failing_since: float | None = None
    last_error: CollectionError | None = None
    sequence: int = 0
    lost_metrics: tuple[LostMetric, ...] = ()

    @property
    def account(self) -> str:
        """Return the account's name."""
        return account_and_region(self.key)[0]

    @property
    def region(self) -> str:
        """Return the region."""
        return account_and_region(self.key)[1]
