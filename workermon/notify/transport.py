"""How a channel contacts its receiver: within a deadline, and nobody else.

Unless the channel allows private addresses, only public ones are contacted. The check uses the address of the actual
connection, because a name server may answer differently each time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http
import http.client
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator

from urllib3 import exceptions as http_errors

from workermon import errors
from workermon.config import addresses

#: Seconds. From looking up the name to the last byte. Less than ``policy.LEASE``, so that it ends first.
DEADLINE = 10.0

#: Seconds for each address of a receiver, so that a dead one leaves time for the next.
CONNECT_TIMEOUT = 3.0


def status_text(status: int) -> str:
    """Return an HTTP status with its phrase, as far as it has one.

    >>> status_text(404), status_text(499)
    ('404 Not Found', '499')
    """
    try:
        return f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


@dataclasses.dataclass(frozen=True, slots=True)
class Receiver:
    """The receiver, and the channel that contacts it."""

    channel: str
    host: str
    port: int
    allow_private: bool

    @property
    def name(self) -> str:
        """Return the name for errors."""
        return f"channel {self.channel}"


class _AddressRefused(Exception):
    """The receiver has no address that the channel may contact."""


class Unencrypted(Exception):
    """The receiver does not use TLS, which the channel requires."""


class _DeadlinePassed(Exception):
    """The deadline has passed."""


class Transport:
    """A connection to a receiver with a checked address and a deadline.

    ``answered`` is set once the receiver's answer is known. After that nobody waits for the rest.
    """

    def __init__(self, receiver: Receiver, deadline: float) -> None:
        self._receiver = receiver
        self._ends_at = time.monotonic() + deadline
        self._lock = threading.Lock()
        self._closed = False
        self._duplicate: socket.socket | None = None
        self.answered = False

    @property
    def allow_private(self) -> bool:
        """Return whether private addresses and clear text are allowed."""
        return self._receiver.allow_private

    def connect(self, host: str | None = None, port: int | None = None) -> socket.socket:
        """Connect to the first address that is allowed and answers, of the receiver or of another host and port.

        If there are several connections in turn, the last one can be ended.
        """
        receiver = self._receiver
        entries = socket.getaddrinfo(host or receiver.host, port or receiver.port, type=socket.SOCK_STREAM)
        allowed = [entry for entry in entries if receiver.allow_private or addresses.is_public(str(entry[4][0]))]
        if not allowed:
            raise _AddressRefused
        last_error: OSError | None = None
        for family, kind, protocol, _, address in allowed:
            remaining = self._ends_at - time.monotonic()
            if remaining <= 0 or self._closed:
                raise _DeadlinePassed
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(min(CONNECT_TIMEOUT, remaining))
                sock.connect(address)
                self._check(sock)
            except OSError as error:
                sock.close()
                last_error = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise last_error or OSError("it has no address")

    def _check(self, sock: socket.socket) -> None:
        # The address at the other end counts, not the name server's answer.
        if not self._receiver.allow_private and not addresses.is_public(str(sock.getpeername()[0])):
            raise _AddressRefused
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(max(0.01, self._ends_at - time.monotonic()))
        with self._lock:
            if self._closed:
                raise _DeadlinePassed
            if self._duplicate is not None:
                self._duplicate.close()
            # TLS moves the socket into an object of its own, so a duplicate is kept to end it.
            self._duplicate = sock.dup()

    def abort(self) -> None:
        """End the connection from another thread, or forbid it if it does not exist yet."""
        with self._lock:
            self._closed = True
            if self._duplicate is not None:
                with contextlib.suppress(OSError):
                    # With a reset, so that a receiver that keeps sending notices.
                    self._duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self._duplicate.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._closed = True
            if self._duplicate is not None:
                self._duplicate.close()
                self._duplicate = None


def run(receiver: Receiver, exchange: Callable[[Transport], None], deadline: float, thread: str) -> None:
    """Run an exchange with a receiver in a thread of that name, for at most ``deadline`` seconds.

    All its exceptions become ``errors.DeliveryFailed``, whose text contains nothing of the receiver but its host.
    """
    transport = Transport(receiver, deadline)
    raised: list[errors.DeliveryFailed] = []

    def work() -> None:
        try:
            exchange(transport)
        except errors.DeliveryFailed as error:
            raised.append(error)
        except Exception as error:
            raised.append(errors.DeliveryFailed(receiver.name, *_described(error, receiver.host)))
        finally:
            transport.close()

    worker = threading.Thread(target=work, name=thread, daemon=True)
    worker.start()
    # Looking up a name, and a slow reply, have no time limit of their own. So the clock is checked here.
    worker.join(deadline)
    if worker.is_alive() and not transport.answered:
        transport.abort()
        raise errors.DeliveryFailed(receiver.name, f"no answer within {deadline:g} s", "workermon tries again")
    if raised:
        raise raised[0]


def _described(error: BaseException, host: str) -> tuple[str, str]:
    """Return what went wrong and what to do, in words that contain nothing of the address but its host."""
    printable_host = errors.printable(host)[:100]
    for link in _chain(error):
        if described_cause := _known_cause(link, printable_host):
            return described_cause
    chain = list(_chain(error))
    if any(isinstance(link, http.client.HTTPException | http_errors.ProtocolError | ConnectionError) for link in chain):
        return f"{printable_host} ended the connection without an answer", "workermon tries again"
    reason = next(
        (link.strerror for link in chain if isinstance(link, OSError) and link.strerror), type(error).__name__
    )
    return f"{printable_host} cannot be reached ({reason})", "workermon tries again"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, at most ten."""
    link: BaseException | None = error
    for _ in range(10):
        if link is None:
            return
        yield link
        link = link.__cause__ or link.__context__


def _known_cause(error: BaseException, printable_host: str) -> tuple[str, str] | None:
    match error:
        case _AddressRefused():
            return (
                f"{printable_host} has a private, local or otherwise unreachable address, and these are refused",
                "set allow_private = true if it is a receiver of your own network",
            )
        case Unencrypted():
            todo = "use the encrypted form of its url, or set allow_private = true"
            return f"the connection to {printable_host} is not encrypted", todo
        case ssl.SSLCertVerificationError():
            return (
                f"the certificate of {printable_host} is not valid: {error.verify_message}",
                "renew the receiver's certificate",
            )
        case ssl.SSLError():
            return (
                f"TLS with {printable_host} failed ({error.reason or 'no reason given'})",
                "check that the receiver speaks TLS",
            )
        case socket.gaierror():
            return f"the name {printable_host} cannot be looked up", "correct the url or the name server"
        case TimeoutError() | _DeadlinePassed() | http_errors.TimeoutError():
            return f"{printable_host} did not answer in time", "workermon tries again"
        case ConnectionRefusedError():
            return f"{printable_host} refuses the connection", "check that the receiver runs"
    return None
