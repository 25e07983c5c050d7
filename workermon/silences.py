"""Pure: is an alert muted now, and by what; and what may be asked for as a silence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from workermon import errors, models

#: Seconds. The longest silence: what is to be quiet for good is a rule to be changed.
LONGEST = 365 * models.DAY


def muted(
    silences: Iterable[models.Silence], worker_id: str, labels: Mapping[str, str], rule: str, now: float
) -> models.Silence | None:
    """Return the silence that mutes a rule's alert of a worker at a time, ``None`` where none does.

    Of several it is the one that ends last. A silence mutes what all that it names is true of.
    """
    found = [one for one in silences if one.begins <= now < one.ends and _covers(one, worker_id, labels, rule)]
    return max(found, key=lambda one: (one.ends, one.id), default=None)


def _covers(silence: models.Silence, worker_id: str, labels: Mapping[str, str], rule: str) -> bool:
    return (
        silence.worker_id in (None, worker_id)
        and silence.rule in (None, rule)
        and all(labels.get(key) == value for key, value in silence.labels.items())
    )


def made(
    silence_id: str,
    *,
    worker_id: str | None,
    labels: Mapping[str, str],
    rule: str | None,
    ends: float | None,
    reason: str,
    by: str,
    now: float,
) -> models.Silence:
    """Return a silence from now on.

    Raises ``errors.InvalidInput`` for one that mutes everything, is over already, has no end or ends too late.
    """
    if worker_id is None and rule is None and not labels:
        raise errors.InvalidInput("silence", "would mute everything", "name a worker, a label or a rule")
    if ends is None:
        raise errors.InvalidInput("silence", "has no end", "add --for 2h, or --until a time")
    if ends <= now:
        raise errors.InvalidInput("silence", f"would have ended at {models.rfc3339(ends)}", "give a time to come")
    if ends - now > LONGEST:
        raise errors.InvalidInput("silence", "is longer than 365 days", "choose a shorter one, or change the rule")
    return models.Silence(
        id=silence_id,
        worker_id=worker_id,
        labels=dict(labels),
        rule=rule,
        begins=now,
        ends=ends,
        reason=reason,
        by=by,
    )
