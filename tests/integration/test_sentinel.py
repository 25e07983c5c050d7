"""Sentinels name the server: over TLS, and through a real failover."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from celery import Celery
from redbeat import schedulers

from tests.integration.celery_house import last_words, opened
from tests.support.free_ports import free_port
from tests.support.replicas import Pair
from tests.support.sentinel import Sentinel
from tests.support.tls_front import TlsFront
from tests.support.waiting import eventually
from workermon import errors
from workermon.on_celery import app as ours
from workermon.on_redis import client

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc"),
]


def port_of(url: str) -> int:
    """Return the port of a URL."""
    return urlsplit(url).port or 0


def password_of(url: str) -> str:
    """Return the password of a URL."""
    return urlsplit(url).password or ""


@pytest.fixture
def over_tls(tmp_path: Path, redis_url: str, certificate: Path) -> Iterator[str]:
    """Give a URL of a sentinel that speaks TLS and names a server that does too, each behind a front of its own."""
    sentinel = Sentinel(tmp_path / "sentinel", port_of(redis_url), password_of(redis_url), own_password="sesame")
    server = TlsFront(port_of(redis_url), certificate, {})
    renamed = {"127.0.0.1": "localhost", str(port_of(redis_url)): str(server.port)}
    front = TlsFront(sentinel.port, certificate, renamed)
    try:
        yield (
            f"sentinel://:{password_of(redis_url)}@localhost:{front.port}/1?service=main"
            f"&sentinel_password=sesame&ssl_ca_certs={certificate / 'c.pem'}"
        )
    finally:
        front.close()
        server.close()
        sentinel.stop()


def test_all_three_clients_reach_a_server_that_sentinels_name_over_tls(
    over_tls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """State, broker and schedule verify the certificates of sentinel and server, and log in at both."""
    monkeypatch.setenv("WORKERMON_REDIS_URL", over_tls)
    monkeypatch.delenv("WORKERMON_BROKER_URL", raising=False)
    assert client.connect(over_tls).ping()
    app = Celery("test", loader=ours.Loader, amqp="workermon.on_celery.broker:AMQP", set_as_current=False)
    with app.connection() as connection:
        assert connection.default_channel.client.ping()
    assert schedulers.get_redis(app).ping()


class AwaySentinel:
    """Takes connections as a sentinel's machine does that is going down, closes each, and counts them."""

    def __init__(self) -> None:
        self.requests = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listening.accept()
                self.requests += 1
                accepted.close()

    def stop(self) -> None:
        """Take none any more."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


def test_a_sentinel_that_is_away_is_asked_once_by_each_client(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """State, broker and schedule use the next sentinel at once, without the ten retries of redis-py."""
    sentinel = Sentinel(tmp_path / "sentinel", port_of(redis_url), password_of(redis_url))
    away = AwaySentinel()
    address = f"sentinel://:{password_of(redis_url)}@127.0.0.1:{away.port},127.0.0.1:{sentinel.port}/1?service=main"
    monkeypatch.setenv("WORKERMON_REDIS_URL", address)
    monkeypatch.delenv("WORKERMON_BROKER_URL", raising=False)
    app = Celery("test", loader=ours.Loader, amqp="workermon.on_celery.broker:AMQP", set_as_current=False)
    try:
        assert client.connect(address).ping()
        assert away.requests == 1
        assert schedulers.get_redis(app).ping()
        # Whoever answered stands first from then on, in each client.
        assert away.requests == 2
        with app.connection() as connection:
            assert connection.default_channel.client.ping()
        assert away.requests == 3
    finally:
        away.stop()
        sentinel.stop()


def test_a_certificate_that_is_not_trusted_is_refused(over_tls: str) -> None:
    """Without the authority's certificate nothing is sent. The error shows no password."""
    untrusting = over_tls.partition("&ssl_ca_certs")[0] + "&ssl=true"
    with pytest.raises(errors.RedisUnavailable) as caught, client.guard(connected := client.connect(untrusting)):
        connected.ping()
    assert "sesame" not in str(caught.value)


def test_all_parts_go_on_at_the_server_that_sentinel_promotes(tmp_path: Path) -> None:
    """Primary and one sentinel are down: beat, node and listener continue on the promoted replica by themselves.

    A sentinel that does not answer is not retried before the next one is used.
    """
    pair = Pair(tmp_path)
    password = password_of(pair.servers[0].url)
    sentinel = Sentinel(tmp_path / "sentinel", port_of(pair.servers[0].url), password)
    try:
        sentinels = f"127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}"
        eventually(lambda: sentinel.replicas() == 1, within=30, description="the sentinel knows the replica")
        with opened(tmp_path, f"sentinel://:{password}@{sentinels}/1?service=main") as house:
            house.add(house.ids[:1])
            parts = [house.celery("worker"), house.celery("beat")]

            def at_work(server: redis.Redis, since: float) -> None:
                def oldest() -> float:
                    marks = server.hmget("workermon:pulse", ["listener", "collect", "evaluate"])
                    return min(float(at or 0) for at in marks)

                eventually(lambda: oldest() > since, within=60, description=last_words("work of every part", *parts))

            at_work(pair.first, time.time())
            pair.servers[0].stop()
            eventually(
                lambda: sentinel.primary() == port_of(pair.servers[1].url), within=30, description="the promotion"
            )
            at_work(pair.second, time.time() + 1)
            assert all(part.alive() for part in parts)
            completed = house.run("workermon", "list")
            assert completed.returncode == 0, completed.stderr
    finally:
        sentinel.stop()
        pair.stop()
