"""The channel ``email``: SMTP with TLS. A mail is taken for sent when the server accepted it for one recipient."""

from __future__ import annotations

import base64
import hashlib
import re
import smtplib
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from email import utils
from email.message import EmailMessage
from email.policy import SMTP as POLICY
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, Strict

from workermon import errors, logs, models, ports
from workermon.config import channels, problems
from workermon.notify import channel_type, http, text

log = logs.get(__name__)

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
    """``[channels.NAME]`` of type ``email``. ``password`` is another name of the secret that belongs to ``user``."""

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
        """Refuse mail to nobody, half a login, and whatever would go over a network in clear text."""
        channels.check_login(path, self.user, self.secret)
        if not self.to:
            raise problems.Mistake(f"{path}.to", "names nobody", 'write to = ["ops@example.com"]')
        if self.secret is not None and self.user is None:
            raise problems.Mistake(f"{path}.user", "is missing beside the secret", "add it")
        if self.security == "none" and not self.allow_private:
            todo = "use starttls or tls, or allow_private = true for a server of your own network"
            raise problems.Mistake(f"{path}.security", "none sends mail in the clear", todo)
        if self.security == "none" and self.secret is not None:
            why = "none would send the password in the clear"
            raise problems.Mistake(f"{path}.security", why, "use starttls or tls")
        channels.check_private(f"{path}.host", self.host, "server", allow_private=self.allow_private)
        channels.check_template(path, self.template)


class Email:
    """``ports.Notifier`` by SMTP."""

    def __init__(self, secrets: ports.Secrets, now: ports.Clock = time.time, *, deadline: float | None = None) -> None:
        self._secrets, self._now, self._deadline = secrets, now, deadline or http.DEADLINE

    def send(self, channel: models.Channel, notification: models.Notification) -> None:
        """Send it within the deadline; raises ``errors.DeliveryFailed`` where no recipient was accepted."""
        self._hand_over(channel, message(channel, notification, self._now()))

    def send_group(self, channel: models.Channel, notifications: Sequence[models.Notification]) -> None:
        """Send one mail about many alerts of one rule."""
        self._hand_over(channel, group_message(channel, notifications, self._now()))

    def _hand_over(self, channel: models.Channel, mail: EmailMessage) -> None:
        options = Options.of(channel)
        password = self._secrets(channel.secret) if channel.secret else None
        exchange = _Exchange(channel.name, options, password, mail)
        gate = http.Gate(options.host, exchange.port, options.allow_private, self._deadline)
        http.within(exchange.what, options.host, gate, self._deadline, exchange, f"email-{channel.name}")


def message(channel: models.Channel, notification: models.Notification, now: float) -> EmailMessage:
    """Return the mail; its Message-ID is the notification's, so that a repeated one can be told."""
    said = text.body(channel, notification)
    # Mails of one alert make one thread in the reader's mailbox.
    return _mail(channel, notification.id, notification.dedup_key, text.title(notification), said, now)


def group_message(channel: models.Channel, notifications: Sequence[models.Notification], now: float) -> EmailMessage:
    """Return the mail about a group; its Message-ID is made of theirs."""
    together = hashlib.sha256("\n".join(sorted(told.id for told in notifications)).encode()).hexdigest()[:40]
    said = text.group_body(channel, notifications)
    return _mail(channel, together, f"group/{notifications[0].rule}", text.group_title(notifications), said, now)


def _mail(channel: models.Channel, identity: str, thread: str, title: str, said: str, now: float) -> EmailMessage:
    mail = EmailMessage(policy=POLICY)
    mail["Subject"] = title[:200]
    options = Options.of(channel)
    mail["From"] = options.sender
    mail["To"] = ", ".join(options.to)
    mail["Date"] = utils.formatdate(now)
    domain = options.sender.rpartition("@")[2]
    mail["Message-ID"] = f"<{identity}@{domain}>"
    name = base64.urlsafe_b64encode(thread.encode()).decode().rstrip("=")
    mail["References"] = f"<{name[:150]}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(said)
    return mail


class _Exchange:
    """One mail handed to a server; ``status`` is 250 once it is accepted."""

    def __init__(self, channel: str, options: Options, password: str | None, mail: EmailMessage) -> None:
        self._channel, self._options, self._password, self._mail = channel, options, password, mail
        self.what = f"channel {channel}"
        self.port = options.port or PORTS[options.security]
        self.status = 0

    def __call__(self, gate: http.Gate) -> None:
        """Speak SMTP."""
        try:
            self._speak(gate)
        except smtplib.SMTPException as why:
            if _refuses(why):
                raise errors.DeliveryRefused(self.what, *self._said(why), http.PATIENT) from None
            raise errors.DeliveryFailed(self.what, *self._said(why)) from None

    def _speak(self, gate: http.Gate) -> None:
        security = self._options.security
        context = ssl.create_default_context()
        server = _Server(gate, context if security == "tls" else None, self._options.host)
        try:
            code, said = server.connect(self._options.host, self.port)
            if code != 220:
                raise smtplib.SMTPConnectError(code, said)
            server.ehlo_or_helo_if_needed()
            if security == "starttls":
                if not server.has_extn("starttls"):
                    why = f"{self._options.host} offers no STARTTLS"
                    raise errors.DeliveryFailed(self.what, why, 'use a server that does, or security = "tls"')
                server.starttls(context=context)
                server.ehlo()
            if self._options.user is not None and self._password is not None:
                server.login(self._options.user, self._password)
            left_out = server.send_message(self._mail, self._options.sender, list(self._options.to))
            self.status = 250
            if left_out:
                log.warning("email.refused_recipients", channel=self._channel, number=len(left_out))
            server.quit()
        except smtplib.SMTPException:
            if not self.status:
                raise
        finally:
            server.close()

    def _said(self, why: smtplib.SMTPException) -> tuple[str, str]:
        """Return what went wrong; a server's own words may repeat an address or a credential, so only its code is."""
        host = errors.printable(self._options.host)[:100]
        if isinstance(why, smtplib.SMTPAuthenticationError):
            return f"{host} refuses user or password ({why.smtp_code})", "correct them"
        if isinstance(why, smtplib.SMTPNotSupportedError):
            return f"{host} does not offer what is asked of it (login, or addresses beyond ASCII)", "see its features"
        if isinstance(why, smtplib.SMTPRecipientsRefused):
            codes = sorted({str(code) for code, _ in why.recipients.values()})
            return f"{host} refuses every recipient ({', '.join(codes)})", "see the addresses in to"
        if isinstance(why, smtplib.SMTPSenderRefused):
            return f"{host} refuses the sender ({why.smtp_code})", "see the address in from"
        if isinstance(why, smtplib.SMTPResponseException):
            return f"{host} answered {why.smtp_code}", "it is tried again; see the server's log"
        if isinstance(why, smtplib.SMTPServerDisconnected):
            return f"{host} did not answer in time, or ended the connection", "it is tried again"
        return f"{host} does not speak SMTP as expected ({type(why).__name__})", "see host, port and security"


def _refuses(why: smtplib.SMTPException) -> bool:
    """Tell whether a server's answer is a permanent one (5yz, of every recipient where it is about those)."""
    if isinstance(why, smtplib.SMTPRecipientsRefused):
        return all(500 <= code < 600 for code, _ in why.recipients.values())
    return isinstance(why, smtplib.SMTPResponseException) and 500 <= why.smtp_code < 600


class _Server(smtplib.SMTP):
    """SMTP whose socket comes through the gate; with a context it speaks TLS from the first byte."""

    def __init__(self, gate: http.Gate, context: ssl.SSLContext | None, host: str) -> None:
        super().__init__(timeout=http.DEADLINE)
        self._gate, self._context = gate, context
        # What the certificate is compared with.
        self._host = host

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:  # noqa: ARG002 - smtplib's signature
        made: socket.socket = self._gate.connect()
        return self._context.wrap_socket(made, server_hostname=self._host) if self._context else made


TYPE = channel_type.ChannelType(
    options=Options,
    notifier=lambda needs: Email(needs.secrets, needs.now),
    per_minute=60,
    group_wait=10,
    shows_repetitions=True,
)
