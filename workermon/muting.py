"""Muting: when a silence or a maintenance window ends, what it kept from people is looked at again."""

from __future__ import annotations

from workermon import logs, models, ports
from workermon import silences as silencing

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
        outbox: ports.Outbox,
        silences: ports.Silences,
        configurations: ports.Configurations,
        bell: ports.Bell,
        now: ports.Clock,
    ) -> None:
        self._alerts, self._samples, self._workers, self._outbox = alerts, samples, workers, outbox
        self._silences, self._configurations, self._bell, self._now = silences, configurations, bell, now
        self._known: set[str] | None = None

    def look(self) -> None:
        """Wake whom the end of a silence concerns."""
        at, configuration = self._now(), self._configurations.load()
        kept = silencing.in_force(self._silences.every(), configuration.silences, at)
        quiet = [one for one in kept if one.begins <= at < one.ends]
        in_force = {one.id for one in quiet}
        if self._known is None or not self._known <= in_force:
            self._free(quiet, configuration, at)
        self._known = in_force

    def _free(self, quiet: list[models.Silence], configuration: models.Configuration, at: float) -> None:
        freed = [alert.last for alert in self._alerts.open() if alert.silenced_by and alert.last]
        freed = [told for told in freed if not _muted(quiet, told, at)]
        worker_ids = [told.worker.id for told in freed if told.worker is not None]
        if len(worker_ids) < len(freed) and not worker_ids:
            # An account's alert is judged before any worker's.
            worker_ids = self._workers.ids()[:1]
        self._samples.rejudge(list(dict.fromkeys(worker_ids)), at)
        troubles = {name: self._outbox.trouble(name) for name in configuration.channels}
        untold = [
            models.delivery_alert(name)
            for name, told in troubles.items()
            if isinstance(told, models.Unheard) and told.status == "firing" and not _muted(quiet, told, at)
        ]
        self._bell.deliver(untold)
        if freed or untold:
            log.info("silence.ended", workers=len(worker_ids), alerts=len(freed) + len(untold))


def _muted(quiet: list[models.Silence], told: models.Notification, at: float) -> bool:
    if told.worker is None:
        return silencing.muted(quiet, None, {}, told.rule, at) is not None
    worker = told.worker
    return silencing.muted(quiet, worker.id, worker.labels, told.rule, at, name=worker.name) is not None
