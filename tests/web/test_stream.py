"""The stream of samples and alerts: one subscription for all clients, and a limit on what waits for each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.requests import Request
from starlette.types import Message

from tests.support.commands import A, B, Ports, fires
from tests.support.serving import application
from workermon import errors, models, ports, views
from workermon.web import gate, hub, problem_details, stream

Ok = Callable[..., str]
Serve = Callable[..., TestClient]


def run(steps: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine on an event loop, within a minute."""

    async def bounded() -> None:
        await asyncio.wait_for(steps, 60)

    asyncio.run(bounded())


async def until(condition: Callable[[], bool], expected: str) -> None:
    """Wait until something is true."""
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within 30 s: {expected}")


def source(world: Ports) -> hub.Hub:
    """Return a hub over the monitor's channel."""
    live = world.get(views.LiveMessages)
    return hub.Hub(lambda: live.follow(timeout=0.05))


def notification(version: int, worker_id: str = A) -> str:
    """Return an alert's message as the channel carries it."""
    worker = models.NotifiedWorker(id=worker_id, name="render-01", region="us-east-1")
    text = models.Notification(
        id=f"n{version}", version=version, dedup_key=f"{worker_id}/cpu-high", kind="threshold", status="firing",
        severity="critical", rule="cpu-high", metric="cpu_utilization", value=97.0, threshold=90.0,
        since="2026-11-23T16:00:00Z", at="2026-11-23T16:00:00Z", worker=worker, summary="97 % > 90 %\n\ndata: forged",
    )  # fmt: skip
    return text.model_dump_json(by_alias=True)


class Browser:
    """A client of the application by ASGI, which reads only as much as a test lets it."""

    def __init__(self, serve: Serve, path: str = "/api/v1/stream", query: str = "") -> None:
        self.app = application(serve())
        self.scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 8650),
        }  # fmt: skip
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.text = ""
        self.reads = asyncio.Event()
        self.reads.set()
        self._disconnected = asyncio.Event()
        self.response = asyncio.ensure_future(self.app(self.scope, self._receive, self._send))

    @property
    def hub(self) -> hub.Hub:
        """Return the application's hub."""
        application_hub: hub.Hub = self.app.state.hub
        return application_hub

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the data of the events of a kind that came."""
        blocks = (block.split("\n") for block in self.text.split("\n\n"))
        return [
            json.loads(line.removeprefix("data: "))
            for lines in blocks if f"event: {kind}" in lines
            for line in lines if line.startswith("data: ")
        ]  # fmt: skip

    async def leave(self) -> None:
        """Close the connection, and wait until the application has noticed."""
        self._disconnected.set()
        await self.response

    async def _receive(self) -> Message:
        await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            self.text += message["body"].decode()


@pytest.fixture
def fleet(ok: Ok) -> None:
    """Have a worker."""
    ok("add", A)


def test_samples_and_alerts_come_as_the_channel_has_them(serve: Serve, ok: Ok, world: Ports, fleet: None) -> None:
    """A collection gives a ``sample`` and a notification an ``alert``, as ``watch --json`` prints them."""

    async def steps() -> None:
        browser = Browser(serve)
        await until(lambda: browser.text.startswith("retry: "), "the stream's begin")
        assert (browser.status, browser.headers[b"content-type"]) == (200, b"text/event-stream; charset=utf-8")
        await asyncio.to_thread(ok, "refresh", A)
        world.store.publish(ports.alerts_channel(world.store.channel), notification(1))
        world.store.publish(world.store.channel, "{not ours")
        await until(lambda: bool(browser.events("sample") and browser.events("alert")), "both events")
        [sample], [alert] = browser.events("sample"), browser.events("alert")
        assert (sample["schema"], sample["event"], sample["worker_id"]) == (1, "worker.metrics.collected", A)
        assert alert == json.loads(notification(1))
        await browser.leave()

    run(steps())


def test_a_client_may_ask_for_some_workers(serve: Serve, world: Ports, fleet: None) -> None:
    """With ``worker=`` it gets messages about these and no others."""

    async def steps() -> None:
        browser = Browser(serve, query=f"worker={B}")
        await until(lambda: bool(browser.text), "the stream's begin")
        for version, worker_id in ((1, A), (2, B)):
            world.store.publish(ports.alerts_channel(world.store.channel), notification(version, worker_id))
        await until(lambda: bool(browser.events("alert")), "an alert")
        assert [event["worker"]["id"] for event in browser.events("alert")] == [B]
        await browser.leave()

    run(steps())


def test_all_clients_share_one_subscription(world: Ports) -> None:
    """Any number of clients has one subscription, which ends with the last client."""

    async def steps() -> None:
        shared = source(world)
        clients = [await shared.join() for _ in range(20)]
        assert len(world.store._listeners) == 1
        world.store.publish(ports.alerts_channel(world.store.channel), notification(1))
        chunks = [await client.next(30) for client in clients]
        assert len(set(chunks)) == 1
        assert chunks[0].startswith(b"event: alert\nid: n1\ndata: {")
        for client in clients:
            shared.leave(client)
        await until(lambda: not world.store._listeners, "the end of the subscription")
        second = await shared.join()
        assert len(world.store._listeners) == 1
        shared.leave(second)
        await until(lambda: not world.store._listeners, "its end again")

    run(steps())


def test_a_client_that_never_reads_is_dropped(world: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its messages are limited, then it is disconnected. Other clients miss nothing."""
    monkeypatch.setattr(hub, "MAX_BACKLOG", 50)

    async def steps() -> None:
        shared = source(world)
        stuck, reading = await shared.join(), await shared.join()
        read = b""
        for version in range(200):
            world.store.publish(ports.alerts_channel(world.store.channel), notification(version))
            assert len(stuck._waiting) <= 50
            while f"id: n{version}\n".encode() not in read:
                read += await reading.next(30)
        assert stuck.is_over
        assert not stuck._waiting
        assert not reading.is_over
        assert (read.count(b"event: alert"), shared.size) == (200, 1)
        shared.leave(reading)

    run(steps())


def test_a_client_whose_connection_is_stuck_is_let_go(
    serve: Serve, world: Ports, fleet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that does not finish in time ends the stream, and the client is dropped."""
    monkeypatch.setattr(stream, "PATIENCE", 0.2)

    async def steps() -> None:
        browser = Browser(serve)
        await until(lambda: bool(browser.text), "the stream's begin")
        browser.reads.clear()
        world.store.publish(ports.alerts_channel(world.store.channel), notification(1))
        await browser.response
        assert browser.hub.size == 0

    run(steps())


def test_a_heartbeat_checks_the_login_again(
    serve: Serve, world: Ports, fleet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without messages a comment is sent. If the login is no longer valid, the stream ends."""
    monkeypatch.setattr(stream, "HEARTBEAT", 0.05)
    refused = False

    def identify(_request: Request) -> None:
        if refused:
            raise problem_details.Refused(401, "login", "the token was revoked", "log in again")

    monkeypatch.setattr(gate, "identify", identify)

    async def steps() -> None:
        nonlocal refused
        shared = source(world)
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        answer = stream.EventStream(Request(scope), shared, await shared.join())
        text, open_ended = b"", asyncio.Event()

        async def send(message: Message) -> None:
            nonlocal text
            text += message.get("body", b"")

        async def receive() -> Message:
            await open_ended.wait()
            return {"type": "http.disconnect"}

        response = asyncio.ensure_future(answer(scope, receive, send))
        await until(lambda: text.count(b": heartbeat\n\n") >= 2, "two heartbeats")
        refused = True
        await response
        assert shared.size == 0

    run(steps())


def test_a_broken_connection_ends_every_stream(world: Ports) -> None:
    """Messages were lost, so each client has to reconnect, as soon as Redis is back."""
    breaks = False

    def follow() -> Generator[views.Message | None, None, None]:
        for message in world.get(views.LiveMessages).follow(timeout=0.02):
            if breaks:
                raise errors.RedisUnavailable("Redis", "the connection broke", "wait")
            yield message

    async def steps() -> None:
        nonlocal breaks
        shared = hub.Hub(follow)
        clients = [await shared.join(), await shared.join()]
        breaks = True
        assert [await client.next(30) for client in clients] == [b"", b""]
        assert all(client.is_over for client in clients)
        with pytest.raises(errors.RedisUnavailable):
            await shared.join()
        breaks = False
        shared.leave(await shared.join())

    run(steps())


def test_too_many_clients_are_refused(world: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit a client gets 503 and the time to retry. Others are not affected."""
    monkeypatch.setattr(hub, "MAX_CLIENTS", 2)

    async def steps() -> None:
        shared = source(world)
        clients = [await shared.join(), await shared.join()]
        with pytest.raises(problem_details.Refused) as refused:
            await shared.join()
        assert refused.value.status == 503
        shared.close()
        assert all(client.is_over for client in clients)
        with pytest.raises(problem_details.Refused):
            await shared.join()

    run(steps())


def test_fires_reaches_the_stream(serve: Serve, world: Ports, fleet: None) -> None:
    """A committed evaluation appears on the stream."""

    async def steps() -> None:
        browser = Browser(serve)
        await until(lambda: bool(browser.text), "the stream's begin")
        await asyncio.to_thread(fires, world, A)
        await until(lambda: bool(browser.events("alert")), "the alert")
        await browser.leave()
        assert browser.hub.size == 0

    run(steps())
