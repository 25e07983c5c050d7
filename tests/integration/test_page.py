"""The page in a real browser: over a demo as users see it, and over an in-memory monitor in any state."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect

from tests.integration.machine import START, Installation
from tests.support import commands
from tests.support.browser import PATIENCE, Tab, chromium, needs_chromium
from tests.support.commands import A, Ports
from tests.support.expecting import expecting
from tests.support.free_ports import free_port
from tests.support.waiting import eventually
from workermon import errors, fleet, models, ports, runtime, settings, testing, views
from workermon.local import endpoint, simulation
from workermon.web import app, render

pytestmark = [pytest.mark.integration, needs_chromium]

VIEWS = ("/", "/alerts", "/alerts?state=all", "/rules", "/system")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give one browser for all tests of this module."""
    with chromium() as started:
        yield started


@contextlib.contextmanager
def demo(folder: Path) -> Iterator[str]:
    """Run the demo, and give the address of its page."""
    aws = endpoint.Endpoint(simulation.Simulation(time.time, 1))  # the demo has one of its own
    aws.start()
    try:
        machine = Installation(folder, aws)
        with machine.started("demo", "--workers", "12"):
            address = eventually(lambda: _announced(machine.log), within=2 * START, description="the page's address")
            assert address
            yield address
    finally:
        aws.stop()


def _announced(log: Path) -> str | None:
    match = re.search(r"page: (http://\S+)", log.read_text())
    return match and match[1]


@contextlib.contextmanager
def serving(world: Ports, **options: Any) -> Iterator[tuple[str, Callable[[], None]]]:
    """Serve an in-memory monitor. Give its address and a function that stops it."""
    container = runtime.open(settings.Settings(_env_file=None, **options), world.overrides())
    port = free_port()
    served = app.create_app(container)
    config = uvicorn.Config(served, host="127.0.0.1", port=port, log_config=None, timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)

    def stop() -> None:
        served.state.hub.close()
        server.should_exit = True
        thread.join(30)

    thread.start()
    eventually(lambda: server.started, description="the page is served")
    try:
        yield f"http://127.0.0.1:{port}", stop
    finally:
        stop()
        container.close()


def alive(world: Ports) -> None:
    """Let beat and listener have been there just now."""
    world.schedule.ticked = world.clock()
    world.liveness.beat("listener", world.clock())


# --- over a demo -------------------------------------------------------------------------------------------------


def test_the_demo_is_seen_live_on_every_view(browser: Browser, tmp_path: Path) -> None:
    """A user follows an alert from the fleet to its reason, live, by keyboard, and on a phone.

    No view has a console error, violates the policy, loads from elsewhere, or fails axe-core.
    """
    with demo(tmp_path) as address:
        tab = Tab(browser, address)
        worker = _fleet_is_live(tab.open("/"))
        _alert_says_why(tab.open("/alerts?state=all"))
        _worker_is_charted(tab.open(worker))
        _is_silenced_by_keyboard(tab.page)
        expect(tab.open("/rules").locator(".picture").first).to_contain_text("would have fired")
        expect(tab.open("/system").locator("#status")).to_contain_text("alive", timeout=PATIENCE)
        for view in (*VIEWS, worker):
            tab.open(view).wait_for_load_state("networkidle" if view in ("/rules", "/system") else "load")
            assert tab.barriers() == [], view
        telephone = Tab(browser, address, viewport={"width": 360, "height": 740}, color_scheme="dark", has_touch=True)
        for view in (*VIEWS, worker):
            telephone.open(view).wait_for_load_state("networkidle" if view in ("/rules", "/system") else "load")
            assert telephone.overflow() == 0, view
        assert telephone.barriers() == []
        assert tab.faults + telephone.faults == []


def _fleet_is_live(page: Page) -> str:
    """Check that values and alerts change without a reload. Return the address of a worker that fired."""
    expect(page.locator("#pulse")).to_have_text("live")
    expect(page.locator("#rows tr")).to_have_count(12)
    page.evaluate("window.reloaded = false")
    cell = page.locator("#rows tr td[data-label=CPU] span").first
    before = cell.inner_text()
    expect(cell).not_to_have_text(before)
    # The script of the demo makes the first alert fire after about ten seconds.
    expect(page.locator("#alert-count")).not_to_have_class(re.compile("none"))
    fired = page.locator("#rows tr", has=page.locator(".state.critical, .state.warning")).first
    expect(fired.locator(".why a")).to_have_count(1)
    address = fired.locator("th a").get_attribute("href")
    name = fired.locator("th a").inner_text()
    assert address
    assert page.evaluate("window.reloaded") is False
    page.locator("#q").focus()
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    expect(page.locator("#rows tr")).to_have_count(1)
    return address


def _alert_says_why(page: Page) -> None:
    """Open the reason by keyboard: the datapoints that decided, and the delivery."""

    def is_notified() -> bool:
        page.reload()
        page.locator("summary").first.focus()
        page.keyboard.press("Enter")
        details = page.locator("details[open]").first
        expect(details.locator("[aria-label='Deciding datapoints'] li").first).to_be_visible()
        expect(details).to_contain_text(re.compile("It fired as (critical|warning)"))
        return "accepted it" in details.inner_text()  # it may have fired just now

    eventually(is_notified, within=START, description="the history of an alert with its delivery")


def _worker_is_charted(page: Page) -> None:
    """Check that each metric has a chart with datapoints that the arrow keys reach."""
    chart = page.locator("[data-metric=cpu_utilization]")
    expect(chart.locator("canvas")).to_be_visible()
    expect(page.locator("figure canvas")).to_have_count(page.locator("figure").count())
    chart.focus()
    page.keyboard.press("ArrowLeft")
    expect(chart.locator(".notes")).to_contain_text("UTC: ")


def _is_silenced_by_keyboard(page: Page) -> None:
    """A silence is asked for, explained, and made without a mouse."""
    page.get_by_role("button", name="Silence", exact=True).first.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("[popover]:popover-open")
    expect(dialog).to_contain_text("Nobody is notified")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.keyboard.press("Enter")
    dialog.get_by_placeholder("new driver").fill("<b>new disk</b>")
    page.keyboard.press("Enter")
    expect(page.locator(".done")).to_contain_text("Silenced.")
    expect(page.locator("#facts")).to_contain_text("<b>new disk</b>")


# --- over a monitor in memory ------------------------------------------------------------------------------------


@pytest.fixture
def world(silent_log: None) -> Ports:
    """Give a monitor with one firing worker whose name is markup."""
    world = Ports()
    world.ec2.put(models.Instance(id=A, region=commands.REGION, status="running", name="<script>alert(1)</script>"))
    scope = models.AccountRegion(region=commands.REGION)
    world.get(fleet.Adding).add([A], fleet.AddOptions(scope=scope, labels={"team": "\"'><img src=x onerror=alert(1)>"}))
    world.collect()
    commands.fires(world, A)
    return world


def test_each_action_is_done_from_its_button(browser: Browser, world: Ports) -> None:
    """Acknowledge, pause, resume, refresh and the end of a silence work by button and confirmation."""
    with serving(world) as (address, _):
        tab = Tab(browser, address)
        for view, button, confirmation in (
            ("/alerts", "Acknowledge", "Acknowledged."),
            ("/alerts", "Silence", "Silenced."),
            ("/alerts", "End", "The silence is over."),
            (f"/workers/{A}", "Pause", "Paused."),
            (f"/workers/{A}", "Resume", "Resumed."),
            (f"/workers/{A}", "Refresh", "Collected just now."),
        ):
            page = tab.open(view)
            page.get_by_role("button", name=button, exact=True).first.click()
            dialog = page.locator("[popover]:popover-open")
            if button == "Silence":
                dialog.get_by_placeholder("new driver").fill("why not")
            dialog.locator("button.primary").click()
            expect(page.locator(".done")).to_contain_text(confirmation)
        assert world.workers.get([A])[A].worker.monitoring == "active"
        assert {entry.by for entry in world.audit.entries(0)} == {"local"}
        assert tab.faults == []


def test_a_viewer_sees_and_does_nothing(browser: Browser, world: Ports) -> None:
    """After a login with a viewer's token every view is there, and no button does anything."""
    token = _token(world, "viewer")
    with serving(world, web_host="0.0.0.0", web_port=8650) as (address, _):
        tab = Tab(browser, address)
        page = tab.open(f"/workers/{A}")
        page.get_by_label("Token").fill(token)
        page.keyboard.press("Enter")
        expect(page.locator(".who")).to_contain_text("viewer")
        assert page.url.endswith(A)
        for button in ("Refresh", "Silence", "Pause"):
            expect(page.get_by_role("button", name=button, exact=True).first).to_be_disabled()
        assert token not in page.content()
        assert tab.barriers() == []
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Token")).to_be_visible()
        assert tab.faults == []


def _token(world: Ports, role: models.Role) -> str:
    """Create a token, and return it as the command shows it."""
    text, token = models.make_token("ada", role, world.clock())
    assert world.access.add(token)
    return text


def test_names_like_markup_run_nothing(browser: Browser, world: Ports) -> None:
    """An instance named like a script is shown by that name on each view, and nothing of it runs."""
    with serving(world) as (address, _):
        tab = Tab(browser, address)
        for view in ("/", f"/workers/{A}", "/alerts", f"/alerts/{A}/cpu-high"):
            expect(tab.open(view).locator("main")).to_contain_text("cpu-high")
        expect(tab.open("/").locator("#rows")).to_contain_text("<script>alert(1)</script>")
        assert tab.faults == []


def test_a_year_is_drawn_by_its_hours(browser: Browser, world: Ports) -> None:
    """The span of a year has dates, the mean of each step with least, most and 95th percentile, and the command."""
    end = int(world.clock()) // models.HOUR * models.HOUR
    world.store.rollups[A, "cpu_utilization"] = {
        at: models.RollUp(at, 10.0, 40.0, 90.0, 80.0, 60)
        for at in range(end - 360 * models.DAY, end - 2 * models.DAY, models.HOUR)
    }
    with serving(world) as (address, _):
        tab = Tab(browser, address, viewport={"width": 360, "height": 740})
        page = tab.open(f"/workers/{A}")
        page.get_by_role("link", name="year", exact=True).click()
        chart = page.locator("[data-metric=cpu_utilization]")
        expect(chart.locator("canvas")).to_be_visible()
        expect(chart.locator(".notes")).to_contain_text("a point is a day")
        expect(page.locator(".chart-key")).to_contain_text("95th percentile")
        expect(page.locator(".foot")).to_contain_text(f"workermon history {A} --since 365d --step 1h")
        chart.focus()
        for _ in range(8):
            page.keyboard.press("ArrowLeft")
        expect(chart.locator(".notes")).to_contain_text(
            re.compile(r"\d+ \w{3} \d{4} UTC: 40 %; minimum 10 %, 95th percentile 80 %, maximum 90 %")
        )
        assert tab.overflow() == 0
        assert tab.barriers() == []
        assert tab.faults == []


def test_what_rules_expect_is_drawn(browser: Browser, world: Ports) -> None:
    """The chart has the band of ``unusual`` and the line of ``forecast`` in their colours."""
    expecting(world)
    with serving(world) as (address, _):
        tab = Tab(browser, address, color_scheme="light")
        page = tab.open(f"/workers/{A}?since={models.DAY}")
        expect(page.locator(".chart-key")).to_contain_text("forecast")
        for metric, colour in (("cpu_utilization", (45, 122, 75)), ("network_in", (179, 38, 30))):
            chart = page.locator(f"[data-metric={metric}]")
            expect(chart.locator(".notes")).to_contain_text("minimum")
            eventually(lambda: _painted(page, metric, colour), within=30, description=f"{metric} has its curve")  # noqa: B023
        assert tab.faults == []


def _painted(page: Page, metric: str, colour: tuple[int, int, int]) -> bool:
    """Tell whether the canvas of a metric has a colour at many heights: no threshold has, which is level."""
    heights: int = page.evaluate(
        """([metric, colour]) => {
          const canvas = document.querySelector(`[data-metric=${metric}] canvas`);
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const heights = new Set();
          for (let at = 0; at < data.length; at += 4) {
            const like = colour.every((part, place) => Math.abs(part - data[at + place]) < 12);
            if (data[at + 3] && like) heights.add(Math.floor(at / 4 / canvas.width));
          }
          return heights.size;
        }""",
        [metric, list(colour)],
    )
    return heights > 12


def test_scripts_write_values_as_the_server_does(browser: Browser, world: Ports) -> None:
    """Ages and quantities that a script writes look like those of the server."""
    ages = (0, 59.9, 61, 119, 120, 3599, 5399, 5400, 7200, 86_399, 129_600, 200_000)
    values = [
        (97.5, "percent"),
        (0.004, "percent"),
        (1_530_000.0, "bytes"),
        (999.0, "bytes"),
        (3.0, "count"),
        (80.0, "Mbit/s"),
    ]
    with serving(world) as (address, _):
        page = Tab(browser, address).open("/")
        script = page.locator("script[type=module]").first.get_attribute("src")
        assert script
        ours = script.replace("page.js", "age.js")
        written = page.evaluate("async ([path, all]) => all.map((await import(path)).ageText)", [ours, list(ages)])
        assert written == [render.age(age) for age in ages]
        call = "([path, all]) => import(path).then((age) => all.map((each) => age.quantityText(...each)))"
        assert page.evaluate(call, [ours, values]) == [views.quantity(*value) for value in values]


def test_a_stale_page_says_so(browser: Browser, world: Ports) -> None:
    """If the pipeline stops, the page names the part. If its server is gone, it says since when. The contents stay."""
    alive(world)
    with serving(world) as (address, stop):
        tab = Tab(browser, address)
        page = tab.open("/")
        expect(page.locator("#pulse")).to_have_text("live")
        expect(page.locator("#stale")).to_be_hidden()
        world.clock.advance(60)
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.locator("#stale")).to_contain_text("The pipeline does not work: beat last ticked 60 s ago")
        stop()
        expect(page.locator("#stale")).to_contain_text("does not answer")
        expect(page.locator("#rows tr")).to_have_count(1)


def test_without_redis_the_page_says_so(browser: Browser, world: Ports) -> None:
    """Without Redis the page shows an error in words, which says that alerts do not depend on it."""

    class Gone(testing.MemoryWorkers):
        def every(self, chunk: int = 500) -> Iterator[ports.Record]:
            raise errors.RedisUnavailable("Redis", "it is out of reach", "start it")

    world.workers = Gone(world.store)
    with serving(world) as (address, _):
        page = Tab(browser, address).open("/")
        expect(page.locator("main")).to_contain_text("it is out of reach. Start it.")
        expect(page.locator("main")).to_contain_text("Alerts do not depend on this page")
