"""Event queue latency: from a message in SQS to the channel, and to the notification.

All of workermon runs as with ``workermon up``, with workers at 60 s. The simulated AWS answers after 100 ms. About once
a second an instance stops or a Spot warning arrives, ``BENCH_EVENTS`` (40) of each. At the end ``BENCH_BURST`` (200)
warnings arrive at once. EventBridge is not included; it takes about half a second before its message is in the queue.
"""

from __future__ import annotations

import http.server
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import house

from workermon import models, settings
from workermon.local import endpoint, simulation, up
from workermon.on_redis import client

EVENTS = int(os.environ.get("BENCH_EVENTS", "40"))
BURST = int(os.environ.get("BENCH_BURST", "200"))
#: Seconds from the start until the measurement begins.
SETTLE = int(os.environ.get("BENCH_SETTLE", "60"))
#: Seconds between two messages, at least and at most.
APART = (0.3, 1.7)
#: Seconds in which every notification has to arrive, or the benchmark fails.
TIMEOUT = 30
QUEUE = "workermon"
FILE = """
[events.main]
queue_url = "{aws}/123456789012/workermon"

[channels.ops]
type = "webhook"
url = "http://127.0.0.1:{port}/"
allow_private = true

[[rules]]
name = "down"
metric = "state"
notify = ["ops"]

[[rules]]
name = "spot"
metric = "event"
codes = ["spot-interruption"]
notify = ["ops"]
"""


#: The rule that notifies, if its name differs from the measurement's.
RULES = {"burst": "spot"}
#: The rows of the table, by measurement.
LABELS = {
    "channel": "a state change on the channel",
    "down": "the notification of a state change",
    "spot": "the notification of a Spot warning",
    "burst": f"the notifications of {BURST} Spot warnings at once",
}


class Arrivals:
    """When each worker first appeared as stopped on the channel, and in a notification of each rule."""

    def __init__(self) -> None:
        self.at: dict[tuple[str, str], float] = {}

    def note(self, source: str, worker_id: str) -> None:
        """Record that it arrived now, unless it arrived before."""
        self.at.setdefault((source, worker_id), time.time())


class Receiver(http.server.ThreadingHTTPServer):
    """Receives the notifications."""

    def __init__(self, arrivals: Arrivals) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.arrivals = arrivals


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Record the worker of the notification."""
        notification = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server: Any = self.server
        if notification["worker"] is not None and notification["status"] == "firing":
            server.arrivals.note(notification["rule"], notification["worker"]["id"])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def listening(redis_url: str, arrivals: Arrivals) -> Iterator[None]:
    """During the block, record which workers the channel reports as stopped."""
    connected: Any = client.connect(redis_url)
    channel = connected.pubsub(ignore_subscribe_messages=True)
    channel.subscribe(settings.CHANNEL)
    over = threading.Event()

    def listen() -> None:
        while not over.is_set():
            message = channel.get_message(timeout=0.2)
            if message is not None:
                event = json.loads(message["data"])
                if event["status"] == "stopped":
                    arrivals.note("channel", event["worker_id"])

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        channel.close()
        connected.close()


def event(kind: str, detail: dict[str, str]) -> str:
    """Return an EC2 event as EventBridge writes it."""
    head = {"id": f"{kind} {detail['instance-id']}", "source": "aws.ec2", "time": models.rfc3339(int(time.time()))}
    return json.dumps({**head, "detail-type": kind, "detail": detail})


def measure(number: int, folder: Path) -> dict[str, list[float]]:
    """Run a fleet of ``number`` workers. Return by measurement the seconds from each message to its arrival."""
    folder.mkdir()
    arrivals, sent = Arrivals(), dict[tuple[str, str], float]()
    fleet = simulation.Simulation(time.time, number)
    aws = endpoint.Endpoint(fleet)
    aws.api.queues.create(QUEUE)
    aws.start()
    with house.server(folder) as server, ExitStack() as stack:
        stack.callback(aws.stop)
        receiver = Receiver(arrivals)
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        stack.callback(receiver.shutdown)
        env = house.environment(folder, server.url, aws.url)
        file = folder / "workermon.toml"
        file.write_text(FILE.format(aws=aws.url, port=receiver.server_port))
        for arguments in (["apply", str(file)], ["add", *fleet.machines]):
            command = [sys.executable, "-m", "workermon", *arguments]
            subprocess.run(command, env=env, check=True, cwd=house.ROOT, stdout=subprocess.DEVNULL)
        aws.latency = house.LATENCY
        for child in up.children(env):
            stack.enter_context(house.started(child.name, child.argv, child.env, folder / f"{child.name}.log"))
        stack.enter_context(listening(server.url, arrivals))
        house.wait_for(lambda: aws.calls["ReceiveMessage"], 60, "the listener reads the queue")
        time.sleep(SETTLE)  # the start is not measured
        chosen = random.Random(1).sample(list(fleet.machines), 2 * EVENTS + BURST)
        for worker_id in chosen[:EVENTS]:
            time.sleep(random.uniform(*APART))
            fleet.set_state(worker_id, "stopped", ("Server.ScheduledStop", "Stopped for a scheduled retirement"))
            sent.update(dict.fromkeys([("channel", worker_id), ("down", worker_id)], time.time()))
            stopped = {"instance-id": worker_id, "state": "stopped"}
            aws.api.queues.put(QUEUE, event("EC2 Instance State-change Notification", stopped))
        for place, worker_id in enumerate(chosen[EVENTS:]):
            time.sleep(random.uniform(*APART) if place <= EVENTS else 0)
            sent["spot" if place < EVENTS else "burst", worker_id] = time.time()
            warned = {"instance-id": worker_id, "instance-action": "terminate"}
            aws.api.queues.put(QUEUE, event("EC2 Spot Instance Interruption Warning", warned))
        arrived = arrivals.at
        house.wait_for(
            lambda: all((RULES.get(event_kind, event_kind), worker_id) in arrived for event_kind, worker_id in sent),
            TIMEOUT,
            "every message arrives",
        )
    late: dict[str, list[float]] = {}
    for (event_kind, worker_id), at in sent.items():
        late.setdefault(event_kind, []).append(arrived[RULES.get(event_kind, event_kind), worker_id] - at)
    return late


def main() -> None:
    """Measure, and print the table."""
    print(f"# Event queue latency\n\n{house.machine()}")
    rows = []
    with house.folder() as folder:
        for number in house.sizes("1000"):
            late = measure(number, folder / str(number))
            for name, label in LABELS.items():
                shares = [house.percentile(late[name], part) for part in (0.5, 0.99)]
                rows.append([number, label, len(late[name]), *(f"{share:.2f}" for share in (*shares, max(late[name])))])
    house.table(
        "Seconds after the message is in SQS",
        ["workers", "from the message to", "messages", "p50 s (<= 3)", "p99 s (<= 3)", "slowest s"],
        rows,
    )


if __name__ == "__main__":
    main()
