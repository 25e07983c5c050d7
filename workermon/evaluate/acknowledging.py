"""Acknowledging alerts."""

from __future__ import annotations

import dataclasses

from workermon import errors, logs, models, ports

log = logs.get(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Acknowledged:
    """An acknowledgement and the one that it replaces; ``None`` if nobody had acknowledged this episode."""

    acknowledgement: models.Acknowledgement
    previous: models.Acknowledgement | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledging:
    """Records who looks after an alert."""

    alerts: ports.Alerts
    silences: ports.Silences
    now: ports.Clock

    def acknowledge(self, alert: str, by: str) -> Acknowledged:
        """Record who looks after a firing alert, until it resolves.

        ``alert`` is its ``dedup_key``, in which a worker's name may replace its id. Raises ``errors.NotFound`` if no
        such alert fires, ``errors.InvalidInput`` if several do, ``errors.WorkermonError`` if it has already resolved.
        """
        firing = self._firing(alert)
        assert firing.last is not None
        alert_id = firing.last.dedup_key
        previous = self.silences.acknowledged([alert_id]).get(alert_id)
        acknowledgement = models.Acknowledgement(alert_id=alert_id, since=firing.since, by=by, at=self.now())
        self.silences.acknowledge(acknowledgement)
        log.info("alert.acknowledged", alert_id=alert_id, by=by)
        same_episode = previous is not None and previous.applies_to(firing.since)
        return Acknowledged(acknowledgement, previous if same_episode else None)

    def _firing(self, alert: str) -> models.Alert:
        firing = {
            open_alert.last.dedup_key: open_alert for open_alert in self.alerts.open() if open_alert.last is not None
        }
        if alert in firing:
            return firing[alert]
        name, rule = models.alert_parts(alert)
        matching = [
            key
            for key, open_alert in firing.items()
            if open_alert.rule == rule
            and open_alert.last
            and open_alert.last.worker
            and open_alert.last.worker.name == name
        ]
        if len(matching) > 1:
            reason, todo = f"is that of {len(matching)} workers", f"use one of {', '.join(matching)}"
            raise errors.InvalidInput(f"alert {alert}", reason, todo)
        if matching:
            return firing[matching[0]]
        if any(entry.notification for entry in self.alerts.history(alert, 10)):
            raise errors.WorkermonError(f"alert {alert}", "is over already", "there is nothing to acknowledge")
        raise errors.NotFound(f"alert {alert}", "no such alert fires", errors.nearest(alert, firing))
