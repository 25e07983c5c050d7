"""A real browser: Debian's chromium, driven by Playwright, that notes whatever a page does that it should not."""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian: chromium)")

#: Milliseconds that anything on a page may take on a busy machine.
PATIENCE = 60_000

_AXE = Path(__file__).parent / "vendor" / "axe-core-4.14.1.min.js"


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Give a browser, and end it."""
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE)
        try:
            yield started
        finally:
            started.close()


class Tab:
    """A page of the browser at an address. ``faults`` are errors, policy violations and foreign requests.

    Chromium reports a violation of the Content-Security-Policy as an error on its console.
    """

    def __init__(self, browser: Browser, base: str, **how: Any) -> None:
        how.setdefault("viewport", {"width": 1280, "height": 900})
        self.base = base
        self.page: Page = browser.new_page(**how)
        self.page.set_default_timeout(PATIENCE)
        self.faults: list[str] = []
        self.page.on("console", self._printed)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", self._refuse_dialog)
        self.page.on("request", self._requested)

    def _printed(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.faults.append(message.text)

    def _refuse_dialog(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _requested(self, request: Request) -> None:
        if not request.url.startswith((self.base, "data:")):
            self.faults.append(f"foreign request: {request.url}")

    def open(self, address: str) -> Page:
        """Go to an address of the page."""
        self.page.goto(f"{self.base}{address}")
        return self.page

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        wider: int = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        return max(0, wider)

    def barriers(self) -> list[str]:
        """Return the findings of axe-core, each with its first element."""
        self.page.evaluate(_axe())
        report = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{violation['id']} ({violation['impact']}): {violation['nodes'][0]['html'][:200]}"
            for violation in report["violations"]
        ]


@functools.cache
def _axe() -> str:
    return _AXE.read_text("utf-8")
