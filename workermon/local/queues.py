"""SQS queues and EventBridge's PutEvents, as far as an event queue needs them.

The sources are the API references of Amazon SQS (2012-11-05) and Amazon EventBridge (2015-10-07).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
import time
from datetime import UTC, datetime
from typing import Any

#: Seconds that a request may wait.
MAX_WAIT = 20


class UnknownQueue(Exception):
    """There is no queue of that name."""


class Queues:
    """Queues by name (the last part of their addresses). A message received but not deleted is delivered again."""

    def __init__(self) -> None:
        #: Seconds for which a received message is hidden.
        self.visibility = 30.0
        self._messages: dict[str, list[dict[str, Any]]] = {}
        self._changed = threading.Condition()
        self._ids = itertools.count(1)

    def create(self, name: str) -> None:
        """Create a queue, unless it exists."""
        with self._changed:
            self._messages.setdefault(name, [])

    def put(self, name: str, body: str) -> str:
        """Add a message, as EventBridge does; return its id."""
        with self._changed:
            identity = f"message-{next(self._ids)}"
            self._queue(name).append({"id": identity, "body": body, "visible": 0.0, "receipt": ""})
            self._changed.notify_all()
            return identity

    def publish(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer EventBridge's PutEvents. Every queue has a rule that matches all events."""
        results = []
        for entry in params["Entries"]:
            identity = f"event-{next(self._ids)}"
            head = {"version": "0", "id": identity, "time": _now(), "resources": [], "source": entry["Source"]}
            event = {**head, "detail-type": entry["DetailType"], "detail": json.loads(entry["Detail"])}
            for name in list(self._messages):
                self.put(name, json.dumps(event))
            results.append({"EventId": identity})
        return {"FailedEntryCount": 0, "Entries": results}

    def message_count(self, name: str) -> int:
        """Return how many messages a queue holds, hidden ones included."""
        with self._changed:
            return len(self._queue(name))

    def receive(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer ReceiveMessage."""
        name, most = _name(params), int(params.get("MaxNumberOfMessages") or 1)
        until = time.monotonic() + min(int(params.get("WaitTimeSeconds") or 0), MAX_WAIT)
        with self._changed:
            while True:
                now = time.monotonic()
                visible = [message for message in self._queue(name) if message["visible"] <= now][:most]
                if visible or now >= until:
                    break
                self._changed.wait(min(until - now, 0.5))
            for message in visible:
                message["visible"] = now + self.visibility
                message["receipt"] = f"receipt-{next(self._ids)}"
            messages = [
                {
                    "MessageId": message["id"],
                    "ReceiptHandle": message["receipt"],
                    "Body": message["body"],
                    "MD5OfBody": hashlib.md5(message["body"].encode(), usedforsecurity=False).hexdigest(),
                }
                for message in visible
            ]
        return {"Messages": messages} if messages else {}

    def delete(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer DeleteMessageBatch."""
        receipts = {entry["ReceiptHandle"]: entry["Id"] for entry in params["Entries"]}
        with self._changed:
            messages = self._queue(_name(params))
            messages[:] = [message for message in messages if message["receipt"] not in receipts]
        return {"Successful": [{"Id": entry_id} for entry_id in receipts.values()], "Failed": []}

    def send(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer SendMessage."""
        body = str(params["MessageBody"])
        identity = self.put(_name(params), body)
        return {
            "MessageId": identity,
            "MD5OfMessageBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
        }

    def _queue(self, name: str) -> list[dict[str, Any]]:
        if name not in self._messages:
            raise UnknownQueue(name)
        return self._messages[name]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _name(params: dict[str, Any]) -> str:
    return str(params["QueueUrl"]).rpartition("/")[2]
