"""Explain: why an alert of a worker fires, or does not.

A decision is shown with the reason that was recorded then. The state between two decisions is computed here, by the
kind of the rule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from pydantic import Field, SerializationInfo, SerializeAsAny, SerializerFunctionWrapHandler, model_serializer

from workermon import errors, models, ports, rules
from workermon.alerts import silences
from workermon.rules import flapping
from workermon.views.document import Document, Time, absent
from workermon.views.history import WorkerName

#: Entries of an alert's history that are shown.
HISTORY = 10

# --- types -------------------------------------------------------------------------------------------------------


class Point(Document):
    """A datapoint."""

    at: Time
    value: float


class Delivery(Document):
    """One attempt to deliver; ``error`` is null if the channel accepted it, ``host`` is the machine that tried."""

    channel: str
    at: Time
    error: str | None
    host: str | None


class Turn(Document):
    """A recorded transition, with the reason recorded then; ``before`` and ``after`` are a severity or ``ok``.

    ``correction``: only the past changed. ``damped``: nobody was notified, because the alert was flapping. ``notified``
    says whether a notification was made, ``notification`` is its id.
    """

    at: Time
    before: str
    after: str
    reason: str
    value: float | None
    threshold: float | None
    count: str | None
    points: tuple[Point, ...]
    correction: bool
    damped: bool
    notified: bool
    silenced_by: str | None
    notification: str | None
    deliveries: tuple[Delivery, ...]


class FlappingState(Document):
    """Whether an alert flaps: ``turns`` within ``within`` seconds make it, ``counted`` there are.

    ``until`` is the time until which it has to be still, null if it does not flap.
    """

    turns: int
    within: int
    flaps: bool
    counted: int
    until: Time | None


class ActiveSilence(Document):
    """A silence that mutes an alert."""

    id: str
    ends: Time
    reason: str
    by: str


class RuleExplanation(Document):
    """The state of one rule for a worker.

    ``conditions`` (what the rule asks for) and ``details`` (what it looked at) are of the rule's kind; in JSON their
    fields stand beside the others. ``described`` and ``lines`` say both in words, and are not in JSON. ``notified`` is
    the severity that people know of, null if nobody was notified. ``cursor`` is the newest slot evaluated.
    ``cannot_fire`` is why no value could make it fire, left out if one could.
    """

    rule: str
    kind: str
    conditions: dict[str, Any]
    described: tuple[str, ...] = Field(exclude=True)
    labels: dict[str, str]
    notify: tuple[str, ...]
    routes: dict[models.Severity, tuple[str, ...]] | None = Field(default=None, exclude_if=absent)
    state: str
    latched: tuple[models.Severity, ...]
    notified: models.Severity | None
    silenced_by: str | None
    since: Time | None
    cursor: Time | None
    details: SerializeAsAny[models.Frozen]
    lines: tuple[tuple[str, str], ...] = Field(exclude=True)
    now: str
    cannot_fire: str | None = Field(default=None, exclude_if=absent)
    flapping: FlappingState | None
    silences: tuple[ActiveSilence, ...]
    history: tuple[Turn, ...]

    @model_serializer(mode="wrap")
    def _flat(self, handler: SerializerFunctionWrapHandler, _info: SerializationInfo) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for name, value in handler(self).items():
            shown |= value if name in ("conditions", "details") else {name: value}
        return shown


class CollectionFailure(Document):
    """Why the newest collection failed; ``kind`` is an ``AwsError.kind``."""

    kind: str
    message: str


class WorkerExplanation(Document):
    """The state of every rule over a metric for a worker."""

    worker: WorkerName
    metric: str
    status: models.Status
    monitoring: models.Monitoring
    collected_at: Time | None
    succeeded_at: Time | None
    last_error: CollectionFailure | None
    rules: tuple[RuleExplanation, ...]


class WaitingAlert(Document):
    """An alert whose notification a channel has not accepted since a time; ``error`` is of the last attempt."""

    alert: str
    attempts: int
    since: Time
    error: str


class ChannelExplanation(Document):
    """Whether a channel accepts notifications; ``type`` is null if it is no longer in the configuration."""

    channel: str
    type: str | None
    rule: str
    state: str
    since: str | None
    reason: str | None
    waiting: tuple[WaitingAlert, ...]
    history: tuple[Turn, ...]


# --- the view ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Explains the rules of a worker, and the delivery to a channel."""

    alerts: ports.Alerts
    samples: ports.Samples
    configurations: ports.Configurations
    outbox: ports.Outbox
    pulse: ports.Pulse
    silences: ports.Silences
    kinds: rules.Kinds
    now: ports.Clock

    def why(self, record: ports.Record, metric: str) -> WorkerExplanation:
        """Return the state of every rule over a metric for a worker, and the last decisions.

        The kinds of rules without a metric have a name in its place, such as ``no-data``. Raises ``errors.NotFound``
        for a metric that is not known.
        """
        configuration = self.configurations.load()
        pseudo_metrics = [kind.pseudo_metric for kind in self.kinds.values() if kind.pseudo_metric is not None]
        known = (*configuration.metrics, models.STATUS_CHECK_FAILED, *pseudo_metrics)
        if metric not in known:
            raise errors.NotFound(f"metric {metric}", "is not known", errors.nearest(metric, known))
        worker = record.worker
        basis = self.alerts.load([worker.id]).get(worker.id)
        if basis is None:
            raise errors.UnknownWorker(f"worker {worker.name}", "not monitored", "see 'workermon list'")
        condition = basis.record.condition
        error = condition.last_error
        return WorkerExplanation(
            worker=WorkerName(id=worker.id, name=worker.name),
            metric=metric,
            status=condition.status,
            monitoring=worker.monitoring,
            collected_at=condition.collected_at,
            succeeded_at=condition.succeeded_at,
            last_error=None
            if error is None
            else CollectionFailure(kind=error.kind, message=errors.printable(error.message)),
            rules=tuple(
                self._rule(rule, basis, configuration)
                for rule in configuration.rules
                if metric == self.kinds[rule.kind].pseudo_metric or metric in self.kinds[rule.kind].metrics(rule)
            ),
        )

    def every(self, record: ports.Record) -> tuple[RuleExplanation, ...]:
        """Return the state of every rule for a worker, in the order of the configuration; of those that apply to it."""
        applied = [rule for rule in self.configurations.load().rules if rule.applies_to(record.worker)]
        metrics = dict.fromkeys(metric for rule in applied if (metric := self.metric_of(rule)) is not None)
        found = {each.rule: each for metric in metrics for each in self.why(record, metric).rules}
        return tuple(found[rule.name] for rule in applied if rule.name in found)

    def metric_of(self, rule: models.Rule) -> str | None:
        """Return what ``why`` takes for a rule: a metric that it looks at, or the name in the place of one."""
        kind = self.kinds[rule.kind]
        return kind.pseudo_metric or next(iter(kind.metrics(rule)), None)

    def delivery(self, channel: str) -> ChannelExplanation:
        """Return whether a channel takes notifications, what waits for it in vain, and its alert.

        Raises ``errors.NotFound`` for a channel that is not in the configuration and has no alert.
        """
        channels = self.configurations.load().channels
        alert = self.alerts.load_channel(channel).alerts.get(models.DELIVERY)
        if channel not in channels and alert is None:
            why = "it is not in the configuration"
            raise errors.NotFound(f"channel {errors.printable(channel)[:64]}", why, errors.nearest(channel, channels))
        last = alert.last if alert is not None and alert.open else None
        return ChannelExplanation(
            channel=channel,
            type=channels[channel].type if channel in channels else None,
            rule=models.DELIVERY,
            state="ok" if last is None else last.severity,
            since=None if last is None else last.since,
            reason=None if last is None else last.reason,
            waiting=tuple(
                WaitingAlert(alert=stuck.alert_id, attempts=stuck.attempts, since=stuck.since, error=stuck.error)
                for stuck in self.outbox.stuck(self.now())
                if stuck.channel == channel
            ),
            history=turns(self.alerts.history(models.delivery_alert(channel), HISTORY)),
        )

    def _rule(
        self, rule: models.Rule, basis: ports.Basis[ports.Record], configuration: models.Configuration
    ) -> RuleExplanation:
        """Return the state of a rule, explained by its kind, and the last decisions."""
        kind, record, at = self.kinds[rule.kind], basis.record, self.now()
        alert = basis.alerts.get(rule.name) or models.Alert(rule=rule.name)
        explanation = self._explanation(rule, alert.rule_state, record, configuration)
        active = silences.in_force(self.silences.every(), configuration.silences, at)
        rule_state = alert.rule_state
        obstacle, not_evaluated = None, _not_evaluated(kind, rule, record, configuration)
        if not_evaluated is None:
            obstacle = kind.cannot_fire(rule, record.worker, record.condition, configuration)
        latched = rule_state.trail[-1].latched if rule_state.trail else 0
        return RuleExplanation(
            rule=rule.name,
            kind=rule.kind,
            conditions=kind.conditions(rule),
            described=kind.described(rule),
            labels=rule.labels,
            notify=rule.notify,
            routes=rule.routes,
            state=rule_state.severity or "ok",
            latched=tuple(severity for bit, severity in enumerate(models.SEVERITIES) if latched & (1 << bit)),
            notified=alert.notified_severity if alert.channels else None,
            silenced_by=alert.silenced_by,
            since=alert.since,
            cursor=rule_state.cursor,
            details=explanation.details,
            lines=explanation.lines,
            now=not_evaluated or _now(explanation.now, obstacle),
            cannot_fire=None if obstacle is None else str(obstacle),
            flapping=_flapping(rule, alert, kind.evaluated_until(rule_state, at)),
            silences=tuple(
                ActiveSilence(id=silence.id, ends=silence.ends, reason=silence.reason, by=silence.by)
                for silence in active
                if silences.muting([silence], record.worker, rule.name, at)
            ),
            history=turns(self.alerts.history(f"{record.worker.id}/{rule.name}", HISTORY)),
        )

    def _explanation(
        self,
        rule: models.Rule,
        rule_state: models.RuleState,
        record: ports.Record,
        configuration: models.Configuration,
    ) -> rules.Explanation:
        """Have the kind of the rule explain its state, with the datapoints that it asks for."""
        kind = self.kinds[rule.kind]
        horizon = kind.horizon(rule, record.worker, record.condition, configuration)
        series: dict[str, models.Series] = {}
        span = kind.explained_over(rule, rule_state)
        if span is not None and horizon is not None:
            wanted = [(record.worker.id, metric, horizon.kept_at) for metric in kind.metrics(rule)]
            series = {metric: found for (_, metric), found in self.samples.read(wanted, *span).items()}
        facts = rules.Facts.about(
            record.worker,
            record.condition,
            series=series,
            at=self.now(),
            monitoring_since=self.pulse.monitoring_since() if kind.by_clock else None,
        )
        return kind.explain(rule, rule_state, facts, horizon)


def _flapping(rule: models.Rule, alert: models.Alert, until: int | None) -> FlappingState | None:
    """Return whether an alert flaps, and until when it has to be still; ``None`` if the rule has no ``flapping``."""
    if rule.flapping is None:
        return None
    stand = flapping.stand(rule, alert.rule_state, until)
    return FlappingState(
        turns=rule.flapping.turns,
        within=rule.flapping.within,
        flaps=stand.flaps,
        counted=stand.turns,
        until=stand.last + rule.flapping.within if stand.flaps and stand.last is not None else None,
    )


def _not_evaluated(
    kind: rules.Kind[Any], rule: models.Rule, record: ports.Record, configuration: models.Configuration
) -> str | None:
    """Return why a rule is not evaluated at present, ``None`` if it is."""
    worker, status = record.worker, record.condition.status
    if worker.monitoring == "paused":
        return "monitoring is paused"
    if (reason := kind.not_applied(rule, worker, configuration)) is not None:
        return reason
    if status in kind.ends_with or (kind.metrics(rule) and status != "running"):
        return f"the instance is {status}"
    return None


def _now(now: str, obstacle: rules.Obstacle | None) -> str:
    return now if obstacle is None else f"it cannot fire: {obstacle}; {now}"


def turns(entries: Iterable[models.HistoryEntry]) -> tuple[Turn, ...]:
    """Return recorded transitions as they are explained, in the order of the entries."""
    return tuple(_turn(entry.transition, entry) for entry in entries)


def _turn(transition: models.Transition, entry: models.HistoryEntry) -> Turn:
    silenced = transition.silenced_by is not None
    return Turn(
        at=transition.at,
        before=transition.before or "ok",
        after=transition.after or "ok",
        reason=transition.reason,
        value=transition.value,
        threshold=transition.threshold,
        count=transition.count,
        points=tuple(Point(at=at, value=value) for at, value in transition.points),
        correction=transition.correction,
        damped=transition.damped,
        notified=entry.notification is not None and not silenced,
        silenced_by=transition.silenced_by,
        notification=None if entry.notification is None else entry.notification.id,
        # The notification sent at the end of a silence has the id of the transition that the silence kept back; its
        # attempts are shown there.
        deliveries=()
        if silenced
        else tuple(
            Delivery(
                channel=attempt.channel,
                at=attempt.at,
                error=None if attempt.error is None else errors.printable(attempt.error),
                host=attempt.host,
            )
            for attempt in entry.attempts
        ),
    )
