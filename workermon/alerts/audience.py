"""Pure: which channels are notified of an alert."""

from __future__ import annotations

import dataclasses

from workermon import models


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Mute:
    """What suppresses an alert's notifications: a silence (its id), a rule that fires (its name), or both."""

    silenced_by: str | None = None
    inhibited_by: str | None = None

    @property
    def fields(self) -> dict[str, str | None]:
        """Return it as the fields of an alert and of a transition."""
        return {"silenced_by": self.silenced_by, "inhibited_by": self.inhibited_by}


#: Nothing suppresses them.
OPEN = Mute()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Who is notified of a change of an alert.

    ``channels`` are notified now. ``already_notified`` are all that have been notified of the episode; they are also
    notified of its end. ``mute`` is why nobody is notified.
    """

    channels: tuple[str, ...]
    already_notified: tuple[str, ...]
    mute: Mute = OPEN


def of(rule: models.Rule | None, alert: models.Alert, severity: models.Severity | None, mute: Mute = OPEN) -> Audience:
    """Return who is notified that an alert has this severity now (``None``: that it resolved).

    ``alert`` is the alert before the change, ``rule`` is ``None`` if it was removed from the configuration. A channel
    that was notified that an alert fires is also notified of its end, whatever rule, silences and other rules say by
    then.
    """
    if severity is None:
        channels = _of_the_end(rule, alert)
        return Audience(channels=channels, already_notified=(), mute=OPEN if channels else of_alert(alert))
    if mute != OPEN or rule is None:
        return Audience(channels=(), already_notified=alert.channels, mute=mute)
    # Channels that it escalated to are notified of later changes.
    channels = tuple(dict.fromkeys((*rule.channels(severity), *alert.escalated_to)))
    already_notified = tuple(dict.fromkeys((*alert.channels, *channels)))
    if rule.routes is not None:
        # A channel that was notified of another severity is notified of later changes.
        channels = tuple(dict.fromkeys((*channels, *alert.channels)))
    return Audience(channels=channels, already_notified=already_notified)


def of_alert(alert: models.Alert) -> Mute:
    """Return what suppressed an alert's notifications."""
    return Mute(silenced_by=alert.silenced_by, inhibited_by=alert.inhibited_by)


def _of_the_end(rule: models.Rule | None, alert: models.Alert) -> tuple[str, ...]:
    if alert.muted or alert.channels:
        return alert.channels
    return rule.notify if rule is not None and rule.routes is None else ()
