"""The channel ``apprise``: what can be promised over a client of others."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.support.notifications import many, notification, notifiers, of
from tests.support.receiver import Receiver, answer
from workermon import errors
from workermon.models import SecretRef


def test_apprise(receiver: Receiver) -> None:
    """A service of apprise's gets title and text, redirects are not followed, and its address is not shown."""
    pytest.importorskip("apprise")
    url = f"json://127.0.0.1:{receiver.port}/T0KEN?redirect=yes"
    sender = notifiers(URL=url)["apprise"]
    channel = of("apprise", url=SecretRef(env="URL"))
    sender.send(channel, [notification()])
    document = json.loads(receiver.got[0].body)
    assert document["title"].startswith("[FIRING critical]")
    assert "silence: workermon silence" in document["message"]
    assert document["type"] == "failure"
    receiver.plan = [answer(302, Location=f"http://127.0.0.1:{receiver.port}/elsewhere")]
    with pytest.raises(errors.DeliveryFailed, match="did not take it") as caught:
        sender.send(channel, [notification()])
    assert "T0KEN" not in str(caught.value)
    assert receiver.connections == 2


def test_apprise_is_guarded(receiver: Receiver) -> None:
    """Without allow_private apprise reaches neither an unencrypted nor a private service of one's own."""
    pytest.importorskip("apprise")
    channel = of("apprise", url=SecretRef(env="URL"), allow_private=False)
    for scheme, why in (("json", "not encrypted"), ("jsons", "private")):
        with pytest.raises(errors.DeliveryFailed, match=why):
            notifiers(URL=f"{scheme}://127.0.0.1:{receiver.port}/")["apprise"].send(channel, [notification()])
    assert receiver.connections == 0


def test_apprise_unknown_service() -> None:
    """An address that apprise does not know is refused without being shown."""
    pytest.importorskip("apprise")
    with pytest.raises(errors.InvalidInput, match="does not know the service") as caught:
        notifiers(URL="nonsense://T0KEN")["apprise"].send(of("apprise", url=SecretRef(env="URL")), [notification()])
    assert "T0KEN" not in str(caught.value)


def test_apprise_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library is not installed one line says how to install it."""

    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(errors.InvalidInput, match=r"pip install 'workermon\[apprise\]'"):
        notifiers(URL="json://localhost")["apprise"].send(of("apprise", url=SecretRef(env="URL")), [notification()])


def test_apprise_list(receiver: Receiver) -> None:
    """A group is one message of apprise's."""
    pytest.importorskip("apprise")
    sender: Any = notifiers(URL=f"json://127.0.0.1:{receiver.port}/")["apprise"]
    receiver.plan = [answer(200)]
    sender.send(of("apprise", url=SecretRef(env="URL")), many(5))
    document = json.loads(receiver.got[0].body)
    assert document["title"] == "[FIRING 5 critical] cpu-high: 5 alerts in us-east-1"
    assert "render-004" in document["message"]
