"""The page's snapshot of the fleet between two requests."""

from __future__ import annotations

import threading

from tests.support.waiting import eventually
from workermon import views
from workermon.web import snapshots


class Reader:
    """Reads a snapshot in that many seconds of its own clock. It waits at a gate while that is closed."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now, self.times = seconds, 1000.0, 0
        self.is_reading = False
        self.gate = threading.Event()
        self.gate.set()

    def clock(self) -> float:
        """Return the time."""
        return self.now

    def read(self) -> views.Snapshot:
        """Return a new snapshot with the number of readings as its time."""
        self.is_reading = True
        assert self.gate.wait(30)
        self.now += self.seconds
        self.times += 1
        return views.Snapshot.of(float(self.times), ())


def test_a_small_fleet_is_read_each_time() -> None:
    """If reading is fast, each request reads the fleet."""
    reader = Reader(0.01)
    snapshot_cache = snapshots.Snapshots(reader.clock)
    assert [snapshot_cache.get(reader.read).at for _ in range(3)] == [1.0, 2.0, 3.0]


def test_nobody_waits_for_a_large_fleet_twice() -> None:
    """The second reading runs in the background, while requests get the first one, and is limited."""
    reader = Reader(6.0)
    snapshot_cache = snapshots.Snapshots(reader.clock)
    assert snapshot_cache.get(reader.read).at == 1.0
    reader.now += 30
    assert snapshot_cache.get(reader.read).at == 1.0
    assert reader.times == 1
    reader.now += 40
    reader.gate.clear()
    assert snapshot_cache.get(reader.read).at == 1.0
    assert snapshot_cache.get(reader.read).at == 1.0
    reader.gate.set()
    eventually(lambda: snapshot_cache.get(reader.read).at == 2.0, description="the reading in the background")
    assert reader.times == 2


def test_who_does_not_want_to_wait_for_the_first_one_learns_that_it_is_being_read() -> None:
    """This is so until the first reading is done. Later readings delay no request."""
    reader = Reader(6.0)
    snapshot_cache = snapshots.Snapshots(reader.clock)
    reader.gate.clear()
    snapshot_cache.warm(reader.read)
    eventually(lambda: reader.is_reading, description="the first reading")
    assert snapshot_cache.soon(reader.read, 0.01) is None
    reader.gate.set()
    assert snapshot_cache.get(reader.read).at == 1.0
    snapshot = snapshot_cache.soon(reader.read, 0.01)
    assert snapshot is not None
    assert (snapshot.at, reader.times) == (1.0, 1)
