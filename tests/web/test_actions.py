"""The page's forms: what they do, who may use them, and that no other page can."""

from __future__ import annotations

import re

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from tests.support import commands
from tests.support.commands import A, Ports
from workermon import fleet, models, views

BROWSER = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:8650", "Accept": "text/html"}


@pytest.fixture
def firing(world: Ports) -> Ports:
    """Give a monitor with one firing worker."""
    scope = models.AccountRegion(region=commands.REGION)
    world.get(fleet.Adding).add([A], fleet.AddOptions(scope=scope))
    world.collect()
    commands.fires(world, A)
    return world


def token_of(web: TestClient, address: str) -> str:
    """Return the token of the forms of a page."""
    match = re.search(r'name="csrf" value="([0-9a-f]{64})"', web.get(address, headers=BROWSER).text)
    assert match, "the page has no form"
    return match[1]


def post(web: TestClient, address: str, **fields: str) -> Response:
    """Send a form as a browser sends it from a worker's page."""
    fields.setdefault("csrf", token_of(web, f"/workers/{A}"))
    answer: Response = web.post(address, data=fields, headers=BROWSER, follow_redirects=False)
    return answer


def page_after(web: TestClient, answer: Response) -> str:
    """Return the page to which an action sends the browser."""
    assert answer.status_code == 303, answer.text
    text: str = web.get(answer.headers["Location"], headers=BROWSER).text
    return text


def test_pause_and_resume(web: TestClient, firing: Ports) -> None:
    """A worker's buttons pause and resume it, and the page confirms it."""
    assert "Paused. It is not collected" in page_after(web, post(web, f"/workers/{A}/pause"))
    assert firing.workers.get([A])[A].worker.monitoring == "paused"
    assert "Resumed." in page_after(web, post(web, f"/workers/{A}/resume"))
    assert firing.workers.get([A])[A].worker.monitoring == "active"


def test_refresh_collects_now(web: TestClient, firing: Ports) -> None:
    """Refresh collects outside the interval."""
    firing.clock.advance(7)
    assert "Collected just now." in page_after(web, post(web, f"/workers/{A}/refresh"))
    assert firing.workers.get([A])[A].condition.collected_at == firing.clock()


def test_acknowledge(web: TestClient, firing: Ports) -> None:
    """The list names who acknowledged an alert, and the button is gone."""
    text = page_after(web, post(web, "/alerts/ack", alert=f"{A}/cpu-high"))
    assert "acknowledged by local" in text
    assert "Acknowledge cpu-high?" not in text


def test_silence_and_end_it(web: TestClient, firing: Ports) -> None:
    """A silence made from a worker's page is in the list with its reason, and ends by its button."""
    fields = {"worker": A, "lasting": "7200", "reason": "new <b>disk</b>", "back": "worker"}
    answer = post(web, "/silences", **fields)
    assert answer.headers["Location"] == f"/workers/{A}?did=silenced"
    [silence] = firing.get(views.SilenceView).list().silences
    assert (silence.worker, silence.reason, silence.by) == (A, "new <b>disk</b>", "local")
    assert "new &lt;b&gt;disk&lt;/b&gt;" in web.get("/alerts", headers=BROWSER).text
    page_after(web, post(web, f"/silences/{silence.id}/end"))
    assert not firing.get(views.SilenceView).list().silences


@pytest.mark.parametrize("address", ["pause", "resume", "refresh"])
def test_without_the_page_s_token_nothing_is_done(web: TestClient, firing: Ports, address: str) -> None:
    """A form without this page's token is refused in words, and so is one from another site."""
    refused = post(web, f"/workers/{A}/{address}", csrf="0" * 64)
    assert refused.status_code == 403
    assert "Reload the page" in refused.text
    foreign = BROWSER | {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    fields = {"csrf": token_of(web, f"/workers/{A}")}
    assert web.post(f"/workers/{A}/{address}", data=fields, headers=foreign).status_code == 403
    assert firing.workers.get([A])[A].worker.monitoring == "active"


@pytest.mark.parametrize(
    ("address", "fields", "status"),
    [
        ("/silences", {"worker": A, "lasting": "7200", "reason": " "}, 422),
        ("/silences", {"worker": A, "lasting": "-5", "reason": "x"}, 422),
        ("/silences", {"lasting": "7200", "reason": "everything"}, 400),
        ("/silences", {"worker": "i-0ddddddddddddddddd", "lasting": "7200", "reason": "x"}, 422),
        ("/silences/no-such/end", {}, 404),
        ("/alerts/ack", {"alert": "no/such"}, 404),
        ("/workers/nobody/pause", {}, 404),
    ],
)
def test_what_cannot_be_done_says_why(
    web: TestClient, firing: Ports, address: str, fields: dict[str, str], status: int
) -> None:
    """An invalid form gives a page with the reason, and changes nothing."""
    answer = post(web, address, **fields)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"].startswith("text/html")
    assert not firing.get(views.SilenceView).list().silences


def test_a_made_up_word_in_the_address_says_nothing(web: TestClient, firing: Ports) -> None:
    """Only known words in the address give a confirmation. No text of a link is shown."""
    assert "hello" not in web.get("/alerts?did=hello", headers=BROWSER).text
