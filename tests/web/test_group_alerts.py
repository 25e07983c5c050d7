"""The page over alerts of groups: the subjects of its buttons."""

from __future__ import annotations

import html
import re

import pytest
from fastapi.testclient import TestClient

from tests.support.grouping import T0, Pools
from workermon import views

BROWSER = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:8650", "Accept": "text/html"}
HOT = dict.fromkeys(range(1, 7), 97.0)


@pytest.fixture
def world() -> Pools:
    """Give a monitor in which one rule fires for two pools."""
    pools = Pools()
    for number in HOT:
        pools.add(number, "a" if number < 4 else "b")
    pools.slot(T0 + 60, dict.fromkeys(HOT, 10.0))
    pools.slot(T0 + 120, HOT)
    return pools


def forms(text: str, action: str) -> list[dict[str, str]]:
    """Return the hidden fields of each form of a page that is sent to an address."""
    matching_forms = re.findall(rf'<form[^>]*action="{action}".*?</form>', text, re.DOTALL)
    hidden = r'<input type="hidden" name="([^"]*)" value="([^"]*)"'
    return [{name: html.unescape(value) for name, value in re.findall(hidden, form)} for form in matching_forms]


def test_the_button_silences_one_group(web: TestClient, world: Pools) -> None:
    """The silence is of that group's alert: the same rule still notifies of the other group."""
    page = web.get("/alerts", headers=BROWSER).text
    assert "Silence pool-hot of group:pool=a?" in page
    of_group = {form["alert"]: form for form in forms(page, "/silences")}
    assert sorted(of_group) == ["group:pool=a/pool-hot", "group:pool=b/pool-hot"]
    fields = of_group["group:pool=a/pool-hot"] | {"lasting": "7200", "reason": "known"}
    assert web.post("/silences", data=fields, headers=BROWSER, follow_redirects=False).status_code == 303
    [silence] = world.get(views.SilenceView).list().silences
    assert (silence.alert, silence.rule, silence.worker) == ("group:pool=a/pool-hot", None, None)
    rows = world.get(views.AlertView).list().alerts
    assert {row.dedup_key: row.silenced_by for row in rows} == {
        "group:pool=a/pool-hot": silence.id,
        "group:pool=b/pool-hot": None,
    }
    muted = re.search(r'id="silences".*?</table>', web.get("/alerts", headers=BROWSER).text, re.DOTALL)
    assert muted is not None
    assert "group:pool=a/pool-hot" in muted[0]
