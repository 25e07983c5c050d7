"""The HTTP client of the channels and of the heartbeat: one request, straight to the receiver.

It uses no proxy and follows no redirect. It speaks only https unless the channel allows private addresses. Of a
receiver's answer it uses only status and headers.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import email.utils
import socket
import urllib.parse
from collections.abc import Mapping
from typing import Literal

from urllib3 import connection

from workermon import __version__, errors, models, ports
from workermon.notify import policy, transport
from workermon.notify.transport import DEADLINE

#: Bytes of a reply to read, for an orderly end. Their content is ignored.
REPLY_BYTES = 4096

#: Seconds to wait for the rest of a reply once its status is known.
REPLY_TIMEOUT = 0.5

#: Statuses of 400 to 499 that are not about the request itself: it may be accepted later.
RETRIED = frozenset({408, 409, 421, 423, 425, 429})


def address(channel: models.Channel, secrets: ports.Secrets) -> str | None:
    """Return a channel's URL, looked up if it is given as a secret by name."""
    return secrets(channel.url).strip() if isinstance(channel.url, models.SecretRef) else channel.url


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A POST of JSON for a channel; ``final`` are the statuses with which its receiver refuses for good."""

    channel: models.Channel
    address: str | None
    body: bytes
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    final: frozenset[int] = frozenset()


@dataclasses.dataclass(frozen=True, slots=True)
class Client:
    """Sends within ``deadline`` seconds. ``now`` returns the time to compare a date in Retry-After with."""

    now: ports.Clock
    deadline: float = DEADLINE

    def post(self, request: Request) -> None:
        """Post it. Any 2xx accepts it; anything else raises ``errors.DeliveryFailed``.

        An answer that refuses the request (a redirect, or 400 to 499 without ``RETRIED``) raises
        ``errors.DeliveryRefused``: final at once for a status in ``request.final``, else after some attempts.
        """
        self._send("POST", request)

    def get(self, request: Request) -> None:
        """Request the address by GET, without a body; otherwise like ``post``."""
        self._send("GET", request)

    def _send(self, method: Literal["POST", "GET"], request: Request) -> None:
        channel = request.channel
        target = _target(channel, request.address)
        exchange = _Exchange(target, request, method)
        receiver = transport.Receiver(channel.name, target.host, target.port, channel.allow_private)
        transport.run(receiver, exchange, self.deadline, f"{channel.type}-{channel.name}")
        self._check(receiver.name, exchange, request.final)

    def _check(self, subject: str, exchange: _Exchange, final: frozenset[int]) -> None:
        status = exchange.status
        if 200 <= status < 300:
            return
        answer = transport.status_text(status)
        if 300 <= status < 400:
            reason, todo = f"it redirects ({answer}), which is not followed", "give the address that it redirects to"
            raise errors.DeliveryRefused(subject, reason, todo, policy.PATIENT_ATTEMPTS)
        if 400 <= status < 500 and status not in RETRIED:
            attempts = 1 if status in final else policy.PATIENT_ATTEMPTS
            raise errors.DeliveryRefused(
                subject, f"it refuses the notification ({answer})", "see the receiver's log", attempts
            )
        retry_after = _retry_after(exchange.headers, self.now())
        raise errors.DeliveryFailed(
            subject, f"it answered {answer}", "workermon tries again; see the receiver's log", retry_after
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Ping:
    """``ports.Ping`` by the same client; the address may be one of the user's own network."""

    client: Client

    def __call__(self, url: str) -> None:
        """Request a URL by GET, with user and password if it has them."""
        receiver = models.Channel(name="heartbeat", type="webhook", allow_private=True)
        self.client.get(Request(channel=receiver, address=url, body=b""))


@dataclasses.dataclass(frozen=True, slots=True)
class _Target:
    """A parsed URL: where to connect, and what to request there."""

    scheme: str
    host: str
    port: int
    path: str
    headers: Mapping[str, str]


def _target(channel: models.Channel, address: str | None) -> _Target:
    """Parse a URL. It never appears in an error, because many receivers' URLs contain a secret."""
    subject = f"channel {channel.name}"
    try:
        parts = urllib.parse.urlsplit(address or "")
        port = parts.port
        host = (parts.hostname or "").encode("idna" if not (parts.hostname or "").isascii() else "ascii").decode()
        path = urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
        query = urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    except (ValueError, UnicodeError):
        parts, host = None, ""
    if parts is None or parts.scheme not in ("http", "https") or not host:
        reason = "its url is not an address such as https://example.com/hook"
        raise errors.DeliveryFailed(subject, reason, "correct the configuration")
    if parts.scheme != "https" and not channel.allow_private:
        todo = "use https, or set allow_private for your own network"
        raise errors.DeliveryFailed(subject, "its url is not https", todo)
    return _Target(
        parts.scheme,
        host,
        port or (443 if parts.scheme == "https" else 80),
        f"{path}?{query}" if query else path,
        _credentials(parts),
    )


def _credentials(parts: urllib.parse.SplitResult) -> dict[str, str]:
    """Return the header for user and password of a URL."""
    if parts.username is None:
        return {}
    return basic_authentication(urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or ""))


def basic_authentication(user: str, password: str) -> dict[str, str]:
    """Return the header of HTTP's basic authentication."""
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Parse Retry-After: seconds, or a date compared with the receiver's own Date; ``None`` if it makes no sense."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        retry_at = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        now = email.utils.parsedate_to_datetime(headers.get("Date", "")).timestamp()
    return max(0.0, retry_at - now)


class _Plain(connection.HTTPConnection):
    """HTTP over a checked connection."""

    transport: transport.Transport

    def _new_conn(self) -> socket.socket:
        return self.transport.connect()


class _Secure(connection.HTTPSConnection):
    """HTTPS over a checked connection."""

    transport: transport.Transport

    def _new_conn(self) -> socket.socket:
        return self.transport.connect()


class _Exchange:
    """One request, and the status and headers of its reply; the status is 0 until there is one."""

    def __init__(self, target: _Target, request: Request, method: str) -> None:
        self._target, self._request, self._method = target, request, method
        self.status = 0
        self.headers: Mapping[str, str] = {}

    def __call__(self, connected: transport.Transport) -> None:
        """Send the request, and keep status and headers."""
        target = self._target
        http_connection: _Plain | _Secure
        if target.scheme == "https":
            http_connection = _Secure(target.host, target.port, timeout=DEADLINE, cert_reqs="CERT_REQUIRED")
        else:
            http_connection = _Plain(target.host, target.port, timeout=DEADLINE)
        http_connection.transport = connected
        headers = {
            **target.headers,
            "Content-Type": "application/json",
            "User-Agent": f"workermon/{__version__}",
            "Connection": "close",
            **self._request.headers,
        }
        with contextlib.closing(http_connection):
            body = self._request.body if self._method == "POST" else None
            http_connection.request(self._method, target.path, body, headers, preload_content=False)
            reply = http_connection.getresponse()
            self.status, self.headers = reply.status, reply.headers
            connected.answered = True
            with contextlib.suppress(Exception):
                # Read a little, so that the receiver sees an orderly end; the status is known already.
                if http_connection.sock is not None:
                    http_connection.sock.settimeout(REPLY_TIMEOUT)
                reply.read1(REPLY_BYTES)
            reply.close()
