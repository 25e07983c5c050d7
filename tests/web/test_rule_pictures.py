"""The pictures of the rules page: what each rule over datapoints would have fired."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tests.support import commands
from tests.support.commands import A, B, Ports
from workermon import fleet, models, views
from workermon.views import rule_pictures

HTML = {"Accept": "text/html"}

FILE = """
[[rules]]
name = "cpu"
metric = "cpu_utilization"
above = { critical = 90 }
breach = "1 of 1"
recover = "1 of 1"

[[rules]]
name = "calm"
metric = "cpu_utilization"
above = { critical = 99 }

[[rules]]
name = "either"
when = "cpu or calm"

[[rules]]
name = "both"
when = "cpu and calm"

[[rules]]
name = "pool"
over = { by = "team", count = "1 of 2" }
when = "cpu"

[[rules]]
name = "average"
over = { by = "team", aggregate = "avg" }
metric = "cpu_utilization"
above = { critical = 60 }
breach = "1 of 1"
recover = "1 of 1"

[[rules]]
name = "alone"
when = "down"

[[rules]]
name = "down"
metric = "state"
"""


@pytest.fixture
def recorded(world: Ports) -> Ports:
    """Give two workers of one team with datapoints of an hour. A was above 90 % for ten minutes."""
    world.ec2.put(models.Instance(id=B, region=commands.REGION, status="running", name="render-02"))
    world.configure(rules=world.parser.parse(FILE, "fleet.toml").rules)
    scope = models.AccountRegion(region=commands.REGION)
    world.get(fleet.Adding).add([A, B], fleet.AddOptions(scope=scope, labels={"team": "vfx"}))
    start = int(world.clock()) // 300 * 300
    world.cloudwatch.put(A, "CPUUtilization", [(start + 300 * n, 97.0 if n in (4, 5) else 40.0) for n in range(12)])
    world.cloudwatch.put(B, "CPUUtilization", [(start + 300 * n, 40.0) for n in range(12)])
    for _ in range(14):
        world.clock.advance(300)
        world.collect()
    return world


@pytest.mark.parametrize(
    ("rule", "expected", "link"),
    [
        ("cpu", "fired 1 time on 1 of 2 workers", f'href="/workers/{A}"'),
        ("either", "fired 1 time on 1 of 2 workers", f'href="/workers/{A}"'),
        ("both", "fired on none of 2 workers", None),
        ("pool", "fired 1 time on 1 of 1 group", 'href="/?label=team%3Dvfx"'),
        ("average", "fired 1 time on 1 of 1 group", 'href="/?label=team%3Dvfx"'),
    ],
)
def test_each_kind_over_datapoints_is_drawn(
    web: TestClient, recorded: Ports, rule: str, expected: str, link: str | None
) -> None:
    """Rules over a metric, over other rules and over a group have a row that shows when they would have fired."""
    text = web.get(f"/rules/{rule}/picture", headers=HTML).text
    assert expected in text.replace("<b>", "").replace("</b>", "")
    assert (link is None) == ("<svg" not in text)
    assert link is None or link in text
    assert f"/rules/{rule}/picture" in web.get("/rules", headers=HTML).text


@pytest.mark.parametrize("rule", ["alone", "down"])
def test_what_no_datapoint_decides_is_not_replayed(web: TestClient, recorded: Ports, rule: str) -> None:
    """A rule about states, or over such rules only, has no picture."""
    assert f"/rules/{rule}/picture" not in web.get("/rules", headers=HTML).text
    assert web.get(f"/rules/{rule}/picture", headers=HTML).status_code == 404


def test_times_of_a_lane_are_those_of_its_rule(recorded: Ports) -> None:
    """A rule over another fires in its picture at the same time. The row shows when it was evaluated."""
    view = recorded.get(views.PictureView)
    [over_metric], [over_rule], [of_group] = (view.picture(rule).lanes for rule in ("cpu", "either", "pool"))
    assert [(episode.begin, episode.end) for episode in over_rule.marks] == [
        (episode.begin, episode.end) for episode in over_metric.marks
    ]
    assert [episode.begin for episode in of_group.marks] == [episode.begin for episode in over_metric.marks]
    for row in (over_rule, of_group):
        [span] = row.evaluated
        assert span.end is not None
        assert span.end - span.begin >= 11 * 300


def test_only_whole_groups_are_replayed(web: TestClient, recorded: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that is too large for a page is left out, and the page says how to replay it."""
    monkeypatch.setattr(rule_pictures, "MAX_WORKERS", 1)
    assert "too many workers" in web.get("/rules/pool/picture", headers=HTML).text
    assert "only these were replayed" in web.get("/rules/cpu/picture", headers=HTML).text
