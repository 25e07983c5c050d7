"""The stage that checks silences and maintenance windows. When one ends, the alerts that it silenced are evaluated."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from workermon import logs, models, ports
from workermon.alerts import silences

log = logs.get(__name__)


class _LastCheck:
    """The silences in force at the last check, and its configuration; ``None`` before the first one."""

    in_force: frozenset[str] | None = None
    configuration: models.Configuration | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SilenceExpiry:
    """Triggers evaluation or delivery of alerts that were silenced and no longer are.

    If nothing has ended since the last check, a check costs one read. The first check covers everything, in case
    another process died before its own. Whatever fails is tried again at the next check.
    """

    alerts: ports.Alerts
    samples: ports.Samples
    workers: ports.Workers
    silences: ports.Silences
    configurations: ports.Configurations
    dispatcher: ports.Dispatcher
    now: ports.Clock
    _last: _LastCheck = dataclasses.field(default_factory=_LastCheck, init=False, repr=False)

    def check(self, backlog: ports.BacklogCounts | None = None) -> None:
        """Wake the subjects concerned by the end of a silence. Skips reads that ``backlog`` shows to be empty."""
        at, configuration = self.now(), self._last.configuration
        if backlog is None or configuration is None or configuration.revision != backlog.revision:
            configuration = self._last.configuration = self.configurations.load()
        stored = self.silences.every() if backlog is None or backlog.silences else []
        active = silences.in_force(stored, configuration.silences, at)
        active_silences = [silence for silence in active if silence.begins <= at < silence.ends]
        in_force = frozenset(silence.id for silence in active_silences)
        if self._last.in_force is None or not self._last.in_force <= in_force:
            self._wake(active_silences, at)
        self._last.in_force = in_force

    def _wake(self, active_silences: Sequence[models.Silence], at: float) -> None:
        """Trigger every alert that was silenced and that none of these mutes."""
        last = [alert.last for alert in self.alerts.open() if alert.silenced_by and alert.last]
        unsilenced = [
            notification
            for notification in last
            if silences.muting(active_silences, notification.dedup_key, notification.worker, at) is None
        ]
        of_channels = [
            notification.dedup_key for notification in unsilenced if models.is_delivery_alert(notification.dedup_key)
        ]
        evaluated = [notification for notification in unsilenced if notification.dedup_key not in of_channels]
        subject_ids = [
            notification.subject_id for notification in evaluated if notification.worker or notification.group
        ]
        if evaluated and not subject_ids:
            # Every evaluation begins with the accounts and the installation.
            subject_ids = self.workers.ids()[:1]
        self.samples.mark_pending(list(dict.fromkeys(subject_ids)), at)
        self.dispatcher.deliver(of_channels)
        if unsilenced:
            log.info("silence.ended", subjects=len(subject_ids), alerts=len(unsilenced))
