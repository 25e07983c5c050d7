"""Creating and ending silences."""

from __future__ import annotations

import dataclasses
import secrets

from workermon import config, errors, logs, models, ports
from workermon.alerts import silences

log = logs.get(__name__)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Silencing:
    """Silences alerts for a while."""

    silences: ports.Silences
    configurations: ports.Configurations
    workers: ports.Workers
    alerts: ports.Alerts
    now: ports.Clock

    def add(self, request: models.SilenceRequest) -> models.Silence:
        """Silence the requested alerts from now on.

        Raises ``errors.NotFound`` for an unknown worker or rule, ``errors.InvalidInput`` for a silence that makes no
        sense.
        """
        if request.alert is not None:
            request = self._of_alert(request, request.alert)
        self._check_worker(request)
        self._check_rule(request)
        silence = silences.create(secrets.token_hex(4), request, self.now())
        self.silences.add(silence)
        log.info("silence.added", silence_id=silence.id, by=silence.by)
        return silence

    def _of_alert(self, request: models.SilenceRequest, alert: str) -> models.SilenceRequest:
        """Return the request for one alert: for a worker's alert its worker and rule, otherwise the alert itself."""
        if request.worker is not None or request.rule is not None or request.labels:
            reason = "names an alert and also a worker, labels or a rule"
            raise errors.InvalidInput("silence", reason, "leave out the worker, the labels and the rule")
        subject_id, rule = models.alert_parts(alert)
        names = {name for record in self.workers.every() for name in (record.worker.id, record.worker.name)}
        if subject_id in names:
            return request.model_copy(update={"alert": None, "worker": subject_id, "rule": rule})
        firing = [open_alert.last.dedup_key for open_alert in self.alerts.open() if open_alert.last is not None]
        if alert not in firing and not self.alerts.history(alert, 1):
            raise errors.NotFound(f"alert {alert}", "does not exist", errors.nearest(alert, firing))
        return request

    def _check_worker(self, request: models.SilenceRequest) -> None:
        if request.worker is None:
            return
        names = [record.worker.name for record in self.workers.every()]
        is_id = models.INSTANCE_ID.fullmatch(request.worker) is not None
        if not (self.workers.get([request.worker]) if is_id else request.worker in names):
            raise errors.unknown_worker([request.worker], names)

    def _check_rule(self, request: models.SilenceRequest) -> None:
        of_file = [rule.name for rule in self.configurations.load().rules]
        if request.rule is None or request.rule in of_file:
            return
        rule_names = (*of_file, *config.BUILTIN_RULES)
        if request.rule not in rule_names:
            todo = errors.nearest(request.rule, rule_names)
            raise errors.NotFound(f"rule {request.rule}", "does not exist", todo)
        if request.worker is not None or request.labels:
            raise errors.InvalidInput(f"rule {request.rule}", "is not about a worker", "silence it by its name alone")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Unsilencing:
    """Ends a silence early."""

    silences: ports.Silences
    configurations: ports.Configurations
    alerts: ports.Alerts
    samples: ports.Samples
    now: ports.Clock

    def remove(self, silence_id: str) -> models.Silence:
        """End a silence now. Alerts that it silenced and that still fire notify within seconds.

        Raises ``errors.NotFound`` if none is active under that id, ``errors.InvalidInput`` for one of the config file.
        """
        at = self.now()
        active = {silence.id: silence for silence in self.silences.every() if silence.ends > at}
        of_file = [window.id for window in self.configurations.load().silences]
        subject = f"silence {silence_id}"
        if silence_id in of_file:
            raise errors.InvalidInput(subject, "is in the config file", "remove it there and apply the file")
        if silence_id not in active:
            todo = errors.nearest(silence_id, [*active, *of_file])
            raise errors.NotFound(subject, "does not exist", todo)
        self.silences.remove([silence_id])
        firing = [alert.last for alert in self.alerts.open() if alert.last is not None]
        subject_ids = [last.subject_id for last in firing if last.worker or last.group]
        self.samples.mark_pending(list(dict.fromkeys(subject_ids)), at)
        log.info("silence.removed", silence_id=silence_id)
        return active[silence_id]
