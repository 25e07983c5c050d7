"""The workers that a worker is compared with: those with the same value of a label, and the median of their values.

Nothing here does I/O or reads a clock.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from workermon.models import Datapoint
from workermon.rules.group_fold import PATIENCE

#: In a smaller group nobody is compared, because its median means little.
MIN_WORKERS = 5

#: Makes a median absolute deviation comparable to a standard deviation, for normally distributed values.
SCALE = 1.4826

#: The least spread of a group, as a share of its median and as a number, so that a constant group divides by no zero.
FLOOR_SHARE, FLOOR = 0.02, 1e-9

#: The greatest distance, so that it stays a number that people can read.
MAX_DISTANCE = 1e6


class GroupMedian(NamedTuple):
    """The median of a group in a slot; ``mad`` is scaled and has a minimum, ``size`` counts the workers."""

    median: float
    mad: float
    size: int

    def distance(self, value: float) -> float:
        """Return how many scaled MADs a value lies above the median; negative below it.

        >>> GroupMedian(30.0, 5.0, 8).distance(50.0)
        4.0
        """
        return max(-MAX_DISTANCE, min(MAX_DISTANCE, (value - self.median) / self.mad))


def group_median(values: Sequence[float]) -> GroupMedian | None:
    """Return the median of a group's values; ``None`` if there are too few.

    >>> group_median([10, 10, 10, 10, 90])
    GroupMedian(median=10, mad=0.2, size=5)
    >>> group_median([10, 90]) is None
    True
    """
    if len(values) < MIN_WORKERS:
        return None
    median = statistics.median(values)
    mad = SCALE * statistics.median(abs(value - median) for value in values)
    return GroupMedian(median, max(mad, FLOOR_SHARE * abs(median), FLOOR), len(values))


class Peer(NamedTuple):
    """A worker of a group; times in seconds.

    ``known_until`` is the last second up to which every datapoint has arrived that can; ``None``: it does not run, and
    nobody waits for it. ``period`` is that of its slots, ``recorded`` that of the ledger. Datapoints count from
    ``since`` on.
    """

    known_until: int | None
    period: int
    recorded: int
    since: int
    points: Sequence[Datapoint] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class PeerGroup:
    """The workers whose label ``by`` has a ``value``, by id, with the compared worker among them."""

    by: str = ""
    value: str = ""
    peers: Mapping[str, Peer] = dataclasses.field(default_factory=dict)
    _medians: dict[int, Mapping[int, GroupMedian | None]] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def known_until(self) -> int | None:
        """Return the last second up to which the datapoints of all are known; ``None`` if nothing is known of them.

        A worker that falls behind is waited for as long as a rule over groups waits for a member.
        """
        running = [(peer.known_until, peer.period) for peer in self.peers.values() if peer.known_until is not None]
        if not running:
            return None
        known_until, patience = [until for until, _ in running], 2 * max(period for _, period in running) + PATIENCE
        return max(min(known_until), max(known_until) - patience)

    def medians(self, period: int) -> Mapping[int, GroupMedian | None]:
        """Return the median of each slot of ``period`` seconds in which a worker has a value, by the slot's number.

        A worker with shorter slots counts with their mean, one with longer slots with the one around the slot.
        """
        if period not in self._medians:
            by_slot: dict[int, list[float]] = {}
            for peer in self.peers.values():
                for slot, value in _values(peer, period).items():
                    by_slot.setdefault(slot, []).append(value)
            self._medians[period] = {slot: group_median(values) for slot, values in by_slot.items()}
        return self._medians[period]

    def size(self, slot: int, period: int) -> int:
        """Return how many workers have a value in a slot."""
        return sum(slot in _values(peer, period) for peer in self.peers.values())


def _values(peer: Peer, period: int) -> Mapping[int, float]:
    values_by_slot: dict[int, list[float]] = {}
    for at, value in peer.points:
        if math.isfinite(value) and at >= peer.since:
            begin = at // peer.period * peer.period
            for slot in range(at // period if peer.period <= period else begin // period, _end(at, peer, period)):
                values_by_slot.setdefault(slot, []).append(value)
    return {slot: math.fsum(values) / len(values) for slot, values in values_by_slot.items()}


def _end(at: int, peer: Peer, period: int) -> int:
    if peer.period <= period:
        return at // period + 1
    return -(-(at // peer.period * peer.period + peer.period) // period)
