"""Muting: when a silence or a maintenance window ends, what it kept from people is looked at again."""

from __future__ import annotations

from workermon import logs, models, ports
from workermon.alerts import silences as silencing

log = logs.get(__name__)


class Watch:
    """Looks each few seconds whether something is muted no longer; has it judged or told then.

    Where nothing ended since it looked last that is one reading. The first look is a whole one, for what another
    process did not live to see. Whatever fails is looked at again the next time.
    """

    def __init__(
        self,
        *,
        alerts: ports.Alerts,
        samples: ports.Samples,
        workers: ports.Workers,
        silences: ports.Silences,
        configurations: ports.Configurations,
        dispatcher: ports.Dispatcher,
        now: ports.Clock,
    ) -> None:
        self._alerts, self._samples, self._workers = alerts, samples, workers
        self._silences, self._configurations, self._bell, self._now = silences, configurations, dispatcher, now
        self._known: set[str] | None = None

    def look(self) -> None:
        """Wake whom the end of a silence concerns."""
        at, configuration = self._now(), self._configurations.load()
        kept = silencing.in_force(self._silences.every(), configuration.silences, at)
        active_silences = [one for one in kept if one.begins <= at < one.ends]
        in_force = {one.id for one in active_silences}
        if self._known is None or not self._known <= in_force:
            self._free(active_silences, at)
        self._known = in_force

    def _free(self, active_silences: list[models.Silence], at: float) -> None:
        """Have everything looked at that was silenced and is under none of these any more."""
        freed = [alert.last for alert in self._alerts.open() if alert.silenced_by and alert.last]
        freed = [told for told in freed if silencing.muting(active_silences, told.worker, told.rule, at) is None]
        untold = [told.dedup_key for told in freed if models.is_delivery_alert(told.dedup_key)]
        freed = [told for told in freed if told.dedup_key not in untold]
        worker_ids = [told.worker.id for told in freed if told.worker is not None]
        if len(worker_ids) < len(freed) and not worker_ids:
            # An account's alert is judged before any worker's.
            worker_ids = self._workers.ids()[:1]
        self._samples.mark_pending(list(dict.fromkeys(worker_ids)), at)
        self._bell.deliver(untold)
        if freed or untold:
            log.info("silence.ended", workers=len(worker_ids), alerts=len(freed) + len(untold))
