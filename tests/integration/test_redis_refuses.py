"""Errors of a Redis server are reported with their cause, on a real server in that state if possible."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from redis.exceptions import RedisError, ResponseError

from tests.integration.celery_house import START, opened
from tests.support.free_ports import free_port
from tests.support.waiting import eventually
from workermon import errors, models
from workermon.local import embedded
from workermon.on_redis import client, leases, server, server_errors, workers

pytestmark = pytest.mark.integration

WORKER = models.Worker(id="i-0aaaaaaa", name="a", region="us-east-1", incarnation="one", added_at=0)


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[redis.Redis]:
    """Give a client of a server that this test may bring into any state."""
    new_server = embedded.Server(tmp_path / "valkey", persistent=False, tcp=True)
    new_server.start()
    try:
        with contextlib.closing(redis.Redis.from_url(new_server.url)) as connected:
            yield connected
    finally:
        new_server.stop()


def url(of: redis.Redis, user: str = "") -> str:
    """Return the URL of a client's server, for another user if named."""
    options = of.connection_pool.connection_kwargs
    return f"redis://{user or ':' + options['password']}@{options['host']}:{options['port']}/1"


def refusal_of(address: str, call: Callable[[redis.Redis], object] | None = None) -> str:
    """Return the error of a command that writes."""
    with contextlib.closing(client.connect(address)) as connected, pytest.raises(errors.RedisUnavailable) as caught:
        (call or (lambda connection: workers.RedisWorkers(connection).add([WORKER])))(connected)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    return str(caught.value).partition(": ")[2]


def test_a_replica_is_named_as_that(admin: redis.Redis, redis_url: str) -> None:
    """A client that still uses a server that became a replica is shown what to change."""
    parts = urlsplit(redis_url)
    admin.config_set("masterauth", str(parts.password))
    admin.replicaof(str(parts.hostname), str(parts.port))
    assert refusal_of(url(admin)) == (
        "it is a read-only replica; name its primary in WORKERMON_REDIS_URL, or the sentinels (sentinel://)"
    )
    admin.config_set("replica-serve-stale-data", "no")
    admin.replicaof("127.0.0.1", "1")
    assert eventually(lambda: "lost its primary" in refusal_of(url(admin)))


def test_a_full_server_is_named_as_that(admin: redis.Redis) -> None:
    """If a server is at its memory limit, the error says what to raise."""
    admin.config_set("maxmemory", 1)
    assert refusal_of(url(admin)) == "it is out of memory; raise its maxmemory, with the policy noeviction"


def test_too_few_replicas_are_named_as_that(admin: redis.Redis) -> None:
    """If a server waits for its replicas, the error says so."""
    admin.config_set("min-replicas-to-write", 1)
    assert refusal_of(url(admin)).startswith("it has too few replicas to take writes; ")


@pytest.mark.parametrize(
    ("rights", "refused"),
    [
        ("~workermon* +@all -evalsha -eval", "the command eval"),
        ("~workermon* +@all -hset", "the command hset"),
        ("~workermon:workers +@all", "a key"),
        ("~workermon* +@all -@connection", "the command select"),
    ],
)
def test_access_rules_name_what_they_refuse(admin: redis.Redis, rights: str, refused: str) -> None:
    """A missing right is named by command or key, as far as the server reports it."""
    admin.execute_command("ACL", "SETUSER", "narrow", "on", ">secret", "resetkeys", "&*", *rights.split())
    reason = refusal_of(url(admin, "narrow:secret"))
    assert reason.startswith(f"its access rules refuse {refused}"), reason
    assert reason.endswith(f"; {server_errors.RIGHTS}")


def test_a_database_that_is_not_there_is_named_as_that(admin: redis.Redis) -> None:
    """A database number beyond the server's databases has its own error."""
    reason = refusal_of(f"{url(admin)[:-1]}9999")
    assert reason == "it has no database of that number; name another one in WORKERMON_REDIS_URL"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[int]:
    """Give the port of a cluster with one node, which has every slot."""
    port, bus = free_port(), free_port()
    node = subprocess.Popen(
        [embedded._binary(), "--port", str(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes", "--save", "",
         "--dir", str(tmp_path), "--cluster-port", str(bus)],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with contextlib.closing(redis.Redis(port=port)) as plain:
            eventually(plain.ping)
            plain.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        yield port
    finally:
        node.terminate()
        node.wait(60)


def test_cluster_mode_is_named_as_that(cluster: int) -> None:
    """A node of a cluster is refused, and the error says what to use instead."""
    for database in (0, 1):
        reason = refusal_of(f"redis://127.0.0.1:{cluster}/{database}")
        assert reason == "it runs in cluster mode; use a server, or Sentinel, without cluster mode"


def test_everything_refuses_cluster_mode_when_it_starts(tmp_path: Path, cluster: int, redis_url: str) -> None:
    """Commands, node, beat and page end with one line if the state or the broker is in cluster mode."""
    refused = "it runs in cluster mode; use a server, or Sentinel, without cluster mode"
    with opened(tmp_path, f"redis://127.0.0.1:{cluster}/0") as house:
        house.env["WORKERMON_BROKER_URL"] = redis_url.removesuffix("/1") + "/0"
        for command in (["up"], ["web"], ["status"], ["add", house.ids[0]]):
            completed = house.run("workermon", *command)
            assert (completed.returncode, completed.stderr.splitlines()[-1].endswith(refused)) == (4, True), (
                command,
                completed,
            )
        of_celery = [house.celery("worker"), house.celery("beat")]
        house.env["WORKERMON_REDIS_URL"] = redis_url
        house.env["WORKERMON_BROKER_URL"] = f"redis://127.0.0.1:{cluster}/0"
        of_celery.append(house.celery("worker"))
        for process in of_celery:
            assert process.popen.wait(START) == 4, process.output
            assert process.output.splitlines()[-1].endswith(refused), process.output


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("MISCONF Errors writing to the AOF file: No space left on device", "it cannot write its data to disk"),
        ("LOADING Valkey is loading the dataset in memory", "it is still loading its data"),
        ("ERR unknown command `HELLO`, with args beginning with: `3`", "it is too old, or some of its commands are"),
        ("ERR wrong kind of value \x1b[31m", "it refuses a command (wrong kind of value"),
        ("NOPERM No permissions to access the 'workermon:x' key", "its access rules refuse the key workermon:x"),
        ("NOPERM No permissions to access the '/0.workermon.pidbox' channel", "its access rules refuse the channel /0"),
    ],
)
def test_an_answer_is_said_as_what_it_is(answer: str, expected: str) -> None:
    """The server's error becomes one line without control characters."""
    from redis._parsers.base import BaseParser

    raised = BaseParser.parse_error(answer)
    assert isinstance(raised, RedisError)
    reason, todo = server_errors.explain(raised)
    assert reason.startswith(expected)
    assert todo
    assert "\x1b" not in reason


class OldServer:
    """A proxy to the real server that claims another version in its greeting."""

    def __init__(self, real: str, version: bytes) -> None:
        parts = urlsplit(real)
        self._real, self._version = (parts.hostname, parts.port), version
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://:{parts.password}@127.0.0.1:{self._listening.getsockname()[1]}/1"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listening.accept()
                real = socket.create_connection(self._real)
                threading.Thread(target=self._pass, args=(accepted, real), daemon=True).start()
                threading.Thread(target=self._pass, args=(real, accepted), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                data = data.replace(b"$6\r\nvalkey\r\n", b"$5\r\nredis\r\n")
                target.sendall(re.sub(rb"(version\r\n)\$\d+\r\n[\d.]+\r\n", self._greeting, data))
            target.shutdown(socket.SHUT_WR)

    def _greeting(self, match: re.Match[bytes]) -> bytes:
        return b"%b$%d\r\n%b\r\n" % (match[1], len(self._version), self._version)

    def close(self) -> None:
        """Stop listening."""
        self._listening.close()


def test_a_server_that_is_too_old_is_refused_by_everything(redis_url: str) -> None:
    """Any first command names the version and the required one. Nothing is written."""
    with contextlib.closing(OldServer(redis_url, b"6.0.16")) as old:
        calls: list[Callable[[Any], object]] = [
            lambda connection: workers.RedisWorkers(connection).add([WORKER]),
            lambda connection: workers.RedisWorkers(connection).ids(),
            lambda connection: leases.RedisLeases(connection).hold("one", "me", 1),
        ]
        for call in calls:
            reason = refusal_of(old.url, call)
            assert reason == "it is too old (Redis 6.0.16); use Redis 6.2 or newer, or Valkey"


@pytest.mark.parametrize("version", [b"6.2.0", b"8.4.1", b"unknown"])
def test_a_server_that_is_new_enough_is_taken(redis_url: str, version: bytes) -> None:
    """6.2 is accepted, and so is a server without a readable version."""
    with (
        contextlib.closing(OldServer(redis_url, version)) as old_server,
        contextlib.closing(client.connect(old_server.url)) as connection,
    ):
        assert workers.RedisWorkers(connection).ids() == []


def test_a_server_that_hides_its_settings_has_none(admin: redis.Redis) -> None:
    """Without the right to INFO the settings are empty, which is not an error."""
    admin.execute_command("ACL", "SETUSER", "narrow", "on", ">secret", "~workermon*", "+@all", "-info")
    with contextlib.closing(client.connect(url(admin, "narrow:secret"))) as narrow:
        assert server.RedisServer(narrow).settings() == {}
    with (
        contextlib.closing(client.connect("redis://127.0.0.1:1/1")) as unreachable,
        pytest.raises(errors.RedisUnavailable),
    ):
        server.RedisServer(unreachable).settings()


def test_other_errors_keep_their_text() -> None:
    """An unknown error is shown as the server wrote it."""
    assert server_errors.explain(ResponseError("something new"))[0] == "it refuses a command (something new)"
