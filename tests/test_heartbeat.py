"""The dead-man's switch is requested only while every part works."""

from __future__ import annotations

import base64
import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest
import structlog

from tests.support.waiting import eventually
from workermon import errors, health, models, notify, testing
from workermon.notify import channel_health
from workermon.notify import http as guarded
from workermon.pipeline import background

NOW = 1_700_000_000


class House(testing.Monitor):
    """A pipeline that works."""

    def __init__(self) -> None:
        super().__init__(now=NOW)
        self.schedule.ticked = NOW - 1
        self.worker = self.add_worker("i-0aaaaaaaaaaaaaaaa", name="a", added_at=0)
        self.liveness.beat("collect", NOW - 60)
        self.liveness.beat("evaluate", NOW - 60)

    def withheld(self) -> Any:
        """Return why nothing is requested."""
        return self.get(health.PipelineCheck).fault()


def test_a_pipeline_that_works_beats() -> None:
    """Nothing withholds the heartbeat while every part works."""
    assert House().withheld() is None


def test_a_beat_that_does_not_tick_withholds_it() -> None:
    """A beat that never ticked or that stopped withholds the heartbeat."""
    house = House()
    house.schedule.ticked = NOW - 16
    assert house.withheld() == "beat does not tick"
    house.schedule.ticked = None
    assert house.withheld() == "beat does not tick"


@pytest.mark.parametrize(("part", "expected"), [("collect", "no collection ended"), ("evaluate", "no evaluation ran")])
def test_a_stage_that_does_nothing_withholds_it(part: str, expected: str) -> None:
    """Three of the shortest intervals and 30 s without work withhold it, unless no worker is active."""
    house = House()
    house.liveness.beat(part, NOW - 211)
    assert house.withheld() == f"{expected} for 210 s"
    house.workers.update(house.worker.model_copy(update={"monitoring": "paused"}))
    assert house.withheld() is None


def test_waiting_work_withholds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pending sample and an undelivered notification withhold the heartbeat."""
    house = House()
    house.samples.mark_pending([house.worker.id], NOW - 61)
    assert "to be evaluated" in house.withheld()
    house = House()
    monkeypatch.setattr(house.outbox, "due", lambda now, limit, age: ["x"] if (now, age) == (NOW, 60) else [])
    assert "notification waits" in house.withheld()


def test_a_channel_that_accepts_nothing_withholds_it() -> None:
    """A channel alert that fires withholds the heartbeat. A temporary failure does not."""
    house = House()
    house.configure(
        channels={"ops": models.Channel(name="ops", type="webhook"), **house.configurations.load().channels}
    )
    house.failures.note("ops", NOW, "it answered 500", retried=True)
    assert house.withheld() is None
    house.clock.advance(301)
    house.schedule.ticked = house.clock()
    for part in ("collect", "evaluate"):
        house.liveness.beat(part, house.clock())
    house.deliver(*house.get(notify.ChannelWatch).overdue())
    assert house.withheld() == "channel ops accepts nothing: it answered 500"
    house.get(channel_health.ChannelRecovery).resolve("ops")
    assert house.withheld() is None, "it accepted something"


class Counting(http.server.ThreadingHTTPServer):
    """A web server, and the paths and logins of its requests."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.requests: list[str] = []
        self.logins: list[str | None] = []


@pytest.fixture
def receiver() -> Iterator[Any]:
    """Give a web server that counts its requests, and answers 500 to the path /bad."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.requests.append(self.path)
            server.logins.append(self.headers["Authorization"])
            self.send_response({"/bad": 500, "/moved": 302}.get(self.path, 200))
            if self.path == "/moved":
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = Counting(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def beat(house: Any, url: Any) -> Any:
    """Run the heartbeat once, and return the log."""
    with structlog.testing.capture_logs() as logged:
        ping = guarded.Ping(guarded.Client(house.clock))
        health.Heartbeat(check=house.get(health.PipelineCheck), ping=ping, url=pydantic.SecretStr(url)).beat()
    return logged


def test_it_is_requested_while_all_works(receiver: Any) -> None:
    """The address is requested once a beat, and not if a part does not work."""
    house, url = House(), f"http://127.0.0.1:{receiver.server_port}/secret"
    beat(house, url)
    assert receiver.requests == ["/secret"]
    house.schedule.ticked = None
    [logged] = beat(house, url)
    assert (logged["event"], logged["reason"]) == ("heartbeat.withheld", "beat does not tick")
    assert receiver.requests == ["/secret"]


def test_an_address_may_have_user_and_password(receiver: Any) -> None:
    """They are sent in the header, and no log has them."""
    house = House()
    logged = beat(house, f"http://someone:h%40sh-hash@127.0.0.1:{receiver.server_port}/ping")
    assert receiver.logins == ["Basic " + base64.b64encode(b"someone:h@sh-hash").decode()]
    assert "hash" not in str(logged)
    assert "someone" not in str(logged)


def test_a_redirect_is_not_followed(receiver: Any) -> None:
    """An address that redirects fails, and the place that it names is not requested."""
    [logged] = beat(House(), f"http://127.0.0.1:{receiver.server_port}/moved")
    assert logged["event"] == "heartbeat.failed"
    assert receiver.requests == ["/moved"]


def test_no_proxy_of_the_environment_is_used(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in http_proxy does not get the address."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    beat(House(), f"http://127.0.0.1:{receiver.server_port}/ping")
    assert receiver.requests == ["/ping"]


def test_without_an_address_nothing_is_looked_at() -> None:
    """Without a configured address the state is not read."""
    nothing: Any = None
    health.Heartbeat(check=nothing, ping=nothing, url=None).beat()


def _lost(*_: Any) -> None:
    raise errors.RedisUnavailable("Redis", "is gone", "start it")


@pytest.mark.parametrize(
    ("path", "lost", "expected"),
    [("/bad", False, "500"), (None, False, "refuses the connection"), ("/x", True, "is gone")],
)
def test_what_fails_is_logged_without_the_address(
    receiver: Any, path: str | None, lost: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal, a dead receiver and Redis away stop nothing and show no secret."""
    url = f"http://127.0.0.1:{receiver.server_port}{path}" if path else "http://127.0.0.1:1/secret"
    house = House()
    if lost:
        monkeypatch.setattr(house.outbox, "due", _lost)
    logged = beat(house, url)
    assert expected in logged[-1]["reason"]
    assert "secret" not in str(logged)


def test_a_call_in_the_background_delays_nothing() -> None:
    """A call that hangs delays nothing and is not started a second time."""
    started, let_go = [], threading.Event()

    def hang() -> None:
        started.append(threading.get_ident())
        let_go.wait(10)

    call = background.Background("heartbeat", hang)
    call.start()
    eventually(lambda: started, description="the first call")
    call.start()
    let_go.set()

    def second_request() -> Any:
        call.start()
        return len(started) == 2

    eventually(second_request, description="a second call, once the first is over")
    assert threading.get_ident() not in started


def test_lost_canaries_withhold_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several lost canaries in a row withhold the heartbeat. A single one does not."""
    house = House()
    house.liveness.beat("canary", NOW)
    for number in range(1, 5):
        assert house.withheld() is None
        house.schedule.sent = models.Sent(NOW - 1, number)
        house.canary.publish(NOW - 1, NOW - 1, number)
    assert house.withheld().startswith("canary stuck after: published (the listener does not receive it)")
    for step in ("received", "evaluated", "accepted"):
        house.canary.reach(step, NOW - 1, NOW)
    assert house.withheld() is None
    monkeypatch.setattr(house.outbox, "due", lambda now, limit, age: [models.CANARY])
    assert house.withheld() is None
