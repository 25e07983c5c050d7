"""The channel ``email``: mail over TLS, without foreign text in its headers."""

from __future__ import annotations

import contextlib
import email
import email.policy
import hmac
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.mailbox import Mailbox, post
from tests.support.notifications import NOW, SECRETS, many, notification, notifiers
from workermon import errors
from workermon.models import SecretRef
from workermon.notify import policy, text
from workermon.notify.channels import email as mail_channel


@pytest.mark.parametrize("security", ["starttls", "tls", "none"])
def test_email(mail: Callable[..., tuple[Mailbox, int]], security: str) -> None:
    """A mail reaches every recipient by each kind of encryption."""
    box, port = mail(security)
    notifiers()["email"].send(post(port, security=security), [notification()])
    (envelope,) = box.envelopes
    assert envelope.rcpt_tos == ["ops@example.com", "chief@example.com"]
    message = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert message["Subject"] == text.title(notification())
    assert (message["From"], message["To"]) == ("monitor@example.com", "ops@example.com, chief@example.com")
    assert message["Message-ID"] == f"<{notification().id}@example.com>"
    body = message.get_content()
    assert body.splitlines() == text.plain(notification()).splitlines()


def test_email_logs_in(mail: Callable[..., tuple[Mailbox, int]]) -> None:
    """User and password are sent over TLS only. A wrong one is refused without being shown."""
    box, port = mail(auth=True)
    channel = post(port, user="monitor", secret=SecretRef(env="PASSWORD"))
    notifiers()["email"].send(channel, [notification()])
    assert box.logins == [(b"monitor", b"hunter2hunter2")]
    assert len(box.envelopes) == 1
    with pytest.raises(errors.DeliveryFailed, match="refuses user or password") as caught:
        notifiers(PASSWORD="wr0ng-wr0ng")["email"].send(channel, [notification()])
    assert "wr0ng" not in str(caught.value)


def test_email_logs_in_with_any_password(mail: Callable[..., tuple[Mailbox, int]]) -> None:
    """User and password may contain any letters, with each login method."""
    box, port = mail(auth=True)
    channel = post(port, user="mönitor", secret=SecretRef(env="PASSWORD"))
    with pytest.raises(errors.DeliveryFailed, match="refuses user or password"):
        notifiers(PASSWORD="pässwörd ✓")["email"].send(channel, [notification()])
    assert set(box.logins) == {("mönitor".encode(), "pässwörd ✓".encode())}
    unconnected: Any = None
    server = mail_channel._Server(unconnected, None, "localhost")
    server.user, server.password = "mönitor", "pässwörd ✓"
    digest = hmac.new("pässwörd ✓".encode(), b"<1@x>", "md5").hexdigest()
    assert server.auth_cram_md5(b"<1@x>") == f"mönitor {digest}"


@pytest.mark.parametrize("line", [b"220-" + b"y" * 500 + b"\r\n", b"y" * 1000], ids=["lines", "no line"])
def test_email_endless_reply(line: bytes) -> None:
    """A server with an endless reply is left at a size limit, long before the deadline."""
    over = threading.Event()

    def talk(server: socket.socket) -> None:
        peer, _ = server.accept()
        with peer, contextlib.suppress(OSError):
            while True:
                peer.sendall(line)
        over.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=talk, args=(server,), daemon=True)
        thread.start()
        sender = mail_channel.Email(SECRETS, lambda: NOW, deadline=60)
        with pytest.raises(errors.DeliveryFailed):
            sender.send(post(server.getsockname()[1]), [notification()])
        assert over.wait(30), "the connection is still open"
        thread.join(10)


def test_email_refused(mail: Callable[..., tuple[Mailbox, int]]) -> None:
    """If the server does not accept a mail, the failure has its code."""
    box, port = mail()
    box.refuse = "451 later, hunter2hunter2"
    with pytest.raises(errors.DeliveryFailed, match="answered 451") as caught:
        notifiers()["email"].send(post(port), [notification()])
    assert "hunter2" not in str(caught.value)
    box.refuse = ""
    notifiers()["email"].send(post(port), [notification()])
    assert len(box.envelopes) == 1
    box.refuse = "554 no, hunter2hunter2"
    with pytest.raises(errors.DeliveryRefused, match="answered 554") as final:
        notifiers()["email"].send(post(port), [notification()])
    assert final.value.tries == policy.PATIENT_ATTEMPTS


def test_email_without_starttls(mail: Callable[..., tuple[Mailbox, int]]) -> None:
    """A server without TLS gets nothing, unless the channel allows it."""
    box, port = mail("none")
    with pytest.raises(errors.DeliveryFailed, match="no STARTTLS"):
        notifiers()["email"].send(post(port), [notification()])
    assert box.envelopes == []


def test_email_certificate(mail: Callable[..., tuple[Mailbox, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with an unknown certificate gets nothing."""
    box, port = mail()
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(errors.DeliveryFailed, match="certificate of localhost is not valid"):
        notifiers()["email"].send(post(port), [notification()])
    assert box.envelopes == []


def test_email_private_address(mail: Callable[..., tuple[Mailbox, int]]) -> None:
    """Without allow_private no connection is made to a private network."""
    box, port = mail()
    with pytest.raises(errors.DeliveryFailed, match="refused"):
        notifiers()["email"].send(post(port, allow_private=False), [notification()])
    assert box.envelopes == []


def test_email_deadline() -> None:
    """A server that does not answer is left at the deadline."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = mail_channel.Email(SECRETS, lambda: NOW, deadline=0.4)
        began = time.monotonic()
        with pytest.raises(errors.DeliveryFailed, match="answer"):
            sender.send(post(server.getsockname()[1]), [notification()])
        assert time.monotonic() - began < 30


def test_email_no_header_of_others(mail: Callable[..., tuple[Mailbox, int]]) -> None:
    """Text of others adds no header and no recipient."""
    box, port = mail()
    bad = notification(summary="x\r\nBcc: thief@example.com\r\n\r\nbody")
    notifiers()["email"].send(post(port), [bad])
    (envelope,) = box.envelopes
    message = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert message["Bcc"] is None
    assert envelope.rcpt_tos == ["ops@example.com", "chief@example.com"]


def test_mail_list(mail: Any) -> None:
    """A group is one mail. Its Message-ID is the same when it is sent again."""
    box, port = mail()
    sender: Any = notifiers()["email"]
    sender.send(post(port), many(50))
    sender.send(post(port), list(reversed(many(50))))
    first, second = (
        email.message_from_bytes(envelope.content, policy=email.policy.default) for envelope in box.envelopes
    )
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Subject"] == text.subject(many(50))
    assert "render-049" in first.get_content()
