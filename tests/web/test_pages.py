"""The page: the content of each view, escaped text, and empty views."""

from __future__ import annotations

import re
import threading
from html.parser import HTMLParser

import pytest
from fastapi.testclient import TestClient

from tests.support import commands
from tests.support.commands import A, B, Ports
from tests.support.expecting import expecting
from tests.support.serving import application
from workermon import fleet, models, views
from workermon.web import pages, snapshots
from workermon.web.render import STATIC

#: A name that a user with the right to tag may give to an instance.
HOSTILE = "<script>alert(1)</script>"

VIEWS = ("/", "/alerts", "/alerts?state=all", "/rules", "/system", "/system/status")


@pytest.fixture
def fleet_of_two(world: Ports) -> Ports:
    """Give a monitor with two workers, one of them collected and firing."""
    scope = models.AccountRegion(region=commands.REGION)
    world.get(fleet.Adding).add([A], fleet.AddOptions(scope=scope, labels={"team": "vfx"}))
    world.get(fleet.Adding).add([B], fleet.AddOptions(scope=scope, labels={"team": 'a"b<i>'}))
    world.collect()
    commands.fires(world, A)
    return world


class Page(HTMLParser):
    """The tags of a page, and the text of it."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keep a text."""
        self.words.append(data)

    @property
    def text(self) -> str:
        """Return the text with single spaces."""
        return " ".join(" ".join(self.words).split())


def page(web: TestClient, address: str, status: int = 200) -> Page:
    """Return the page at an address."""
    answer = web.get(address, headers={"Accept": "text/html"})
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    return Page(answer.text)


@pytest.mark.parametrize("address", VIEWS)
def test_an_empty_installation_shows_every_view(web: TestClient, address: str) -> None:
    """Each view works in an empty installation."""
    page(web, address)


def test_what_is_empty_says_what_to_do(web: TestClient) -> None:
    """An empty fleet names the command that fills it. A lack of alerts and silences is stated in words."""
    assert "workermon add INSTANCE_ID" in page(web, "/").text
    alerts = page(web, "/alerts").text
    assert "Nothing fires." in alerts
    assert "No silence is active" in alerts
    assert "No alert yet." in page(web, "/alerts?state=all").text


def test_an_empty_page_of_alerts_does_not_reassure_while_the_pipeline_is_down(web: TestClient) -> None:
    """Without a tick of beat the page warns that it may be stale, and that missing alerts prove little."""
    text = page(web, "/alerts").text
    assert "The pipeline does not work: beat never ticked" in text
    assert "alerts may be missing" in text


@pytest.mark.parametrize("address", VIEWS)
def test_nothing_is_inline_and_nothing_comes_from_elsewhere(web: TestClient, fleet_of_two: Ports, address: str) -> None:
    """No view has an inline script or style or a foreign address, so the policy needs no exception."""
    for tag, attributes in page(web, address).tags:
        assert tag != "style"
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "script":
            assert str(attributes["src"]).startswith("/static/")
        for name in ("src", "href", "action"):
            assert not re.match(r"(?i)([a-z]+:|//)", attributes.get(name) or ""), attributes


def test_the_fleet_shows_workers_with_alerts_first(web: TestClient, fleet_of_two: Ports) -> None:
    """A row has state, checks, values with unit and age, and the alert. Firing workers come first."""
    text = page(web, "/")
    rows = [attributes["data-worker"] for tag, attributes in text.tags if tag == "tr" and "data-worker" in attributes]
    assert rows == [A, B]
    assert "2 of 2 workers" in text.text
    assert "42.5 %" in text.text
    assert "cpu-high" in text.text
    assert "workermon list" in text.text


def test_names_and_labels_are_text(web: TestClient, world: Ports) -> None:
    """An instance named like markup, with such labels, is shown as it is and makes no element."""
    world.ec2.put(models.Instance(id=A, region=commands.REGION, status="running", name=HOSTILE))
    scope = models.AccountRegion(region=commands.REGION)
    world.get(fleet.Adding).add([A], fleet.AddOptions(scope=scope, labels={'"><b>': "'\"><img src=x onerror=y>"}))
    world.collect()
    commands.fires(world, A)
    for address in ("/", f"/workers/{A}", "/alerts", f"/alerts/{A}/cpu-high", "/?q=%3Cscript%3E", "/rows?id=" + A):
        text = page(web, address)
        assert not [tag for tag, attributes in text.tags if tag in ("b", "img") and "src" in attributes], address
        assert not [tag for tag, attributes in text.tags if tag == "script" and "src" not in attributes], address
    assert HOSTILE in page(web, "/").text


@pytest.mark.parametrize(
    ("address", "rows"),
    [
        ("/?q=render-01", [A]),
        ("/?q=team%3Dvfx", [A]),
        ("/?label=team%3Dvfx", [A]),
        ("/?status=stopped", [B]),
        ("/?state=critical", [A]),
        ("/?q=nothing-like-it", []),
    ],
)
def test_the_server_filters_the_fleet(web: TestClient, fleet_of_two: Ports, address: str, rows: list[str]) -> None:
    """Name, id, label, status and state select workers. If none match, the page says so."""
    text = page(web, address)
    assert [tag["data-worker"] for _, tag in text.tags if "data-worker" in tag] == rows
    if not rows:
        assert "No worker matches." in text.text


@pytest.mark.parametrize("address", ["/?status=broken", "/?state=%3Cb%3E", "/?label=vfx", "/?page=0", "/?page=x"])
def test_what_cannot_be_meant_is_refused_in_words(web: TestClient, fleet_of_two: Ports, address: str) -> None:
    """An invalid filter gets 400 with what, why and what to do."""
    answer = web.get(address)
    assert answer.status_code == 400
    assert {"title", "detail", "action"} <= answer.json().keys()


def test_an_error_is_a_page_for_a_browser_only(web: TestClient) -> None:
    """A browser gets what, why and what to do as an escaped page. A program gets a problem."""
    text = page(web, "/workers/%3Cscript%3E", 404)
    assert "worker <script>" in text.text
    assert "script" not in [tag for tag, _ in text.tags]
    assert web.get("/workers/nobody").headers["Content-Type"] == "application/problem+json"
    program = web.get("/api/v1/workers/i-0dddddddddddddddd", headers={"Accept": "text/html"})
    assert program.headers["Content-Type"] == "application/problem+json"


def test_a_page_after_the_last_is_the_last(web: TestClient, fleet_of_two: Ports) -> None:
    """If workers have gone, a page number beyond the end gives the last page."""
    assert "1–2 of 2" in page(web, "/?page=7").text


def test_squares_of_a_large_fleet_are_bounded(web: TestClient, world: Ports) -> None:
    """A group of thousands is drawn in a few hundred squares, and a page has fifty rows."""
    workers = [
        models.Worker(
            id=f"i-{number:08x}", name=f"w-{number:04}", region=commands.REGION, added_at=0, incarnation=str(number)
        )
        for number in range(2000)
    ]
    world.workers.add(workers)
    text = page(web, "/")
    cells = [tag for _, tag in text.tags if (tag.get("class") or "").startswith("cell ") and tag.get("href")]
    assert 100 < len(cells) <= 240
    assert len([1 for _, tag in text.tags if "data-worker" in tag]) == 50
    assert "1–50 of 2000" in text.text
    assert "A square is up to 9 workers" in text.text


def test_a_worker_shows_its_facts_and_why(web: TestClient, fleet_of_two: Ports) -> None:
    """A worker's view has its state, a chart for each metric, each rule with its present state, and its commands."""
    text = page(web, f"/workers/{A}")
    metrics = [tag["data-metric"] for _, tag in text.tags if "data-metric" in tag]
    assert {"cpu_utilization", "status_check_failed"} <= set(metrics)
    assert "no slot was evaluated yet" in text.text
    assert f"workermon show {A}" in text.text
    assert "nobody is notified if it is in trouble" in text.text


def test_charts_have_gaps_thresholds_and_alerts(web: TestClient, fleet_of_two: Ports) -> None:
    """A chart's data has ``null`` in a slot without a datapoint, the thresholds, and from when until when it fired."""
    world = fleet_of_two
    at = int(world.clock()) // 300 * 300
    world.cloudwatch.put(A, "CPUUtilization", [(at + 300, 50.0), (at + 1200, 97.0)])
    world.clock.advance(1800)
    world.collect()
    charts = {chart["metric"]: chart for chart in web.get(f"/workers/{A}/charts?since=3600").json()["charts"]}
    cpu = charts["cpu_utilization"]
    by_time = dict(zip(cpu["times"], cpu["values"], strict=True))
    assert by_time[at + 300] == 50.0
    assert by_time[at + 600] is None
    assert by_time[at + 1200] == 97.0
    assert cpu["absent"] >= 2
    assert [(band["severity"], band["threshold"]) for band in cpu["bands"]] == [("warning", 80.0), ("critical", 90.0)]
    assert [span["severity"] for span in cpu["spans"]] == ["critical"]


def hours_of(world: Ports, days: int) -> int:
    """Write hourly roll-ups of the last days, except for one hour. Return the start of the newest."""
    newest = int(world.clock()) // models.HOUR * models.HOUR - 2 * models.DAY
    hours = range(newest - days * models.DAY, newest + 1, models.HOUR)
    world.store.rollups[A, "cpu_utilization"] = {
        at: models.RollUp(at, 10.0, 40.0, 90.0, 80.0, 60) for at in hours if at != newest - models.HOUR
    }
    return newest


@pytest.mark.parametrize(("days", "step", "absent"), [(7, models.HOUR, 1), (30, models.HOUR, 1), (365, models.DAY, 0)])
def test_more_than_a_day_is_shown_by_roll_ups(
    web: TestClient, fleet_of_two: Ports, days: int, step: int, absent: int
) -> None:
    """A week, a month and a year have the mean of each step, its 95th percentile, least and most, and gaps."""
    newest = hours_of(fleet_of_two, days - 3)
    document = web.get(f"/workers/{A}/charts?since={days * models.DAY}").json()
    assert document["step"] == step
    [cpu] = [chart for chart in document["charts"] if chart["metric"] == "cpu_utilization"]
    place = cpu["times"].index((newest - models.DAY) // step * step)
    assert [cpu[name][place] for name in ("least", "values", "p95", "most")] == [10.0, 40.0, 80.0, 90.0]
    # The ledger's own day is rolled up anew, two days after: the gap between them has no datapoint either.
    gap = [at for at, value in zip(cpu["times"], cpu["values"], strict=True) if value is None]
    assert gap.count(newest - models.HOUR) == absent
    assert len(cpu["times"]) <= 800
    assert all(len(cpu[name]) == len(cpu["times"]) for name in ("values", "least", "most", "p95"))
    text = page(web, f"/workers/{A}?since={days * models.DAY}").text
    assert f"workermon history {A} --since {days}d --step 1h" in text
    assert "95th percentile" in text


def test_charts_have_what_is_usual_and_what_is_forecast(web: TestClient, fleet_of_two: Ports) -> None:
    """The band of ``unusual`` covers the whole chart. The line of ``forecast`` continues beyond the present."""
    expecting(fleet_of_two)
    for since in (models.DAY, 7 * models.DAY):
        charts = {chart["metric"]: chart for chart in web.get(f"/workers/{A}/charts?since={since}").json()["charts"]}
        cpu = charts["cpu_utilization"]
        [band] = cpu["curves"]
        times = [at for at in cpu["times"] if at >= cpu["times"][-1] - 23 * models.HOUR]
        assert set(times) <= set(band["times"])
        by_time = dict(zip(band["times"], zip(band["low"], band["high"], strict=True), strict=True))
        values = dict(zip(cpu["times"], cpu["values"], strict=True))
        assert all(by_time[at][0] < values[at] < by_time[at][1] for at in times if values[at] is not None)
        assert len({low for low, _ in by_time.values()}) > 12
        assert cpu["bands"] == []
        [line] = charts["network_in"]["curves"]
        assert line["low"] == line["high"]
        assert line["high"][-1] == pytest.approx(900, rel=0.05)
        assert line["times"][-1] > fleet_of_two.clock()
    shown_keys = page(web, f"/workers/{A}").text
    assert "usual" in shown_keys
    assert "forecast" in shown_keys


def test_a_day_is_shown_by_datapoints(web: TestClient, fleet_of_two: Ports) -> None:
    """The ledger's datapoints are shown exactly, with the command that prints them."""
    hours_of(fleet_of_two, 5)
    document = web.get(f"/workers/{A}/charts?since={models.DAY}").json()
    assert document["step"] is None
    assert all(chart["least"] == [] for chart in document["charts"])
    assert f"workermon history {A} --since 1d" in page(web, f"/workers/{A}?since={models.DAY}").text
    assert web.get(f"/workers/{A}/charts?since=86401").status_code == 400


def test_a_short_memory_is_shown_by_roll_ups_sooner(web: TestClient, fleet_of_two: Ports) -> None:
    """If the ledger is shorter than the span, roll-ups are shown."""
    fleet_of_two.configure(retention=2 * models.HOUR)
    assert web.get(f"/workers/{A}/charts?since=3600").json()["step"] is None
    assert web.get(f"/workers/{A}/charts?since=21600").json()["step"] == models.HOUR


def test_the_page_of_an_alert_has_its_history(web: TestClient, fleet_of_two: Ports) -> None:
    """An alert's page shows what decided it, who was notified, and the equivalent command."""
    text = page(web, f"/alerts/{A}/cpu-high")
    assert "It fired as critical" in text.text
    assert "97 % > 90 %" in text.text
    assert f"workermon why {A} cpu_utilization" in text.text
    assert "It fired as critical" in page(web, f"/alerts/{A}/cpu-high/timeline").text


@pytest.mark.parametrize(("ago", "span"), [(60, 3600), (7200, 21_600), (3 * 86_400, 7 * 86_400), (10**9, 365 * 86_400)])
def test_an_alert_is_charted_from_its_beginning(web: TestClient, fleet_of_two: Ports, ago: int, span: int) -> None:
    """The chart beside the timeline of an alert shows when it began, however long ago that was."""
    fires_since = 1_795_449_600  # as commands.fires has it
    fleet_of_two.clock.now = float(fires_since + ago)
    text = page(web, f"/alerts/{A}/cpu-high")
    assert [tag["data-since"] for _, tag in text.tags if "data-since" in tag] == [str(span)]


def test_rules_are_replayed_over_the_ledger(web: TestClient, fleet_of_two: Ports) -> None:
    """Each rule over datapoints has a picture. Others say that there is nothing to replay."""
    text = page(web, "/rules")
    assert "/rules/cpu-high/picture" in [tag.get("data-part") for _, tag in text.tags]
    assert "cannot be replayed" in text.text
    assert "on none of 1 worker" in page(web, "/rules/cpu-high/picture").text
    assert web.get("/rules/no-such/picture").status_code == 404


@pytest.mark.parametrize(
    "address", ["/workers/i-0dddddddddddddddd", "/alerts/no/such", "/static/x/../../app.py", "/nowhere"]
)
def test_what_there_is_not_is_not_found(web: TestClient, address: str) -> None:
    """An unknown worker, alert or file gets 404."""
    assert web.get(address).status_code == 404


def test_static_files_are_kept_by_the_browser(web: TestClient) -> None:
    """A static file is cached for ever by its address on the page, which changes with its content.

    Other addresses are not.
    """
    address = next(str(tag["href"]) for _, tag in page(web, "/").tags if str(tag.get("href")).endswith("page.css"))
    answer = web.get(address)
    assert answer.headers["Content-Type"] == "text/css; charset=utf-8"
    assert "immutable" in answer.headers["Cache-Control"]
    assert web.get("/static/older/page.css").headers["Cache-Control"] == "no-cache"


def test_every_module_is_loaded_once(web: TestClient) -> None:
    """Modules import each other by relative names, below the one address that the page has for all of them."""
    for script in (STATIC / "page.js", STATIC / "charts.js"):
        assert re.findall(r'from "(.*?)"', script.read_text("utf-8")), script
        assert all(name.startswith("./") for name in re.findall(r'from "(.*?)"', script.read_text("utf-8")))
    folders = {str(tag["src"]).rpartition("/")[0] for _, tag in page(web, "/").tags if tag.get("src")}
    assert len(folders) == 1


def test_a_fleet_that_is_still_being_read_is_said_to_be(
    fleet_of_two: Ports, web: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a large fleet is read after the start, the page says so at once and reloads by itself."""
    monkeypatch.setattr(pages, "PATIENCE", 0.01)
    snapshot_cache: snapshots.Snapshots = application(web).state.snapshots
    reading, go_on = threading.Event(), threading.Event()

    def read() -> views.Snapshot:
        reading.set()
        assert go_on.wait(60)
        snapshot: views.Snapshot = fleet_of_two.get(views.FleetSnapshot).snapshot()
        return snapshot

    snapshot_cache.warm(read)
    assert reading.wait(60)
    answer = web.get("/?q=render")
    go_on.set()
    assert (answer.status_code, answer.headers["Refresh"]) == (200, "1")
    assert "Reading the fleet for the first time" in answer.text
    snapshot_cache.get(read)
    assert "Refresh" not in web.get("/?q=render").headers
