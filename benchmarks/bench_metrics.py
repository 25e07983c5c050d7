"""What a page of ``/metrics`` takes, made anew from a filled Redis: seconds, processor time, bytes."""

from __future__ import annotations

import time

import house

from workermon import health, runtime, settings
from workermon.web import prometheus

#: Pages that are made; the best counts, because others use the machine too.
PAGES = 5


def made(number: int, url: str) -> list[str]:
    """Fill a server with a fleet, and return the row of the table."""
    now = time.time()
    house.register(url, house.fleet(number, now), now)
    container = runtime.open(settings.Settings(_env_file=None, redis_url=url))  # type: ignore[call-arg]
    exposition = container.get(health.Exposition)
    walls, processor, size = [], [], 0
    for _ in range(PAGES):
        begun, spent = time.monotonic(), time.process_time()
        page = prometheus.page(exposition)
        walls.append(time.monotonic() - begun)
        processor.append(time.process_time() - spent)
        size = len(page.workers) + len(page.text)
    container.close()
    return [str(number), f"{min(walls):.2f}", f"{max(walls):.2f}", f"{min(processor):.2f}", f"{size / 1e6:.1f}"]


def main() -> None:
    """Measure, and print the table."""
    print(f"# /metrics\n\n{house.machine()}")
    rows = []
    with house.folder() as where:
        for number in house.sizes("1000,10000,50000"):
            with house.server(where / str(number), persistent=False) as redis_server:
                rows.append(made(number, redis_server.url))
    house.table("A page of /metrics", ["workers", "best s", "worst s", "processor s", "MB"], rows)


if __name__ == "__main__":
    main()
