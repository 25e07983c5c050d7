"""How soon the event queue has a change seen: from its message in SQS to the channel, and to the page.

All of workermon runs as with ``workermon up``, over workers at 60 s, on an AWS that answers in 100 ms. Each second or
so an instance stops or a Spot warning comes, ``BENCH_EVENTS`` (40) of each; at the end ``BENCH_BURST`` (200) warnings
come at once. EventBridge, which takes about half a second before its message is in the queue, is not part of it.
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
#: Seconds after the start before it is measured.
SETTLE = int(os.environ.get("BENCH_SETTLE", "60"))
#: Seconds between two messages, at least and at most.
APART = (0.3, 1.7)
#: Seconds within which each has to arrive, or the benchmark ends.
PATIENCE = 30
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


#: The rule whose page is awaited, if it is named otherwise.
RULES = {"burst": "spot"}
#: What is measured, as the table has it.
PLACES = {
    "channel": "a state change on the channel",
    "down": "a state change's page",
    "spot": "a Spot warning's page",
    "burst": f"pages of {BURST} Spot warnings at once",
}


class Arrivals:
    """When each worker first came by the channel as stopped, and by a page of each rule."""

    def __init__(self) -> None:
        self.at: dict[tuple[str, str], float] = {}

    def note(self, source: str, worker_id: str) -> None:
        """Note that it came now, unless it came before."""
        self.at.setdefault((source, worker_id), time.time())


class Receiver(http.server.ThreadingHTTPServer):
    """Takes the pages."""

    def __init__(self, arrivals: Arrivals) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.arrivals = arrivals


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Note which worker it is about."""
        page = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server: Any = self.server
        if page["worker"] is not None and page["status"] == "firing":
            server.arrivals.note(page["rule"], page["worker"]["id"])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def listening(redis_url: str, arrivals: Arrivals) -> Iterator[None]:
    """Note meanwhile which workers the channel has as stopped."""
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
    """Return an event of EC2 as EventBridge writes it."""
    head = {"id": f"{kind} {detail['instance-id']}", "source": "aws.ec2", "time": models.rfc3339(int(time.time()))}
    return json.dumps({**head, "detail-type": kind, "detail": detail})


def measured(number: int, folder: Path) -> dict[str, list[float]]:
    """Run a fleet of that size; return the seconds from the message to each place where it arrived."""
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
        house.awaited(lambda: aws.calls["ReceiveMessage"], 60, "the listener reads the queue")
        time.sleep(SETTLE)  # what is measured is what holds after the start
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
        house.awaited(
            lambda: all((RULES.get(event_kind, event_kind), worker_id) in arrived for event_kind, worker_id in sent),
            PATIENCE,
            "what the messages say arrives",
        )
    late: dict[str, list[float]] = {}
    for (event_kind, worker_id), at in sent.items():
        late.setdefault(event_kind, []).append(arrived[RULES.get(event_kind, event_kind), worker_id] - at)
    return late


def main() -> None:
    """Measure, and print the table."""
    print(f"# How soon the event queue has a change seen\n\n{house.machine()}")
    rows = []
    with house.folder() as folder:
        for number in house.sizes("1000"):
            late = measured(number, folder / str(number))
            for name, label in PLACES.items():
                shares = [house.percentile(late[name], part) for part in (0.5, 0.99)]
                rows.append([number, label, len(late[name]), *(f"{share:.2f}" for share in (*shares, max(late[name])))])
    house.table(
        "Event queue: seconds after the message is in SQS",
        ["workers", "from its message to", "messages", "p50 (<= 3)", "p99 (<= 3)", "slowest"],
        rows,
    )


if __name__ == "__main__":
    main()
