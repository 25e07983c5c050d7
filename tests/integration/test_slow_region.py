"""One region does not answer: with real processes as in ``up``, the other region is still collected."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.celery_house import START, House, last_words, opened
from tests.support.waiting import eventually
from workermon import models
from workermon.on_aws import session

SLOW, WELL = "eu-west-1", "us-east-1"
#: Threads that collect, and intervals in the slow region, each a message of its own. Silence notifies after three of
#: them, and a request is given up after 15 s.
THREADS = 8
INTERVALS = range(8, 20)
#: Seconds. Of the workers of the other region.
INTERVAL = 4
#: Seconds of silence: more than the longest time that anybody waits for one answer, its retries included.
SILENT = session.READ_TIMEOUT * session.ATTEMPTS + 5

pytestmark = pytest.mark.integration

CONFIG = """
[[rules]]
name = "no-data"
metric = "no-data"

[collect]
metrics = ["cpu_utilization", "network_in"]

[[metrics]]
name = "cpu_utilization"
period = "2s"

[[metrics]]
name = "network_in"
period = "2s"
"""


class CollectionRecorder:
    """The events on the channel: when each worker was collected, by our clock."""

    def __init__(self, url: str) -> None:
        self.at: dict[str, list[float]] = defaultdict(list)
        self._client = redis.Redis.from_url(url)
        self._pubsub = self._client.pubsub(ignore_subscribe_messages=True)
        self._pubsub.subscribe("workermon:metrics")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._stop.is_set():
            message = self._pubsub.get_message(timeout=0.5)
            if message:
                self.at[json.loads(message["data"])["worker_id"]].append(time.time())

    def gap(self, worker_id: str, since: float, until: float) -> float:
        """Return the longest time without a collection of a worker."""
        times = [since, *(at for at in self.at[worker_id] if since < at < until), until]
        return max(after - before for before, after in itertools.pairwise(times))

    def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        self._thread.join()
        with contextlib.closing(self._client):
            self._pubsub.close()


def worker(worker_id: str, region: str, interval: int) -> str:
    """Return a worker's section of the config file."""
    return f'[[workers]]\nid = "{worker_id}"\nregion = "{region}"\ninterval = "{interval}s"\n'


def of(house: House, region: str) -> list[str]:
    """Return the instances of a region."""
    return [machine.id for machine in house.simulation.machines.values() if machine.region == region]


def query(house: House, *arguments: str) -> Any:
    """Return the document of a reading command."""
    completed = house.run("workermon", *arguments, "--json")
    assert completed.stdout, completed.stderr
    return json.loads(completed.stdout)


def recorded(house: House, worker_id: str, metric: str) -> dict[float, float]:
    """Return the ledger's datapoints."""
    points = query(house, "history", worker_id, metric, "--since", "1h")["datapoints"]
    return {models.moment(point["at"]): point["value"] for point in points}


def caught_up(house: House, worker_id: str, metric: str, until: float) -> None:
    """Wait until the ledger has the datapoints up to a time."""
    eventually(lambda: max(recorded(house, worker_id, metric)) >= until, within=30)


def served(house: House, worker_id: str, name: str, until: float) -> dict[float, float]:
    """Return CloudWatch's datapoints of a metric before a time."""
    streams = house.simulation.streams.values()
    (stream,) = [stream for stream in streams if (stream.machine.id, stream.name) == (worker_id, name)]
    return dict(house.simulation.points(stream, 0, until))


@pytest.mark.long
def test_a_region_that_does_not_answer_holds_up_no_other(tmp_path: Path, redis_url: str) -> None:
    """More of its batches are due than there are threads. It is one alert, and later no datapoint of it is missing."""
    with opened(tmp_path, redis_url, workers=48, period=2, regions=(SLOW, WELL)) as house:
        slow, well = of(house, SLOW), of(house, WELL)[:4]
        workers = [worker(worker_id, SLOW, INTERVALS[place % len(INTERVALS)]) for place, worker_id in enumerate(slow)]
        workers += [worker(worker_id, WELL, INTERVAL) for worker_id in well]
        file = tmp_path / "workers.toml"
        file.write_text(CONFIG + "".join(workers), "utf-8")
        assert len(INTERVALS) > THREADS
        house.env["WORKERMON_CONFIG"] = str(file)
        up = house.start("workermon", "up", "--concurrency", str(THREADS))
        recorder = CollectionRecorder(redis_url)
        try:
            eventually(
                lambda: all(recorder.at[worker_id] for worker_id in slow + well),
                within=2 * START,
                description="the fleet",
            )
            # `up` itself collects first: the nodes have to be at work.
            eventually(
                lambda: all(len(recorder.at[worker_id]) > 1 for worker_id in well),
                within=2 * START,
                description="nodes",
            )
            house.aws.fail("hang", region=SLOW)
            begin = time.time()
            eventually(
                lambda: [scope["state"] for scope in query(house, "status")["scopes"]] == ["unreachable", "ok"],
                within=2 * SILENT,
                description="the unreachable region in 'status'",
            )
            eventually(lambda: time.time() > begin + SILENT, within=SILENT + 1, description="the silence")
            eventually(
                lambda: (
                    [alert["dedup_key"] for alert in query(house, "alerts")["alerts"]] == [f"default/{SLOW}/collector"]
                ),
                within=2 * SILENT,
                description="one alert, about the account",
            )
            house.aws.recover()
            end = time.time()
            gaps = {worker_id: recorder.gap(worker_id, begin, end) for worker_id in well}
            assert max(gaps.values()) < session.READ_TIMEOUT, gaps  # so long is one request alone waited for
            eventually(
                lambda: all(recorder.at[worker_id][-1] > end for worker_id in slow),
                within=60,
                description="the slow region's recovery",
            )
            eventually(lambda: not query(house, "alerts")["alerts"], within=30, description="the end of the alert")
            assert [scope["state"] for scope in query(house, "status")["scopes"]] == ["ok", "ok"]
            cpu, network = ("cpu_utilization", "CPUUtilization"), ("network_in", "NetworkIn")
            for worker_id, (metric, name) in ((slow[0], cpu), (slow[-1], network), (well[0], cpu)):
                caught_up(house, worker_id, metric, end)
                have = {at: value for at, value in recorded(house, worker_id, metric).items() if at < end}
                served_points = {
                    at: value for at, value in served(house, worker_id, name, end).items() if at >= min(have)
                }
                assert have == served_points
                assert len(served_points) > SILENT / 3
            assert up.stop() == 0
        finally:
            recorder.close()


def test_a_region_that_does_not_answer_holds_up_no_start(tmp_path: Path, redis_url: str) -> None:
    """Nodes collect the other region while `up` still waits for EC2's answer to its reconciliation."""
    with opened(tmp_path, redis_url, workers=2, period=2, regions=(SLOW, WELL)) as house:
        (slow,), (well,) = of(house, SLOW), of(house, WELL)
        file = tmp_path / "workers.toml"
        file.write_text(CONFIG + worker(slow, SLOW, INTERVAL) + worker(well, WELL, INTERVAL), "utf-8")
        house.run("workermon", "apply", str(file))
        house.aws.fail("hang", region=SLOW)
        house.env["WORKERMON_CONFIG"] = str(file)
        up = house.start("workermon", "up", "--no-web")
        recorder = CollectionRecorder(redis_url)
        try:
            eventually(lambda: len(recorder.at[well]) > 1, within=2 * START, description=last_words("collections", up))
            assert "up.not_reconciled" not in up.output
            assert up.stop() == 0
        finally:
            recorder.close()
