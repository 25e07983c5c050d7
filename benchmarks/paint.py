"""How long the page takes in a real browser: from the click until it has painted, and what the browser holds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import house
from playwright.sync_api import sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

#: Milliseconds that a page may take.
PATIENCE = 60_000
#: What the browser itself has noted of a page: milliseconds until its answer had come, and until it had painted.
NOTED = """() => {
  const [navigation] = performance.getEntriesByType("navigation");
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  if (!paint || !navigation.domContentLoadedEventEnd) return null;
  const elements = document.getElementsByTagName("*").length;
  return [navigation.responseEnd, paint.startTime, elements, performance.memory.usedJSHeapSize];
}"""


class Painted(NamedTuple):
    """Milliseconds until an answer had come and until it was painted; elements, and bytes of the script's heap."""

    answered: float
    painted: float
    elements: int
    heap: int


@contextmanager
def browser() -> Iterator[Any]:
    """Give a browser."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE)
        try:
            yield started
        finally:
            started.close()


def painted(port: int, addresses: Mapping[str, str], rounds: int) -> dict[str, list[Painted]]:
    """Open each address in turn, round after round; the first round, which fills the browser's cache, is left out."""
    timings: dict[str, list[Painted]] = {name: [] for name in addresses}
    with browser() as started:
        page = started.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE)
        for round_number in range(rounds + 1):
            for name, address in addresses.items():
                page.goto(f"http://127.0.0.1:{port}{address}", wait_until="load")
                # Not by wait_for_function: the page's policy forbids what it does.
                noted = house.awaited(lambda: page.evaluate(NOTED), PATIENCE / 1000, f"{name} in the browser")
                if round_number:
                    timings[name].append(Painted(*noted))
    return timings
