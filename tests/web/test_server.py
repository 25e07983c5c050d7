"""Where the page may listen, and its errors."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from tests.support.commands import Ports
from workermon import errors, models, settings
from workermon.local import up
from workermon.web import server


def settings_with(**fields: Any) -> settings.Settings:
    """Return settings."""
    return settings.Settings(_env_file=None, **fields)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "monitor.example"])
def test_others_are_not_let_near_without_a_login(world: Ports, host: str) -> None:
    """An address other than loopback needs a token, or a proxy that names users. A proxy alone is no login."""
    with pytest.raises(errors.InvalidInput, match="neither a token nor a proxy"):
        server.check_reach(settings_with(web_host=host), world.access)
    with pytest.raises(errors.InvalidInput, match="neither a token nor a proxy"):
        server.check_reach(settings_with(web_host=host, web_proxies="10.0.0.0/8"), world.access)
    server.check_reach(settings_with(web_host=host, web_proxies="10.0.0.0/8", web_user_header="X-User"), world.access)
    _, token = models.make_token("ci", "viewer", world.clock())
    world.access.add(token)
    server.check_reach(settings_with(web_host=host), world.access)


def test_loopback_needs_none(world: Ports) -> None:
    """On loopback the page starts without a token."""
    server.check_reach(settings_with(), world.access)


def test_without_redis_the_page_starts(world: Ports, monkeypatch: pytest.MonkeyPatch, silent_log: None) -> None:
    """Without Redis the page starts, refuses every login, and serves when Redis is back."""

    def down() -> list[models.Token]:
        raise errors.RedisUnavailable("Redis", "down", "start it")

    monkeypatch.setattr(world.access, "tokens", down)
    server.check_reach(settings_with(web_host="10.0.0.1"), world.access)


def test_a_url_can_be_opened() -> None:
    """An IPv6 address has brackets, and a page that listens everywhere names the machine."""
    assert server.url("::1", 1) == "http://[::1]:1"
    assert server.url("0.0.0.0", 1).startswith("http://")
    assert "0.0.0.0" not in server.url("0.0.0.0", 1)


def test_the_next_free_port_is_found() -> None:
    """A taken port is skipped."""
    [listening] = server.bind("127.0.0.1", 0)
    with listening:
        port = listening.getsockname()[1]
        assert not up.is_free("127.0.0.1", port)
        assert up.free_port("127.0.0.1", port) > port or port == 65535


def test_short_answers_do_not_wait() -> None:
    """Nagle's algorithm is off, otherwise a short answer would wait for an acknowledgement."""

    async def nodelay() -> int:
        announced = asyncio.get_running_loop().create_future()

        def connected(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            announced.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        [listening] = server.bind("127.0.0.1", 0)
        async with await asyncio.start_server(connected, sock=listening):
            with socket.create_connection(listening.getsockname()):
                return int(await announced)

    assert asyncio.run(nodelay()) != 0
