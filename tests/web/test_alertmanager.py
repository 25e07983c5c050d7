"""Alertmanager's API v2 over workermon's alerts and silences."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.support.commands import A, B, Ports, fires
from workermon import models

Ok = Callable[..., str]
API = "/alertmanager/api/v2"


@pytest.fixture(autouse=True)
def fleet(ok: Ok, world: Ports) -> None:
    """Give two firing workers."""
    ok("add", A, "--label", "team.name=vfx")
    ok("add", B)
    fires(world, A)
    fires(world, B, rule="memory-high")


def matcher(name: str, value: str, **more: bool) -> dict[str, Any]:
    """Return a matcher as Alertmanager's clients send it."""
    return {"name": name, "value": value, "isRegex": False, "isEqual": True, **more}


def body(world: Ports, *conditions: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a silence of two hours as Alertmanager's clients ask for it."""
    now = world.clock()
    return {
        "matchers": list(conditions), "startsAt": models.rfc3339(now), "endsAt": models.rfc3339(now + 7200),
        "createdBy": "kim", "comment": "new disk", **changes,
    }  # fmt: skip


def test_alerts_are_alertmanagers(web: TestClient, world: Ports) -> None:
    """An alert has the labels that an alertmanager channel sends, and the fields that clients read."""
    [alert] = [entry for entry in web.get(f"{API}/alerts").json() if entry["labels"]["alertname"] == "cpu-high"]
    assert alert["labels"]["instance"] == A
    assert (alert["labels"]["severity"], alert["labels"]["worker"]) == ("critical", "render-01")
    assert alert["annotations"]["summary"] == "render-01: 97 % > 90 %"
    assert alert["receivers"] == [{"name": "log"}]
    assert alert["status"] == {"state": "active", "silencedBy": [], "inhibitedBy": [], "mutedBy": []}
    assert len(alert["fingerprint"]) == 16
    assert {"startsAt", "endsAt", "updatedAt", "generatorURL"} <= alert.keys()


@pytest.mark.parametrize(
    ("query", "rules"),
    [
        ('filter=alertname="cpu-high"', ["cpu-high"]),
        ('filter=alertname=~"cpu.*|memory.*"&filter=severity="critical"', ["cpu-high", "memory-high"]),
        (f'filter=instance!="{A}"', ["memory-high"]),
        ("receiver=lo.", ["cpu-high", "memory-high"]),
        ("receiver=ops", []),
        ("active=false", []),
        ("silenced=false&inhibited=false&unprocessed=false", ["cpu-high", "memory-high"]),
    ],
)
def test_alerts_are_filtered(web: TestClient, query: str, rules: list[str]) -> None:
    """Matchers, states and receivers select alerts as in Alertmanager."""
    document = web.get(f"{API}/alerts?{query}").json()
    assert sorted(alert["labels"]["alertname"] for alert in document) == rules
    grouped = web.get(f"{API}/alerts/groups?{query}").json()
    assert [(group["receiver"]["name"], group["labels"]["alertname"]) for group in grouped] == [
        ("log", rule) for rule in rules
    ]


@pytest.mark.parametrize(
    "query", ["filter=severity", 'filter=alertname="none"&filter=severity', 'filter=a=~"("', "receiver=("]
)
@pytest.mark.parametrize("path", ["alerts", "alerts/groups"])
def test_a_wrong_filter_is_refused_whatever_fires(web: TestClient, path: str, query: str) -> None:
    """A matcher or expression that is wrong is refused, also if no alert would be compared with it."""
    for filters in (query, f"active=false&{query}"):
        assert web.get(f"{API}/{path}?{filters}").status_code == 400


def test_a_silence_is_made_shown_replaced_and_ended(web: TestClient, ok: Ok, world: Ports) -> None:
    """The silence is the command's, and the alert is shown as suppressed."""
    conditions = [matcher("alertname", "cpu-high"), matcher("instance", A)]
    silence_id = web.post(f"{API}/silences", json=body(world, *conditions)).json()["silenceID"]
    [silence] = json.loads(ok("silences", "--json"))["silences"]
    assert (silence["id"], silence["worker"], silence["rule"], silence["labels"]) == (silence_id, A, "cpu-high", {})
    assert (silence["by"], silence["reason"]) == ("kim", "new disk")
    document = web.get(f"{API}/silence/{silence_id}").json()
    assert document["matchers"] == conditions
    assert (document["status"], document["comment"], document["createdBy"]) == ({"state": "active"}, "new disk", "kim")
    assert web.get(f"{API}/silences").json() == [document]
    assert web.get(f'{API}/silences?filter=alertname="other"').json() == []
    [alert] = web.get(f"{API}/alerts?active=false").json()
    assert alert["status"]["silencedBy"] == [silence_id]
    replaced = web.post(f"{API}/silences", json=body(world, *conditions, id=silence_id, comment="still")).json()[
        "silenceID"
    ]
    assert [entry["id"] for entry in web.get(f"{API}/silences").json()] == [replaced]
    assert web.delete(f"{API}/silence/{replaced}").status_code == 200
    assert web.get(f"{API}/silences").json() == []
    expired = web.get(f"{API}/silence/{replaced}")
    assert (expired.status_code, expired.headers["Content-Type"]) == (404, "application/json")
    assert isinstance(expired.json(), str)


def test_a_label_goes_there_and_back(web: TestClient, world: Ports) -> None:
    """A label with a name that Prometheus does not allow matches its workers. An unknown one stays."""
    conditions = [matcher("label_team_name", "vfx"), matcher("label_pool", "a")]
    silence_id = web.post(f"{API}/silences", json=body(world, *conditions)).json()["silenceID"]
    assert [silence.labels for silence in world.silences.every()] == [{"team.name": "vfx", "pool": "a"}]
    assert web.get(f"{API}/silence/{silence_id}").json()["matchers"] == conditions


@pytest.mark.parametrize(
    ("conditions", "error"),
    [
        ([matcher("severity", "critical")], "knows alertname, instance, worker and label_"),
        ([matcher("alertname", "cpu-high"), matcher("region", "us-east-1")], "knows alertname"),
        ([matcher("alertname", "cpu.*", isRegex=True)], "takes no expressions"),
        ([matcher("alertname", "cpu-high", isEqual=False)], "not what it leaves out"),
        ([matcher("label_pool", "")], "names no absent label"),
        ([matcher("instance", A), matcher("worker", "render-01")], "leave one of them out"),
        ([matcher("alertname", "cpu-high"), matcher("alertname", "memory-high")], "contradicts another"),
    ],
)
def test_a_matcher_that_no_silence_can_express_is_refused(
    web: TestClient, world: Ports, conditions: list[dict[str, Any]], error: str
) -> None:
    """The answer is 400 with the reason as a string. Nothing is silenced."""
    answer = web.post(f"{API}/silences", json=body(world, *conditions))
    assert answer.status_code == 400
    assert error in answer.json()
    assert world.silences.every() == []


def test_an_expression_without_a_special_letter_is_a_name(web: TestClient, world: Ports) -> None:
    """``=~`` with a plain value is accepted, because clients send that."""
    answer = web.post(f"{API}/silences", json=body(world, matcher("alertname", "cpu-high", isRegex=True)))
    assert answer.status_code == 200
    assert [silence.rule for silence in world.silences.every()] == ["cpu-high"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"startsAt": "2030-01-01T00:00:00Z"}, 400),
        ({"endsAt": "2001-01-01T00:00:00Z"}, 400),
        ({"comment": " \n "}, 400),
        ({"createdBy": ""}, 400),
        ({"matchers": []}, 400),
        ({"colour": "red"}, 400),
        ({"startsAt": 5}, 400),
        ({"id": "00000000"}, 404),
    ],
)
def test_a_silence_that_cannot_be_made_is_refused(
    web: TestClient, world: Ports, changes: dict[str, Any], status: int
) -> None:
    """Each invalid silence is refused with its reason as a string."""
    answer = web.post(f"{API}/silences", json=body(world, matcher("alertname", "cpu-high"), **changes))
    assert answer.status_code == status, answer.text
    assert isinstance(answer.json(), str)
    assert world.silences.every() == []


def test_windows_of_the_config_file_are_shown_and_stay(web: TestClient, ok: Ok, world: Ports) -> None:
    """A future window is pending. Only the file can end it."""
    world.configure(
        silences=(
            models.Maintenance(id="nightly", worker="render-01", schedule="0 3 * * *", duration=3600, reason="backup"),
        )
    )
    [document] = web.get(f"{API}/silences").json()
    assert (document["id"], document["status"]["state"]) == ("nightly", "pending")
    assert document["matchers"] == [matcher("worker", "render-01")]
    answer = web.delete(f"{API}/silence/nightly")
    assert (answer.status_code, "config file" in answer.json()) == (400, True)


def test_status_and_receivers(web: TestClient) -> None:
    """Status and receivers, which clients request first, are answered."""
    status = web.get(f"{API}/status").json()
    assert status["versionInfo"]["version"]
    assert status["cluster"]["status"] == "disabled"
    assert web.get(f"{API}/receivers").json() == [{"name": "log"}]
    assert web.get(f"{API}/alerts?filter=(").json().startswith("matcher (")
    assert web.get(f"{API}/alerts?colour=red").status_code == 400
