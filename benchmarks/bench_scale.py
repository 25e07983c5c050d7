"""Scale-out: samples a second with 1, 2 and 4 collecting nodes, while AWS answers after 100 ms.

A fleet (``BENCH_SIZES``, 6,000 workers) is due at once, in messages of 100. The measured time is from the first sample
to the last one. All nodes run on this machine, so its cores limit the gain of more nodes.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import house

from workermon.on_redis import client

#: Threads of a node, as in ``workermon up``.
THREADS = 8
#: A program that sends the collections. It reads the ids from standard input.
SEND = """
import sys
from workermon.on_celery import app, dispatcher
dispatcher.CeleryDispatcher(app.app).collect(sys.stdin.read().split())
"""


def measure(nodes: int, number: int, folder: Path) -> float:
    """Return the samples a second of that many nodes."""
    folder.mkdir()
    with house.server(folder) as server, house.endpoint(folder) as aws, ExitStack() as stack:
        env = house.environment(folder, server.url, aws.url)
        members = house.fleet(number, time.time())
        house.register(server.url, members, time.time())
        for node in range(nodes):
            command = [sys.executable, "-m", "celery", "-A", "workermon", "--quiet", "worker", "-P", "threads"]
            command += ["-c", str(THREADS), "-Q", "workermon.collect", "-n", f"node-{node}@%h"]
            argv = [*command, "--without-mingle", "--without-gossip"]
            stack.enter_context(house.started(f"node-{node}", argv, env, folder / f"node-{node}.log"))
        ping = [sys.executable, "-m", "celery", "-A", "workermon", "inspect", "ping"]

        def answering() -> bool:
            ping_result = subprocess.run(ping, env=env, cwd=house.ROOT, capture_output=True, text=True)
            return ping_result.stdout.count("pong") == nodes

        house.wait_for(answering, 60, "the nodes answer")
        connected: Any = client.connect(server.url)
        stack.callback(connected.close)
        subscription = stack.enter_context(connected.pubsub())
        subscription.subscribe("workermon:metrics")
        began = time.monotonic()
        ids = " ".join(worker.id for worker in members)
        sender = subprocess.Popen(
            [sys.executable, "-c", SEND], env=env, cwd=house.ROOT, stdin=subprocess.PIPE, text=True
        )
        stack.callback(sender.wait)
        assert sender.stdin is not None
        sender.stdin.write(ids)
        sender.stdin.close()
        first, published = 0.0, 0
        while published < number:
            message = subscription.get_message(timeout=1.0)
            if message is not None and message["type"] == "message":
                first = first or time.monotonic()
                published += 1
            if time.monotonic() - began > 60:
                raise SystemExit(f"error: {nodes} nodes: {published} of {number} samples within 60 s")
        return number / (time.monotonic() - first)


def main() -> None:
    """Measure, and print the table."""
    print(f"# Scale-out\n\n{house.machine()}")
    rows = []
    with house.folder() as folder:
        for number in house.sizes("6000"):
            single_rate = 0.0
            for nodes in (1, 2, 4):
                rate = measure(nodes, number, folder / f"{number}-{nodes}")
                single_rate = single_rate or rate
                rows.append([number, nodes, f"{rate:,.0f}", f"{rate / single_rate:.2f}"])
    house.table(
        f"Samples a second, with nodes of {THREADS} threads; AWS answers after {house.LATENCY * 1000:.0f} ms",
        ["workers", "nodes", "samples a second", "against one node"],
        rows,
    )


if __name__ == "__main__":
    main()
