"""Pure: the verdict about a subject while its rules are evaluated in turn."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from workermon import models, ports, rules
from workermon.alerts import audience, silences, subject


class VerdictBuilder:
    """A verdict under construction: the evaluations of one subject's rules, applied in turn.

    ``at`` is when it is made, in seconds; ``active_silences`` are those in force, ``kinds`` the kinds of rules.
    ``other_alerts`` are the alerts of other subjects, by their rules, that may inhibit this one's. ``is_steady`` is
    that of the verdict.
    """

    def __init__(
        self,
        basis: ports.Basis[Any],
        at: float,
        active_silences: Sequence[models.Silence] = (),
        kinds: rules.Kinds = rules.KINDS,
        other_alerts: Mapping[str, models.Alert] | None = None,
    ) -> None:
        self.basis, self.at, self._active_silences, self.kinds = basis, at, active_silences, kinds
        self._other_alerts = other_alerts or {}
        self.alerts: dict[str, models.Alert] = {}
        self.transitions: list[ports.RecordedTransition] = []
        self.channels: dict[str, tuple[str, ...]] = {}
        self.memberships: list[ports.MembershipChange] = []
        self.is_steady = False

    @functools.cached_property
    def subject(self) -> subject.Subject:
        """Return the verdict's subject."""
        return subject.of(self.basis)

    def mute_of(self, rule: models.Rule) -> audience.Mute:
        """Return what suppresses a rule's alert now: a silence, or the first firing rule that inhibits it.

        The rules that inhibit it were evaluated before it.
        """
        silence = None
        if self._active_silences:
            alert_id = self.subject.alert_id(rule.name)
            silence = silences.muting(self._active_silences, alert_id, self.subject.worker, self.at)
        if silence is None and not rule.inhibited_by:
            return audience.OPEN
        alerts = ((name, self.inhibitor(name)) for name in rule.inhibited_by)
        firing = (name for name, alert in alerts if alert is not None and alert.rule_state.severity is not None)
        return audience.Mute(silenced_by=silence.id if silence else None, inhibited_by=next(firing, None))

    def inhibitor(self, rule: str) -> models.Alert | None:
        """Return the alert of a rule that may inhibit others: of this subject, or of one that it belongs to."""
        alert = self.alerts.get(rule)
        # A member's report for a rule over its group is not the group's alert.
        return alert if alert is not None and alert.membership is None else self._other_alerts.get(rule)

    def next_version(self, rule: str) -> int:
        """Return the version of an alert's next notification; it keeps growing over a subject's incarnations."""
        alert = self.basis.alerts.get(rule)
        return max(alert.version if alert else 0, self.basis.last_versions.get(rule, 0)) + 1

    def verdict(self) -> ports.Verdict:
        """Return the verdict to write."""
        transitions, memberships = tuple(self.transitions), tuple(self.memberships)
        return ports.Verdict(self.basis, self.alerts, transitions, self.channels, self.at, memberships, self.is_steady)
