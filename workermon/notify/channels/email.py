"""The channel ``email``: SMTP with TLS. A mail counts as sent if the server accepted it for at least one recipient."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import re
import smtplib
import socket
import ssl
from collections.abc import Mapping, Sequence
from email import utils
from email.message import EmailMessage
from email.policy import SMTP as POLICY
from typing import IO, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, Strict

from workermon import errors, logs, models, ports
from workermon.config import channels, problems
from workermon.notify import policy, text, transport
from workermon.notify.channel_type import ChannelType

log = logs.get(__name__)

#: Bytes of a server's replies on one connection. A mail needs about one thousand.
MAX_REPLIES = 65_536

#: Challenges of one login.
MAX_CHALLENGES = 5

PORTS = {"starttls": 587, "tls": 465, "none": 25}


_MAILBOX = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,39}")


def _mailbox(text: str) -> str:
    if not _MAILBOX.fullmatch(text) or ".." in text:
        raise ValueError("is not an address such as ops@example.com")
    return text


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise ValueError("is not a host such as mail.example.com")
    return text


Mailbox = Annotated[str, AfterValidator(_mailbox)]


class Options(channels.Options):
    """``[channels.NAME]`` of type ``email``. ``password`` is an alias of ``secret``, which belongs to ``user``."""

    aliases: ClassVar[Mapping[str, str]] = {"password": "secret"}

    host: Annotated[str, AfterValidator(_host)]
    sender: Annotated[Mailbox, Field(alias="from")]
    to: Annotated[tuple[Mailbox, ...], Field(max_length=100)]
    port: Annotated[int, Strict(), Field(ge=1, le=65_535)] | None = None
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: models.Text | None = None
    secret: channels.Secret = None
    password: channels.Secret = None
    template: channels.Template | None = None
    group_wait: channels.GroupWait | None = None
    repeat: channels.Repeat | None = None

    def check(self, path: str) -> None:
        """Reject mail without recipients, an incomplete login, and anything sent over a network in clear text."""
        channels.check_login(path, self.user, self.secret)
        if not self.to:
            raise problems.Mistake(f"{path}.to", "is empty", 'write to = ["ops@example.com"]')
        if self.secret is not None and self.user is None:
            raise problems.Mistake(f"{path}.user", "is missing beside the secret", "add it")
        if self.security == "none" and not self.allow_private:
            todo = "use starttls or tls, or allow_private = true for a server of your own network"
            raise problems.Mistake(f"{path}.security", "none sends mail in the clear", todo)
        if self.security == "none" and self.secret is not None:
            reason = "none would send the password in the clear"
            raise problems.Mistake(f"{path}.security", reason, "use starttls or tls")
        channels.check_private(f"{path}.host", self.host, "server", allow_private=self.allow_private)
        channels.check_template(path, self.template)


@dataclasses.dataclass(frozen=True, slots=True)
class Email:
    """``ports.Notifier`` by SMTP."""

    secrets: ports.Secrets
    now: ports.Clock
    deadline: float = transport.DEADLINE

    def send(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:
        """Send one mail; raises ``errors.DeliveryFailed`` if no recipient was accepted."""
        options = Options.of(channel)
        password = self.secrets(channel.secret) if channel.secret else None
        mail = message(channel, notifications, self.now())
        port = options.port or PORTS[options.security]
        receiver = transport.Receiver(channel.name, options.host, port, options.allow_private)
        exchange = _Exchange(receiver, options, password, mail)
        transport.run(receiver, exchange, self.deadline, f"email-{channel.name}")


def message(channel: models.Channel, notifications: Sequence[models.Notification], now: float) -> EmailMessage:
    """Return the mail. Its Message-ID comes from the notifications', so that a repeated one can be recognized."""
    options, first = Options.of(channel), notifications[0]
    if len(notifications) == 1:
        # Mails of one alert form one thread in the reader's mailbox.
        identity, thread = first.id, first.dedup_key
    else:
        ids = "\n".join(sorted(notification.id for notification in notifications))
        identity, thread = hashlib.sha256(ids.encode()).hexdigest()[:40], f"group/{first.rule}"
    domain = options.sender.rpartition("@")[2]
    reference = base64.urlsafe_b64encode(thread.encode()).decode().rstrip("=")
    mail = EmailMessage(policy=POLICY)
    mail["Subject"] = text.subject(notifications)[:200]
    mail["From"] = options.sender
    mail["To"] = ", ".join(options.to)
    mail["Date"] = utils.formatdate(now)
    mail["Message-ID"] = f"<{identity}@{domain}>"
    mail["References"] = f"<{reference[:150]}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(text.body(channel, notifications))
    return mail


@dataclasses.dataclass(frozen=True, slots=True)
class _Exchange:
    """One mail handed to a server."""

    receiver: transport.Receiver
    options: Options
    password: str | None
    mail: EmailMessage

    def __call__(self, connected: transport.Transport) -> None:
        """Speak SMTP."""
        try:
            self._speak(connected)
        except smtplib.SMTPException as error:
            if _refuses(error):
                raise errors.DeliveryRefused(
                    self.receiver.name, *self._described(error), policy.PATIENT_ATTEMPTS
                ) from None
            raise errors.DeliveryFailed(self.receiver.name, *self._described(error)) from None

    def _speak(self, connected: transport.Transport) -> None:
        context = ssl.create_default_context()
        host, security = self.receiver.host, self.options.security
        server = _Server(connected, context if security == "tls" else None, host)
        try:
            code, answer = server.connect(host, self.receiver.port)
            if code != 220:
                raise smtplib.SMTPConnectError(code, answer)
            server.ehlo_or_helo_if_needed()
            if security == "starttls":
                self._start_tls(server, context)
            if self.options.user is not None and self.password is not None:
                server.login(self.options.user, self.password)
            refused = server.send_message(self.mail, self.options.sender, list(self.options.to))
            connected.answered = True
            if refused:
                log.warning("email.refused_recipients", channel=self.receiver.channel, number=len(refused))
            server.quit()
        except smtplib.SMTPException:
            if not connected.answered:
                raise
        finally:
            server.close()

    def _start_tls(self, server: smtplib.SMTP, context: ssl.SSLContext) -> None:
        if not server.has_extn("starttls"):
            reason = f"{self.receiver.host} offers no STARTTLS"
            raise errors.DeliveryFailed(self.receiver.name, reason, 'use a server that does, or security = "tls"')
        server.starttls(context=context)
        server.ehlo()

    def _described(self, error: smtplib.SMTPException) -> tuple[str, str]:
        """Describe what went wrong by the server's code: its own text may repeat an address or a credential."""
        host = errors.printable(self.receiver.host)[:100]
        match error:
            case smtplib.SMTPAuthenticationError():
                return f"{host} refuses user or password ({error.smtp_code})", "correct them"
            case smtplib.SMTPNotSupportedError():
                return f"{host} lacks a feature that this needs (login, or addresses beyond ASCII)", "see its features"
            case smtplib.SMTPRecipientsRefused():
                codes = sorted({str(code) for code, _ in error.recipients.values()})
                return f"{host} refuses every recipient ({', '.join(codes)})", "check the addresses in to"
            case smtplib.SMTPSenderRefused():
                return f"{host} refuses the sender ({error.smtp_code})", "check the address in from"
            case smtplib.SMTPResponseException():
                return f"{host} answered {error.smtp_code}", "workermon tries again; see the server's log"
            case smtplib.SMTPServerDisconnected():
                return f"{host} did not answer in time, or ended the connection", "workermon tries again"
        return f"{host} does not speak SMTP as expected ({type(error).__name__})", "check host, port and security"


def _refuses(error: smtplib.SMTPException) -> bool:
    """Return whether a server's answer is permanent: 500 to 599, for every recipient if it is about recipients."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(500 <= code < 600 for code, _ in error.recipients.values())
    return isinstance(error, smtplib.SMTPResponseException) and 500 <= error.smtp_code < 600


class _Replies:
    """A server's replies, up to a limit: smtplib collects the lines of one until the last has arrived."""

    def __init__(self, replies: IO[bytes]) -> None:
        self._replies, self._remaining = replies, MAX_REPLIES

    def readline(self, limit: int) -> bytes:
        """Return the next line. Raises ``smtplib.SMTPServerDisconnected`` if the server sends too much."""
        line = self._replies.readline(limit)
        self._remaining -= len(line)
        if self._remaining < 0:
            raise smtplib.SMTPServerDisconnected("its answers are too long")
        return line

    def close(self) -> None:
        """Close them."""
        self._replies.close()


class _Server(smtplib.SMTP):
    """SMTP over a checked connection; with a context it speaks TLS from the first byte."""

    file: _Replies | None

    def __init__(self, connected: transport.Transport, context: ssl.SSLContext | None, host: str) -> None:
        super().__init__(timeout=transport.DEADLINE)
        self._connected, self._context = connected, context
        # The name that the certificate is compared with.
        self._host = host

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:  # noqa: ARG002 - smtplib's signature
        connected_socket: socket.socket = self._connected.connect()
        return (
            self._context.wrap_socket(connected_socket, server_hostname=self._host)
            if self._context
            else connected_socket
        )

    def getreply(self) -> tuple[int, bytes]:
        """Get a reply from the server, of a bounded length."""
        if self.file is None and self.sock is not None:
            self.file = _Replies(self.sock.makefile("rb"))
        return super().getreply()

    def auth(self, mechanism: str, authobject: Any, *, initial_response_ok: bool = True) -> tuple[int, bytes]:
        """Log in as smtplib does, but in UTF-8 (RFC 4616); smtplib accepts ASCII only."""
        first = authobject() if initial_response_ok else None
        self._auth_challenge_count = 0 if first is None else 1
        code, answer = self.docmd("AUTH", mechanism if first is None else f"{mechanism} {_base64(first)}")
        while code == 334 and self._auth_challenge_count < MAX_CHALLENGES:
            self._auth_challenge_count += 1
            code, answer = self.docmd(_base64(authobject(base64.decodebytes(answer))))
        if code in (235, 503):
            return code, answer
        raise smtplib.SMTPAuthenticationError(code, answer)

    def auth_cram_md5(self, challenge: bytes | None = None) -> str | None:  # type: ignore[override]  # as smtplib's own
        """Answer a challenge of CRAM-MD5."""
        if challenge is None:
            return None
        return f"{self.user} {hmac.new(self.password.encode(), challenge, 'md5').hexdigest()}"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


TYPE = ChannelType(
    options=Options,
    notifier=lambda needs: Email(needs.secrets, needs.now),
    per_minute=60,
    group_wait=10,
    shows_repetitions=True,
)
