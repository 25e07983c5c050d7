"""``[channels.NAME]``: parses a section by the options of its type, and has the options that several types share.

``notify.channels`` has the table of types and their keys; it is passed to the parser.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Protocol, Self, TypeAlias
from urllib.parse import urlsplit

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, Strict

from workermon import errors, models
from workermon.config import addresses, grammar, problems
from workermon.models import fields

#: The names that a template may use, as ``$summary`` or ``${summary}``.
TEMPLATE_FIELDS = (
    "account", "at", "chart", "dedup_key", "description", "fired", "id", "kind", "labels", "metric", "owner", "reason",
    "region", "rule", "runbook", "severity", "silence", "since", "status", "summary", "threshold", "title", "value",
    "where", "worker", "worker_id",
)  # fmt: skip

#: Keys that every type of channel takes, beside ``type``.
COMMON = ("alert_after", "allow_private", "per_minute")

#: Keys that several types share. A channel has a field for each; other keys are stored among its options.
SHARED = frozenset(models.Channel.model_fields) - {"name", "type", "options"}


def _url(value: object) -> str | grammar.Secret:
    if isinstance(value, str):
        if len(value) > 2048:
            raise ValueError("is longer than 2048 characters")
        return value
    if isinstance(value, dict):
        try:
            return grammar.Secret.model_validate(value)
        except pydantic.ValidationError:
            raise ValueError('must be a text, or a secret by name such as { env = "NAME" }') from None
    raise ValueError("must be a text")


def _wait(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be a duration such as 0s or 30s")
    return models.seconds(value)


#: An address, or a secret by name if the address itself is secret.
Url = Annotated[str | grammar.Secret, PlainValidator(_url, json_schema_input_type=str | grammar.Secret)]
#: A secret by name; optional, because a key may have an alias for it.
Secret: TypeAlias = grammar.Secret | None
Template = Annotated[str, Field(min_length=1, max_length=4000)]
#: Seconds.
Repeat = Annotated[fields.Seconds, fields.between(60, 7 * models.DAY)]
#: Seconds.
AlertAfter = Annotated[fields.Seconds, fields.between(10, models.DAY)]
#: Seconds; 0 means no grouping.
GroupWait = Annotated[int, BeforeValidator(_wait, json_schema_input_type=str | int), fields.between(0, 600)]


class Options(BaseModel):
    """The keys that every type of channel takes. A type's own class adds its keys to these.

    Keys named in ``SHARED`` become the fields of ``models.Channel``, others its ``options``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    #: Aliases of keys, for users who look for them: ``{"routing_key": "secret"}``. Each is a field of its own.
    aliases: ClassVar[Mapping[str, str]] = {}
    #: Keys with aliases that are required by one of their names. Keys without aliases are required by their field.
    required: ClassVar[tuple[str, ...]] = ()

    allow_private: Annotated[bool, Strict()] = False
    per_minute: Annotated[fields.Number, Field(ge=2, le=60_000)] | None = None
    alert_after: AlertAfter | None = None

    @classmethod
    def key_names(cls) -> list[str]:
        """Return the keys of the type, as in the file."""
        return fields.keys(cls)

    @classmethod
    def of(cls, channel: models.Channel) -> Self:
        """Return the options of a parsed channel."""
        shared = channel.model_dump(mode="json", include=set(SHARED), exclude_defaults=True, exclude_none=True)
        return cls.model_validate({**shared, **channel.options})

    def check(self, path: str) -> None:
        """Reject what cannot work although each key is valid alone. Raises ``problems.Mistake``."""

    def by_their_names(self, path: str) -> Self:
        """Return the options without aliases. Raises ``problems.Mistake`` for a duplicate or missing key."""
        changes: dict[str, Any] = {}
        for alias, key in self.aliases.items():
            if getattr(self, alias) is None:
                continue
            if getattr(self, key) is not None:
                reason = f"is another name of {key}, which is also set"
                raise problems.Mistake(f"{path}.{alias}", reason, "remove one of them")
            changes |= {key: getattr(self, alias), alias: None}
        options = self.model_copy(update=changes) if changes else self
        for key in self.required:
            if getattr(options, key) is None:
                raise problems.Mistake(f"{path}.{key}", "is missing", "add it")
        return options

    def channel(self, name: str, type_name: str) -> models.Channel:
        """Return the channel that these options describe."""
        shared: dict[str, Any] = {}
        for key in SHARED & self.model_fields_set:
            value = getattr(self, key)
            shared[key] = value.ref(f"channels.{name}.{key}") if isinstance(value, grammar.Secret) else value
        type_options = self.model_dump(
            mode="json", by_alias=True, exclude_unset=True, exclude_none=True, exclude=set(SHARED)
        )
        return models.Channel(name=name, type=type_name, options=type_options, **shared)


class ChannelType(Protocol):
    """What the parser needs to know about a type of channel."""

    @property
    def options(self) -> type[Options]:
        """Return its keys."""


Types: TypeAlias = Mapping[str, ChannelType]


def read(name: str, section: Mapping[str, Any], types: Types) -> models.Channel:
    """Return the channel that a section describes. Raises ``problems.Mistake`` if it cannot work."""
    path = f"channels.{name}"
    type_name = _type(path, section, types)
    options = types[type_name].options
    type_options = {key: value for key, value in section.items() if key != "type"}
    _check_keys(path, type_options, type_name, types)
    try:
        parsed = options.model_validate(type_options)
    except pydantic.ValidationError as wrong:
        secrets = {"secret", *options.aliases}
        raise problems.first(wrong, options, secrets, within=("channels", name)) from None
    parsed = parsed.by_their_names(path)
    parsed.check(path)
    return parsed.channel(name, type_name)


def schema(types: Types) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the JSON schema of a section, and the definitions that it refers to."""
    definitions: dict[str, Any] = {}
    for type_name, kind in types.items():
        section = kind.options.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= section.pop("$defs", {})
        section["properties"] = {"type": {"const": type_name}, **section["properties"]}
        section["required"] = ["type", *section.get("required", ())]
        needed = [
            {"anyOf": [{"required": [name]} for name in (key, *_aliases(kind.options, key))]}
            for key in kind.options.required
        ]
        # JSON schema allows no empty list here.
        section |= {"allOf": needed} if needed else {}
        definitions[f"channel {type_name}"] = section
    return {"oneOf": [{"$ref": f"#/$defs/channel {type_name}"} for type_name in types]}, definitions


def _aliases(options: type[Options], key: str) -> list[str]:
    return [alias for alias, of in options.aliases.items() if of == key]


def _type(path: str, section: Mapping[str, Any], types: Types) -> str:
    if "type" not in section:
        raise problems.Mistake(f"{path}.type", "is missing", "add it")
    type_name = section["type"]
    if not isinstance(type_name, str):
        raise problems.Mistake(f"{path}.type", "must be a text", f"name one of {', '.join(types)}")
    if type_name not in types:
        reason = f"{problems.excerpt(type_name)!r} is none of {', '.join(types)}"
        raise problems.Mistake(f"{path}.type", reason, errors.nearest(type_name, types))
    return type_name


def _check_keys(path: str, keys: Mapping[str, Any], type_name: str, types: Types) -> None:
    """Reject a key that no type has, or that only other types have."""
    allowed_keys = types[type_name].options.key_names()
    other_types = {key for kind in types.values() for key in kind.options.key_names()}
    for key in sorted(set(keys) - set(allowed_keys)):
        if key not in other_types:
            raise problems.Mistake(
                f"{path}.{problems.excerpt(key)}", "is not a known key", errors.nearest(key, ["type", *allowed_keys])
            )
        type_keys = ", ".join(sorted(set(allowed_keys) - set(COMMON))) or "nothing"
        raise problems.Mistake(f"{path}.{key}", f"is not for type {type_name}, which takes {type_keys}", "remove it")


# --- checks that several types share -----------------------------------------------------------------------------


def check_template(path: str, template: str | None) -> None:
    """Reject a template that cannot be filled in."""
    text = string.Template(template or "")
    if not text.is_valid():
        todo = "write $summary or ${summary}; a dollar sign itself is $$"
        raise problems.Mistake(f"{path}.template", "has a $ that does not begin a name", todo)
    for name in text.get_identifiers():
        if name not in TEMPLATE_FIELDS:
            reason = f"${problems.excerpt(name)} is not a field of a message"
            raise problems.Mistake(f"{path}.template", reason, errors.nearest(name, TEMPLATE_FIELDS))


def check_login(path: str, user: str | None, secret: Secret) -> None:
    """Reject a user without the matching secret."""
    if user is not None and secret is None:
        raise problems.Mistake(f"{path}.secret", "is missing beside user", 'write secret = { env = "NAME" }')


def check_url(path: str, url: str | grammar.Secret | None, *, allow_private: bool) -> str:
    """Reject an address whose text shows that it cannot work, and return its host; "" for a secret by name.

    A delivery checks the address of its actual connection again.
    """
    if not isinstance(url, str):
        return ""
    path = f"{path}.url"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    blank = errors.printable(url) != url or any(letter.isspace() for letter in url)
    if parts.scheme not in ("https", "http") or not host or blank or not _is_host(host):
        raise problems.Mistake(path, "is not an address such as https://example.com/hook", "write it in full")
    if "@" in parts.netloc:
        raise problems.Mistake(path, "contains credentials", "remove them; a secret is given by name")
    if parts.scheme != "https" and not allow_private:
        todo = "use https, or allow_private = true for a receiver of your own network"
        raise problems.Mistake(path, "is not https", todo)
    check_private(path, host, "receiver", allow_private=allow_private)
    return host


def check_private(path: str, host: str, subject: str, *, allow_private: bool) -> None:
    """Reject a literal private address. A name is looked up when it is connected to."""
    if not allow_private and (host == "localhost" or addresses.is_private(host)):
        todo = f"set allow_private = true if it is a {subject} of your own network"
        raise problems.Mistake(path, "is a private address", todo)


def _is_host(host: str) -> bool:
    """Return whether a text can be a host: letters of any script, digits, hyphens and dots, or an address."""
    return re.fullmatch(r"[\w-]+(\.[\w-]+)*\.?", host) is not None or (
        ":" in host and re.fullmatch(r"[0-9a-f:.]+(%[\w.-]+)?", host) is not None
    )
