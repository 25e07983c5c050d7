"""Rules that differ in a few keys from others."""

from __future__ import annotations

from workermon import models, rules


def changed(rule: models.Rule, **keys: object) -> models.Rule:
    """Return a rule with other values of these keys, whether of every rule or of its kind."""
    kind = rules.KINDS[rule.kind]
    options = dict(kind.options(rule))
    common = {key: getattr(rule, key) for key in models.Rule.model_fields if key not in ("kind", "options")}
    return kind.rule(**{**common, **options, **keys})
