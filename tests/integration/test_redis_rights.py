"""The documented Redis rights are sufficient, and every key and channel is within them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.celery_house import ROOT, START, House, opened
from tests.support.tls_front import TlsFront
from tests.support.waiting import eventually
from workermon.local import embedded
from workermon.on_redis import keys

pytestmark = pytest.mark.integration

PAGE = ROOT / "docs" / "reference" / "redis-keys.md"


def documented() -> list[str]:
    """Return the words of the command that the page shows."""
    (command,) = re.findall(r"^ACL SETUSER (?:.+\n)*?(?=```)", PAGE.read_text("utf-8"), re.M)
    return [word.replace(">PASSWORD", ">secret") for word in str(command).split()]


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[redis.Redis]:
    """Give a client that may do everything, of a server that has the documented user."""
    new_server = embedded.Server(tmp_path / "valkey", persistent=False, tcp=True)
    new_server.start()
    try:
        with contextlib.closing(redis.Redis.from_url(new_server.url)) as connected:
            connected.execute_command(*documented())
            yield connected
    finally:
        new_server.stop()


def refused(admin: redis.Redis) -> list[tuple[Any, Any]]:
    """Return the server's refusals so far."""
    return [(entry["reason"], entry["object"]) for entry in admin.acl_log()]


@pytest.fixture
def over_tls(admin: redis.Redis, certificate: Path) -> Iterator[str]:
    """Give the URL of the documented user over TLS, with its own certificate authority."""
    front = TlsFront(admin.connection_pool.connection_kwargs["port"], certificate, {})
    try:
        yield f"rediss://workermon:secret@localhost:{front.port}/1?ssl_ca_certs={certificate / 'c.pem'}"
    finally:
        front.close()


@pytest.mark.parametrize("withheld", [[], ["-info"]], ids=["as documented", "without INFO"])
def test_everything_runs_over_tls_with_the_documented_rights(
    tmp_path: Path, admin: redis.Redis, over_tls: str, withheld: list[str]
) -> None:
    """A fleet is added, collected, evaluated and removed, and Celery's commands work. The server refuses nothing."""
    admin.execute_command("ACL", "SETUSER", "workermon", *withheld)
    (tmp_path / "house").mkdir()
    with opened(tmp_path / "house", over_tls) as house:
        house.celery("worker")
        house.celery("beat")
        house.add(house.ids)
        parts = (b"collect", b"evaluate", b"listener")
        eventually(
            lambda: all(admin.hexists(keys.LIVENESS, part) for part in parts),
            within=START,
            description="a collection, an evaluation and a listener",
        )
        eventually(lambda: status(house) == 0, within=START, description="status")
        assert house.run("workermon", "doctor").returncode == 0
        assert unlisted(admin) == []
        completed = house.run("celery", "-A", "workermon", "inspect", "ping")
        assert completed.returncode == 0, completed.stderr
        for command in ("show", "pause", "resume", "refresh", "remove"):
            completed = house.run("workermon", command, house.ids[0])
            assert completed.returncode == 0, (command, completed.stderr)
        for command in ("list", "alerts", "reconcile"):
            completed = house.run("workermon", command)
            assert completed.returncode == 0, (command, completed.stderr)
    assert {refusal for refusal in refused(admin) if refusal != ("command", "info")} == set()
    assert bool(refused(admin)) is bool(withheld)


def unlisted(admin: redis.Redis) -> list[tuple[str, str]]:
    """Return the keys, with their types, of both databases that keys.py does not list, or lists otherwise."""
    commands = []
    for database in (0, 1):
        admin.select(database)
        for key in admin.scan_iter(count=1000):
            answer: Any = admin.type(key)
            kind = answer.decode()
            rows = [row for row in keys.patterns_of(key) if row.type == kind]
            if kind != "none" and (not rows or (admin.ttl(key) == -1 and all(row.expires for row in rows))):
                commands.append((key.decode(), kind))
    return commands


def status(house: House) -> int:
    """Return the exit code of status."""
    return house.run("workermon", "status").returncode
