"""Pure: evaluates whether all records of the installation can be read."""

from __future__ import annotations

import math
from collections.abc import Mapping

from workermon import models
from workermon.alerts import builtin_rules, builtin_texts, lifecycle, verdict

#: Records that the alert names. ``status`` names all.
MAX_NAMED = 3


def judge(builder: verdict.VerdictBuilder, unreadable: Mapping[str, str], configuration: models.Configuration) -> None:
    """Evaluate the records that cannot be read, by key with the reason.

    The alert is a warning while there are any. Additional or different ones do not notify again.
    """
    alert = builder.basis.alert(models.RECORDS)
    transition = _transition(unreadable, alert, builder.at)
    if transition is None and alert.rule_state.severity is None:
        return
    lifecycle.apply_present(builder, builtin_rules.records(configuration, builder.kinds), alert, transition)


def _transition(unreadable: Mapping[str, str], alert: models.Alert, now: float) -> models.Transition | None:
    """Return the changes; ``None`` if there are none."""
    before, at = alert.rule_state.severity, max(math.floor(now), alert.since or 0)
    if bool(unreadable) == (before is not None):
        return None
    names = builtin_texts.unreadable_records(list(unreadable.items())[:MAX_NAMED])
    return models.Transition(
        at=at,
        before=before,
        after="warning" if unreadable else None,
        reason="records in Redis cannot be read, and are left out" if unreadable else "every record is read again",
        cause=f"{names}{'; …' if len(unreadable) > MAX_NAMED else ''}" if unreadable else None,
    )
