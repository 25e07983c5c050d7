"""The clock of a process: the machine's clock while it is near Redis's."""

from __future__ import annotations

import contextlib
import time

import pytest

from workermon import errors, models
from workermon.on_redis import client, clock, server


class Machine:
    """A machine with a clock that can be set. ``steady`` is the time since its start."""

    def __init__(self) -> None:
        self.steady, self.wall = 1000.0, 0.0

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self.steady += seconds
        self.wall += seconds


class FakeServer:
    """What a clock asks: its time, or nothing while it is away."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.ahead, self.is_away, self.requests = machine, 0.0, False, 0
        self.started = 1_700_000_000.0 - machine.steady

    def time(self) -> float:
        """Return its time."""
        self.requests += 1
        if self.is_away:
            raise errors.RedisUnavailable("Redis", "it is away", "start it")
        return self.started + self.machine.steady + self.ahead


@pytest.fixture
def machine() -> Machine:
    """Give a machine with a right clock."""
    new_machine = Machine()
    new_machine.wall = 1_700_000_000.0
    return new_machine


@pytest.fixture
def fake(machine: Machine) -> FakeServer:
    """Give a server with a right clock."""
    return FakeServer(machine)


@pytest.fixture
def now(machine: Machine, fake: FakeServer) -> clock.RedisClock:
    """Give the clock of a process on the machine."""
    return clock.RedisClock(fake.time, lambda: machine.wall, lambda: machine.steady)


def test_a_clock_that_is_near_is_gone_by(machine: Machine, fake: FakeServer, now: clock.RedisClock) -> None:
    """Within the limit nothing is corrected, and Redis is seldom asked."""
    machine.wall += models.CLOCK_SKEW - 1
    for _ in range(50):
        machine.pass_by(0.1)
        assert now() == machine.wall
    assert fake.requests == 1


@pytest.mark.parametrize("step", [7200.0, -7200.0, 40.0, -3 * 86_400.0])
def test_a_clock_that_is_set_wrong_is_not_gone_by(
    machine: Machine, fake: FakeServer, now: clock.RedisClock, step: float
) -> None:
    """With a wrong machine clock time continues normally, from the first moment, and when it is corrected."""
    now()
    for wrong in (step, -step):
        machine.wall += wrong
        for _ in range(40):
            assert now() == pytest.approx(fake.started + machine.steady, abs=0.01)
            machine.pass_by(1)


def test_it_goes_on_while_redis_is_away(machine: Machine, fake: FakeServer, now: clock.RedisClock) -> None:
    """A clock change is noticed even if Redis was unreachable at that time."""
    now()
    fake.is_away = True
    machine.wall += 7200
    for _ in range(40):
        assert now() == pytest.approx(fake.started + machine.steady, abs=0.01)
        machine.pass_by(1)
    fake.is_away = False
    assert now() == pytest.approx(fake.started + machine.steady, abs=0.01)


def test_without_redis_it_is_the_machines(machine: Machine, fake: FakeServer, now: clock.RedisClock) -> None:
    """Without Redis the machine's clock is used."""
    fake.is_away = True
    assert now() == machine.wall


def test_a_real_server_has_the_time(redis_url: str) -> None:
    """On a machine two hours ahead, the real server's time counts."""
    with contextlib.closing(client.connect(redis_url)) as connected:
        ahead = clock.RedisClock(server.RedisServer(connected).time, lambda: time.time() + 7200)
        assert ahead() == pytest.approx(time.time(), abs=5)
