"""A monitor in memory with one worker and a year of its hourly roll-ups, for a picture of its page."""

from __future__ import annotations

import contextlib
import math
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import uvicorn

from workermon import fleet, models, runtime, settings, testing
from workermon.web import app

WORKER = "i-0a7d3e51b2c94f608"
#: Days that the worker is monitored.
DAYS = 300
#: Seconds that the server may take to start.
START = 30

#: Of an hour: how many days it lies back, and the load by the time of day and week, from 0 to 1. It returns the mean.
Course = Callable[[float, float], float]
#: By metric what it is, and how far least and most lie from it.
COURSES: Mapping[str, tuple[Course, float, float]] = {
    "cpu_utilization": (lambda back, load: (14 if back > 120 else 22) + 42 * load, 8.0, 22.0),
    "memory_utilization": (lambda back, load: (74 - back / 12 if back > 60 else 48) + 9 * load, 2.0, 7.0),
    "disk_utilization": (lambda back, _: 91 - back / 5 + (24 if back > 210 else 0) * (back - 210) / 60, 0.6, 0.9),
    "network_in": (lambda back, load: 2.2e6 + 5e6 * load * (1.3 if back < 120 else 1), 6e5, 4e6),
    "network_out": (lambda _, load: 1.6e6 + 3e6 * load, 4e5, 3e6),
    models.STATUS_CHECK_FAILED: (lambda _, __: 0.0, 0.0, 0.0),
}


def load(at: float) -> float:
    """Return the load by the time of day and week, from 0 to 1."""
    by_day = max(0.0, math.sin((at % models.DAY / models.DAY - 0.25) * 2 * math.pi))
    weekend = int(at // models.DAY + 4) % 7 in (0, 6)
    return by_day * (0.25 if weekend else 1.0)


def rollups(now: float) -> dict[tuple[str, str], dict[int, models.RollUp]]:
    """Return the roll-ups of each metric; the worker was stopped for eleven days."""
    noise, end = random.Random(4), int(now // models.HOUR) * models.HOUR
    hours = [at for at in range(end - DAYS * models.DAY, end, models.HOUR) if not 150 < (end - at) / models.DAY < 161]
    found = {}
    for metric, (course, below, above) in COURSES.items():
        rolled = {}
        for at in hours:
            mean = max(0.0, course((end - at) / models.DAY, load(at)) + noise.gauss(0, below / 3))
            most = mean + above * noise.uniform(0.5, 1.0)
            rolled[at] = models.RollUp(at, max(0.0, mean - below), mean, most, mean + 0.8 * (most - mean), 60)
        found[WORKER, metric] = rolled
    return found


def monitor(now: float) -> testing.Monitor:
    """Return the monitor, whose parts are alive."""
    made = testing.Monitor(now=now)
    made.ec2.put(models.Instance(id=WORKER, region="us-east-1", status="running", name="render-07"))
    options = fleet.AddOptions(scope=models.AccountRegion(region="us-east-1"), labels={"team": "vfx"})
    made.get(fleet.Adding).add([WORKER], options)
    made.collect()
    made.store.rollups.update(rollups(now))
    made.schedule.ticked = now
    made.liveness.beat("listener", now)
    return made


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Serve its page; gives the worker's address."""
    container = runtime.open(settings.Settings(_env_file=None), monitor(time.time()).overrides())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        served = app.create_app(container)
        server = uvicorn.Server(uvicorn.Config(served, log_config=None, timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            deadline = time.monotonic() + START
            while not server.started and time.monotonic() < deadline:
                time.sleep(0.05)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/workers/{WORKER}"
        finally:
            served.state.hub.close()
            server.should_exit = True
            thread.join(30)
            container.close()
