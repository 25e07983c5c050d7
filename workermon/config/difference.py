"""The differences between two configurations: by name, and key by key for what is changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from workermon import models
from workermon.config import export, toml
from workermon.models import fields
from workermon.rules import KINDS, Kinds

#: Keys that may contain a secret themselves: some receivers have it in their address.
_ADDRESSES = frozenset({"url", "urls"})


@dataclasses.dataclass(frozen=True, slots=True)
class Names:
    """The names that are added, changed and removed."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KeyChange:
    """A key that changes, such as ``above.critical``; its values as in the file, ``None`` if absent.

    For an address, which may be a secret, both are ``None``.
    """

    key: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None and self.after is None:
            return self.key
        return f"{self.key} {self.before or 'absent'} → {self.after or 'absent'}".lstrip()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The changes of one thing; ``what`` is ``rule``, ``channel``, ``metric`` or ``setting``."""

    what: str
    name: str
    changes: tuple[KeyChange, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The changes that a configuration makes. Silences are compared by contents; ``settings`` are all other values.

    ``differences`` are those of everything that is changed, key by key.
    """

    rules: Names
    channels: Names
    collected: Names
    silences: Names
    settings: Names
    differences: tuple[Difference, ...]


def changes(before: models.Configuration, after: models.Configuration, kinds: Kinds = KINDS) -> Changes:
    """Return the changes that a configuration makes to another."""
    return Changes(
        rules=_names({rule.name: rule for rule in before.rules}, {rule.name: rule for rule in after.rules}),
        channels=_names(before.channels, after.channels),
        collected=_names(_collected(before), _collected(after)),
        silences=_names(_silences(before), _silences(after)),
        settings=_names(_settings(before), _settings(after)),
        differences=tuple(_differences(before, after, kinds)),
    )


def _differences(before: models.Configuration, after: models.Configuration, kinds: Kinds) -> Iterator[Difference]:
    for kind, was, becomes in (
        ("rule", _rules(before, kinds), _rules(after, kinds)),
        ("channel", _channels(before), _channels(after)),
        ("metric", _plain(_collected(before)), _plain(_collected(after))),
        ("setting", _plain(_settings(before)), _plain(_settings(after))),
    ):
        for name, value in becomes.items():
            if name in was and was[name] != value:
                yield Difference(what=kind, name=name, changes=tuple(_key_changes(was[name], value)))


def _rules(configuration: models.Configuration, kinds: Kinds) -> dict[str, object]:
    return {rule.name: export.rule_table(rule, kinds) for rule in configuration.rules}


def _channels(configuration: models.Configuration) -> dict[str, object]:
    return {name: export.channel_table(channel) for name, channel in configuration.channels.items()}


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    """Return values with plain tables instead of models."""
    return {
        name: value.model_dump(mode="json", exclude_none=True) if isinstance(value, models.Frozen) else value
        for name, value in values.items()
    }


def _key_changes(before: object, after: object, key: str = "") -> Iterator[KeyChange]:
    """Yield the changes of a value, key by key."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in dict.fromkeys((*before, *after)):
            path = f"{key}.{name}" if key else str(name)
            yield from _key_changes(before.get(name), after.get(name), path)
    elif before != after:
        secret = key.partition(".")[0] in _ADDRESSES
        yield KeyChange(
            key=key,
            before=None if before is None or secret else _text(before),
            after=None if after is None or secret else _text(after),
        )


def _names(before: Mapping[str, object], after: Mapping[str, object]) -> Names:
    return Names(
        added=tuple(name for name in after if name not in before),
        changed=tuple(name for name in after if name in before and after[name] != before[name]),
        removed=tuple(name for name in before if name not in after),
    )


def _collected(configuration: models.Configuration) -> dict[str, object]:
    return {name: configuration.metrics.get(name) for name in configuration.collect}


def _silences(configuration: models.Configuration) -> dict[str, object]:
    return {models.describe_maintenance(silence): silence for silence in configuration.silences}


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else toml.value_text(value)


def _durations(configuration: models.Configuration) -> dict[str, object]:
    """Return the settings that are durations, as in the file."""
    return {**export.durations(configuration), "alert history": fields.written(configuration.alert_history)}


def _settings(configuration: models.Configuration) -> dict[str, object]:
    settings: dict[str, object] = {**_durations(configuration), "cadence": configuration.cadence}
    if configuration.budget is not None:
        settings["budget"] = configuration.budget
    settings |= {f"limits {api}": limit for api, limit in configuration.limits.items()}
    settings |= {f"account {name}": account for name, account in configuration.accounts.items()}
    settings |= {f"event queue {name}": queue for name, queue in configuration.event_queues.items()}
    if configuration.discover is not None:
        settings["discover"] = configuration.discover
    return settings
