"""The time that all processes share: each process uses its own clock as long as that is close to Redis' clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from workermon import errors, logs, models

log = logs.get(__name__)

#: Seconds between two comparisons with Redis' clock.
COMPARED_EVERY = 10.0

#: Seconds by which a clock may move against the steady one. More means that somebody has set it; it is compared at
#: once.
MAX_DRIFT = 1.0


class _Comparison(NamedTuple):
    """The result of a comparison.

    ``steady`` is the time of the comparison by the steady clock, ``machine`` the time that the machine's clock showed,
    and ``ahead`` by how many seconds Redis' clock was ahead of it.
    """

    steady: float
    machine: float
    ahead: float

    def has_moved(self, machine: float, steady: float) -> bool:
        """Return whether the machine's clock has been set since."""
        return abs((machine - self.machine) - (steady - self.steady)) > MAX_DRIFT


class RedisClock:
    """``ports.Clock``: the machine's clock, or Redis' clock while the two differ by more than ``models.CLOCK_SKEW``.

    While Redis is unreachable the last comparison stays valid. ``server_time`` asks Redis for its time.
    """

    def __init__(
        self,
        server_time: Callable[[], float],
        machine: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server_time, self._machine, self._steady = server_time, machine, steady
        self._compared: _Comparison | None = None
        self._lock = threading.Lock()
        self._differs = False

    def __call__(self) -> float:
        """Return the time now, in seconds since 1970."""
        with self._lock:
            machine, steady = self._machine(), self._steady()
            comparison = self._compared
            fresh = comparison is not None and 0 <= steady - comparison.steady < COMPARED_EVERY
            if comparison is None or not fresh or comparison.has_moved(machine, steady):
                comparison = self._compared = self._compare()
                machine = self._machine()
            differs = abs(comparison.ahead) > models.CLOCK_SKEW
            if differs != self._differs:
                self._differs = differs
                log.warning("clock.differs" if differs else "clock.agrees", redis_ahead=round(comparison.ahead, 1))
            return machine + comparison.ahead if differs else machine

    def _compare(self) -> _Comparison:
        before, comparison = self._machine(), self._compared
        try:
            theirs = self._server_time()
        except errors.WorkermonError:
            # Code that needs Redis will notice by itself.
            machine, steady = self._machine(), self._steady()
            if comparison is None:
                return _Comparison(steady, machine, 0.0)
            if not comparison.has_moved(machine, steady):
                return _Comparison(steady, machine, comparison.ahead)
            return _Comparison(
                steady, machine, comparison.machine + comparison.ahead + (steady - comparison.steady) - machine
            )
        machine = self._machine()
        return _Comparison(self._steady(), machine, theirs - (before + machine) / 2)
