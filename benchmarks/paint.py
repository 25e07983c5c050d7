"""Measure pages in a real browser: from the click until the page is painted, elements, and the script heap."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import house
from playwright.sync_api import sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

#: Milliseconds in which a page has to be painted.
TIMEOUT = 60_000
#: A script that returns the browser's own figures: milliseconds until the answer and until painted, elements, heap.
FIGURES = """() => {
  const [navigation] = performance.getEntriesByType("navigation");
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  if (!paint || !navigation.domContentLoadedEventEnd) return null;
  const elements = document.getElementsByTagName("*").length;
  return [navigation.responseEnd, paint.startTime, elements, performance.memory.usedJSHeapSize];
}"""


class Painted(NamedTuple):
    """Milliseconds until the answer and until painted; the number of elements; bytes of the script heap."""

    answered: float
    painted: float
    elements: int
    heap: int


@contextmanager
def browser() -> Iterator[Any]:
    """Run a browser."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=TIMEOUT)
        try:
            yield started
        finally:
            started.close()


def painted(port: int, addresses: Mapping[str, str], rounds: int) -> dict[str, list[Painted]]:
    """Open each address in turn, round after round. The first round fills the browser's cache and does not count."""
    timings: dict[str, list[Painted]] = {name: [] for name in addresses}
    with browser() as started:
        page = started.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(TIMEOUT)
        for round_number in range(rounds + 1):
            for name, address in addresses.items():
                page.goto(f"http://127.0.0.1:{port}{address}", wait_until="load")
                # The page's Content-Security-Policy forbids wait_for_function.
                figures = house.wait_for(lambda: page.evaluate(FIGURES), TIMEOUT / 1000, f"{name} in the browser")
                if round_number:
                    timings[name].append(Painted(*figures))
    return timings
