"""How a channel reaches its receiver: within a deadline, and nobody but who is meant.

Requests go straight to the receiver (no proxies, no redirects), and unless the channel allows private addresses only
over https and only to public addresses, which is checked on the address that is really connected to. Nothing is
trusted of a receiver but its status.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import http
import http.client
import ipaddress
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Container, Mapping
from typing import NamedTuple

from urllib3 import connection
from urllib3 import exceptions as http_errors

from workermon import __version__, errors, models, ports

#: Seconds. From looking up the name to the last byte that is read; less than the lease, so that it ends first.
DEADLINE = 10.0

#: Seconds. For each address of a receiver, so that one that is dead leaves time for the next.
CONNECT = 3.0

#: Bytes of a reply that are read, for a polite end; what is in it does not matter.
REPLY = 4096

#: Seconds that the rest of a reply is waited for once its status is known.
POLITE = 0.5

#: Statuses of 400 to 499 that say nothing against the request itself: it may be taken later.
LATER = frozenset({408, 409, 421, 423, 425, 429})

#: Tries until a refusal counts that may be the receiver's own trouble, such as a deployment gone wrong: about an hour.
PATIENT = 30

#: Networks that ``ipaddress`` (of some Python versions) takes for global, and that lead elsewhere: NAT64 (RFC 6052,
#: 8215), 6to4 (RFC 3056, 7526), protocol assignments (RFC 6890).
_ELSEWHERE = tuple(
    ipaddress.ip_network(text)
    for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "192.88.99.0/24", "192.0.0.0/24")
)


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the public internet, neither private nor leading elsewhere.

    >>> is_public("93.184.215.14"), is_public("169.254.169.254"), is_public("::ffff:10.0.0.1")
    (True, False, False)
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    if mapped is not None:
        ip = mapped
    if ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_loopback or ip.is_link_local:
        return False
    return ip.is_global and not any(ip.version == net.version and ip in net for net in _ELSEWHERE)


def address(channel: models.Channel, secrets: ports.Secrets) -> str | None:
    """Return a channel's URL, looked up where it is a secret by name."""
    return secrets(channel.url).strip() if isinstance(channel.url, models.SecretRef) else channel.url


def post(
    what: str,
    address: str | None,
    body: bytes,
    headers: Mapping[str, str],
    *,
    private: bool,
    now: float,
    deadline: float = DEADLINE,
    thread: str = "post",
    final: Container[int] = (),
) -> None:
    """Post JSON within ``deadline`` seconds; any 2xx accepts it, all else raises ``errors.DeliveryFailed``.

    ``what`` names the channel for errors, ``now`` is the time that a date in Retry-After is compared with. An answer
    that refuses the request (4xx but ``LATER``, and redirects) is ``errors.DeliveryRefused``: of the statuses in
    ``final`` at once, of the others after ``PATIENT`` tries.
    """
    target = _target(what, address, private)
    sent = {
        **target.headers,
        "Content-Type": "application/json",
        "User-Agent": f"workermon/{__version__}",
        "Connection": "close",
        **headers,
    }
    exchange = _Exchange(target, body, sent)
    within(what, target.host, Gate(target.host, target.port, private, deadline), deadline, exchange, thread)
    _judge(what, exchange, now, final)


def within(
    what: str, host: str, gate: Gate, deadline: float, exchange: Callable[[Gate], None], thread: str = "exchange"
) -> None:
    """Run an exchange that connects by ``gate``, for ``deadline`` seconds at most.

    Whatever it raises comes out as ``errors.DeliveryFailed``, in words that hold nothing of the receiver but its host.
    An exchange that has a ``status`` other than 0 is over, though it may still read.
    """
    last_error: list[errors.DeliveryFailed] = []

    def run() -> None:
        try:
            exchange(gate)
        except errors.DeliveryFailed as why:
            last_error.append(why)
        except Exception as why:
            last_error.append(_failed(what, *_said(why, host)))
        finally:
            gate.close()

    worker = threading.Thread(target=run, name=thread, daemon=True)
    worker.start()
    # A look-up of a name, and a reply that drips, know no time limit of their own: so the clock is watched here.
    worker.join(deadline)
    if worker.is_alive() and not getattr(exchange, "status", 0):
        gate.shut()
        raise _failed(what, f"no answer within {deadline:g} s")
    if last_error:
        raise last_error[0]


def _judge(what: str, exchange: _Exchange, now: float, final: Container[int]) -> None:
    status, headers = exchange.status, exchange.headers
    if 200 <= status < 300:
        return
    try:
        said = f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        said = str(status)
    if 300 <= status < 400:
        raise errors.DeliveryRefused(
            what, f"it redirects ({said}), which is not followed", "give the address that it redirects to", PATIENT
        )
    if 400 <= status < 500 and status not in LATER:
        tries = 1 if status in final else PATIENT
        raise errors.DeliveryRefused(what, f"it refuses this ({said})", "see the receiver's log", tries)
    asked = _retry_after(headers, now)
    raise errors.DeliveryFailed(what, f"it answered {said}", "it is tried again; see the receiver's log", asked)


class _Target(NamedTuple):
    """A parsed URL: where to connect, and what to ask for there."""

    scheme: str
    host: str
    port: int
    path: str
    headers: dict[str, str]


def _failed(what: str, why: str, todo: str = "it is tried again") -> errors.DeliveryFailed:
    return errors.DeliveryFailed(what, why, todo)


def _target(what: str, address: str | None, private: bool) -> _Target:
    """Take the URL apart. It never appears in an error: many receivers have their secret in it."""
    try:
        parts = urllib.parse.urlsplit(address or "")
        port = parts.port
        host = (parts.hostname or "").encode("idna" if not (parts.hostname or "").isascii() else "ascii").decode()
        path = urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
        query = urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    except (ValueError, UnicodeError):
        parts, host = None, ""
    if parts is None or parts.scheme not in ("http", "https") or not host:
        raise _failed(what, "its url is no address such as https://example.com/hook", "mend the configuration")
    if parts.scheme != "https" and not private:
        raise _failed(what, "its url is not https", "use https, or set allow_private for your own network")
    headers = {}
    if parts.username is not None:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return _Target(
        parts.scheme,
        host,
        port or (443 if parts.scheme == "https" else 80),
        f"{path}?{query}" if query else path,
        headers,
    )


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Read Retry-After, seconds or a date (which the receiver's own Date puts in relation); ``None`` for nonsense."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        asked = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        now = email.utils.parsedate_to_datetime(headers.get("Date", "")).timestamp()
    return max(0.0, asked - now)


class _Refused(Exception):
    """The address is none that a channel may reach."""


class _Abandoned(Exception):
    """The deadline has passed."""


class Gate:
    """What a connection must pass before a byte is sent: its address is allowed, and the time is not over."""

    def __init__(self, host: str, port: int, private: bool, deadline: float) -> None:
        self._host, self._port, self._private = host, port, private
        self._ends = time.monotonic() + deadline
        self._lock = threading.Lock()
        self._over = False
        self._twin: socket.socket | None = None

    def connect(self) -> socket.socket:
        """Connect to the first address that is allowed and answers."""
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        allowed = [entry for entry in found if self._private or is_public(str(entry[4][0]))]
        if not allowed:
            raise _Refused
        last_error: OSError | None = None
        for family, kind, protocol, _, address in allowed:
            left = self._ends - time.monotonic()
            if left <= 0 or self._over:
                raise _Abandoned
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(min(CONNECT, left))
                sock.connect(address)
                # What counts is who is at the other end, not what a name server said.
                if not self._private and not is_public(str(sock.getpeername()[0])):
                    raise _Refused
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(max(0.01, self._ends - time.monotonic()))
                self._open(sock)
            except OSError as why:
                sock.close()
                last_error = why
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise last_error or OSError("it has no address")

    def _open(self, sock: socket.socket) -> None:
        with self._lock:
            if self._over:
                raise _Abandoned
            # TLS takes the socket over into an object of its own, so a twin of it is kept for ending it.
            self._twin = sock.dup()

    def shut(self) -> None:
        """End the connection from another thread, or forbid it where it does not stand yet."""
        with self._lock:
            self._over = True
            if self._twin is not None:
                with contextlib.suppress(OSError):
                    self._twin.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection."""
        with self._lock:
            self._over = True
            if self._twin is not None:
                self._twin.close()
                self._twin = None


class _Plain(connection.HTTPConnection):
    """HTTP whose socket comes through the gate."""

    gate: Gate

    def _new_conn(self) -> socket.socket:
        return self.gate.connect()


class _Secure(connection.HTTPSConnection):
    """HTTPS whose socket comes through the gate."""

    gate: Gate

    def _new_conn(self) -> socket.socket:
        return self.gate.connect()


class _Exchange:
    """One request and the status of its reply."""

    def __init__(self, target: _Target, body: bytes, headers: dict[str, str]) -> None:
        self._target, self._body, self._headers = target, body, headers
        self.status = 0
        self.headers: Mapping[str, str] = {}

    def __call__(self, gate: Gate) -> None:
        """Send, and keep the status."""
        target = self._target
        made: _Plain | _Secure
        if target.scheme == "https":
            made = _Secure(target.host, target.port, timeout=DEADLINE, cert_reqs="CERT_REQUIRED")
        else:
            made = _Plain(target.host, target.port, timeout=DEADLINE)
        made.gate = gate
        with contextlib.closing(made):
            made.request("POST", target.path, self._body, self._headers, preload_content=False)
            reply = made.getresponse()
            self.status, self.headers = reply.status, reply.headers
            with contextlib.suppress(Exception):
                # Read a little, so that the receiver sees an orderly end; the status stands already.
                if made.sock is not None:
                    made.sock.settimeout(POLITE)
                reply.read1(REPLY)
            reply.close()


def _said(why: BaseException, host: str) -> tuple[str, str]:
    """Return what went wrong and what to do, in words that hold nothing of the URL but its host."""
    where = errors.printable(host)[:100]
    chain: list[BaseException] = []
    found: BaseException | None = why
    while found is not None and len(chain) < 10:
        chain.append(found)
        found = found.__cause__ or found.__context__
    for link in chain:
        if isinstance(link, _Refused):
            return (
                f"{where} has a private, local or otherwise unreachable address, and these are refused",
                "set allow_private = true if it is a receiver of your own network",
            )
        if isinstance(link, ssl.SSLCertVerificationError):
            return f"the certificate of {where} is not valid: {link.verify_message}", "mend the receiver's certificate"
        if isinstance(link, ssl.SSLError):
            return f"TLS with {where} failed ({link.reason or 'no reason given'})", "see what the receiver speaks"
        if isinstance(link, socket.gaierror):
            return f"the name {where} cannot be looked up", "mend the url or the name server"
        if isinstance(link, TimeoutError | _Abandoned | http_errors.TimeoutError):
            return f"{where} did not answer in time", "it is tried again"
        if isinstance(link, ConnectionRefusedError):
            return f"{where} refuses the connection", "see whether the receiver runs"
    if any(isinstance(link, http.client.HTTPException | http_errors.ProtocolError | ConnectionError) for link in chain):
        return f"{where} ended the connection without an answer", "it is tried again"
    reason = next((link.strerror for link in chain if isinstance(link, OSError) and link.strerror), type(why).__name__)
    return f"{where} cannot be reached ({reason})", "it is tried again"
