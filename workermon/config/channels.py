"""Channels of the config file: which keys each type takes, and what addresses, secrets and templates may be."""

from __future__ import annotations

import ipaddress
import re
import string
from importlib.metadata import entry_points
from urllib.parse import urlsplit

from workermon import errors, models
from workermon.config import grammar, problems

#: Types of channels, and the keys that each must and may have beside ``type``, ``allow_private`` and ``per_minute``.
CHANNELS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "webhook": (frozenset({"url"}), frozenset({"secret", "repeat"})),
    "log": (frozenset(), frozenset({"repeat"})),
    "slack": (frozenset({"url"}), frozenset({"template", "group_wait", "repeat"})),
    "pagerduty": (frozenset({"secret"}), frozenset({"url"})),
    "sns": (frozenset({"topic_arn"}), frozenset({"template", "repeat"})),
    "email": (
        frozenset({"host", "from", "to"}),
        frozenset({"port", "security", "user", "secret", "template", "group_wait", "repeat"}),
    ),
    "alertmanager": (frozenset({"url"}), frozenset({"user", "secret", "repeat"})),
    "apprise": (frozenset({"url"}), frozenset({"template", "group_wait", "repeat"})),
}

#: Types whose whole address is a secret, so that ``secret`` may name it too.
_WHOLE_SECRET = frozenset({"slack", "apprise"})

#: Entry points of this group are types of channels of a user's own.
OWN_CHANNELS = "workermon.channels"

#: What a channel's template may name, as ``$summary`` or ``${summary}``.
TEMPLATE_FIELDS = (
    "account", "at", "chart", "dedup_key", "id", "kind", "labels", "metric", "reason", "region", "rule", "severity",
    "silence", "since", "status", "summary", "threshold", "title", "value", "where", "worker", "worker_id",
)  # fmt: skip


def channel(name: str, section: grammar.ChannelSection) -> models.Channel:
    """Return the channel that a section describes; raises ``mistakes.Mistake`` for one that cannot work."""
    path = f"channels.{name}"
    given = {"from" if key == "sender" else key for key in section.model_fields_set} - {"type"}
    for other, of in (("routing_key", "pagerduty"), ("password", "email")):
        if other in given:
            if section.type != of:
                raise problems.Mistake(f"{path}.{other}", f"is only for type {of}", "remove it")
            if "secret" in given:
                raise problems.Mistake(
                    f"{path}.{other}", "is another name of secret, which is there too", "remove one of them"
                )
            given = given - {other} | {"secret"}
    section_url, section_secret = section.url, section.secret or section.routing_key or section.password
    if section.type in _WHOLE_SECRET and "secret" in given and "url" not in given:
        section_url, section_secret = section_secret, None
        given = given - {"secret"} | {"url"}
    _keys(path, section, given)
    secret = section_secret and section_secret.ref(f"{path}.secret")
    url: str | models.SecretRef | None = None
    if isinstance(section_url, grammar.Secret):
        url = section_url.ref(f"{path}.url")
    elif section_url is not None:
        _address(f"{path}.url", section_url, section)
        url = section_url
    if section.type == "email":
        _mail(path, section, secret is not None)
    if section.template is not None:
        _template(f"{path}.template", section.template)
    return models.Channel(
        name=name,
        type=section.type,
        url=url,
        secret=secret,
        allow_private=section.allow_private,
        template=section.template,
        per_minute=section.per_minute,
        group_wait=section.group_wait,
        repeat=section.repeat,
        topic_arn=section.topic_arn,
        host=section.host,
        port=section.port,
        security=section.security,
        user=section.user,
        sender=section.sender,
        to=section.to,
        options=section.options,
    )


def _keys(path: str, section: grammar.ChannelSection, given: set[str]) -> None:
    if section.type not in CHANNELS:
        own = {point.name for point in entry_points(group=OWN_CHANNELS)}
        if section.type not in own:
            known = [*CHANNELS, *sorted(own)]
            raise problems.Mistake(
                f"{path}.type", f"{section.type!r} is none of {', '.join(known)}", errors.nearest(section.type, known)
            )
        return
    must, may = CHANNELS[section.type]
    if section.type == "log" and given & {"url", "secret"}:
        raise problems.Mistake(path, "of type log takes neither url nor secret", "remove them")
    for key in sorted(given - must - may - {"allow_private", "per_minute"}):
        takes = ", ".join(sorted(must | may)) or "nothing"
        raise problems.Mistake(f"{path}.{key}", f"is not for type {section.type}, which takes {takes}", "remove it")
    for key in sorted(must - given):
        raise problems.Mistake(f"{path}.{key}", "is missing", "add it")
    if "user" in given and "secret" not in given:
        raise problems.Mistake(f"{path}.secret", "is missing beside user", 'write secret = { env = "NAME" }')


def _mail(path: str, section: grammar.ChannelSection, secret: bool) -> None:
    if not section.to:
        raise problems.Mistake(f"{path}.to", "names nobody", 'write to = ["ops@example.com"]')
    if secret and section.user is None:
        raise problems.Mistake(f"{path}.user", "is missing beside the secret", "add it")
    if section.security == "none" and not section.allow_private:
        todo = "use starttls or tls, or allow_private = true for a server of your own network"
        raise problems.Mistake(f"{path}.security", "none sends mail in the clear", todo)
    if section.security == "none" and secret:
        raise problems.Mistake(f"{path}.security", "none would send the password in the clear", "use starttls or tls")
    if not section.allow_private and section.host and (section.host == "localhost" or _is_private(section.host)):
        todo = "set allow_private = true if it is a server of your own network"
        raise problems.Mistake(f"{path}.host", "is a private address", todo)


def _template(path: str, text: str) -> None:
    template = string.Template(text)
    if not template.is_valid():
        raise problems.Mistake(
            path, "has a $ that begins no name", "write $summary or ${summary}; a dollar sign itself is $$"
        )
    for name in template.get_identifiers():
        if name not in TEMPLATE_FIELDS:
            raise problems.Mistake(
                path, f"${problems.shown(name)} is nothing that a message has", errors.nearest(name, TEMPLATE_FIELDS)
            )


def _address(path: str, url: str, section: grammar.ChannelSection) -> None:
    """Check an address as far as its text goes; the address really connected to is checked on delivery."""
    if section.type == "apprise":
        raise problems.Mistake(path, "holds a token, so it must be a secret by name", 'write url = { env = "NAME" }')
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    blank = errors.printable(url) != url or any(each.isspace() for each in url)
    if parts.scheme not in ("https", "http") or not host or blank or not _is_host(host):
        raise problems.Mistake(path, "is no address such as https://example.com/hook", "write it in full")
    if "@" in parts.netloc:
        raise problems.Mistake(path, "has credentials in it", "sign with a secret by name instead")
    if section.type == "slack" and (host == "slack.com" or host.endswith(".slack.com")):
        raise problems.Mistake(path, "of Slack is a secret itself", 'write url = { env = "NAME" }')
    if section.allow_private:
        return
    if parts.scheme != "https":
        raise problems.Mistake(
            path, "is not https", "use https, or allow_private = true for a receiver of your own network"
        )
    if host == "localhost" or _is_private(host):
        raise problems.Mistake(
            path, "is a private address", "set allow_private = true if it is a receiver of your own network"
        )


def _is_host(host: str) -> bool:
    """Tell whether a host's name can be: letters of any script, digits, hyphens and dots, or an address."""
    return re.fullmatch(r"[\w-]+(\.[\w-]+)*\.?", host) is not None or (
        ":" in host and re.fullmatch(r"[0-9a-f:.]+(%[\w.-]+)?", host) is not None
    )


def _is_private(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False  # a name: looked up, and checked, when it is connected to
