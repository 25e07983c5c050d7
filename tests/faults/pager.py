"""The receiver over real HTTP: of webhooks, of PagerDuty's events, which it merges as PagerDuty does, and of
Slack's messages, which it merges as little as Slack does. It can misbehave."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple

#: What it does with a request: take it; refuse it; refuse it for good; take it and cut the connection; or the seconds
#: of a Retry-After.
Manner = Literal["take", "refuse", "never", "cut"] | float


class Received(NamedTuple):
    """A notification that was taken, and when."""

    at: float
    id: str
    document: dict[str, Any]

    @property
    def key(self) -> str:
        """Return the alert that it is about."""
        return str(self.document["dedup_key"])

    @property
    def firing(self) -> bool:
        """Tell whether it opens something."""
        return bool(self.document["status"] == "firing")


class Pager:
    """The receiver. ``manner`` decides about each request and may be changed at any time."""

    def __init__(self) -> None:
        self.manner: Callable[[], Manner] = lambda: "take"
        #: Each that was taken, in order, repetitions included.
        self.received: list[Received] = []
        #: The text of each of Slack's messages that was taken, in order.
        self.messages: list[str] = []
        #: How many requests were refused, cut or delayed.
        self.mistreated = 0
        self._lock = threading.Lock()
        self._server = _Server(self)

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/page"

    def start(self) -> None:
        """Answer, in threads of this process."""
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def stop(self) -> None:
        """Answer no longer."""
        self._server.shutdown()
        self._server.server_close()

    def take(self, identity: str, body: bytes) -> Manner:
        """Decide about a request, and record it if it is accepted."""
        with self._lock:
            manner = self.manner()
            self.mistreated += manner != "take"
            if manner in ("take", "cut"):
                self._note(identity, json.loads(body))
            return manner

    def _note(self, identity: str, document: dict[str, Any]) -> None:
        if "attachments" in document:
            blocks = [block for part in document["attachments"] for block in part["blocks"]]
            self.messages.append("\n".join(block["text"]["text"] for block in blocks))
            return
        if "event_action" in document:
            details = document["payload"]["custom_details"]
            identity = details["id"]
            document = {
                "dedup_key": document["dedup_key"],
                "status": "firing" if document["event_action"] == "trigger" else "resolved",
                "version": details["version"],
                "at": document["payload"]["timestamp"],
                "reason": details["reason"],
            }
        self.received.append(Received(time.time(), identity, document))

    def of(self, key: str) -> list[Received]:
        """Return the accepted messages about one alert."""
        return [notification for notification in list(self.received) if notification.key == key]

    def pages(self, key: str) -> list[Received]:
        """Return the messages about an alert that would make a pager ring. A trigger joins an open incident.

        A trigger after a resolve opens a new one. A repeated ``id`` changes nothing.
        """
        rings, ids, is_open = [], set(), False
        for page in self.of(key):
            if page.id in ids:
                continue
            ids.add(page.id)
            if page.firing and not is_open:
                rings.append(page)
            is_open = page.firing
        return rings

    def wrong(self, key: str) -> str | None:
        """Return the errors in the order of the accepted messages about an alert."""
        versions = [page.document["version"] for page in self.of(key)]
        if versions != sorted(versions):
            return f"{key}: out of order: {versions}"
        if len({page.id for page in self.of(key)}) != len(set(versions)):
            return f"{key}: two ids with one version"
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, pager: Pager) -> None:
        self.pager = pager
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing, because senders are killed in the middle of a request."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        manner = self.server.pager.take(self.headers.get("Idempotency-Key") or "", body)
        if manner == "cut":
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.close()
            return
        self.send_response({"take": 204, "refuse": 503, "never": 400}.get(str(manner), 429))
        if isinstance(manner, float):
            self.send_header("Retry-After", str(int(manner)))
        self.send_header("Content-Length", "0")
        self.end_headers()
