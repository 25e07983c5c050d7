"""Explain: why a worker's alert fires, or does not.

A decision is shown with the reason recorded at the time. The rule's kind computes the state between two decisions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from pydantic import Field, SerializationInfo, SerializeAsAny, SerializerFunctionWrapHandler, model_serializer

from workermon import errors, models, ports, rules
from workermon.alerts import peer_groups, silences, subject
from workermon.rules import flapping, latches, warmup
from workermon.views import recorded_values
from workermon.views.cadence import MetricCadence, cadences
from workermon.views.document import Document, Time, absent
from workermon.views.history import WorkerName
from workermon.views.publication import MissingMetric, missing
from workermon.views.transitions import (
    ActiveSilence,
    CollectionFailure,
    RecordedTransition,
    active,
    failure,
    recorded_transitions,
)

#: Entries of an alert's history to show.
HISTORY = 10

# --- types -------------------------------------------------------------------------------------------------------


class FlappingState(Document):
    """Whether an alert flaps: ``turns`` transitions within ``within`` seconds make it flap; now there are ``counted``.

    It stops flapping if it does not change until ``until``, which is null if it does not flap.
    """

    turns: int
    within: int
    flaps: bool
    counted: int
    until: Time | None


class EscalationState(Document):
    """A step of a rule's escalation: due ``after`` seconds, to the channels ``notify``.

    ``state`` is ``idle`` (the alert does not fire), ``pending`` (due at ``at``), ``waiting`` (the steps before it come
    first, or the alert is silenced), ``acknowledged`` or ``done``.
    """

    after: int
    notify: tuple[str, ...]
    state: Literal["idle", "pending", "waiting", "acknowledged", "done"]
    at: Time | None


class RuleExplanation(Document):
    """The state of one rule for a worker.

    ``conditions`` (when the rule fires) and ``details`` (its input) belong to the rule's kind; in JSON their fields are
    beside the others. ``described`` and ``lines`` have both in words, and are not in JSON. ``notified`` is the severity
    that people were last notified of, null if nobody was. ``cursor`` is the newest slot evaluated. ``cannot_fire`` is
    why no value could make it fire, absent if one could. ``applies`` is false if the rule does not apply to this
    worker; then ``now`` has the reason. ``since`` is when it fired, ``condition_since`` when the condition began.
    ``description``, ``runbook`` (an address) and ``owner`` are the rule's, for the people notified. ``doubts`` are what
    is wrong with labels that a threshold comes from, absent if nothing is. ``escalation`` has a state for each step.
    ``warming_until`` is when the warm-up of the rule (``warmup`` seconds) ends, null if it has ended or there is none.
    """

    rule: str
    kind: str
    metric: str | None
    applies: bool
    conditions: dict[str, Any]
    described: tuple[str, ...] = Field(exclude=True)
    labels: dict[str, str]
    notify: tuple[str, ...]
    routes: dict[models.Severity, tuple[str, ...]] | None = Field(default=None, exclude_if=absent)
    state: str
    latched: tuple[models.Severity, ...]
    notified: models.Severity | None
    silenced_by: str | None
    inhibited_by: str | None
    since: Time | None
    condition_since: Time | None
    cursor: Time | None
    details: SerializeAsAny[models.Frozen]
    lines: tuple[tuple[str, str], ...] = Field(exclude=True)
    now: str
    cannot_fire: str | None = Field(default=None, exclude_if=absent)
    flapping: FlappingState | None
    silences: tuple[ActiveSilence, ...]
    history: tuple[RecordedTransition, ...]
    description: str | None = None
    runbook: str | None = None
    owner: str | None = None
    warmup: int | None = None
    warming_until: Time | None = None
    doubts: tuple[str, ...] = Field(default=(), exclude_if=lambda doubts: not doubts)
    escalation: tuple[EscalationState, ...] = ()

    @model_serializer(mode="wrap")
    def _flat(self, handler: SerializerFunctionWrapHandler, _info: SerializationInfo) -> dict[str, Any]:
        document: dict[str, Any] = {}
        for name, value in handler(self).items():
            document |= value if name in ("conditions", "details") else {name: value}
        return document


class ExplainedRule(NamedTuple):
    """What is known of a rule for a worker or a group.

    ``rule_state`` is that of its alert, or as its evaluation would leave it now; ``evaluated_until`` is the time up to
    which the rule can be evaluated. ``conditions`` and ``described`` are the rule's as in the file.
    """

    rule: models.Rule
    conditions: dict[str, Any]
    described: tuple[str, ...]
    alert: models.Alert
    rule_state: models.RuleState
    evaluated_until: int | None
    explanation: rules.Explanation
    silences: tuple[ActiveSilence, ...]
    history: tuple[RecordedTransition, ...]
    escalation: tuple[EscalationState, ...]

    def to_document(self) -> RuleExplanation:
        """Return the explanation of a rule that applies."""
        rule, alert, rule_state = self.rule, self.alert, self.rule_state
        return RuleExplanation(
            rule=rule.name,
            kind=rule.kind,
            metric=rule.metric,
            applies=True,
            conditions=self.conditions,
            described=self.described,
            labels=rule.labels,
            notify=rule.notify,
            routes=rule.routes,
            state=rule_state.severity or "ok",
            latched=latched(rule_state),
            notified=alert.notified_severity if alert.channels else None,
            silenced_by=alert.silenced_by,
            inhibited_by=alert.inhibited_by,
            since=alert.since,
            condition_since=alert.since if alert.condition_since is None else alert.condition_since,
            cursor=rule_state.cursor,
            details=self.explanation.details,
            lines=self.explanation.lines,
            now=self.explanation.now,
            flapping=flapping_state(rule, alert, self.evaluated_until),
            silences=self.silences,
            history=self.history,
            escalation=self.escalation,
            **models.annotations_of(rule),
        )


class WorkerExplanation(Document):
    """The state of every rule over a metric for a worker; ``metric`` is null if all rules were requested.

    ``missing_metrics`` are those without datapoints, with the reason; absent if there are none. ``cadences`` has how
    often metrics are requested, if not in each period anyway.
    """

    worker: WorkerName
    metric: str | None
    status: models.Status
    monitoring: models.Monitoring
    collected_at: Time | None
    succeeded_at: Time | None
    last_error: CollectionFailure | None
    missing_metrics: tuple[MissingMetric, ...] = Field(default=(), exclude_if=lambda missing: not missing)
    cadences: tuple[MetricCadence, ...] = ()
    rules: tuple[RuleExplanation, ...]


# --- the view ----------------------------------------------------------------------------------------------------


def escalation_states(
    rule: models.Rule, alert: models.Alert, alert_id: str, acknowledgements: ports.Silences
) -> tuple[EscalationState, ...]:
    """Return the state of each step of a rule's escalation. The history has what was notified."""
    acknowledgement = acknowledgements.acknowledged([alert_id]).get(alert_id) if rule.escalate and alert.open else None
    acknowledged = acknowledgement is not None and acknowledgement.applies_to(alert.since)
    steps = []
    for place, step in enumerate(rule.escalate):
        state: Literal["idle", "pending", "waiting", "acknowledged", "done"]
        at = None
        if place < alert.escalated:
            state = "done"
        elif not alert.open:
            state = "idle"
        elif acknowledged:
            state = "acknowledged"
        elif place == alert.escalated and alert.escalates_at is not None:
            state, at = "pending", alert.escalates_at
        else:
            state = "waiting"
        steps.append(EscalationState(after=step.after, notify=step.notify, state=state, at=at))
    return tuple(steps)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Explains the rules of a worker."""

    alerts: ports.Alerts
    samples: ports.Samples
    workers: ports.Workers
    configurations: ports.Configurations
    liveness: ports.Liveness
    silences: ports.Silences
    learned_delays: ports.LearnedDelays
    kinds: rules.Kinds
    now: ports.Clock

    def explain(
        self, record: ports.Record, metric: str | None = None, *, rule_name: str | None = None
    ) -> WorkerExplanation:
        """Return the state of every rule over a metric for a worker, and the last decisions; ``None``: of every rule.

        Kinds of rules without a metric have a name in its place, such as ``no-data``. A rule's name selects that rule;
        ``rule_name`` does so even if a metric has the same name. Raises ``errors.NotFound`` for an unknown name.
        """
        configuration = self.configurations.load()
        if rule_name is not None:
            return self._of_rule(record, rule_name, configuration)
        pseudo_metrics = [kind.pseudo_metric for kind in self.kinds.values() if kind.pseudo_metric is not None]
        metric_names = (*configuration.metrics, *models.CHECK_METRICS, *pseudo_metrics)
        if metric is not None and metric not in metric_names:
            if any(rule.name == metric for rule in configuration.rules):
                return self._of_rule(record, metric, configuration)
            raise errors.NotFound(f"metric {metric}", "is not known", errors.nearest(metric, metric_names))
        worker = record.worker
        basis = self.alerts.load([worker.id]).get(worker.id)
        if basis is None:
            raise errors.UnknownWorker(f"worker {worker.name}", "not monitored", "see 'workermon list'")
        condition = basis.record.condition
        error = condition.last_error
        waits = basis.record.changed_from is not None and not self.samples.marked([worker.id])
        return WorkerExplanation(
            worker=WorkerName(id=worker.id, name=worker.name),
            metric=metric,
            status=condition.status,
            monitoring=worker.monitoring,
            collected_at=condition.collected_at,
            succeeded_at=condition.succeeded_at,
            last_error=failure(error),
            missing_metrics=self._missing(basis.record, configuration, metric),
            cadences=cadences(condition, metric),
            rules=tuple(
                self._rule(rule, basis, configuration, waits=waits)
                for rule in configuration.rules
                if metric in (None, self.kinds[rule.kind].pseudo_metric, *self.kinds[rule.kind].metrics(rule))
            ),
        )

    def _of_rule(self, record: ports.Record, name: str, configuration: models.Configuration) -> WorkerExplanation:
        """Return the state of one rule for a worker."""
        rule_names = [rule.name for rule in configuration.rules]
        if name not in rule_names:
            raise errors.NotFound(f"rule {name}", "does not exist", errors.nearest(name, rule_names))
        everything = self.explain(record)
        rules_of_name = tuple(rule for rule in everything.rules if rule.rule == name)
        metric = rules_of_name[0].metric if rules_of_name else None
        return everything.model_copy(update={"metric": metric, "rules": rules_of_name})

    def _missing(
        self, record: ports.Record, configuration: models.Configuration, metric: str | None
    ) -> tuple[MissingMetric, ...]:
        """Return why a metric has no datapoints; without a metric, for each collected one."""
        names = configuration.collect if metric is None else (metric,)
        metrics = [configuration.metrics[name] for name in names if name in configuration.metrics]
        learned = self.learned_delays.load(record.worker.scope)
        reasons = (missing(record, metric, learned) for metric in metrics if metric.name in configuration.collect)
        return tuple(reason for reason in reasons if reason is not None)

    def _rule(
        self,
        configured: models.Rule,
        basis: ports.Basis[ports.Record],
        configuration: models.Configuration,
        *,
        waits: bool,
    ) -> RuleExplanation:
        """Return the state of a rule, explained by its kind, and the last decisions.

        ``waits``: samples of the worker are not evaluated yet.
        """
        kind, record, at = self.kinds[configured.kind], basis.record, self.now()
        rule, doubts = kind.for_worker(configured, record.worker.labels), kind.doubts(configured, record.worker.labels)
        alert = basis.alert(rule.name)
        rule_state = alert.rule_state
        if waits and kind.is_steady(rule, rule_state):
            rule_state = self._evaluated_now(rule, rule_state, basis, configuration)
        explanation = self._explanation(rule, rule_state, basis, configuration)
        in_force = silences.in_force(self.silences.every(), configuration.silences, at)
        not_applied = kind.not_applied(configured, record.worker, configuration)
        obstacle, not_evaluated = None, not_applied or _not_evaluated(kind, rule, record)
        warming_until = None if not_evaluated else warmup.lasts_until(rule, rule_state, record.condition, at)
        if not_evaluated is None:
            obstacle = kind.cannot_fire(rule, record.worker, record.condition, configuration)
        explained = ExplainedRule(
            rule=rule,
            conditions=kind.conditions(configured),
            described=kind.in_words(configured, kind.unit(rule, configuration)),
            alert=alert,
            rule_state=rule_state,
            evaluated_until=kind.evaluated_until(rule_state, at),
            explanation=explanation,
            silences=active(in_force, subject.of_worker(record.worker), rule.name, at),
            history=recorded_transitions(self.alerts.history(models.alert_id(record.worker.id, rule.name), HISTORY)),
            escalation=escalation_states(rule, alert, models.alert_id(record.worker.id, rule.name), self.silences),
        )
        return explained.to_document().model_copy(
            update={
                "metric": rule.metric or kind.pseudo_metric,
                "applies": not_applied is None,
                "lines": (*explanation.lines, *(("labels", doubt) for doubt in doubts)),
                "now": not_evaluated or _now(explanation.now, obstacle, warming_until),
                "cannot_fire": None if obstacle is None else str(obstacle),
                "warmup": rule.warmup,
                "warming_until": warming_until,
                "doubts": doubts,
            }
        )

    def _evaluated_now(
        self,
        rule: models.Rule,
        rule_state: models.RuleState,
        basis: ports.Basis[ports.Record],
        configuration: models.Configuration,
    ) -> models.RuleState:
        """Return a steady state as its evaluation would leave it now."""
        kind, record = self.kinds[rule.kind], basis.record
        horizon = kind.horizon(rule, record.worker, record.condition, configuration)
        if horizon is None or horizon.requested_at is None:
            return rule_state
        facts = rules.Facts.about(
            record.worker, record.condition, lateness=rules.reach_back(configuration, record.worker.interval)
        )
        since = kind.needed_from(rule, rule_state, horizon, facts)
        span = (rule_state.cursor or 0) if since is None else since, horizon.requested_at
        periods = horizon.ledger_periods(kind.metrics(rule))
        series = recorded_values.by_metric(self.samples, record.worker.id, periods, span)
        facts = dataclasses.replace(facts, series=series)
        after, transitions = kind.judge(rule, rule_state, facts, horizon)
        return rule_state if transitions else after

    def _explanation(
        self,
        rule: models.Rule,
        rule_state: models.RuleState,
        basis: ports.Basis[ports.Record],
        configuration: models.Configuration,
    ) -> rules.Explanation:
        """Let the rule's kind explain its state, with the datapoints and other rules that it needs."""
        kind, record = self.kinds[rule.kind], basis.record
        horizon = kind.horizon(rule, record.worker, record.condition, configuration)
        series: dict[str, models.Series] = {}
        span = kind.explained_span(rule, rule_state)
        if span is not None and horizon is not None:
            periods, read_span = horizon.ledger_periods(kind.metrics(rule)), (span[0] - horizon.reach_back, span[1])
            series = recorded_values.by_metric(self.samples, record.worker.id, periods, read_span)
        facts = rules.Facts.about(
            record.worker,
            record.condition,
            series=series,
            at=self.now(),
            unit_of=configuration.unit_of,
            statistic_of=configuration.statistic_of,
            monitoring_since=self.liveness.monitoring_since() if kind.by_clock else None,
        )
        if span is not None and (by := kind.compares_by(rule)) in record.worker.labels:
            value = record.worker.labels[by or ""]
            facts = dataclasses.replace(facts, peers=self._peers(rule, value, span, configuration))
        if kind.operands(rule):
            states = _operand_states(self.kinds, kind.operands(rule), facts, basis, configuration)
            facts = dataclasses.replace(facts, states=states)
        return kind.explain(rule, rule_state, rules.with_values(rule, facts, horizon), horizon)

    def _peers(
        self, rule: models.Rule, value: str, span: tuple[int, int], configuration: models.Configuration
    ) -> rules.PeerGroup:
        """Return the workers that a rule compares one with, and their datapoints in a span."""
        kind = self.kinds[rule.kind]
        compared = peer_groups.Compared.of(kind, rule, value, self.workers.every(), configuration)
        series = self.samples.read(compared.needed_series, span[0] - compared.longest_period, span[1])
        return compared.with_series(series)


def for_worker(explanation: WorkerExplanation, worker: models.Worker) -> tuple[RuleExplanation, ...]:
    """Return every rule that applies to a worker's labels, in the order of the configuration."""
    return tuple(rule for rule in explanation.rules if rule.labels.items() <= worker.labels.items())


def metric_of(rule: models.Rule, kinds: rules.Kinds) -> str:
    """Return the argument of ``why`` for a rule: its metric, the name in place of one, or its own name."""
    kind = kinds[rule.kind]
    return kind.pseudo_metric or next(iter(kind.metrics(rule)), rule.name)


def _operand_states(
    kinds: rules.Kinds,
    names: Sequence[str],
    facts: rules.Facts,
    basis: ports.Basis[ports.Record],
    configuration: models.Configuration,
) -> dict[str, rules.OperandState]:
    """Return the states of the rules that another rule depends on."""
    states = {}
    for rule in configuration.rules:
        if rule.name not in names:
            continue
        not_applied = kinds[rule.kind].not_applied(rule, basis.record.worker, configuration)
        if not_applied is not None:
            states[rule.name] = rules.OperandState(not_applied=not_applied)
            continue
        rule_state = basis.alert(rule.name).rule_state
        states[rule.name] = kinds[rule.kind].operand_state(rules.Evaluated(rule_state, rule_state), facts)
    return states


def latched(rule_state: models.RuleState) -> tuple[models.Severity, ...]:
    """Return the latched severities of a state."""
    return latches.severities(rule_state.trail[-1].latched) if rule_state.trail else ()


def flapping_state(rule: models.Rule, alert: models.Alert, until: int | None) -> FlappingState | None:
    """Return whether an alert flaps, and until when it must not change; ``None`` if the rule has no ``flapping``."""
    if rule.flapping is None:
        return None
    flap_status = flapping.status_at(rule, alert.rule_state, until)
    return FlappingState(
        turns=rule.flapping.turns,
        within=rule.flapping.within,
        flaps=flap_status.flaps,
        counted=flap_status.transitions,
        until=flap_status.last + rule.flapping.within if flap_status.flaps and flap_status.last is not None else None,
    )


def _not_evaluated(kind: rules.Kind[Any], rule: models.Rule, record: ports.Record) -> str | None:
    """Return why a rule that applies to a worker is not evaluated at present; ``None`` if it is."""
    worker, status = record.worker, record.condition.status
    if worker.monitoring == "paused":
        return "monitoring is paused"
    if status in kind.ends_with or (kind.metrics(rule) and status != "running"):
        return f"the instance is {status}"
    return None


def _now(now: str, obstacle: rules.Obstacle | None, warming_until: float | None) -> str:
    if warming_until is not None:
        return f"warming up until {models.rfc3339(warming_until)}; {now}"
    return now if obstacle is None else f"it cannot fire: {obstacle}; {now}"
