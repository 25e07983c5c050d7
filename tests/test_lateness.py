"""The lateness in an evaluation: how far back a revised past is seen, and what a changed lateness keeps."""

from __future__ import annotations

import pytest

from tests.support.evaluating import ID, MINUTE, T0, Site
from workermon.models import Count, Levels
from workermon.rules import threshold

KEY = f"{ID}/band"
#: Fires at once above 80 (critical: 90), and stays while it is above 75 (85).
BAND = threshold.KIND.rule(
    name="band", metric="cpu_utilization", above=Levels(warning=80, critical=90), clear=Levels(warning=75, critical=85),
    breach=Count(m=1, n=1), recover=Count(m=1, n=1), notify=("ops",),
)  # fmt: skip


def revise(site: Site, now: int, slots: dict[int, float]) -> list[str]:
    """Collect at a minute that brings other values for slots of long ago, and evaluate it."""
    at = T0 + MINUTE * now
    site.collected(at + 3 * MINUTE, {T0 + MINUTE * slot: value for slot, value in slots.items()} | {at: 78.0})
    return site.evaluate()


def test_an_open_alert_stays_as_it_is_when_the_lateness_grows() -> None:
    """Its origin was dropped under the shorter lateness, so a revision does not change it."""
    site = Site(BAND)
    site.change(lateness=600)
    site.minutes([50, 85, 95, *[78.0] * 60])  # a warning that was critical for a minute
    notified = [("firing", "warning", 1), ("firing", "critical", 2), ("firing", "warning", 3)]
    assert site.notified(KEY) == notified
    site.change(lateness=7200)
    assert revise(site, 63, {3: 79.0}) == []
    assert site.notified(KEY) == notified
    assert [alert.rule for alert in site.alerts.open()] == ["band"]
    site.minutes([70.0], begin=64)
    assert site.notified(KEY) == [*notified, ("resolved", "warning", 64)]


def test_an_open_alert_stays_as_it_is_when_the_lateness_shrinks() -> None:
    """It resolves by later datapoints, as always."""
    site = Site(BAND)
    site.change(lateness=7200)
    site.minutes([50, 85, *[78.0] * 60])
    site.change(lateness=120)
    assert revise(site, 62, {1: 50.0, 5: 79.0}) == []
    assert site.notified(KEY) == [("firing", "warning", 1)]
    site.minutes([70.0], begin=63)
    assert site.notified(KEY) == [("firing", "warning", 1), ("resolved", "warning", 63)]


@pytest.mark.parametrize(
    ("lateness", "begin", "recorded"),
    [(900, 10, []), (900, 22, [("warning", 22), (None, 24)]), (3600, 10, [("warning", 10), (None, 12)])],
)
def test_how_far_back_a_revised_past_is_seen(lateness: int, begin: int, recorded: list[tuple[str | None, int]]) -> None:
    """Revisions are seen five intervals beyond the lateness, because a full request may be that late.

    They are only recorded.
    """
    site = Site(BAND)
    site.change(lateness=lateness)
    site.minutes([50.0] * 40)
    assert revise(site, 40, {begin: 85.0, begin + 1: 85.0}) == []
    assert [(severity, minute) for severity, minute, _, _ in site.recorded(KEY)] == recorded
    assert site.notified(KEY) == []
