"""Takes ``docs/pictures/*.png``: runs the demo, and photographs its page in chromium (``make screenshots``).

The demo has no year behind it: the picture of one is of a monitor in memory.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import year_of_a_worker
from playwright.sync_api import Browser, Page, expect, sync_playwright

PICTURES = Path(__file__).with_name("pictures")
#: Seconds that the demo may take to start, and milliseconds that a page may take.
START, PATIENCE = 60, 60_000
#: Bytes. More than that is no picture of text.
MOST = 200_000


def main() -> None:
    """Take every picture; exits 1 without chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        sys.exit("error: chromium: is not installed; install Debian's package chromium")
    PICTURES.mkdir(exist_ok=True)
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        with year_of_a_worker.serving() as worker:
            take_year(browser, worker)
        with demo() as address:
            take_all(browser, address)
        browser.close()


@contextlib.contextmanager
def demo() -> Iterator[str]:
    """Run the demo, and give the address of its page."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        env = os.environ | {"XDG_STATE_HOME": folder}  # a demo or an 'up' of this user stays out of the picture
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "workermon", "demo"], stdout=subprocess.DEVNULL, stderr=output, env=env
            )
        try:
            deadline = time.monotonic() + START
            while not (found := re.search(r"page: (http://\S+)", log.read_text())):
                if time.monotonic() > deadline:
                    sys.exit(f"error: demo: did not start in time: {log.read_text()}")
                time.sleep(0.2)
            yield found[1]
        finally:
            process.terminate()
            process.wait(30)


def take_year(browser: Browser, worker: str) -> None:
    """Take a worker's year."""
    page = browser.new_page(viewport={"width": 1180, "height": 890}, color_scheme="light")
    page.set_default_timeout(PATIENCE)
    page.goto(f"{worker}?since=31536000")
    expect(page.locator("#pulse")).to_have_text("live")
    expect(page.locator("figure canvas")).to_have_count(page.locator("figure").count())
    page.wait_for_timeout(1000)
    take(page, "worker-year")


def take_all(browser: Browser, address: str) -> None:
    """Take the fleet while something fires, then the alert, its worker, the rules and the system."""
    page = opened(browser, address)
    # Some minutes of data make a better picture of the charts than some seconds.
    page.wait_for_timeout(100_000)
    expect(page.locator("#rows .state.critical").first).to_be_visible()
    fired = page.locator("#rows tr", has=page.locator(".state.critical")).first
    worker = fired.locator("th a").get_attribute("href")
    alert = fired.locator(".why a").first.get_attribute("href")
    take(page, "fleet")
    page.goto(f"{address}{worker}")
    expect(page.locator("figure canvas")).to_have_count(page.locator("figure").count())
    page.wait_for_timeout(1000)
    take(page, "worker")
    page.goto(f"{address}{alert}")
    expect(page.locator("figure canvas")).to_be_visible()
    page.wait_for_timeout(1000)
    take(page, "alert")
    page.goto(f"{address}/rules")
    expect(page.get_by_text("Replaying…")).to_have_count(0)
    take(page, "rules")
    page.goto(f"{address}/system")
    expect(page.locator("#status")).to_contain_text("alive")
    take(page, "system")
    dark = opened(browser, address, color_scheme="dark")
    take(dark, "fleet-dark")
    telephone = opened(browser, address, viewport={"width": 360, "height": 740})
    take(telephone, "telephone")


def opened(browser: Browser, address: str, **how: Any) -> Page:
    """Return the fleet's view, live."""
    page = browser.new_page(**{"viewport": {"width": 1180, "height": 760}, "color_scheme": "light"} | how)
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    expect(page.locator("#pulse")).to_have_text("live")
    return page


def take(page: Page, name: str) -> None:
    """Write one picture."""
    path = PICTURES / f"{name}.png"
    page.screenshot(path=path, animations="disabled")
    assert path.stat().st_size < MOST, f"{path} has {path.stat().st_size} bytes"


if __name__ == "__main__":
    main()
