"""What a storm has to notify of, by plain loops over the traces: nothing of the product is asked.

Every rule of the storm fires with the M-th of M datapoints above and clears with the second that is not.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

#: A trace: the times of datapoints (seconds) and their values.
Points = Sequence[tuple[int, float]]


class Episode(NamedTuple):
    """An episode that has to notify, with the times of its deciding datapoints."""

    key: str
    fires: int
    clears: int


def truth(key: str, points: Points, above: float = 90.0, breach: int = 3) -> list[Episode]:
    """Return the episodes of a trace: so many in a row above fire, two in a row not above clear."""
    episodes: list[Episode] = []
    fired: int | None = None
    for place in range(breach - 1, len(points)):
        over = [value > above for _, value in points[max(0, place - max(breach, 2) + 1) : place + 1]]
        at = points[place][0]
        if fired is None and all(over[-breach:]):
            fired = at
        elif fired is not None and not any(over[-2:]):
            episodes.append(Episode(key, fired, at))
            fired = None
    return episodes


def counted(key: str, members: Iterable[Sequence[Episode]], needed: int) -> list[Episode]:
    """Return when at least so many of the members of a group are in an episode."""
    spans = [(episode.fires, episode.clears) for episodes in members for episode in episodes]
    episodes: list[Episode] = []
    fired: int | None = None
    for at in sorted({at for span in spans for at in span}):
        holding = sum(fires <= at < clears for fires, clears in spans)
        if fired is None and holding >= needed:
            fired = at
        elif fired is not None and holding < needed:
            episodes.append(Episode(key, fired, at))
            fired = None
    return episodes


def overlap(key: str, first: Sequence[Episode], second: Sequence[Episode]) -> list[Episode]:
    """Return the times during which one of the first and one of the second episodes are open."""
    return counted(key, (first, second), 2)


def mean(traces: Sequence[Points]) -> Points:
    """Return the mean of traces that have datapoints at the same times."""
    return [(slots[0][0], statistics.fmean(value for _, value in slots)) for slots in zip(*traces, strict=True)]


def distances(trace: Points, group: Sequence[Points]) -> Points:
    """Return how many scaled MADs each value of a trace lies from the median of a group with the same times."""
    deviations = []
    for (at, value), *slots in zip(trace, *group, strict=True):
        values = [member for _, member in slots]
        median = statistics.median(values)
        spread = max(1.4826 * statistics.median(abs(value - median) for value in values), 0.02 * abs(median), 1e-9)
        deviations.append((at, abs(value - median) / spread))
    return deviations


def uninhibited(episodes: Sequence[Episode], inhibiting: Sequence[Episode]) -> Mapping[Episode, int | None]:
    """Return from when on each episode is notified, ``None`` if never, where others begin no later and inhibit it."""
    notified_from: dict[Episode, int | None] = {}
    for episode in episodes:
        ends = [inhibitor.clears for inhibitor in inhibiting if inhibitor.fires <= episode.fires < inhibitor.clears]
        until = max(ends, default=episode.fires)
        notified_from[episode] = until if until < episode.clears else None
    return notified_from


class Expected(NamedTuple):
    """An episode and its channel. ``must`` is true if it is too long for an outage to hide.

    ``not_before`` is the time up to which another rule inhibits it. ``escalates`` means that it is expected only if
    nobody acknowledges it.
    """

    episode: Episode
    channel: str
    must: bool
    not_before: int = 0
    escalates: bool = False
