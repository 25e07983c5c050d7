"""One alert in detail: what it is, what decided it, who was notified, and its present state."""

from __future__ import annotations

import dataclasses

from workermon import errors, models, ports
from workermon.views.alerts import AlertRow, AlertView
from workermon.views.document import Document
from workermon.views.explain import Explanation, RuleExplanation, metric_of
from workermon.views.transitions import RecordedTransition, recorded_transitions

#: Entries of an alert's history in its detail.
HISTORY = 100


class AlertDetail(Document):
    """An alert, its rule's present state, and every recorded transition with its reason, newest first.

    ``row`` is its newest notification, ``None`` if there never was one. ``explanation`` is ``None`` if its worker is no
    longer monitored, its rule is gone, or it is not about a worker. ``metric`` is the argument of ``why``, ``unit`` is
    that of the values. ``charted``: the worker has a chart of the metric.
    """

    alert_id: str
    row: AlertRow | None
    worker_id: str | None
    metric: str | None
    unit: str
    charted: bool
    explanation: RuleExplanation | None
    transitions: tuple[RecordedTransition, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AlertDetailView:
    """Reads one alert in detail."""

    alerts: ports.Alerts
    workers: ports.Workers
    configurations: ports.Configurations
    list_view: AlertView
    explanation: Explanation

    def get(self, alert_id: str) -> AlertDetail:
        """Return an alert by its ``dedup_key``. Raises ``errors.NotFound`` if there never was one."""
        entries = self.alerts.history(alert_id, HISTORY)
        open_rows = {row.dedup_key: row for row in self.list_view.list().alerts}
        row = open_rows.get(alert_id) or _last(entries)
        subject, rule_name = models.alert_parts(alert_id)
        record = self.workers.get([subject]).get(subject) if models.INSTANCE_ID.fullmatch(subject) else None
        configuration = self.configurations.load()
        rule = next((rule for rule in configuration.rules if rule.name == rule_name), None)
        if row is None and not entries and (record is None or rule is None):
            suggestion = errors.nearest(alert_id, open_rows)
            raise errors.NotFound(f"alert {errors.printable(alert_id)[:120]}", "no such alert is recorded", suggestion)
        metric = None if rule is None else metric_of(rule, self.explanation.kinds)
        unit = "count" if rule is None else self.explanation.kinds[rule.kind].unit(rule, configuration)
        return AlertDetail(
            alert_id=alert_id,
            row=row,
            worker_id=None if record is None else record.worker.id,
            metric=metric,
            unit=unit,
            charted=record is not None and metric in (*configuration.collect, *models.CHECK_METRICS),
            explanation=None if record is None or metric is None else self._explained(record, metric, rule_name),
            transitions=recorded_transitions(entries),
        )

    def _explained(self, record: ports.Record, metric: str, rule_name: str) -> RuleExplanation | None:
        explanations = self.explanation.explain(record, metric).rules
        return next((explanation for explanation in explanations if explanation.rule == rule_name), None)


def _last(entries: list[models.HistoryEntry]) -> AlertRow | None:
    """Return the newest notification of a past alert."""
    last = next((entry.notification for entry in entries if entry.notification is not None), None)
    return None if last is None else AlertRow.over(last)
