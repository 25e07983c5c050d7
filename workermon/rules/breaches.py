"""Whether slots breach a rule: "M of N" of a window, for each level.

A level (warning, critical) latches when at least ``m`` of the last ``n`` counted slots breach it. It unlatches when it
does not fire and enough slots are clear of it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from workermon.models import SEVERITIES, Datapoint, Levels, Severity
from workermon.rules import latches

#: The greatest finite value.
_HIGHEST = sys.float_info.max


class Level(NamedTuple):
    """One level of a rule: its threshold, and the value at which it clears."""

    severity: Severity
    bit: int
    threshold: float
    clear: float


class Limits(NamedTuple):
    """The limits of slots, as plain numbers for the loop.

    ``m`` of ``n`` slots latch a level, ``recover_m`` of ``recover_n`` unlatch it. ``rising``: values above the
    threshold breach it, otherwise values below. ``missing`` is how an absent slot counts.
    """

    levels: tuple[Level, ...]
    rising: bool
    m: int
    n: int
    recover_m: int
    recover_n: int
    missing: Literal["breach", "ok", "keep"]

    @property
    def lookback(self) -> int:
        """Return how many slots the fold may need to decide one slot, itself included."""
        return 2 * max(self.n, self.recover_n)

    def reach(self, size: int) -> int:
        """Return how many slots a window of ``size`` counted ones may span: absent ones may be skipped."""
        return 2 * size if self.missing == "keep" else size


def levels_of(thresholds: Levels, clear: Levels | None) -> tuple[Level, ...]:
    """Return the levels of thresholds, the least severe first; a level clears at its threshold by default."""
    chosen = []
    for severity in SEVERITIES:
        threshold = thresholds.of(severity)
        if threshold is not None:
            clears_at = clear.of(severity) if clear else None
            chosen.append(
                Level(severity, latches.BITS[severity], threshold, threshold if clears_at is None else clears_at)
            )
    return tuple(chosen)


def latched_after(
    limits: Limits, latched: int, window: Sequence[Datapoint | None], recover: Sequence[Datapoint | None]
) -> int:
    """Return which levels are latched after a slot, as bits."""
    after = 0
    for level in limits.levels:
        if breaching(limits, level, window) >= limits.m or (
            latched & level.bit and cleared(limits, level, recover) < limits.recover_m
        ):
            after |= level.bit
    return after


def breaching(limits: Limits, level: Level, window: Sequence[Datapoint | None]) -> int:
    """Return how many slots of a window breach a level."""
    number, threshold = 0, level.threshold
    for point in window:
        if point is None:
            number += limits.missing == "breach"
        elif limits.rising:
            number += point.value > threshold
        else:
            number += point.value < threshold
    return number


def cleared(limits: Limits, level: Level, window: Sequence[Datapoint | None]) -> int:
    """Return how many slots of a window are clear of a level."""
    number, clear = 0, level.clear
    for point in window:
        if point is None:
            number += limits.missing != "breach"
        elif limits.rising:
            number += point.value <= clear
        else:
            number += point.value >= clear
    return number


def calm_range(limits: Limits) -> tuple[float, float]:
    """Return the finite values that breach no level, from the least to the greatest."""
    thresholds = [level.threshold for level in limits.levels]
    return (-_HIGHEST, min(thresholds)) if limits.rising else (max(thresholds), _HIGHEST)


def any_breaches(limits: Limits, values: Mapping[int, Datapoint]) -> bool:
    """Return whether any slot breaches any level."""
    points = tuple(values.values())
    return any(breaching(limits, level, points) for level in limits.levels)
