"""Entries sent per CPU second: workermon's beat, stock RedBeat with the same entries, APScheduler with Redis."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import house

NAMES = {"ours": "workermon", "redbeat": "stock RedBeat", "apscheduler": "APScheduler 3, RedisJobStore"}


def tick(kind: str, number: int, folder: Path) -> dict[str, Any]:
    """Return the cost of one tick, on a server of its own."""
    with house.server(folder / f"{kind}-{number}") as redis_server:
        env = house.environment(folder, redis_server.url, "http://127.0.0.1:1")
        env |= {"BENCH_SERVER": str(redis_server.pid), "WORKERMON_LOG_LEVEL": "error"}
        argv = [sys.executable, str(house.ROOT / "benchmarks/dispatch.py"), kind, str(number)]
        process = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=1200)
    if process.returncode:
        raise SystemExit(f"error: {kind} with {number} entries: {process.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    if result["ids"] != number:
        raise SystemExit(f"error: {kind}: {result['ids']} of {number} workers reached the queue")
    return result


def main() -> None:
    """Measure, and print the table."""
    print(f"# Dispatch\n\n{house.machine()}")
    kinds = ["ours", "redbeat", "apscheduler"]
    if importlib.util.find_spec("apscheduler") is None:
        print("\nskipped: APScheduler is not installed (pip install 'workermon[bench]')")
        kinds.remove("apscheduler")
    rows = []
    with house.folder() as folder:
        for number in house.sizes():
            results = {kind: tick(kind, number, folder) for kind in kinds}
            for kind, result in results.items():
                ours = results["ours"]
                rows.append(
                    [
                        number,
                        NAMES[kind],
                        result["messages"],
                        f"{result['wall']:.2f}",
                        f"{result['wall'] and number / result['wall']:.0f}",
                        f"{number / result['cpu']:.0f}",
                        f"{result['cpu'] / ours['cpu']:.1f}" if kind != "ours" else "",
                        f"{(result['cpu'] + result['server']) / (ours['cpu'] + ours['server']):.1f}"
                        if kind != "ours"
                        else "",
                    ]
                )
    house.table(
        "One tick with every entry due, the broker's queue included. x: how many times less CPU workermon's beat takes",
        ["entries", "scheduler", "messages", "s", "entries/s", "entries/CPU s", "x (>= 20)", "x with Valkey's CPU"],
        rows,
    )


if __name__ == "__main__":
    main()
