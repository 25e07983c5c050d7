"""The ages at which datapoints appear: what one run knows, and what it learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workermon.collect import polling
from workermon.collect.account_run import Run

#: Delays are learned for each metric, period and interval (seconds).
_Key = tuple[str, int, int]


class Delays:
    """The learned delays of one account and region: a run reads them and adds to them.

    ``learned`` holds what earlier runs learned. ``conclude`` puts what this run learned into ``updates``, which the
    caller saves.
    """

    def __init__(self, run: Run, learned: Mapping[str, Any], updates: dict[str, Any]) -> None:
        self._run, self._learned, self._updates = run, learned, updates
        #: For each place within the interval: the delay, and up to which age a datapoint is surely absent.
        self._of: dict[_Key, tuple[list[polling.Delay | None], list[float | None]]] = {}
        self._arrivals: dict[tuple[_Key, int], list[polling.Arrival]] = {}

    def of(self, metric: str, look: polling.Look) -> tuple[polling.Delay | None, float | None]:
        """Return the delay that applies to a request, and up to which age (seconds) a datapoint is surely absent."""
        if look.expected is None:
            return None, None
        of_places, absent = self._load((metric, look.period, look.interval))
        place = polling.place(look.interval, look.expected, self._run.at)
        return of_places[place], absent[place]

    def note(self, metric: str, look: polling.Look, arrival: polling.Arrival, workers: int) -> None:
        """Record how an awaited datapoint arrived, for so many workers."""
        place = polling.place(look.interval, arrival.expected, self._run.at)
        self._arrivals.setdefault(((metric, look.period, look.interval), place), []).extend([arrival] * workers)

    def conclude(self) -> None:
        """Turn the records into updates."""
        for (key, place), arrivals in self._arrivals.items():
            metric, period, interval = key
            before = self._load(key)[0][place]
            after = polling.learn(before, arrivals, period=period, interval=interval)
            if after is not None and after != before:
                self._updates[polling.name(metric, period, interval, place)] = list(after)

    def _load(self, key: _Key) -> tuple[list[polling.Delay | None], list[float | None]]:
        loaded = self._of.get(key)
        if loaded is None:
            metric, period, interval = key
            names = [polling.name(metric, period, interval, place) for place in range(polling.PLACES)]
            of_places = [polling.Delay.of(self._learned.get(name)) for name in names]
            loaded = self._of[key] = of_places, polling.absent(of_places, interval)
        return loaded
