"""HTTP on one connection: uvicorn's, with limits for a peer that sends slowly, never reads, or opens too many."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from workermon.web import problem_details

#: Maximum connections; the usual limit of open files is 1,024.
MAX_CONNECTIONS = 500
#: Bytes of a request's line and headers together.
MAX_HEAD = 16 * 1024
#: Seconds in which a request's line and headers have to arrive, and for which an idle connection is kept.
HEAD_SECONDS = 10.0
#: Seconds in which a peer has to read what was sent to it.
READ_SECONDS = 30.0

HEAD_TOO_LONG = ("request", f"its headers are longer than {MAX_HEAD // 1024} KiB", "send less")

_REASONS = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large", 503: b"Unavailable"}


class BoundedProtocol(H11Protocol):
    """A connection that is closed, with a clear answer if possible, when it exceeds a limit."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Accept a connection, or refuse it if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(503, "connections", "there are too many", "close some, or try again later")
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove a connection."""
        for timer in (self._head, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle received data. After a refusal nothing is read any more."""
        if not self._refused:
            super().data_received(data)
            self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Refuse what is not HTTP, or is too long to be a request."""
        if len(self.conn.trailing_data[0]) > MAX_HEAD:
            self._refuse(431, *HEAD_TOO_LONG)
        else:
            self._refuse(400, "request", "is not HTTP/1.1", "send a valid request")

    def pause_writing(self) -> None:
        """Give a peer that does not read some time."""
        super().pause_writing()
        self._unread = self._unread or self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Record that it reads again."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _watch(self) -> None:
        """Run the timer only while a request's headers are awaited."""
        waiting = self.conn.their_state is h11.IDLE and not self.transport.is_closing()
        if waiting and self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self._late)
        elif not waiting and self._head is not None:
            self._head.cancel()
            self._head = None

    def _late(self) -> None:
        if self.conn.trailing_data[0]:
            self._refuse(408, "request", f"did not come within {HEAD_SECONDS:g} s", "send it at once")
        else:
            self.transport.close()

    def _refuse(self, status: int, subject: str, reason: str, todo: str) -> None:
        self._refused = True
        if self.conn.our_state is h11.IDLE or self.conn.our_state is h11.SEND_RESPONSE:
            content = {"type": "about:blank", "title": subject, "status": status, "detail": reason, "action": todo}
            body = json.dumps(content).encode()
            headers = [
                ("Content-Type", problem_details.MEDIA_TYPE),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
            ]
            events = (
                h11.Response(status_code=status, headers=headers, reason=_REASONS[status]),
                h11.Data(data=body),
                h11.EndOfMessage(),
            )
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()
