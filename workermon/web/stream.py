"""``GET /api/v1/stream``: samples and alerts as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from workermon import errors, models
from workermon.web import fields, gate, hub

#: Seconds. Without other messages a comment is sent that often, and the login is checked again.
HEARTBEAT = 15.0
#: Seconds in which a client has to read what was written. Otherwise its stream ends.
PATIENCE = 30.0
#: Milliseconds after which a browser connects again.
RETRY = 3000

PATH = "/api/v1/stream"

router = APIRouter()


class StreamQuery(fields.Fields):
    """Which messages: those about these workers (ids), about all if none is given."""

    worker: list[models.InstanceId] = Field(default=[], max_length=1000, description="Only messages of this worker.")


class EventStream(Response):
    """The stream of one client: the hub's messages, until one of the two ends, or its login is no longer valid."""

    media_type = "text/event-stream"

    def __init__(self, request: Request, source: hub.Hub, client: hub.Client) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._request, self._hub, self._client = request, source, client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send until the stream is over. A client that does not read in time is dropped."""
        disconnected = asyncio.ensure_future(_disconnected(receive))
        try:
            start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            await self._send(send, start)
            await self._send(send, _body(f"retry: {RETRY}\n\n".encode()))
            await self._follow(send, disconnected)
            await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})
        except (TimeoutError, OSError):
            return
        finally:
            self._hub.leave(self._client)
            disconnected.cancel()

    async def _follow(self, send: Send, disconnected: asyncio.Future[None]) -> None:
        loop = asyncio.get_running_loop()
        beat = loop.time() + HEARTBEAT
        while not disconnected.done():
            coming = asyncio.ensure_future(self._client.next(max(0.0, beat - loop.time())))
            either: set[asyncio.Future[Any]] = {coming, disconnected}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                return
            if chunk := coming.result():
                await self._send(send, _body(chunk))
            if self._client.is_over:
                return
            if loop.time() >= beat:
                if not await run_in_threadpool(self._is_admitted):
                    return
                await self._send(send, _body(b": heartbeat\n\n"))
                beat = loop.time() + HEARTBEAT

    def _is_admitted(self) -> bool:
        """Return whether this client's login is still valid: a token may have been revoked."""
        try:
            gate.identify(self._request)
        except errors.RedisUnavailable:
            return True  # unknown
        except errors.WorkermonError:
            return False
        return True

    async def _send(self, send: Send, message: dict[str, object]) -> None:
        await asyncio.wait_for(send(message), PATIENCE)


def _body(chunk: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": chunk, "more_body": True}


async def _disconnected(receive: Receive) -> None:
    """Return when the client is gone."""
    with contextlib.suppress(OSError):
        while (await receive())["type"] != "http.disconnect":
            pass


@router.get(
    PATH,
    response_class=EventStream,
    status_code=200,
    summary="Follow samples and alerts",
    tags=["stream"],
    responses={200: {"description": "Server-sent events", "content": {"text/event-stream": {}}}},
    dependencies=[gate.VIEWER],
)
async def stream(request: Request, query: Annotated[StreamQuery, Query()]) -> Response:
    """Send each sample and alert from now on as a server-sent event ``sample`` or ``alert``, as ``watch --json``.

    A comment comes each 15 s. The stream ends if messages may have been lost: connect again, and read again what you
    show. A client that reads too slowly is dropped.
    """
    source: hub.Hub = request.app.state.hub
    return EventStream(request, source, await source.join(query.worker))
