"""A value that many request at once is made once for all of them, and is never older than the request."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient

from tests.support.commands import Ports
from tests.support.serving import application
from tests.support.waiting import eventually
from workermon import health
from workermon.web import single_flight


class Ticks:
    """A clock that advances by one at each reading, so that a test can count the requests."""

    def __init__(self) -> None:
        self._numbers, self.now = itertools.count(1), 0

    def __call__(self) -> float:
        """Return the next number."""
        self.now = next(self._numbers)
        return float(self.now)


def test_who_asks_alone_gets_the_present_state() -> None:
    """A single request gets a new value. It is not kept for the next one."""
    numbers = itertools.count()
    single = single_flight.SingleFlight[int]()
    assert [single.get(lambda: next(numbers)) for _ in range(3)] == [0, 1, 2]


def test_who_waits_shares_the_next_one() -> None:
    """All requests during a run share the next value, or its error."""
    ticks, going, numbers = Ticks(), threading.Event(), itertools.count()
    single = single_flight.SingleFlight[int](ticks)

    def make() -> int:
        number = next(numbers)
        assert going.wait(30)
        if number == 1:
            raise ValueError(number)
        return number

    with ThreadPoolExecutor(9) as threads:
        futures = [threads.submit(single.get, make) for _ in range(9)]
        eventually(lambda: ticks.now == 10, description="nine requests that wait and one that runs")
        going.set()
        errors = [type(request.exception(30)) for request in futures]
    assert errors.count(ValueError) == 8
    assert next(numbers) == 2


def test_a_flood_of_status_asks_the_nodes_twice(web: TestClient, world: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of requests for the status causes one more ping of the nodes."""
    ticks, going, pings = Ticks(), threading.Event(), itertools.count()

    def ping(timeout: float = 1.0) -> list[str]:
        next(pings)
        assert going.wait(30)
        return ["collect@here"]

    monkeypatch.setattr(world.nodes, "ping", ping)
    application(web).state.status = single_flight.SingleFlight[health.Status](ticks)
    with ThreadPoolExecutor(8) as threads:
        answers = [threads.submit(web.get, "/api/v1/status") for _ in range(8)]
        eventually(lambda: ticks.now == 9, description="eight requests that wait and one that runs")
        going.set()
        assert [answer.result(30).status_code for answer in answers] == [200] * 8
    assert next(pings) == 2
