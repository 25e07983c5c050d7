"""Which clock stands for each port: what a stage measures by is decided here alone."""

from __future__ import annotations

import time

import dishka

from workermon import ports
from workermon.on_redis import clock


class Clocks(dishka.Provider):
    """One recipe for each clock; all live as long as the container."""

    scope = dishka.Scope.APP

    @dishka.provide
    def make_clock(self, container: dishka.Container) -> ports.Clock:
        """This machine's clock while that is close to Redis', otherwise Redis' clock. Without Redis this machine's."""

        def server_time() -> float:
            redis_server: ports.Server = container.get(ports.Server)
            return redis_server.time()

        return clock.RedisClock(server_time)

    @dishka.provide
    def make_machine_clock(self) -> ports.MachineClock:
        """This machine's clock, right or wrong."""
        return time.time

    @dishka.provide
    def make_steady_clock(self) -> ports.SteadyClock:
        """This machine's clock that nobody sets."""
        return time.monotonic

    @dishka.provide
    def make_cpu_clock(self) -> ports.CpuClock:
        """CPU time of the calling thread."""
        return time.thread_time
