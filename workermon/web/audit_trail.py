"""The audit trail of the API: records each admitted write, whatever its result."""

from __future__ import annotations

import json
import secrets
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workermon import errors, logs, models, ports
from workermon.web import csrf, gate

log = logs.get(__name__)

#: Characters of a write's target.
MAX_TARGET_LENGTH = 500


class Trail:
    """Records a write before its answer is sent, so that whoever has the answer finds the entry."""

    def __init__(self, app: ASGIApp, audit: ports.Audit, now: ports.Clock) -> None:
        self.app, self._audit, self._now = app, audit, now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def recorded(message: Message) -> None:
            writer = scope.get("state", {}).pop("writer", None)
            if message["type"] == "http.response.start" and isinstance(writer, gate.Caller):
                await run_in_threadpool(self._record, scope, writer, int(message["status"]))
            await send(message)

        await self.app(scope, receive, recorded)

    def _record(self, scope: Scope, writer: gate.Caller, status: int) -> None:
        entry = models.AuditEntry(
            id=secrets.token_hex(8),
            at=self._now(),
            by=writer.name,
            origin=writer.origin,
            action=errors.printable(f"{scope['method']} {scope['path']}")[:MAX_TARGET_LENGTH],
            target=_target(scope),
            outcome="ok" if status < 400 else f"refused ({status})",
        )
        try:
            self._audit.record(entry)
        except errors.RedisUnavailable as error:
            log.error("audit.lost", action=entry.action, by=entry.by, origin=entry.origin, reason=str(error))


def _target(scope: Scope) -> str:
    """Return a write's target, from a body of JSON or a form.

    A config file is left out: a URL in it may be secret.
    """
    body: bytes = scope.get("state", {}).get("body", b"")
    kind = Headers(scope=scope).get("content-type", "")
    text = ""
    if kind.startswith("application/x-www-form-urlencoded"):
        fields = parse_qsl(body.decode("utf-8", "replace"), max_num_fields=100)
        text = ", ".join(f"{name}={value}" for name, value in fields if name != csrf.FIELD)
    elif kind.startswith("application/json") or not kind:
        try:
            text = json.dumps(json.loads(body), ensure_ascii=False) if body else ""
        except ValueError:
            text = ""
    return errors.printable(text)[:MAX_TARGET_LENGTH]
