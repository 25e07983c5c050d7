"""Pure: how far apart the datapoints of an agent's metric really are, learned for each worker and metric.

The period of the file or the catalogue is how often CloudWatch is asked for a value. An agent with a longer
``metrics_collection_interval`` fills only some of those slots, and a rule with "3 of 3" would never see three. So a
slot becomes as long as the gaps between datapoints. All times are seconds since 1970, all durations seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from workermon import models
from workermon.rules import horizon

#: So many equal gaps without datapoints prove a longer period. A temporary gap is a single one, with datapoints close
#: together on both sides. An agent with an interval of its own has only such gaps.
MIN_GAPS = 3

#: Seconds. A longer period is not learned: so much of a new worker's past is fetched, and a rule about three slots
#: would already take three hours. A metric published less often needs a ``period`` of its own in the file.
MAX_PERIOD = horizon.BACKFILL


def newest(stored: Sequence[int], arrived: Sequence[int], period: int) -> tuple[int, ...]:
    """Return the times of the newest datapoints, in order; none while there is one each ``period``.

    ``stored`` is the previous result, ``arrived`` are the times of an answer, in order. At most ``MIN_GAPS`` gaps are
    kept.
    """
    if not arrived:
        return tuple(stored)
    if len(arrived) > 1 and arrived[-1] - arrived[-2] <= period and (not stored or stored[-1] <= arrived[-1]):
        return ()  # nearly always the case
    times = sorted({*stored, *arrived})[-MIN_GAPS - 1 :]
    return tuple(times) if len(times) == 1 or times[-1] - times[-2] > period else ()


def learned(times: Sequence[int], period: int, before: int) -> int:
    """Return the period of the datapoints, never below ``period``, that of the file or the catalogue.

    ``times`` are from ``newest``, ``before`` is the period in use. A denser series takes effect at once, a sparser one
    after ``MIN_GAPS`` similar gaps: they differ by at most two periods, because an agent's clock drifts over the edge
    of a minute.
    """
    if not times:
        return period
    gaps = [later - earlier for earlier, later in pairwise(times)]
    before = max(before, period)
    if gaps and min(gaps) <= before / 2:
        before = _whole_periods(min(gaps), period)
    if len(gaps) < MIN_GAPS or min(gaps) < 2 * period or max(gaps) - min(gaps) > 2 * period:
        return before
    usual = _whole_periods((times[-1] - times[0]) / len(gaps), period)
    # Within the tolerance the period in use stays, so that a drifting clock does not restart the slots.
    if before > period and abs(usual - before) <= period:
        return before
    return usual if usual <= MAX_PERIOD else before


def of_recorded(series: models.Series) -> models.Series:
    """Return a recorded series with the period of its newest datapoints."""
    times = newest((), [point.at for point in series.points], series.period)
    return series._replace(period=learned(times, series.period, series.period))


def shortest_gap(times: Sequence[int]) -> int | None:
    """Return the shortest gap between the newest datapoints; ``None`` while there are too few."""
    return min((later - earlier for earlier, later in pairwise(times)), default=None) if len(times) > MIN_GAPS else None


def _whole_periods(seconds: float, period: int) -> int:
    return max(round(seconds / period), 1) * period
