"""Limits of a request: its headers, the size of its body, its speed, and the number of requests at a time.

The whole body is read here before a route runs, so no route ever waits for a slow one.
"""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workermon.web import problem_details, protocol

#: Bytes of a body.
MAX_BODY = 1_000_000
#: Bytes of a too long body that are still read and dropped, so that the sender can read the answer.
MAX_DROPPED = 32_000_000
#: Seconds in which a body has to arrive.
BODY_SECONDS = 15.0
MAX_HEADERS = 100
#: Requests in progress, without event streams, which have a limit of their own.
MAX_REQUESTS = 200
STREAM = "/api/v1/stream"


class Limits:
    """Refuses what exceeds a limit, and passes the rest on with its body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; raises ``problem_details.Refused``."""
        if scope["type"] != "http" or scope["path"] == STREAM:
            await self.app(scope, receive, send)
            return
        if self._in_flight >= MAX_REQUESTS:
            raise problem_details.Refused(
                503, "workermon", f"{MAX_REQUESTS} requests are running already", "try again later"
            )
        self._in_flight += 1
        try:
            _check_head(scope)
            body = await _body(Headers(scope=scope), receive)
            scope.setdefault("state", {})["body"] = body
            await self.app(scope, _replay(body, receive), send)
        finally:
            self._in_flight -= 1


def _check_head(scope: Scope) -> None:
    """Refuse headers that are too long. The protocol refuses a header that never ends."""
    if len(scope["headers"]) > MAX_HEADERS:
        raise _closing(431, "request", f"has more than {MAX_HEADERS} headers", "send fewer")
    length = sum(len(name) + len(value) for name, value in scope["headers"])
    if length + len(scope["path"]) + len(scope["query_string"]) > protocol.MAX_HEAD:
        raise _closing(431, *protocol.HEAD_TOO_LONG)


def _closing(status: int, subject: str, reason: str, todo: str) -> problem_details.Refused:
    """Return a refusal after which the connection ends."""
    refused = problem_details.Refused(status, subject, reason, todo)
    refused.headers["Connection"] = "close"
    return refused


async def _body(headers: Headers, receive: Receive) -> bytes:
    """Return the body of a request, empty if it has none."""
    declared = headers.get("content-length", "")
    if not declared and "transfer-encoding" not in headers:
        return b""
    too_long = _closing(413, "request", f"its body is longer than {MAX_BODY:,} bytes", "send less at a time")
    size = int(declared) if declared.isdecimal() else 0
    if size > MAX_DROPPED or (size > MAX_BODY and headers.get("expect", "").lower() == "100-continue"):
        raise too_long
    chunks: list[bytes] = []
    length = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise _closing(400, "request", "ended within its body", "send all of it")
                length += len(message.get("body", b""))
                if length <= MAX_BODY:
                    chunks.append(message.get("body", b""))
                if length > MAX_DROPPED or not message.get("more_body", False):
                    break
    except TimeoutError:
        raise _closing(408, "request", f"its body did not come within {BODY_SECONDS:g} s", "send it faster") from None
    if length > MAX_BODY:
        raise too_long
    return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a receiver of the body that was read, and then of whatever else arrives."""
    handed = False

    async def receive_again() -> Message:
        nonlocal handed
        if handed:
            return await receive()
        handed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
