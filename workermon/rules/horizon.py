"""When a slot without a datapoint counts as absent. Only this module decides that.

CloudWatch's datapoints appear some time after their period's end. Until then a missing datapoint is unknown, not
absent.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from workermon.models import CHECK_METRICS, STATUS_CHECK_FAILED, Condition, Configuration, Datapoint, Worker

#: Seconds. How long after a period's end its datapoint may take to appear, before a delay is learned
#: (the AWS documentation promises no figure; a few minutes are usual).
DELAY = 120

#: Seconds. How far back a new worker is collected, and a new rule evaluated.
BACKFILL = 3600

#: Intervals. The first request in each so many asks for everything that may have arrived late or been revised. The
#: others ask for new datapoints only: nearly always one instead of about twenty.
FULL_LOOK_EVERY = 5


def reach_back(configuration: Configuration, interval: int) -> int:
    """Return how many seconds before the cursor a late datapoint can still be found: as late as it is awaited."""
    return configuration.lateness + FULL_LOOK_EVERY * interval


@dataclasses.dataclass(frozen=True, slots=True)
class Horizon:
    """How far a worker's metric is known; durations in seconds.

    ``period`` is the length of a slot, ``recorded_period`` that of the ledger's datapoints (0: the same). ``delay`` is
    how long after its period's end a datapoint is awaited. ``requested_at`` is the time up to which the metric was last
    collected with success, ``None`` if it never was.

    For an expression, ``operands`` has the horizons by metric, and ``reach_back`` is how far before a slot the
    datapoints lie that its value is computed from.
    """

    period: int
    delay: int
    requested_at: float | None
    recorded_period: int = 0
    operands: Mapping[str, Horizon] = dataclasses.field(default_factory=dict)
    reach_back: int = 0

    @classmethod
    def until(cls, newest: int, period: int) -> Horizon:
        """Return the horizon of recorded datapoints, whose newest slot is at a time.

        >>> Horizon.until(1_700_000_000, 60).newest
        1700000000
        """
        return cls(period, 0, newest + period)

    @property
    def kept_at(self) -> int:
        """Return the period under which the ledger has the datapoints."""
        return self.recorded_period or self.period

    def ledger_period(self, metric: str) -> int:
        """Return the period under which the ledger has the datapoints of an operand, or of the only metric."""
        return self.operands.get(metric, self).kept_at

    def ledger_periods(self, metrics: Iterable[str]) -> dict[str, int]:
        """Return ``ledger_period`` of each of some metrics."""
        return {metric: self.ledger_period(metric) for metric in metrics}

    def period_of(self, metric: str) -> int:
        """Return the length of a slot of an operand, or of the only metric."""
        return self.operands.get(metric, self).period

    @property
    def newest(self) -> int | None:
        """Return the time of the newest slot that can have arrived. A later slot without a datapoint is unknown."""
        return None if self.requested_at is None else math.floor(self.requested_at) - self.period - self.delay


def of_metric(metric: str, worker: Worker, condition: Condition, configuration: Configuration) -> Horizon:
    """Return the horizon of a worker's metric.

    The status checks of EC2 are known as soon as they are collected. Raises ``KeyError`` for an unknown metric.
    """
    if metric in CHECK_METRICS:
        return Horizon(worker.interval, 0, checks_asked(condition))
    requested_at = condition.requested_at.get(metric)
    published = configuration.metrics[metric].period_for(detailed=worker.detailed)
    period = condition.periods.get(metric, published)
    return Horizon(
        max(period, condition.learned_periods.get(metric, 0)), delay_of(metric, condition), requested_at, period
    )


def checks_asked(condition: Condition) -> float | None:
    """Return the time up to which EC2 was asked for the status checks, ``None`` if it never was."""
    return condition.requested_at.get(STATUS_CHECK_FAILED, condition.collected_at)


def of_expression(operands: Mapping[str, Horizon], window: int) -> Horizon:
    """Return the horizon of values computed from several metrics; ``window`` is the longest that they look back over.

    A slot is as long as the longest one of the operands, and can have arrived when the last operand's slot can have.
    """

    def known_until(horizon: Horizon) -> float:
        return -math.inf if horizon.requested_at is None else math.floor(horizon.requested_at) - horizon.delay

    period = max(operand.period for operand in operands.values())
    last = min(operands.values(), key=known_until)
    return Horizon(period, last.delay, last.requested_at, operands=operands, reach_back=window and window + 2 * period)


def delay_of(metric: str, condition: Condition) -> int:
    """Return for how many whole seconds after its period's end a datapoint of a CloudWatch metric is awaited."""
    return math.ceil(condition.delays.get(metric, DELAY))


def absent_from(metric: str, condition: Condition, new_points: Sequence[Datapoint] = ()) -> float | None:
    """Return the time from which the slot after a metric's newest datapoint is absent; ``None`` if it has none.

    ``new_points`` are datapoints that are not part of the condition yet, in order.
    """
    latest = new_points[-1] if new_points else condition.latest.get(metric)
    if latest is None:
        return None
    period = max(condition.periods.get(metric, 0), condition.learned_periods.get(metric, 0))
    return latest.at + 2 * period + delay_of(metric, condition)
