"""The channel ``apprise``: what can be promised about a library with its own clients."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.notifications import many, notification, notifiers, of
from tests.support.receiver import Receiver, Step, answer
from workermon import errors, testing
from workermon.config import addresses
from workermon.models import SecretRef
from workermon.notify import text
from workermon.notify.channels import apprise


def test_apprise(receiver: Receiver) -> None:
    """An apprise service gets title and text. Redirects are not followed, and its address is not shown."""
    pytest.importorskip("apprise")
    url = f"json://127.0.0.1:{receiver.port}/T0KEN?redirect=yes"
    sender = notifiers(URL=url)["apprise"]
    channel = of("apprise", url=SecretRef(env="URL"))
    sender.send(channel, [notification()])
    document = json.loads(receiver.requests[0].body)
    assert document["title"].startswith("[FIRING critical]")
    assert "silence: workermon silence" in document["message"]
    assert document["type"] == "failure"
    receiver.plan = [answer(302, Location=f"http://127.0.0.1:{receiver.port}/elsewhere")]
    with pytest.raises(errors.DeliveryFailed, match="did not accept it") as caught:
        sender.send(channel, [notification()])
    assert "T0KEN" not in str(caught.value)
    assert receiver.connections == 2


def test_apprise_is_guarded(receiver: Receiver) -> None:
    """Without allow_private apprise reaches neither an unencrypted nor a private service."""
    pytest.importorskip("apprise")
    channel = of("apprise", url=SecretRef(env="URL"), allow_private=False)
    for scheme, reason in (("json", "not encrypted"), ("jsons", "private")):
        with pytest.raises(errors.DeliveryFailed, match=reason):
            notifiers(URL=f"{scheme}://127.0.0.1:{receiver.port}/")["apprise"].send(channel, [notification()])
    assert receiver.connections == 0


@pytest.fixture
def everywhere(secure: tuple[Receiver, Path], monkeypatch: pytest.MonkeyPatch) -> tuple[Receiver, list[str]]:
    """Resolve every name to a receiver on this machine that counts as public. Give the resolved names."""
    receiver, certificate = secure
    looked_up: list[str] = []

    def look_up(host: str, *_: object, **__: object) -> list[object]:
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", receiver.port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(addresses, "is_public", lambda _: True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    return receiver, looked_up


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("discord://1234567/T0KEN-abc", "discord.com", "/api/webhooks/1234567/T0KEN-abc"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "hooks.slack.com", "/services/T1JJ3T3L2/A1BRTD4JD/"),
        ("tgram://123456789:abcdefg_hijklmnop/12315544", "api.telegram.org", "/bot123456789:abcdefg_hijklmnop/"),
    ],
)
def test_apprise_reaches_services(url: str, host: str, path: str, everywhere: tuple[Receiver, list[str]]) -> None:
    """A service gets the message by HTTPS without a proxy. Only its host name is resolved, no part of a token."""
    pytest.importorskip("apprise")
    receiver, looked_up = everywhere
    notifiers(URL=url)["apprise"].send(of("apprise", url=SecretRef(env="URL"), allow_private=False), [notification()])
    (request,) = receiver.requests
    assert request.line.startswith(f"POST {path}")
    assert b"cpu-high" in request.body
    assert set(looked_up) == {host}


@pytest.mark.parametrize("step", ["drips", "is endless", "hangs"])
def test_apprise_ends_in_time(step: str, everywhere: tuple[Receiver, list[str]]) -> None:
    """A service that is slow, hangs or answers endlessly is left at the deadline, and its connection is closed."""
    pytest.importorskip("apprise")
    receiver, _ = everywhere
    sender = apprise.Apprise(testing.MemorySecrets({"URL": "discord://1234567/T0KEN-abc"}), deadline=1.0)
    steps: dict[str, list[Step]] = {
        "drips": [receiver.drip(b"HTTP/1.1 200 OK\r\n" + b"X-Slow: yes\r\n" * 1000)],
        "is endless": [endless],
        "hangs": [receiver.hang],
    }
    receiver.plan = steps[step]
    with pytest.raises(errors.DeliveryFailed):
        sender.send(of("apprise", url=SecretRef(env="URL"), allow_private=False), [notification()])
    if step == "drips":
        assert receiver.over.wait(30), "the connection is still open"


def endless(peer: socket.socket) -> None:
    """Answer for as long as the client reads."""
    peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        peer.sendall(b"x" * 65_536)


@pytest.mark.parametrize("url", ["mailto://user:pass@example.com", "syslog://", "rsyslog://example.com"])
def test_apprise_by_other_means_is_refused(url: str) -> None:
    """Services that apprise does not reach by HTTPS need allow_private, because they cannot be checked."""
    pytest.importorskip("apprise")
    with pytest.raises(errors.InvalidInput, match="by HTTPS"):
        notifiers(URL=url)["apprise"].send(of("apprise", url=SecretRef(env="URL"), allow_private=False), many(1))


def test_apprise_unknown_service() -> None:
    """An address that apprise does not support is refused without being shown."""
    pytest.importorskip("apprise")
    with pytest.raises(errors.InvalidInput, match="does not know the service") as caught:
        notifiers(URL="nonsense://T0KEN")["apprise"].send(of("apprise", url=SecretRef(env="URL")), [notification()])
    assert "T0KEN" not in str(caught.value)


def test_apprise_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the library is not installed, one line says how to install it."""

    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(errors.InvalidInput, match=r"pip install 'workermon\[apprise\]'"):
        notifiers(URL="json://localhost")["apprise"].send(of("apprise", url=SecretRef(env="URL")), [notification()])


def test_apprise_list(receiver: Receiver) -> None:
    """A group is one message."""
    pytest.importorskip("apprise")
    sender: Any = notifiers(URL=f"json://127.0.0.1:{receiver.port}/")["apprise"]
    receiver.plan = [answer(200)]
    sender.send(of("apprise", url=SecretRef(env="URL")), many(5))
    document = json.loads(receiver.requests[0].body)
    assert document["title"] == text.subject(many(5))
    assert "render-004" in document["message"]
