"""Reconciliations do not pile up in the threads of a process, however often they are requested."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from workermon import fleet


def test_one_thread_does_it_and_once_more_for_all_who_asked_meanwhile() -> None:
    """Nine requests during the work return at once, and it is done once more for all of them."""
    single_run, works, may_end = fleet.SingleRun(), threading.Event(), threading.Event()
    times: list[int] = []

    def request(number: int) -> int:
        for _ in single_run.turns():
            times.append(number)
            works.set()
            assert may_end.wait(60)
        return times.count(number)

    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(request, 0)
        assert works.wait(60)
        others = [pool.submit(request, number) for number in range(1, 10)]
        assert [other.result(60) for other in others] == [0] * 9
        may_end.set()
        assert first.result(60) == 2
    assert times == [0, 0]
    assert len(list(single_run.turns())) == 1


def test_a_failure_leaves_it_to_the_next() -> None:
    """Whoever asks next does it."""
    single_run = fleet.SingleRun()

    def fail() -> None:
        with contextlib.closing(single_run.turns()) as turns:
            for _ in turns:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert len(list(single_run.turns())) == 1
