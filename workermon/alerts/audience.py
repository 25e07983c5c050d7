"""Pure: which channels are notified of an alert."""

from __future__ import annotations

import dataclasses

from workermon import models


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Who is notified of a change of an alert.

    ``channels`` are notified now. ``heard`` are all that were notified of the episode by then; they are also notified
    of its end. ``silenced_by`` is the silence because of which nobody is notified.
    """

    channels: tuple[str, ...]
    heard: tuple[str, ...]
    silenced_by: str | None = None


def of(
    rule: models.Rule | None, alert: models.Alert, severity: models.Severity | None, silence: models.Silence | None
) -> Audience:
    """Return who is notified that an alert has this severity now (``None``: that it is over).

    ``alert`` is the alert before the change, ``rule`` is ``None`` if it was removed from the configuration. Whoever was
    notified that an alert fires is notified of its end, whatever rule or silences say by then.
    """
    if severity is None:
        channels = _of_the_end(rule, alert)
        return Audience(channels=channels, heard=(), silenced_by=None if channels else alert.silenced_by)
    if silence is not None or rule is None:
        return Audience(channels=(), heard=alert.channels, silenced_by=silence.id if silence else None)
    channels = rule.channels(severity)
    heard = tuple(dict.fromkeys((*alert.channels, *channels)))
    if rule.routes is not None:
        # A channel that heard of another severity follows the alert.
        channels = tuple(dict.fromkeys((*channels, *alert.channels)))
    return Audience(channels=channels, heard=heard)


def _of_the_end(rule: models.Rule | None, alert: models.Alert) -> tuple[str, ...]:
    if alert.silenced_by is not None or alert.channels:
        return alert.channels
    return rule.notify if rule is not None and rule.routes is None else ()
