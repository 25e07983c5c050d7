"""One subscription to the channel for all clients of the stream, and a bounded backlog for each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Collection, Generator
from typing import NamedTuple

from workermon import errors, logs, models, views
from workermon.web import problem_details

log = logs.get(__name__)

#: Maximum messages waiting for a client; all clients share their bytes. A client further behind is dropped.
MAX_BACKLOG = 2000
#: Bytes that are written to a client at once.
MAX_CHUNK = 65_536
#: Maximum clients: half of the connections, so that the others are left for requests.
MAX_CLIENTS = 250
#: Seconds within which the subscription has to be active.
PATIENCE = 5.0

Follow = Callable[[], Generator[views.Message | None, None, None]]


class Frame(NamedTuple):
    """A message in the stream; ``worker_id`` is empty if it is not about a worker."""

    worker_id: str
    content: bytes


def frame(message: views.Message) -> Frame:
    """Return a message of the channel as a server-sent event ``sample`` or ``alert``."""
    if isinstance(message, models.Event):
        kind, worker_id = "sample", message.worker_id
    else:
        kind, worker_id = "alert", message.worker.id if message.worker else ""
    data = json.dumps(models.to_json(message), ensure_ascii=False)
    text = f"event: {kind}\nid: {errors.printable(message.id)}\ndata: {data}\n\n"
    return Frame(worker_id, text.encode("utf-8", "replace"))


class Client:
    """One client of the stream, on the event loop. ``is_over``: nothing arrives any more."""

    def __init__(self, worker_ids: Collection[str]) -> None:
        self._worker_ids = frozenset(worker_ids)
        self._waiting: list[bytes] = []
        self._wake = asyncio.Event()
        self.is_over = False

    def offer(self, sent: Frame) -> None:
        """Queue a message that this client wants. End a client that is too far behind."""
        if self.is_over or (self._worker_ids and sent.worker_id not in self._worker_ids):
            return
        if len(self._waiting) >= MAX_BACKLOG:
            log.warning("stream.dropped", reason=f"{MAX_BACKLOG} messages wait for a client")
            self.end()
            return
        self._waiting.append(sent.content)
        self._wake.set()

    def end(self) -> None:
        """End the stream of this client, and drop its waiting messages."""
        self.is_over = True
        self._waiting.clear()
        self._wake.set()

    async def next(self, timeout: float) -> bytes:
        """Return the waiting messages; empty if nothing arrived in time or the stream is over."""
        try:
            await asyncio.wait_for(self._wake.wait(), timeout)
        except TimeoutError:
            return b""
        count, size = 0, 0
        while count < len(self._waiting) and (not count or size + len(self._waiting[count]) <= MAX_CHUNK):
            size += len(self._waiting[count])
            count += 1
        chunk = b"".join(self._waiting[:count])
        del self._waiting[:count]
        if not self._waiting and not self.is_over:
            self._wake.clear()
        return chunk


class _LoopClosed(Exception):
    """The server has stopped."""


def _on(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: object) -> None:
    """Call something on the event loop, from the thread."""
    try:
        loop.call_soon_threadsafe(call, *arguments)
    except RuntimeError:
        raise _LoopClosed from None


class Hub:
    """Passes each message of the channel to every client.

    A thread follows the channel while there is a client. If its connection breaks, messages are lost, so every stream
    ends. The client connects again, and reads again what it shows.
    """

    def __init__(self, follow: Follow) -> None:
        self._follow = follow
        self._lock = threading.Lock()
        self._clients: set[Client] = set()
        self._subscribed: asyncio.Event | None = None
        self._failure: errors.WorkermonError | None = None
        self._is_closed = False

    async def join(self, worker_ids: Collection[str] = ()) -> Client:
        """Add a client that gets messages from now on, only of these workers if any are given.

        Raises ``problem_details.Refused`` if there are too many, ``errors.RedisUnavailable`` if the channel cannot be
        followed.
        """
        client = Client(worker_ids)
        with self._lock:
            if self._is_closed or len(self._clients) >= MAX_CLIENTS:
                raise problem_details.Refused(
                    503, "stream", f"{MAX_CLIENTS} clients follow it already", "try again later"
                )
            self._clients.add(client)
            if self._subscribed is None:
                self._subscribed = asyncio.Event()
                loop = asyncio.get_running_loop()
                threading.Thread(
                    target=self._run, args=(loop, self._subscribed), name="workermon-stream", daemon=True
                ).start()
            subscribed = self._subscribed
        try:
            await asyncio.wait_for(subscribed.wait(), PATIENCE)
        except TimeoutError:
            self.leave(client)
            raise errors.RedisUnavailable("Redis", "did not answer in time", "try again later") from None
        if client.is_over:
            raise self._failure or errors.RedisUnavailable("Redis", "the connection broke", "try again later")
        return client

    def leave(self, client: Client) -> None:
        """Remove a client."""
        client.end()
        with self._lock:
            self._clients.discard(client)

    def close(self) -> None:
        """End every stream when the server stops. Called on the event loop."""
        with self._lock:
            self._is_closed = True
            clients, self._clients = self._clients, set()
        for client in clients:
            client.end()

    @property
    def size(self) -> int:
        """Return how many clients there are."""
        return len(self._clients)

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self, loop: asyncio.AbstractEventLoop, subscribed: asyncio.Event) -> None:
        with contextlib.suppress(_LoopClosed):
            try:
                with contextlib.closing(self._follow()) as messages:
                    for message in messages:
                        if message is not None:
                            _on(loop, self._spread, frame(message))
                        else:
                            _on(loop, subscribed.set)
                        if self._retire(subscribed):
                            return
            except errors.WorkermonError as error:
                log.warning("stream.broken", reason=str(error))
                self._fail(loop, subscribed, error)

    def _retire(self, subscribed: asyncio.Event) -> bool:
        """Return whether the stream has no more clients. The next client starts another thread."""
        with self._lock:
            if self._clients:
                return False
            if self._subscribed is subscribed:
                self._subscribed = None
            return True

    def _fail(self, loop: asyncio.AbstractEventLoop, subscribed: asyncio.Event, error: errors.WorkermonError) -> None:
        with self._lock:
            clients, self._clients = self._clients, set()
            self._failure, self._subscribed = error, None

        def end() -> None:
            for client in clients:
                client.end()
            subscribed.set()

        _on(loop, end)

    def _spread(self, sent: Frame) -> None:
        for client in list(self._clients):
            client.offer(sent)
            if client.is_over:
                self.leave(client)
