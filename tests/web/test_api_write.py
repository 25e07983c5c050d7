"""The API's writing routes: what the commands do, once for each key, and only over the expected revision."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from tests.support.commands import REGION, A, B, C, Ports, fires
from workermon import errors, models

Ok = Callable[..., str]

RULES = """\
[[workers]]
id = "{worker}"
region = "us-east-1"

[[rules]]
name = "cpu-hot"
metric = "cpu_utilization"
above = {{ critical = {above} }}
notify = ["log"]

[channels.log]
type = "log"
"""


def toml(worker: str = A, above: int = 90) -> bytes:
    """Return a config file."""
    return RULES.format(worker=worker, above=above).encode()


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Return the problem of an answer, which has to have that status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert all(document[part] for part in ("title", "detail", "action"))
    return document


@pytest.fixture
def fleet(ok: Ok) -> None:
    """Have a worker."""
    ok("add", A)


def test_workers_are_added_and_collected_at_once(web: TestClient, ok: Ok, world: Ports) -> None:
    """The answer is 201 with the rows of 'list', and the first sample."""
    body = {"ids": [A, B], "region": REGION, "interval": "5m", "labels": {"team": "vfx"}}
    answer = web.post("/api/v1/workers", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.json() == {"added": [A, B], **json.loads(ok("list", "--json"))}
    first = answer.json()["workers"][0]
    assert (first["interval"], first["labels"]) == (300, {"team": "vfx"})
    assert first["metrics"]["cpu_utilization"]["value"] == 42.5
    assert world.schedule.ids() == {A, B}


def test_workers_are_added_all_or_none(web: TestClient, world: Ports) -> None:
    """One instance that EC2 does not have refuses the whole request."""
    refusal = problem(web.post("/api/v1/workers", json={"ids": [A, C], "region": REGION}), 404)
    assert C in refusal["title"]
    assert world.workers.ids() == []


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"ids": [A], "region": "mars"}, 400, "region mars"),
        ({"ids": [A], "region": REGION, "account": "lab"}, 404, "account lab"),
        ({"ids": [A], "region": REGION, "interval": 5}, 400, "interval"),
        ({"ids": [A], "region": REGION, "interval": True}, 422, "body.interval"),
        ({"ids": [A], "region": REGION, "interval": -60}, 422, "body.interval"),
        ({"ids": [A, A], "region": REGION}, 400, A),
        ({"ids": [A, B], "region": REGION, "name": "x"}, 400, "--name"),
        ({"ids": [A], "region": REGION, "name": "a\nb"}, 422, "body.name"),
        ({"ids": [A], "region": REGION, "labels": {"team": 1}}, 422, "body.labels.team"),
        ({"ids": [A], "region": REGION, "colour": "red"}, 422, "body.colour"),
        ({"ids": []}, 422, "body.ids"),
        ({"ids": ["i-1"]}, 422, "body.ids.0"),
        ({"ids": A}, 422, "body.ids"),
        ([], 422, "body"),
        (None, 422, "body"),
    ],
)
def test_what_cannot_be_added_is_refused(web: TestClient, world: Ports, body: Any, status: int, error: str) -> None:
    """Wrong types, unknown fields and invalid values each have a clear answer. Nothing is added."""
    assert problem(web.post("/api/v1/workers", json=body), status)["title"] == error
    assert world.workers.ids() == []


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 100_000, b'{"ids": NaN'])
def test_malformed_json_is_refused(web: TestClient, body: bytes) -> None:
    """A body that is not JSON gets 400, however deeply it is nested."""
    answer = web.post("/api/v1/workers", content=body, headers={"Content-Type": "application/json"})
    assert problem(answer, 400)


def test_a_worker_is_paused_resumed_refreshed_and_removed(web: TestClient, world: Ports, fleet: None) -> None:
    """Each does what its command does, by name too, and may be repeated."""
    for _ in range(2):
        assert web.post("/api/v1/workers/render-01/pause").json()["monitoring"] == "paused"
    assert world.schedule.ids() == set()
    for _ in range(2):
        assert web.post(f"/api/v1/workers/{A}/resume").json()["monitoring"] == "active"
    assert world.schedule.ids() == {A}
    world.clock.advance(30)
    answer = web.post(f"/api/v1/workers/{A}/refresh")
    assert answer.json()["last_collected_at"] == models.rfc3339(world.clock())
    for _ in range(2):
        answer = web.delete(f"/api/v1/workers/{A}")
        assert (answer.status_code, answer.content) == (204, b"")
    problem(web.get(f"/api/v1/workers/{A}"), 404)
    problem(web.delete("/api/v1/workers/nobody"), 404)
    problem(web.post(f"/api/v1/workers/{A}/pause"), 404)


def test_a_refresh_that_fails_says_why(web: TestClient, world: Ports, fleet: None) -> None:
    """AWS throttles: 503 and when to try again. AWS refuses: 502."""
    world.cloudwatch.error = errors.AwsThrottled("CloudWatch", "too many requests", "wait")
    answer = web.post(f"/api/v1/workers/{A}/refresh")
    assert problem(answer, 503)["title"] == "CloudWatch"
    assert answer.headers["Retry-After"]
    world.cloudwatch.error = errors.AwsDenied("CloudWatch", "no permission", "allow it")
    problem(web.post(f"/api/v1/workers/{A}/refresh"), 502)


def test_an_alert_is_acknowledged(web: TestClient, world: Ports, fleet: None) -> None:
    """As with 'ack', the key may contain the worker's name. A second one names the first person."""
    fires(world, A)
    first = web.post("/api/v1/alerts/ack", json={"alert": f"{A}/cpu-high", "by": "kim"})
    assert first.json() == {
        "acked_by": "kim", "at": models.rfc3339(world.clock()), "alert": f"{A}/cpu-high", "previous": None,
    }  # fmt: skip
    second = web.post("/api/v1/alerts/ack", json={"alert": "render-01/cpu-high"}).json()
    assert (second["acked_by"], second["previous"]["acked_by"]) == ("local", "kim")
    assert web.get("/api/v1/alerts").json()["alerts"][0]["acked_by"] == "local"
    problem(web.post("/api/v1/alerts/ack", json={"alert": f"{A}/cpu-hihg"}), 404)
    problem(web.post("/api/v1/alerts/ack", json={"alert": f"{A}/cpu-high", "who": "me"}), 422)


def test_a_silence_is_made_and_ended(web: TestClient, world: Ports, fleet: None) -> None:
    """It works like 'silence' and 'unsilence', for a duration or until a time."""
    body = {"worker": "render-01", "rule": "cpu-high", "for": "2h", "reason": "new disk", "by": "kim"}
    answer = web.post("/api/v1/silences", json=body)
    assert answer.status_code == 201
    created = answer.json()
    assert (created["worker"], created["rule"], created["by"], created["origin"]) == (
        "render-01",
        "cpu-high",
        "kim",
        "command",
    )
    assert models.moment(created["ends"]) - models.moment(created["begins"]) == 7200
    assert web.get("/api/v1/silences").json() == {"silences": [created]}
    assert web.delete(f"/api/v1/silences/{created['id']}").status_code == 204
    problem(web.delete(f"/api/v1/silences/{created['id']}"), 404)
    until = models.rfc3339(world.clock() + 60)
    created = web.post("/api/v1/silences", json={"labels": {"team": "vfx"}, "until": until, "reason": "x"}).json()
    assert (created["ends"], created["by"]) == (until, "local")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"for": "2h", "reason": "x"}, 400),
        ({"rule": "cpu-high", "reason": "x"}, 400),
        ({"rule": "cpu-high", "for": "2h"}, 422),
        ({"rule": "cpu-high", "for": "2h", "until": "2026-11-23T16:00:00Z", "reason": "x"}, 422),
        ({"rule": "cpu-high", "until": "2001-11-23T16:00:00Z", "reason": "x"}, 400),
        ({"rule": "cpu-high", "until": "soon", "reason": "x"}, 422),
        ({"rule": "cpu-high", "until": 5, "reason": "x"}, 422),
        ({"rule": "cpu-high", "for": "400d", "reason": "x"}, 400),
        ({"rule": "cpu-hihg", "for": "2h", "reason": "x"}, 404),
        ({"worker": "nobody", "for": "2h", "reason": "x"}, 404),
    ],
)
def test_a_silence_that_cannot_be_meant_is_refused(
    web: TestClient, world: Ports, fleet: None, body: Any, status: int
) -> None:
    """The reason is in the problem, and nothing is silenced."""
    problem(web.post("/api/v1/silences", json=body), status)
    assert world.silences.every() == []


def test_a_file_is_planned_and_applied(web: TestClient, ok: Ok, world: Ports) -> None:
    """Both answer the command's document. ``ETag`` is the revision before plan and after apply."""
    planned = web.post("/api/v1/plan", content=toml())
    assert (planned.status_code, planned.headers["ETag"]) == (200, '"0"')
    assert (planned.json()["added"], world.workers.ids()) == ([A], [])
    applied = web.post("/api/v1/apply", content=toml(), headers={"If-Match": planned.headers["ETag"]})
    assert (applied.status_code, applied.headers["ETag"]) == (200, '"1"')
    assert applied.json()["added"] == [A]
    assert world.workers.get([A])[A].condition.collected_at is not None
    expected = json.loads(ok("plan", "-", "--json", input=toml(above=80)))
    document = web.post("/api/v1/plan", content=toml(above=80)).json()
    assert {**document, "file": ""} == {**expected, "file": ""}


def test_who_comes_second_is_refused(web: TestClient, world: Ports) -> None:
    """A file that was planned before another was applied changes nothing: 412. Without ``If-Match`` it wins."""
    revision = web.post("/api/v1/plan", content=toml(above=80)).headers["ETag"]
    assert web.post("/api/v1/apply", content=toml(above=70)).status_code == 200
    for condition in (revision, revision.strip('"'), f"W/{revision}"):
        problem(web.post("/api/v1/apply", content=toml(above=80), headers={"If-Match": condition}), 412)
    assert world.configurations.load().revision == 1
    problem(web.post("/api/v1/apply", content=toml(), headers={"If-Match": "latest"}), 400)
    assert web.post("/api/v1/apply", content=toml(above=80), headers={"If-Match": "*"}).status_code == 200


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"[[rules]\n", "request"),
        (b"\xff", "request"),
        (b"colour = 1\n", "request"),
        (b'[[workers]]\nid = "i-0aaaaaaaaaaaaaaaa"\nregion = "mars"\n', "request"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(web: TestClient, world: Ports, content: bytes, error: str) -> None:
    """plan and apply refuse an invalid file with a problem that has the command's line."""
    for path in ("/api/v1/plan", "/api/v1/apply"):
        assert problem(web.post(path, content=content), 400)["title"].startswith(error)
    assert world.configurations.load().revision == 0


def test_a_repeated_write_is_done_once(web: TestClient, world: Ports, fleet: None) -> None:
    """The same key and body give the first answer, byte for byte. Without a key the write is repeated."""
    body = {"rule": "cpu-high", "for": "2h", "reason": "new disk"}
    first = web.post("/api/v1/silences", json=body, headers={"Idempotency-Key": "k1"})
    world.clock.advance(30)
    repeated = web.post("/api/v1/silences", json=body, headers={"Idempotency-Key": "k1"})
    assert (repeated.status_code, repeated.content) == (201, first.content)
    assert repeated.headers["Idempotency-Replayed"] == "true"
    assert repeated.headers["Content-Type"] == "application/json"
    assert len(world.silences.every()) == 1
    assert web.post("/api/v1/silences", json=body).status_code == 201
    assert len(world.silences.every()) == 2


def test_a_key_of_another_request_is_refused(web: TestClient, world: Ports, fleet: None) -> None:
    """Another body, path or method with the same key is 422, and does nothing."""
    headers = {"Idempotency-Key": "k1"}
    assert web.post(f"/api/v1/workers/{A}/refresh", headers=headers).status_code == 200
    body = {"rule": "cpu-high", "for": "2h", "reason": "new disk"}
    assert "another request" in problem(web.post("/api/v1/silences", json=body, headers=headers), 422)["detail"]
    problem(web.post(f"/api/v1/workers/{A}/pause", headers=headers), 422)
    problem(web.delete(f"/api/v1/workers/{A}", headers=headers), 422)
    assert (world.silences.every(), world.workers.ids()) == ([], [A])


def test_an_error_is_replayed_unless_it_may_pass(web: TestClient, world: Ports, fleet: None) -> None:
    """For one key an unknown worker stays unknown. After throttling by AWS the request is repeated."""
    headers = {"Idempotency-Key": "k1"}
    first = problem(web.post(f"/api/v1/workers/{B}/pause", headers=headers), 404)
    repeated = web.post(f"/api/v1/workers/{B}/pause", headers=headers)
    assert problem(repeated, 404) == first
    assert repeated.headers["Idempotency-Replayed"] == "true"
    world.cloudwatch.error = errors.AwsThrottled("CloudWatch", "too many requests", "wait")
    headers = {"Idempotency-Key": "k2"}
    problem(web.post(f"/api/v1/workers/{A}/refresh", headers=headers), 503)
    world.cloudwatch.error = None
    assert web.post(f"/api/v1/workers/{A}/refresh", headers=headers).status_code == 200


def test_a_request_at_work_is_not_started_twice(
    web: TestClient, world: Ports, fleet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a request runs, a second one with its key gets 409."""
    headers = {"Idempotency-Key": "k1"}
    statuses = []
    pause = world.workers.update

    def update(worker: models.Worker) -> bool:
        statuses.append(web.post(f"/api/v1/workers/{A}/pause", headers=headers))
        return pause(worker)

    monkeypatch.setattr(world.workers, "update", update)
    assert web.post(f"/api/v1/workers/{A}/pause", headers=headers).status_code == 200
    assert [problem(answer, 409)["title"] for answer in statuses] == ["Idempotency-Key"]


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_has_a_length(web: TestClient, world: Ports, fleet: None, key: str) -> None:
    """An empty key and one of more than 255 characters are refused."""
    answer = web.post(f"/api/v1/workers/{A}/pause", headers={"Idempotency-Key": key})
    assert problem(answer, 422)["title"] == "header.idempotency-key"
