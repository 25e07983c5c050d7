"""The rules of a configuration that cannot fire for workers of the fleet."""

from __future__ import annotations

from collections.abc import Iterable

from workermon import models, ports, rules


def unfirable_rules(
    configuration: models.Configuration, records: Iterable[ports.Record], kinds: rules.Kinds = rules.KINDS
) -> list[rules.UnfirableRule]:
    """Return the rules that cannot fire for workers because of how often their metrics are really published."""
    return rules.unfirable(configuration, ((record.worker, record.condition) for record in records), kinds)
