"""What an SMTP server of a test got, and a channel to it."""

from __future__ import annotations

from typing import Any

from tests.support.notifications import of
from workermon.models import Channel


class Mailbox:
    """The mail of an SMTP server: envelopes, and logins. ``refuse`` is its answer to a mail."""

    def __init__(self) -> None:
        self.envelopes: list[Any] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self.refuse = ""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.refuse:
            return self.refuse
        self.envelopes.append(envelope)
        return "250 accepted"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
        from aiosmtpd.smtp import AuthResult

        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"hunter2hunter2", handled=False)


def post(port: int, **fields: Any) -> Channel:
    """Return a channel of e-mail to that port."""
    return of("email", **{"host": "localhost", "port": port, "from": "monitor@example.com",
                          "to": ["ops@example.com", "chief@example.com"], **fields})  # fmt: skip
