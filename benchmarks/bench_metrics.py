"""What a page of ``/metrics`` takes, made anew from a filled Redis: seconds, processor time, bytes."""

from __future__ import annotations

import os
import time

import house

from workermon import health, runtime, settings
from workermon.web import prometheus

#: Pages that are made; the best counts, because others use the machine too.
PAGES = 5


def measured(exposition: health.Exposition) -> tuple[str, ...]:
    """Make pages; return the best and the worst seconds, the processor's, and the megabytes."""
    walls, processor, size = [], [], 0
    for _ in range(PAGES):
        begun, spent = time.monotonic(), time.process_time()
        page = prometheus.page(exposition)
        walls.append(time.monotonic() - begun)
        processor.append(time.process_time() - spent)
        size = len(page.workers) + len(page.text)
    return f"{min(walls):.2f}", f"{max(walls):.2f}", f"{min(processor):.2f}", f"{size / 1e6:.1f}"


def main() -> None:
    """Measure, and print the table."""
    print(f"# /metrics\n\n{house.machine()}")
    rows, filled = [], 0
    # One server for all sizes: Celery's side reads its address once in a process.
    with house.folder() as where, house.server(where / "redis", persistent=False) as redis_server:
        os.environ["WORKERMON_REDIS_URL"] = redis_server.url
        container = runtime.open(settings.Settings(_env_file=None))
        for number in house.sizes("1000,10000,50000"):
            now = time.time()
            house.register(redis_server.url, house.fleet(number, now)[filled:], now)
            filled = number
            rows.append([number, *measured(container.get(health.Exposition))])
        container.close()
    house.table("A page of /metrics", ["workers", "best s", "worst s", "processor s (<= 2)", "MB"], rows)


if __name__ == "__main__":
    main()
