"""The webhook against a real receiver on this machine that misbehaves as planned."""

from __future__ import annotations

import base64
import datetime
import email.utils
import hashlib
import hmac
import json
import pickle
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.support import delivering
from tests.support.notifications import notification
from tests.support.receiver import TOKEN, Receiver, answer
from tests.support.waiting import eventually
from workermon import errors, models, testing
from workermon.config import addresses
from workermon.models import Channel, SecretRef
from workermon.notify import http, policy
from workermon.notify.channels import webhook


def channel(url: str | None, *, private: bool = True, secret: str | None = None) -> Channel:
    """Return a channel ``ops`` to that address."""
    return Channel(
        name="ops", type="webhook", url=url, allow_private=private, secret=SecretRef(env=secret) if secret else None
    )


#: Seconds. Longer than any answer takes on a busy machine, so that only tests with a deadline of their own reach one.
LONG = 60.0


def hook(deadline: float = LONG, now: float = 1_700_000_000.0) -> webhook.Webhook:
    """Return a notifier with one secret."""
    return webhook.Webhook(testing.MemorySecrets({"OPS_SECRET": "sésame"}), http.Client(lambda: now, deadline))


def refused(to: Channel, deadline: float = LONG, now: float = 1_700_000_000.0) -> errors.DeliveryFailed:
    """Return why a notification is not accepted. Of the address it has only the host."""
    with pytest.raises(errors.DeliveryFailed) as caught:
        hook(deadline, now).send(to, [notification()])
    assert TOKEN not in str(caught.value)
    assert TOKEN not in repr(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    return caught.value


def test_what_is_sent(receiver: Receiver) -> None:
    """The receiver gets the contract's message by POST, with its idempotency key, and no signature without a secret."""
    hook().send(channel(receiver.url), [notification()])
    (request,) = receiver.requests
    assert request.line == f"POST /hook/{TOKEN}?key={TOKEN} HTTP/1.1"
    document = json.loads(request.body)
    assert document == models.to_json(notification())
    assert (document["schema"], document["version"], document["worker"]["name"]) == (1, 7, "rénder-07")
    assert request.headers["idempotency-key"] == document["id"]
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("workermon/")
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert "x-workermon-signature" not in request.headers


@pytest.mark.integration
def test_signature_as_openssl_makes_it(receiver: Receiver) -> None:
    """The signature is the HMAC of the very bytes that were sent, as another program computes it."""
    hook().send(channel(receiver.url, secret="OPS_SECRET"), [notification()])
    (request,) = receiver.requests
    signature = request.headers["x-workermon-signature"]
    assert signature == "sha256=" + hmac.new("sésame".encode(), request.body, hashlib.sha256).hexdigest()
    try:
        computed = subprocess.run(
            ["openssl", "dgst", "-sha256", "-hmac", "sésame"],
            input=request.body,
            capture_output=True,
            check=True,
            timeout=20,
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed; the standard library agrees")
    assert signature.removeprefix("sha256=") in computed.stdout.decode()


def test_missing_secret_sends_nothing(receiver: Receiver) -> None:
    """If the secret is missing, nothing is sent unsigned."""
    with pytest.raises(errors.InvalidInput, match="OTHER"):
        hook().send(channel(receiver.url, secret="OTHER"), [notification()])
    assert receiver.connections == 0


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_accepted(receiver: Receiver, status: int) -> None:
    """Any 2xx accepts."""
    receiver.plan = [answer(status)]
    hook().send(channel(receiver.url), [notification()])
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 408, 409, 410, 413, 422, 425, 429, 500, 502, 503, 599, 999])
def test_not_accepted(receiver: Receiver, status: int) -> None:
    """Any other answer is a failure that names it."""
    receiver.plan = [answer(status)]
    reason = refused(channel(receiver.url))
    assert f"{status}" in str(reason)
    assert reason.retry_after is None
    # It may be a receiver that is being deployed: what it refuses is tried for some minutes, the rest for a day.
    assert reason.retryable == (status in (408, 409, 425, 429) or status >= 500)
    assert getattr(reason, "tries", None) == (None if reason.retryable else policy.PATIENT_ATTEMPTS)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects(receiver: Receiver, status: int) -> None:
    """A redirect is not followed, and the failure says so."""
    receiver.plan = [answer(status, Location=f"http://127.0.0.1:{receiver.port}/elsewhere")]
    reason = refused(channel(receiver.url))
    assert f"it redirects ({status}" in str(reason)
    assert "not followed" in str(reason)
    assert receiver.connections == 1


NOW = datetime.datetime(2026, 11, 23, 16, 0, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry_After": "120"}, 120),
        ({"Retry_After": " 0 "}, 0),
        ({"Retry_After": email.utils.format_datetime(NOW + datetime.timedelta(seconds=90), usegmt=True)}, 90),
        ({"Retry_After": email.utils.format_datetime(NOW - datetime.timedelta(days=2), usegmt=True)}, 0),
        # A receiver whose clock is an hour ahead says so by its Date.
        (
            {
                "Retry_After": email.utils.format_datetime(NOW + datetime.timedelta(hours=1, seconds=30), usegmt=True),
                "Date": email.utils.format_datetime(NOW + datetime.timedelta(hours=1), usegmt=True),
            },
            30,
        ),
        ({"Retry_After": "soon"}, None),
        ({"Retry_After": "-5"}, None),
        ({"Retry_After": "1e9"}, None),
        ({"Retry_After": "9" * 400}, None),
    ],
)
def test_retry_after(receiver: Receiver, headers: dict[str, str], expected: float | None) -> None:
    """Retry-After is read as seconds or as a date. An invalid one is ignored."""
    receiver.plan = [answer(429, **headers)]
    assert refused(channel(receiver.url), now=NOW.timestamp()).retry_after == expected


def test_hangs(receiver: Receiver) -> None:
    """A receiver that never answers is left at the deadline."""
    receiver.plan = [receiver.hang]
    began = time.monotonic()
    assert "no answer within 0.5 s" in str(refused(channel(receiver.url), deadline=0.5))
    assert time.monotonic() - began < LONG / 2


def test_drips_its_status(receiver: Receiver) -> None:
    """A receiver that drips its headers byte by byte is left at the deadline, and the connection ends."""
    receiver.plan = [receiver.drip(b"HTTP/1.1 200 OK\r\n" + b"X-Slow: yes\r\n" * 1000)]
    began = time.monotonic()
    assert "no answer within 0.5 s" in str(refused(channel(receiver.url), deadline=0.5))
    assert time.monotonic() - began < LONG / 2
    assert receiver.over.wait(30), "the connection is still open"


def test_drips_its_body(receiver: Receiver) -> None:
    """As soon as the status is known, the rest of a reply is not awaited."""
    receiver.plan = [receiver.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)]
    began = time.monotonic()
    hook().send(channel(receiver.url), [notification()])
    assert time.monotonic() - began < LONG / 2


def test_endless_body(receiver: Receiver) -> None:
    """Only a limited part of an endless reply is read."""

    def endless(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            peer.sendall(b"10000\r\n" + b"x" * 65_536 + b"\r\n")

    receiver.plan = [endless]
    began = time.monotonic()
    assert "it answered 500" in str(refused(channel(receiver.url)))
    assert time.monotonic() - began < LONG / 2
    assert receiver.over.wait(30), "the connection is still open"


def test_endless_provisional_answers(receiver: Receiver) -> None:
    """A receiver that answers 100 Continue without end is left at the deadline, and its connection is closed."""

    def step(peer: socket.socket) -> None:
        while True:
            peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    receiver.plan = [step]
    assert "no answer within 0.7 s" in str(refused(channel(receiver.url), deadline=0.7))
    assert receiver.over.wait(30), "the connection is still open"


def test_cut_reply(receiver: Receiver) -> None:
    """A reply that is cut within its status line is a failure."""
    receiver.plan = [receiver.cut]
    refused(channel(receiver.url))


def test_closes_at_once(receiver: Receiver) -> None:
    """If a receiver closes without an answer, the failure says so."""
    receiver.plan = [lambda peer: None]
    assert "ended the connection without an answer" in str(refused(channel(receiver.url)))


def test_not_http(receiver: Receiver) -> None:
    """An answer that is not HTTP is a failure."""
    receiver.plan = [lambda peer: peer.sendall(b"220 mail.example.com ESMTP\r\n")]
    refused(channel(receiver.url))


def test_nobody_listens() -> None:
    """A closed port is a failure that says so."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "refuses the connection" in str(refused(channel(f"http://127.0.0.1:{port}/{TOKEN}")))


def test_proxies_are_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies of the environment are not used."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    hook().send(channel(receiver.url), [notification()])
    assert len(receiver.requests) == 1


def test_credentials_in_the_address(receiver: Receiver) -> None:
    """Credentials in the address go into the header, and appear in no error."""
    url = f"http://us%20er:{TOKEN}@127.0.0.1:{receiver.port}/hook"
    receiver.plan = [answer(500)]
    refused(channel(url))
    assert (
        receiver.requests[0].headers["authorization"] == "Basic " + base64.b64encode(f"us er:{TOKEN}".encode()).decode()
    )
    assert receiver.requests[0].line == "POST /hook HTTP/1.1"


# --- addresses ---------------------------------------------------------------------------------------------------

PUBLIC = ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8"]
OTHERS = {
    "loopback": "127.0.0.1", "all of loopback": "127.8.9.1", "this host": "0.0.0.0", "ten": "10.1.2.3",
    "172.16": "172.31.0.1", "192.168": "192.168.1.1", "link local and metadata": "169.254.169.254",
    "carrier": "100.64.0.1", "multicast": "224.0.0.1", "reserved": "240.0.0.1", "broadcast": "255.255.255.255",
    "documentation": "192.0.2.1", "benchmark": "198.18.0.1", "assignments": "192.0.0.8", "6to4 relay": "192.88.99.1",
    "loopback 6": "::1", "any 6": "::", "link local 6": "fe80::1", "scoped": "fe80::1%lo", "unique local": "fc00::1",
    "metadata 6": "fd00:ec2::254", "mapped loopback": "::ffff:127.0.0.1", "mapped metadata": "::ffff:169.254.169.254",
    "nat64": "64:ff9b::7f00:1", "nat64 of a public one": "64:ff9b::808:808", "local nat64": "64:ff9b:1::1",
    "6to4": "2002:7f00:1::1", "teredo": "2001::1", "multicast 6": "ff02::1", "compatible": "::7f00:1",
    "site local": "fec0::1", "end of site local": "feff::1", "documentation 6": "3fff::1", "segments": "5f00::1",
    "no address": "localhost",
}  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    """A public address is recognized."""
    assert addresses.is_public(address)


@pytest.mark.parametrize("address", OTHERS.values(), ids=OTHERS)
def test_not_public(address: str) -> None:
    """Private, local, translated and other special addresses are not public."""
    assert not addresses.is_public(address)


def test_http_only_where_private_is_allowed(receiver: Receiver) -> None:
    """Without allow_private only https is used, and no other connection is opened."""
    assert "not https" in str(refused(channel(receiver.url, private=False)))
    assert receiver.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "0x7f.1", "127.1"])
def test_private_address_is_not_connected_to(receiver: Receiver, host: str) -> None:
    """Without allow_private no spelling of this machine's address is connected to."""
    reason = refused(channel(f"https://{host}:{receiver.port}/{TOKEN}", private=False))
    assert "refused" in str(reason) or "looked up" in str(reason)
    assert receiver.connections == 0


def test_checked_where_it_connects(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to a public address first and to a private one at the connection gets no byte."""

    def rebound(*_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", receiver.port))]

    connected_to: list[bytes] = []
    real = socket.socket.connect

    def connect(sock: socket.socket, address: object) -> None:
        real(sock, ("127.0.0.1", receiver.port))

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    monkeypatch.setattr(socket.socket, "connect", connect)
    assert "refused" in str(refused(channel(f"https://example.com/{TOKEN}", private=False)))
    eventually(lambda: receiver.connections == 1, description="the connection")
    assert receiver.requests == []
    assert connected_to == []


def test_a_dead_address_leaves_time_for_the_next(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the first address of a name does not answer, the next one is tried."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (closed, receiver.port)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    hook().send(channel("http://receiver.internal/"), [notification()])
    assert len(receiver.requests) == 1


def test_slow_name_server(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow lookup ends at the deadline. If it succeeds later, nothing is sent."""
    resolved, returned = threading.Event(), threading.Event()
    real = socket.getaddrinfo

    def slow(*args: object, **options: object) -> object:
        resolved.wait(60)
        try:
            return real("127.0.0.1", receiver.port, type=socket.SOCK_STREAM)
        finally:
            returned.set()

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    assert "no answer within 0.3 s" in str(refused(channel(receiver.url), deadline=0.3))
    resolved.set()
    assert returned.wait(30)
    eventually(
        lambda: not any(thread.name == "webhook-ops" for thread in threading.enumerate()),
        description="the thread's end",
    )
    assert receiver.requests == []


def test_unknown_name() -> None:
    """A name that does not exist is a failure that says so."""
    assert "cannot be looked up" in str(refused(channel(f"https://no-such-host.invalid/{TOKEN}")))


@pytest.mark.parametrize("url", [None, "", "ftp://example.com/", "https:///x", "https://exa mple:99999/", "nonsense"])
def test_no_address(url: str | None) -> None:
    """A URL that is not HTTP is a failure that says so."""
    assert "is not an address" in str(refused(channel(url)))


def test_tls_is_verified(receiver: Receiver) -> None:
    """A receiver without valid TLS gets no part of the notification."""
    refused(channel(f"https://127.0.0.1:{receiver.port}/{TOKEN}"), deadline=1)
    assert not any(b"cpu_utilization" in request.body or TOKEN in request.line for request in receiver.requests)


def test_https(secure: tuple[Receiver, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver with a trusted certificate gets the notification. One that then hangs is left at the deadline."""
    receiver, certificate = secure
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    to = channel(f"https://localhost:{receiver.port}/{TOKEN}", secret="OPS_SECRET")
    hook().send(to, [notification()])
    assert json.loads(receiver.requests[0].body)["version"] == 7
    receiver.plan = [receiver.drip(b"HTTP/1.1 200 OK\r\n" + b"X-Slow: yes\r\n" * 1000)]
    assert "no answer within 0.7 s" in str(refused(to, deadline=0.7))
    assert receiver.over.wait(30), "the connection is still open"


def test_certificate_must_be_valid(secure: tuple[Receiver, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown certificate, or one for another name, is refused before anything is sent."""
    receiver, certificate = secure
    assert "certificate of localhost is not valid" in str(refused(channel(f"https://localhost:{receiver.port}/")))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert "certificate of 127.0.0.1 is not valid" in str(refused(channel(f"https://127.0.0.1:{receiver.port}/")))
    assert receiver.requests == []


def test_nothing_is_left(receiver: Receiver) -> None:
    """After many deliveries no thread and no socket remains."""
    to, sender = channel(receiver.url), hook()
    for _ in range(20):
        sender.send(to, [notification()])
    eventually(
        lambda: not any(thread.name == "webhook-ops" for thread in threading.enumerate()),
        description="the threads' end",
    )
    assert len(receiver.requests) == 20


# --- delivery, end to end ----------------------------------------------------------------------------------------


def test_failing_receiver_gets_each_once_and_in_order(receiver: Receiver) -> None:
    """A receiver that fails in every way accepts each notification once, in order."""
    site = delivering.Site()
    configuration = site.configurations.load()
    site.configurations.save(
        configuration.model_copy(
            update={"revision": 1, "channels": {"ops": channel(receiver.url, secret="OPS_SECRET")}},
        )
    )
    receiver.plan = [
        answer(503), answer(429, Retry_After="7"), receiver.cut, answer(200),
        answer(302, Location="/x"), answer(200), receiver.hang, answer(201),
    ]  # fmt: skip
    statuses = [503, 429, 0, 200, 302, 200, 0, 201]
    for _ in range(3):
        site.enqueue()
    for _ in range(12):
        site.deliver_to(hook(deadline=0.5))
        site.clock.advance(400)
    assert site.outbox.backlog() == 0
    accepted = [
        json.loads(request.body)["version"]
        for request, status in zip(receiver.requests, statuses, strict=True)
        if status in (200, 201)
    ]
    assert accepted == [1, 2, 3]
    assert [json.loads(request.body)["version"] for request in receiver.requests] == [1, 1, 1, 1, 2, 2, 3, 3]
    keys: dict[int, set[str]] = {}
    for request in receiver.requests:
        keys.setdefault(json.loads(request.body)["version"], set()).add(request.headers["idempotency-key"])
    assert all(len(requests) == 1 for requests in keys.values())
