"""Settings: the only code that reads the environment. All of them are validated at first use."""

from __future__ import annotations

import fnmatch
import ipaddress
import json
import os
import re
import stat
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

import dotenv.parser
import pydantic
from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from workermon import errors, models
from workermon.settings import amqp_address, redis_address

SCHEMES = ("redis", "rediss", "sentinel", "unix")

#: Bytes. A secret is a password or a URL; a private key has a few thousand.
MAX_SECRET_SIZE = 64 * 1024

#: Where Docker, Kubernetes and Nomad mount secrets.
MOUNTED_SECRETS = "/run/secrets"

#: Minimum version of Redis, major and minor. ZMSCORE, and ranges by ZRANGE, need it.
OLDEST_REDIS: Final = (6, 2)

#: Why a server in cluster mode is refused, and what to do: our scripts use keys of several slots.
CLUSTER_MODE: Final = ("it runs in cluster mode", "use a server, or Sentinel, without cluster mode")

#: The pub/sub channel of samples.
CHANNEL: Final = "workermon:metrics"

#: The port of the page.
WEB_PORT: Final = 8650

# Names in Redis that Celery, Kombu and RedBeat use for us. on_celery may not import on_redis, whose keys.py lists them.
#: The prefix of an entry's name in RedBeat's keys, and of a worker's id in the name of its entry.
REDBEAT_PREFIX: Final = "workermon:redbeat:"
ENTRY_PREFIX: Final = "workermon:collect:"
SCHEDULE_COHORTS: Final = "workermon:schedule:cohorts"
SCHEDULE_COHORT: Final = "workermon:schedule:cohort:"
SCHEDULE_PHASES: Final = "workermon:schedule:phases"
SCHEDULE_QUARANTINE: Final = "workermon:schedule:quarantine"
SCHEDULE_TICK: Final = "workermon:schedule:tick"
SCHEDULE_CANARY: Final = "workermon:schedule:canary"
#: Seconds for which the beat that runs holds its lock.
BEAT_LOCK_SECONDS: Final = 5
#: A channel: an entry was put into the schedule.
SCHEDULE_CHANGED: Final = "workermon:schedule:changed"
#: The prefix of a key that was of another type.
SET_ASIDE: Final = "workermon:set-aside:"
#: The messages that nodes hold, the same by time, and the lock for restoring lost ones.
UNACKED: Final = "workermon:unacked"
UNACKED_INDEX: Final = "workermon:unacked-index"
UNACKED_MUTEX: Final = "workermon:unacked-mutex"
#: The queues of an exchange (its name is at the end), which of them stay, and when the others expire.
BINDING: Final = "workermon:binding:%s"
BINDING_PERMANENT: Final = "workermon:binding-permanent:%s"
BINDING_DEADLINES: Final = "workermon:binding-deadlines"
#: Remote control, and the events of nodes and tasks.
CONTROL_EXCHANGE: Final = "workermon"
EVENT_EXCHANGE: Final = "workermon.events"

Seconds = Annotated[int, NoDecode, BeforeValidator(models.seconds)]


def state_home() -> Path:
    """Return the folder of the embedded server: ``$XDG_STATE_HOME/workermon``, by default below ``~/.local/state``."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "workermon"


def config_home() -> Path:
    """Return this user's configuration folder: ``$XDG_CONFIG_HOME/workermon``, else ``~/.config/workermon``."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(home) / "workermon"


def failpoint() -> str | None:
    """Return the crash point at which a test wants the process to exit (``failpoints``); ``None`` in normal runs."""
    return os.environ.get("WORKERMON_FAILPOINT") or None


def address_file() -> Path:
    """Return the file with the address of this user's embedded server, while it runs."""
    return state_home() / "server.json"


def masked(url: str) -> str:
    """Return a URL for display: its password, and every query value, become ``***``."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "***"
    if "@" in parts.path or parts.fragment:  # the rest of a password that is not escaped
        return "***"
    place = parts.netloc
    if "@" in place:
        credentials, _, address = place.rpartition("@")
        place = f"{credentials.split(':')[0]}:***@{address}" if ":" in credentials else f"***@{address}"
    query = "&".join(f"{pair.split('=')[0]}=***" for pair in parts.query.split("&")) if parts.query else ""
    return urlunsplit(SplitResult(parts.scheme, place, parts.path, query, ""))


def too_old(version: str) -> bool:
    """Return whether a version of Redis is too old. One that cannot be parsed counts as new enough."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return match is not None and (int(match[1]), int(match[2])) < OLDEST_REDIS


_ESCAPED = "in a user or password write / as %2F, ? as %3F, # as %23 and @ as %40"
_APART = f"cannot be parsed; {_ESCAPED}"


#: Celery and Python's ssl spell it CERT_REQUIRED, redis-py required.
_CERT_REQS = re.compile(r"(ssl_cert_reqs=)(?:CERT_)?(REQUIRED|OPTIONAL|NONE)\b", re.IGNORECASE)


#: Why one of Kombu's other transports cannot be the broker.
_NO_BROKERS: Final = {
    "sqs": "names SQS, whose client (pycurl) workermon does not install and over which no node can be asked for status",
    "memory": "names a broker in the memory of one process, but beat and nodes are several",
}


def _split(url: str) -> SplitResult:
    # The text of urllib's errors may contain a piece of the password, so it is never passed on.
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError(_APART) from None


def _check_amqp(url: str) -> None:
    parts = _split(url)
    if parts.fragment or "@" in parts.path + parts.query or errors.printable(url) != url:
        raise ValueError(_APART)
    if not _is_place(parts.netloc.rpartition("@")[2]):
        raise ValueError(f"needs a host, such as amqp://user:password@host:5672/name; {_ESCAPED}")
    _ = amqp_address.AmqpAddress.parse(url)


def _is_place(place: str) -> bool:
    """Return whether a text is a host, with or without a port."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.%\w]+\]|[^\s:\[\]@]+)?(:([0-9]{1,5}))?", place, re.ASCII)
    return match is not None and place != "" and (match[3] is None or 0 < int(match[3]) < 65536)


def is_web_address(url: str) -> bool:
    """Return whether a text is an ``http`` or ``https`` URL with a valid host."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return False
    return errors.printable(url) == url and not any(character.isspace() for character in url)


def is_loopback(host: str) -> bool:
    """Return whether a host name or address can be reached only from this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


#: Allowed names of a header. Headers with a meaning of their own cannot name a user.
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_NO_USER_HEADERS = frozenset({"authorization", "cookie", "host", "origin", "referer", "content-length", "content-type"})
#: A host name, or an address of IPv4 or IPv6.
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def is_host(host: str) -> bool:
    """Return whether a text is a host name or an address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _HOST.fullmatch(host) is not None and not host.replace(".", "").isdigit()
    return True


class _PageSettings(BaseSettings):
    """The settings that ``demo`` reads. It has its own values for all others."""

    model_config = SettingsConfigDict(
        env_prefix="WORKERMON_", env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True
    )

    web_port: int = Field(default=WEB_PORT, ge=1, le=65535)

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object, info: pydantic.ValidationInfo) -> object:
        return cls.model_fields[str(info.field_name)].default if value == "" else value


class Settings(_PageSettings):
    """The environment variables ``WORKERMON_…``, or a ``.env`` file in the working directory."""

    redis_url: SecretStr | None = None
    broker_url: SecretStr | None = None
    channel: str = Field(default=CHANNEL, min_length=1, max_length=256)
    config: Path | None = None
    interval: Seconds = Field(default=60, ge=1, le=models.DAY)
    min_interval: Seconds = Field(default=10, ge=1, le=models.DAY)
    heartbeat_url: SecretStr | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] | None = None
    log_file: str | None = None
    secrets: str = "*"
    secrets_dir: str | None = None
    web_host: str = "127.0.0.1"
    web_proxies: str | None = None
    web_user_header: str | None = None
    web_user_role: models.Role = "viewer"

    @field_validator("channel")
    @classmethod
    def _printable(cls, value: str) -> str:
        if errors.printable(value) != value:
            raise ValueError("has control characters in it")
        return value

    @field_validator("heartbeat_url")
    @classmethod
    def _web_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not is_web_address(value.get_secret_value()):
            raise ValueError("is not a URL such as https://example.com/ping")
        return value

    @field_validator("broker_url")
    @classmethod
    def _broker(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return value
        scheme = _split(value.get_secret_value()).scheme
        if scheme in amqp_address.SCHEMES:
            _check_amqp(value.get_secret_value())
            return value
        if scheme not in SCHEMES and scheme:
            reason = _NO_BROKERS.get(scheme, "names a transport that workermon is not tested with")
            raise ValueError(
                f"{reason}; Redis (redis://, rediss://, sentinel://) and RabbitMQ (amqp://, amqps://) work"
            )
        return cls._known_scheme(value)

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return value
        url = value.get_secret_value()
        parts = _split(url)
        if parts.scheme in amqp_address.SCHEMES:
            raise ValueError("names RabbitMQ, which can be the broker only: state and schedule are in Redis")
        if parts.scheme not in SCHEMES or not (parts.netloc or parts.scheme == "unix"):
            raise ValueError("is not a URL such as redis://host:6379/1, rediss:// or sentinel://")
        if (
            parts.fragment
            or (parts.scheme != "unix" and "@" in parts.path + parts.query)
            or errors.printable(url) != url
        ):
            raise ValueError(_APART)
        if parts.scheme != "unix":
            database = parts.path.strip("/") or dict(parse_qsl(parts.query)).get("db", "0")
            places = parts.netloc.rpartition("@")[2].split(",")
            if not all(_is_place(place) for place in places) or not re.fullmatch(r"[0-9]{1,9}", database):
                raise ValueError(f"needs a port and a database number, such as redis://host:6379/1; {_ESCAPED}")
        url = _CERT_REQS.sub(lambda match: match[1] + match[2].lower(), url)
        try:
            redis_address.RedisAddress.parse(url)
        except ValueError:
            raise ValueError("needs true or false for ssl, sentinel_ssl and ssl_check_hostname") from None
        return SecretStr(url)

    @field_validator("web_host")
    @classmethod
    def _host(cls, value: str) -> str:
        host = value[1:-1] if value.startswith("[") and value.endswith("]") else value
        if not is_host(host):
            raise ValueError("is not a host name or address such as 127.0.0.1")
        return host

    @field_validator("web_user_header")
    @classmethod
    def _header(cls, value: str | None, info: pydantic.ValidationInfo) -> str | None:
        if value is not None and (not _HEADER.fullmatch(value) or value.lower() in _NO_USER_HEADERS):
            raise ValueError("is not a header that may name a user, such as X-Forwarded-User")
        if value is not None and not info.data.get("web_proxies"):
            raise ValueError("has no effect, because WORKERMON_WEB_PROXIES names no proxy")
        return value

    @field_validator("web_proxies")
    @classmethod
    def _networks(cls, value: str | None) -> str | None:
        try:
            _ = [ipaddress.ip_network(part.strip()) for part in (value or "").split(",") if part.strip()]
        except ValueError:
            raise ValueError("is not a list of networks such as 10.0.0.0/8,192.0.2.7/32") from None
        return value

    @cached_property
    def web_networks(self) -> tuple[Network, ...]:
        """Return the networks of the proxies that the page trusts."""
        parts = (part.strip() for part in (self.web_proxies or "").split(","))
        return tuple(ipaddress.ip_network(part) for part in parts if part)

    @model_validator(mode="after")
    def _interval_is_allowed(self) -> Settings:
        if self.interval < self.min_interval:
            raise ValueError(f"interval {self.interval} s is below the shortest allowed, {self.min_interval} s")
        return self

    @cached_property
    def embedded(self) -> bool:
        """Return whether the server is the embedded one."""
        return self.redis_url is None

    @cached_property
    def state_url(self) -> str:
        """Return the URL of state and schedule, with its credentials; that of the embedded server if it runs.

        Raises ``errors.RedisUnavailable`` if there is neither.
        """
        if self.redis_url is not None:
            return self.redis_url.get_secret_value()
        try:
            address = json.loads(address_file().read_text("utf-8"))
            return str(address["redis_url"])
        except (OSError, ValueError, KeyError, TypeError):
            raise errors.RedisUnavailable(
                "Redis",
                "WORKERMON_REDIS_URL is not set and no embedded server runs",
                "set it, or start 'workermon up'",
            ) from None

    @cached_property
    def broker(self) -> str:
        """Return the URL of Celery's broker: database 0 of the same server, unless it is set."""
        if self.broker_url is not None:
            return self.broker_url.get_secret_value()
        parts = urlsplit(self.state_url)
        query = {name: value for name, value in parse_qsl(parts.query) if name != "db"}
        if parts.scheme == "unix":
            return urlunsplit(parts._replace(query=urlencode({**query, "db": "0"})))
        return urlunsplit(parts._replace(path="/0", query=urlencode(query)))

    @cached_property
    def broker_is_rabbitmq(self) -> bool:
        """Return whether Celery's broker is RabbitMQ; otherwise it is Redis."""
        return urlsplit(self.broker).scheme in amqp_address.SCHEMES

    @cached_property
    def secret_folders(self) -> tuple[Path, ...]:
        """Return the folders below which a secret's file may be."""
        if self.secrets_dir is None:
            return (Path(MOUNTED_SECRETS), config_home() / "secrets")
        return tuple(Path(folder).expanduser() for folder in self.secrets_dir.split(":") if folder)

    def secret(self, ref: models.SecretRef) -> str:
        """Return a secret that a config file names.

        Whoever edits the file chooses the name, and where the value is sent. So this process decides which names it
        discloses: ``WORKERMON_SECRETS`` and ``WORKERMON_SECRETS_DIR``. Raises ``errors.InvalidInput``, which shows only
        the name.
        """
        return self._secret_variable(ref.env) if ref.env is not None else self._secret_file(ref.file or "")

    def _secret_variable(self, name: str) -> str:
        subject = f"secret {errors.printable(name)}"
        if models.is_protected_variable(name):
            raise errors.SecretNotAllowed(
                subject, "variables named AWS_* and WORKERMON_* are never given away", "give the secret another name"
            )
        patterns = [pattern.strip() for pattern in self.secrets.split(",")]
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns if pattern):
            raise errors.SecretNotAllowed(
                subject, "WORKERMON_SECRETS does not allow this name here", "add the name to WORKERMON_SECRETS"
            )
        value = os.environ.get(name)
        if not value:
            raise errors.InvalidInput(subject, "this environment variable is not set", "set it")
        return value

    def _secret_file(self, name: str) -> str:
        subject = f"secret file {errors.printable(name)}"
        try:
            value = _read_secret(self._allowed_file(subject, name))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise errors.InvalidInput(subject, reason, "make it readable") from None
        except ValueError as error:
            raise errors.InvalidInput(subject, str(error), "name a file with the secret only") from None
        if not value:
            raise errors.InvalidInput(subject, "it is empty", "write the secret into it")
        return value

    def _allowed_file(self, subject: str, name: str) -> Path:
        """Return the real path of a secret's file: below one of the folders, wherever links lead."""
        folders = [folder.resolve() for folder in self.secret_folders]
        # A relative name is looked up in each folder; an absolute one stays as it is.
        places = [(folder / name).resolve() for folder in folders]
        allowed = [place for place in places if any(place.is_relative_to(folder) for folder in folders)]
        if not allowed:
            raise errors.SecretNotAllowed(
                subject, "it is not below a folder of WORKERMON_SECRETS_DIR", f"move it below {self.secret_folders[0]}"
                if self.secret_folders else "name a folder in WORKERMON_SECRETS_DIR",
            )  # fmt: skip
        return next((place for place in allowed if place.exists()), allowed[0])


def _read_secret(file: Path) -> str:
    """Read a small regular file. One without an end, or that waits for a writer, does not count."""
    # Links are no longer followed: the path was resolved, and a link created since then leads elsewhere.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    opened = os.open(file, flags)
    with os.fdopen(opened, "rb") as source:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise ValueError("it is not a regular file")
        content = source.read(MAX_SECRET_SIZE + 1)
    if len(content) > MAX_SECRET_SIZE:
        raise ValueError(f"it is larger than {MAX_SECRET_SIZE // 1024} KiB")
    return content.decode("utf-8").removesuffix("\n")


def _check_env_file() -> None:
    """Reject a ``.env`` with a line that would be ignored."""
    try:
        with Path(".env").open(encoding="utf-8") as lines:
            wrong = next(
                (binding.original.line for binding in dotenv.parser.parse_stream(lines) if binding.error), None
            )
    except (FileNotFoundError, IsADirectoryError):
        return
    except UnicodeDecodeError:
        raise errors.InvalidInput(".env", "it is not UTF-8 text", "save it as UTF-8") from None
    except OSError as error:
        raise errors.InvalidInput(".env", (error.strerror or "it cannot be read").lower(), "make it readable") from None
    if wrong is not None:
        raise errors.InvalidInput(".env", f"line {wrong} cannot be read", "write NAME=value, one a line")


Loaded = TypeVar("Loaded", bound=_PageSettings)


def load() -> Settings:
    """Read and validate the settings. Raises ``errors.InvalidInput`` with the first invalid variable."""
    return _loaded(Settings)


def is_debugging() -> bool:
    """Return whether the environment asks for logs of level ``debug``, whatever the other settings are."""
    return os.environ.get("WORKERMON_LOG_LEVEL", "").lower() == "debug"


def pass_on_log_file(file: str) -> None:
    """Set ``WORKERMON_LOG_FILE`` for the processes that this one starts."""
    os.environ["WORKERMON_LOG_FILE"] = str(Path(file).resolve())


def web_port() -> int:
    """Return ``WORKERMON_WEB_PORT``, whatever the other settings are; raises ``errors.InvalidInput`` as ``load``."""
    return _loaded(_PageSettings).web_port


def _loaded(kind: type[Loaded]) -> Loaded:
    _check_env_file()
    try:
        return kind()
    except pydantic.ValidationError as wrong:
        first = wrong.errors(include_input=False, include_url=False, include_context=False)[0]
        variable = "_".join(str(part) for part in first["loc"]) or "interval"
        reason = errors.validation_reason(first["msg"])
        raise errors.InvalidInput(f"WORKERMON_{variable.upper()}", reason, "see docs/reference/settings.md") from None
