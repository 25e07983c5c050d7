"""What one configuration changes of another, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from workermon import models


@dataclasses.dataclass(frozen=True, slots=True)
class Names:
    """The names that are added, changed and removed."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a configuration changes. Silences go by what they say; ``settings`` are all other values."""

    rules: Names
    channels: Names
    collected: Names
    silences: Names
    settings: Names


def changes(before: models.Configuration, after: models.Configuration) -> Changes:
    """Return what a configuration changes of another."""
    return Changes(
        rules=_names({rule.name: rule for rule in before.rules}, {rule.name: rule for rule in after.rules}),
        channels=_names(before.channels, after.channels),
        collected=_names(_collected(before), _collected(after)),
        silences=_names(_silences(before), _silences(after)),
        settings=_names(_settings(before), _settings(after)),
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


def _settings(configuration: models.Configuration) -> dict[str, object]:
    settings: dict[str, object] = {"retention": configuration.retention, "lateness": configuration.lateness}
    if configuration.budget is not None:
        settings["budget"] = configuration.budget
    settings |= {f"limits {api}": limit for api, limit in configuration.limits.items()}
    settings |= {f"account {name}": account for name, account in configuration.accounts.items()}
    if configuration.discover is not None:
        settings["discover"] = configuration.discover
    return settings
