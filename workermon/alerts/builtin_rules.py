"""Pure: the rules that always apply and are not in the config file, and which channels they notify."""

from __future__ import annotations

from workermon import models, rules

#: The rule about an account and region in which nothing can be collected.
COLLECTOR = "collector"

#: The rules about accounts and regions, and those about the installation.
OF_ACCOUNTS = (COLLECTOR, models.LOST_METRICS)
OF_INSTALLATION = (models.BUDGET, models.RECORDS)

#: It fires after so many intervals without a success (the shortest interval of that account and region).
COLLECTOR_INTERVALS = 3


def collector(configuration: models.Configuration, kinds: rules.Kinds) -> models.Rule:
    """Return the rule about accounts and regions. It notifies the channels of missing data."""
    return models.Rule(name=COLLECTOR, kind="collector", notify=_used_channels(configuration, kinds))


def lost_metrics(configuration: models.Configuration, kinds: rules.Kinds) -> models.Rule:
    """Return the rule about metrics that much of a fleet has lost."""
    return models.Rule(
        name=models.LOST_METRICS, kind="collector", severity="warning", notify=_used_channels(configuration, kinds)
    )


def budget(configuration: models.Configuration, kinds: rules.Kinds) -> models.Rule:
    """Return the rule about the budget."""
    return models.Rule(name=models.BUDGET, kind="collector", notify=_used_channels(configuration, kinds))


def records(configuration: models.Configuration, kinds: rules.Kinds) -> models.Rule:
    """Return the rule about records that cannot be read."""
    return models.Rule(
        name=models.RECORDS, kind="collector", severity="warning", notify=_used_channels(configuration, kinds)
    )


def delivery(configuration: models.Configuration, channel: str) -> models.Rule:
    """Return the rule about a channel. It notifies the other channels that rules use, or the log if there are none."""
    used = dict.fromkeys(name for rule in configuration.rules for name in rule.notify)
    other_channels = tuple(name for name in used if name != channel and name in configuration.channels)
    return models.Rule(name=models.DELIVERY, kind="collector", notify=other_channels or ("log",))


def _used_channels(configuration: models.Configuration, kinds: rules.Kinds) -> tuple[str, ...]:
    """Return the channels of rules about missing data; without such a rule, the channels of all rules."""
    about = [rule for rule in configuration.rules if kinds[rule.kind].about_collection]
    chosen = about or list(configuration.rules)
    return tuple(dict.fromkeys(channel for rule in chosen for channel in rule.channels("critical"))) or ("log",)
