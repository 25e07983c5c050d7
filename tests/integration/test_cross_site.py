"""Another site cannot use the page of somebody who has it open. Tried in a real browser."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, Page, expect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.support.browser import chromium, needs_chromium
from tests.support.commands import A, Ports
from tests.support.serving import served
from workermon import fleet, models, runtime, settings
from workermon.web import app

pytestmark = [pytest.mark.integration, needs_chromium]

#: What a page of another site tries: it says in its title what came of it.
EVIL = """<!doctype html><title>trying</title>
<iframe id="frame" src="{home}/"></iframe>
<form method="post" action="{home}/api/v1/workers/{worker}/pause" target="_blank" rel="opener"></form>
<script>
const pause = "{home}/api/v1/workers/{worker}/pause";
const simple = {{method: "POST", mode: "no-cors", credentials: "include"}};
async function failing(attempt) {{ try {{ await attempt(); return false; }} catch {{ return true; }} }}
(async () => {{
  const text = {{body: '{{"a": 1}}', headers: {{"Content-Type": "text/plain"}}}};
  await failing(() => fetch(pause, simple));
  await failing(() => fetch(pause, {{...simple, ...text}}));
  await failing(() => fetch("{home}/logout", simple));
  const unread = await failing(() => fetch("{home}/api/v1/workers", {{credentials: "include"}}));
  const asked = {{method: "DELETE", credentials: "include"}};
  const undeleted = await failing(() => fetch("{home}/api/v1/workers/{worker}", asked));
  const unfollowed = await new Promise((resolve) => {{
    const source = new EventSource("{home}/api/v1/stream", {{withCredentials: true}});
    source.onerror = () => {{ source.close(); resolve(true); }};
    source.onopen = () => resolve(false);
  }});
  document.title = JSON.stringify({{unread, undeleted, unfollowed}});
}})();
</script>"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give one browser for all tests of this module."""
    with chromium() as started:
        yield started


class Recorder:
    """Records the answer to each request, even if the browser hides it from the sender."""

    def __init__(self, app: ASGIApp, responses: list[tuple[str, int]]) -> None:
        self.app, self.responses = app, responses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.responses.append((scope["method"], message["status"]))
            await send(message)

        await self.app(scope, receive, noted)


class Home(NamedTuple):
    """The address of a page, and the answers to writing requests."""

    address: str
    responses: list[tuple[str, int]]


@pytest.fixture
def home(world: Ports, silent_log: None) -> Iterator[Home]:
    """Serve a monitor of one worker."""
    world.get(fleet.Adding).add([A], fleet.AddOptions(scope=models.AccountRegion(region="us-east-1")))
    container = runtime.open(settings.Settings(_env_file=None), world.overrides())
    created, responses = app.create_app(container), list[tuple[str, int]]()
    created.add_middleware(Recorder, responses=responses)
    with served(created) as running:
        yield Home(f"http://localhost:{running.port}", responses)
    container.close()


@contextlib.contextmanager
def elsewhere(folder: Path, home: str) -> Iterator[str]:
    """Serve the other site, and give its address."""
    (folder / "index.html").write_text(EVIL.format(home=home, worker=A), "utf-8")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{site.server_port}"
        finally:
            site.shutdown()
            thread.join(30)


def monitoring(world: Ports) -> str:
    """Return whether the worker is collected."""
    return world.workers.get([A])[A].worker.monitoring


def attacked(page: Page, site: str, home: Home) -> None:
    """Visit the other site and see that nothing that it tries comes through."""
    home.responses.clear()
    page.goto(site)
    expect(page).to_have_title('{"unread":true,"undeleted":true,"unfollowed":true}')
    assert [answer for answer in home.responses if answer[0] == "POST"] == [("POST", 403)] * 3
    assert not [answer for answer in home.responses if answer[0] == "DELETE"], (
        "the browser asked first, and got no leave"
    )
    assert not any(frame.url.startswith(home.address) for frame in page.frames), "the page is in a frame"
    page.evaluate("document.forms[0].removeAttribute('target')")
    with page.expect_navigation() as navigated:
        page.evaluate("document.forms[0].submit()")
    assert navigated.value is not None
    assert navigated.value.status == 403


def test_another_site_does_nothing_at_this_machine(browser: Browser, home: Home, world: Ports, tmp_path: Path) -> None:
    """Without a login a foreign page can neither write nor read, by any means of a browser."""
    with elsewhere(tmp_path, home.address) as site:
        attacked(browser.new_page(), site, home)
    assert monitoring(world) == "active"
    assert world.audit.entries(0) == []


def test_another_site_does_nothing_with_a_session(browser: Browser, home: Home, world: Ports, tmp_path: Path) -> None:
    """An admin's session in the same browser does not help it. The page itself can write, so the test can fail."""
    text, stored_token = models.make_token("sam", "admin", world.clock())
    world.access.add(stored_token)
    page = browser.new_page()
    page.goto(f"{home.address}/login")
    page.get_by_label("Token").fill(text)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("form.who")).to_contain_text("sam (admin)")
    with elsewhere(tmp_path, home.address) as site:
        attacked(page, site, home)
        page.goto(home.address)
        expect(page.locator("form.who")).to_contain_text("sam (admin)")
    assert monitoring(world) == "active"
    token = page.locator('form.who input[name="csrf"]').get_attribute("value")
    attempted = page.evaluate(
        "([path, token]) => fetch(path, {method: 'POST', headers: {'X-CSRF-Token': token}}).then(a => a.status)",
        [f"/api/v1/workers/{A}/pause", token],
    )
    assert attempted == 200
    assert monitoring(world) == "paused"
    assert [entry.by for entry in world.audit.entries(0)] == ["sam"]
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_a_name_that_was_bound_anew_reaches_nothing(browser: Browser, home: Home) -> None:
    """A foreign name that resolves to this machine gets neither page nor API (DNS rebinding)."""
    page = browser.new_page()
    for path in ("/", "/api/v1/workers", "/login"):
        answer = page.goto(home.address.replace("localhost", "evil.localhost") + path)
        assert answer is not None
        assert answer.status == 403, path
