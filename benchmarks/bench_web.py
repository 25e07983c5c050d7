"""Latency of the page and the API, and CPU of ``workermon web`` while idle and while many clients follow the stream.

The server runs over a filled Redis. Each round requests every address once. ``/livez`` reads nothing, so it is the
baseline. One worker has a day of datapoints and a year of hourly roll-ups.
"""

from __future__ import annotations

import http.client
import random
import selectors
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import house
import paint

from workermon import config, models, settings
from workermon.collect import event
from workermon.local import up
from workermon.on_redis import client, keys, samples

#: Rounds of requests that count, and rounds before them that do not.
ROUNDS, FIRST = 30, 3
#: How often each page is painted.
PAINTED = 10
#: Seconds over which CPU is measured, and clients of the stream.
SPAN, CLIENTS = 15.0, 100
#: Samples a second during that time: those of 1,000 workers each minute.
SAMPLES = 17
#: Seconds in which ``web`` has to read the fleet for the first time.
START = 240
BASELINE = "/livez"


class Timings(NamedTuple):
    """The requests for an address: seconds, the server's CPU seconds, and bytes of the answer, each by request."""

    walls: list[float]
    processor: list[float]
    sizes: list[int]


def addresses(worker_id: str) -> dict[str, str]:
    """Return the addresses by their names in the table."""
    return {
        "nothing (/livez)": BASELINE,
        "page: fleet, all": "/",
        "page: fleet, by name": "/?q=render-00007",
        "page: fleet, by label": "/?label=team%3Dvfx",
        "page: fleet, by state": "/?state=late",
        "page: fleet, by a metric": "/?metric=cpu_utilization",
        "page: a worker": f"/workers/{worker_id}",
        "page: its charts, an hour": f"/workers/{worker_id}/charts?since=3600",
        "page: its charts, a day": f"/workers/{worker_id}/charts?since={models.DAY}",
        "page: its charts, a year": f"/workers/{worker_id}/charts?since={365 * models.DAY}",
        "page: alerts": "/alerts",
        "page: rules": "/rules",
        "API: workers, 100 of them": "/api/v1/workers",
        "API: workers, by name": "/api/v1/workers?q=render-00007",
        "API: a worker": f"/api/v1/workers/{worker_id}",
        "API: history, an hour": f"/api/v1/workers/{worker_id}/history",
        "API: history, 30 days by hours": f"/api/v1/workers/{worker_id}/history?since=30d&step=1h",
        "API: why": f"/api/v1/workers/{worker_id}/why",
        "API: alerts": "/api/v1/alerts",
    }


# --- data in Redis -----------------------------------------------------------------------------------------------


def sample(worker: models.Worker, at: float, series: dict[str, models.Series]) -> tuple[Any, ...]:
    """Return a sample with its condition and its event, as a collection writes them."""
    checks = models.Checks(system="ok", instance="ok")
    latest = {name: points_series.points[-1] for name, points_series in series.items()}
    condition = models.Condition(
        status="running",
        checks=checks,
        slot=int(at // worker.interval) * worker.interval,
        collected_at=at,
        succeeded_at=at,
        running_since=at - models.DAY,
        latest=latest,
        periods=dict.fromkeys(series, worker.interval),
        requested_at=dict.fromkeys(series, at),
    )
    written = models.Sample(
        worker=worker,
        collected_at=at,
        status="running",
        checks=checks,
        series=series,
        requested_at=condition.requested_at,
    )
    return written, condition, event.encode(worker, condition, config.DEFAULT)


def ledger(connected: Any) -> samples.RedisSamples:
    """Return a ledger that publishes on the channel that ``web`` subscribes to."""
    return samples.RedisSamples(connected, settings.CHANNEL, lambda: config.DEFAULT.retention)


def fill(redis_url: str, worker: models.Worker, now: float) -> None:
    """Give a worker a day of datapoints and a year of roll-ups."""
    connected: Any = client.connect(redis_url)
    noise, last = random.Random(1), int(now // 60) * 60 - 180
    series = {
        name: models.Series(
            60, tuple(models.Datapoint(at, noise.uniform(10, 70)) for at in range(last - 86_000, last, 60))
        )
        for name in config.DEFAULT.collect
    }
    ledger(connected).write_many([sample(worker, now, series)], force=True)
    first = models.week_of(now - 365 * models.DAY)
    for week in range(first, models.week_of(now - models.DAY), models.WEEK):
        hours = {
            at: models.RollUp(at, noise.uniform(0, 10), noise.uniform(20, 60), noise.uniform(80, 99), 75.0, 60)
            for at in range(week, week + models.WEEK, models.HOUR)
        }
        packed = models.pack(week, hours)
        connected.hset(keys.rollups(worker.id, week), mapping=dict.fromkeys(config.DEFAULT.collect, packed))
    connected.close()


# --- requests ----------------------------------------------------------------------------------------------------


@contextmanager
def serving(folder: Path, redis_url: str) -> Iterator[tuple[house.Process, int]]:
    """Run ``workermon web``. Give its process and its port as soon as it has read the fleet."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    child = up.page(house.environment(folder, redis_url, "http://127.0.0.1:9"), port)
    with house.started("web", child.argv, child.env, folder / "web.log") as web:
        house.wait_for(lambda: _answers(port, BASELINE), START, "web")
        house.wait_for(lambda: _answers(port, "/"), START, "the first snapshot of the fleet")
        yield web, port


def _answers(port: int, address: str) -> bool:
    try:
        asking = http.client.HTTPConnection("127.0.0.1", port, timeout=START)
        asking.request("GET", address)
        return asking.getresponse().status == 200
    except OSError:
        return False


def timings(web: house.Process, port: int, addresses_by_name: dict[str, str]) -> dict[str, Timings]:
    """Request each address in turn, round after round, over one connection."""
    timings_by_name = {name: Timings([], [], []) for name in addresses_by_name}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for round_number in range(ROUNDS + FIRST):
        for name, address in addresses_by_name.items():
            spent, started = house.cpu(web.pid), time.monotonic()
            connection.request("GET", address, headers={"Accept": "text/html, application/json"})
            answer = connection.getresponse()
            size = len(answer.read())
            wall = time.monotonic() - started
            if answer.status != 200:
                raise SystemExit(f"error: {address}: it answered {answer.status}")
            if round_number >= FIRST:
                timings_by_name[name].walls.append(wall)
                timings_by_name[name].processor.append(house.cpu(web.pid) - spent)
                timings_by_name[name].sizes.append(size)
    connection.close()
    return timings_by_name


def requests_table(number: int, timings_by_name: dict[str, Timings]) -> None:
    """Print the latency of the requests in milliseconds and as multiples of the baseline."""
    rows: list[Sequence[object]] = []
    baseline = house.percentile(next(iter(timings_by_name.values())).walls, 0.5)
    for name, took in timings_by_name.items():
        median, high = house.percentile(took.walls, 0.5), house.percentile(took.walls, 0.99)
        processor = sum(took.processor) / len(took.processor)
        cells = (f"{1000 * seconds:.0f}" for seconds in (median, high, processor))
        rows.append([name, *cells, f"{median / baseline:.0f}", f"{max(took.sizes) / 1000:.0f}"])
    head = ["address", "p50 ms", "p99 ms", "CPU ms", "times /livez", "KB"]
    house.table(f"Page and API at {number} workers, {ROUNDS} requests each, one after the other", head, rows)


def paint_table(number: int, port: int) -> None:
    """Print how long a real browser takes to paint the fleet and each filter of it."""
    if paint.CHROMIUM is None:
        print("\nskipped: chromium is not installed, so painting is not measured")
        return
    pages = {name: address for name, address in addresses("").items() if "fleet" in name or "/livez" in name}
    rows: list[Sequence[object]] = []
    for name, took in paint.painted(port, pages, PAINTED).items():
        painted = [timing.painted for timing in took]
        answered = house.percentile([timing.answered for timing in took], 0.5)
        cells = (f"{timing:.0f}" for timing in (answered, house.percentile(painted, 0.5), max(painted)))
        rows.append([name, *cells, took[-1].elements, f"{took[-1].heap / 1e6:.0f}"])
    head = ["page", "answer ms", "painted ms (<= 1000)", "slowest ms", "elements", "heap MB"]
    house.table(f"In chromium at {number} workers, {PAINTED} times each", head, rows)


# --- the stream --------------------------------------------------------------------------------------------------


class Followers:
    """Clients of the stream that read every message."""

    def __init__(self, port: int, number: int) -> None:
        self._selector, self._over, self.messages = selectors.DefaultSelector(), threading.Event(), 0
        for _ in range(number):
            connection = socket.create_connection(("127.0.0.1", port), timeout=30)
            connection.sendall(b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connection.recv(65_536)
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._over.is_set():
            for key, _ in self._selector.select(0.2):
                connection: Any = key.fileobj
                self.messages += connection.recv(1 << 20).count(b"\ndata: ")

    def close(self) -> None:
        """Disconnect all clients."""
        self._over.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            connection: Any = key.fileobj
            connection.close()


def cost(web: house.Process, redis_url: str, members: Sequence[models.Worker], *, samples_a_second: int) -> float:
    """Return the CPU of ``web`` in ms a second while that many samples a second are written."""
    connected: Any = client.connect(redis_url)
    written, place = ledger(connected), 0
    spent, started = house.cpu(web.pid), time.monotonic()
    while time.monotonic() - started < SPAN:
        now = time.time()
        writes = []
        for _ in range(samples_a_second):
            worker = members[place % len(members)]
            place += 1
            points = (models.Datapoint(int(now // 60) * 60 - 60, 20.0),)
            series = {name: models.Series(60, points) for name in config.DEFAULT.collect}
            writes.append(sample(worker, now, series))
        if writes:
            written.write_many(writes, force=True)
        time.sleep(max(0.0, 1 - (time.time() - now)))  # samples are written second by second
    took = time.monotonic() - started
    connected.close()
    return 1000 * (house.cpu(web.pid) - spent) / took


def costs(web: house.Process, port: int, redis_url: str, members: Sequence[models.Worker]) -> list[Sequence[object]]:
    """Return the rows of the stream's table."""
    idle = cost(web, redis_url, members, samples_a_second=0)
    alone = cost(web, redis_url, members, samples_a_second=SAMPLES)
    followers = Followers(port, CLIENTS)
    with_samples = cost(web, redis_url, members, samples_a_second=SAMPLES)
    messages = followers.messages / SPAN
    without_samples = cost(web, redis_url, members, samples_a_second=0)
    followers.close()
    memory = house.peak_rss(web.pid) or 0.0
    return [
        ["none, no samples (the baseline)", f"{idle:.1f}", "0", ""],
        [f"none, {SAMPLES} samples a second", f"{alone:.1f}", "0", ""],
        [f"{CLIENTS} streams, no samples", f"{without_samples:.1f}", "0", ""],
        [f"{CLIENTS} streams, {SAMPLES} samples a second", f"{with_samples:.1f}", f"{messages:.0f}", f"{memory:.0f}"],
    ]


def main() -> None:
    """Measure, and print the tables."""
    print(f"# The page and the API\n\n{house.machine()}")
    sys.stdout.flush()
    for number in house.sizes("1000"):
        with house.folder() as folder, ExitStack() as stack:
            redis_server = stack.enter_context(house.server(folder / "redis", persistent=False))
            now = time.time()
            members = house.fleet(number, now)
            house.register(redis_server.url, members, now)
            fill(redis_server.url, members[6], now)
            web, port = stack.enter_context(serving(folder, redis_server.url))
            requests_table(number, timings(web, port, addresses(members[6].id)))
            paint_table(number, port)
            rows = costs(web, port, redis_server.url, members)
            head = ["clients", "CPU ms a second", "messages a second", "peak MB"]
            house.table(f"The stream: CPU of web at {number} workers, {SPAN:g} s each", head, rows)


if __name__ == "__main__":
    main()
