"""The stage that evaluates: identifiers in, alerts and their notifications out.

Evaluation loads what it needs here, and commits and announces the verdicts. The file of each kind of subject evaluates
it, and ``alerts.lifecycle`` turns the result into transitions. Only ``no-data`` and ``collector`` depend on the time of
day. What caused the evaluation, how often and how late it runs makes no difference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workermon import failpoints, logs, models, ports, rules
from workermon.alerts import escalation, silences, verdict
from workermon.evaluate import (
    account,
    cooldowns,
    deferred_changes,
    escalations,
    group,
    installation,
    lost_metrics,
    member,
    peers,
    unreadable_records,
    unreported_members,
    worker,
)

log = logs.get(__name__)

#: Races that an evaluation may lose against others of the same subject. Then the sweep finds its mark.
TRIES = 5

#: Seconds. Longer histories are read separately, so that one rule with a long history does not make all series long.
_RECENT = 2 * rules.BACKFILL


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Evaluates workers by the rules over the ledger, and before them the alerts about the monitor itself."""

    inputs: ports.EvaluationInputs
    alerts: ports.Alerts
    samples: ports.Samples
    workers: ports.Workers
    configurations: ports.Configurations
    silences: ports.Silences
    costs: ports.Costs
    liveness: ports.Liveness
    violations: Sequence[ports.Violations]
    kinds: rules.Kinds
    now: ports.Clock
    _cooldowns: cooldowns.Cooldowns = dataclasses.field(default_factory=cooldowns.Cooldowns, init=False, repr=False)
    _fleet: peers.Fleet = dataclasses.field(default_factory=peers.Fleet, init=False, repr=False)

    def evaluate(self, subject_ids: Sequence[str]) -> list[str]:
        """Evaluate these workers and groups. Return the ids of the alerts with new notifications to deliver.

        Every account and region comes first, because their alerts and the budget hold back alerts of workers. Silenced
        alerts are evaluated and recorded, but nobody is notified before the silence or maintenance window ends. After
        the workers follow the groups whose members changed. Unknown workers are ignored. A subject that loses every
        race against another evaluation keeps its mark for the sweep.
        """
        unique = list(dict.fromkeys(subject_ids))
        groups = [subject_id for subject_id in unique if models.group_of(subject_id) is not None]
        worker_ids = [subject_id for subject_id in unique if models.group_of(subject_id) is None]
        inputs = self.inputs.load(worker_ids)
        run = _Run(self, inputs, self._fleet, self._cooldowns)
        accounts = run.evaluate_monitor()
        self._note_unknown([worker_id for worker_id in worker_ids if worker_id not in inputs.workers])
        remaining = run.evaluate_workers(inputs.workers, accounts)
        for _ in range(TRIES - 1):
            if not remaining:
                break
            remaining = run.evaluate_workers(self.alerts.load(remaining), accounts)
        at = self.now()
        groups += [subject_id for subject_id in run.changed_groups if self._cooldowns.is_over(subject_id, at)]
        lost = run.evaluate_groups(list(dict.fromkeys(groups)))
        if remaining or lost:
            log.info("evaluate.raced", subject_ids=[*remaining, *lost])
        return list(dict.fromkeys(run.alert_ids))

    def _note_unknown(self, worker_ids: Sequence[str]) -> None:
        """Count those of these workers that are not monitored. The records of others could not be read."""
        known = self.workers.monitored(worker_ids)
        unknown = [worker_id for worker_id in worker_ids if worker_id not in known]
        if unknown:
            log.warning("evaluate.unknown_workers", worker_ids=unknown[:10], number=len(unknown))
            self.liveness.count("message.unknown_worker", len(unknown))


class _Run:
    """One evaluation, with what is read once for it.

    ``alert_ids`` have new notifications to deliver, ``changed_groups`` are the groups whose members changed.
    """

    def __init__(
        self, stage: Evaluation, inputs: ports.EvaluationInput, fleet: peers.Fleet, group_cooldowns: cooldowns.Cooldowns
    ) -> None:
        self._stage, self._inputs = stage, inputs
        self._fleet, self._cooldowns = fleet, group_cooldowns
        self._silences = inputs.silences
        self.alert_ids: list[str] = []
        self.changed_groups: dict[str, None] = {}

    # --- accounts and the installation ---------------------------------------------------------------------------

    def evaluate_monitor(self) -> Mapping[str, ports.Basis[models.AccountState]]:
        """Evaluate every account and region, and the installation. Return the stored verdicts about the accounts.

        Retries after a lost race.
        """
        monitor_alerts = self._inputs.monitor_alerts
        for _ in range(TRIES):
            builders = self._judge_monitor(monitor_alerts)
            if not builders:
                break
            for builder in builders:
                if self._stage.alerts.commit(builder.verdict()):
                    failpoints.reach("account.committed")
                    self._announce(builder)
            monitor_alerts = self._stage.alerts.load_monitor_alerts()
        return monitor_alerts.accounts

    def _judge_monitor(self, monitor_alerts: ports.MonitorAlerts) -> list[verdict.VerdictBuilder]:
        """Return the verdicts with changes."""
        decision, unreadable = self._stage.costs.budget_decision(), self._inputs.unreadable
        accounts = [basis for basis in monitor_alerts.accounts.values() if _may_change(basis)]
        may_change = bool(decision.period_multipliers) or bool(unreadable) or _fires(monitor_alerts.installation)
        if not accounts and not may_change:
            return []
        configuration, at = worker.usable(self._stage.configurations.load(), self._stage.kinds), self._stage.now()
        active_silences = silences.in_force(self._silences, configuration.silences, at)
        builders = []
        if may_change:
            builder = verdict.VerdictBuilder(monitor_alerts.installation, at, active_silences, self._stage.kinds)
            builder.alerts.update(monitor_alerts.installation.alerts)
            installation.judge(builder, decision, configuration)
            unreadable_records.judge(builder, unreadable, configuration)
            builders.append(builder)
        for basis in accounts:
            builder = verdict.VerdictBuilder(basis, at, active_silences, self._stage.kinds)
            builder.alerts.update(basis.alerts)
            account.judge(builder, basis.record, configuration, self._inputs.monitoring_since)
            lost_metrics.judge(builder, basis.record, configuration)
            builders.append(builder)
        return [builder for builder in builders if builder.transitions]

    # --- workers -------------------------------------------------------------------------------------------------

    def evaluate_workers(
        self, bases: dict[str, ports.Basis[ports.Record]], accounts: Mapping[str, ports.Basis[models.AccountState]]
    ) -> list[str]:
        """Evaluate each worker once. Return those that lost a race."""
        if not bases:
            return []
        stage = self._stage
        configuration = worker.usable(self._configuration(bases.values()), stage.kinds)
        now = stage.now()
        bases = {
            worker_id: worker.clamped(basis, configuration, stage.kinds, now) for worker_id, basis in bases.items()
        }
        lost = [worker_id for worker_id, basis in bases.items() if basis.revision != configuration.revision]
        cases = [
            worker.case(basis, configuration, stage.kinds)
            for worker_id, basis in bases.items()
            if worker_id not in lost
        ]
        over = member.over_groups(configuration, stage.kinds)
        context = worker.Context(
            configuration=configuration,
            rules=rules.in_order(configuration.rules, rules.looks_at(stage.kinds)),
            operands=frozenset(name for rule in configuration.rules for name in stage.kinds[rule.kind].operands(rule)),
            over=over,
            active_silences=silences.in_force(self._silences, configuration.silences, now),
            accounts=accounts,
            monitoring_since=self._inputs.monitoring_since,
            groups=self._firing_groups(configuration, over),
            peers=self._peers_of(cases, configuration, now),
            escalations=escalations.read(configuration, bases.values(), stage.silences, now),
        )
        series = self._read(cases)
        builders, unfinished = list[verdict.VerdictBuilder](), list[str]()
        for case in cases:
            builder = self._judge(case, series, context)
            if builder is not None and (step := deferred_changes.first_step(builder, case, series)) is not None:
                builder = self._judge(*step, context)
                unfinished.append(case.worker_id)
            if builder is not None:
                builders.append(builder)
        failpoints.reach("evaluate.decided")
        outcomes = stage.alerts.commit_many([builder.verdict() for builder in builders])
        failpoints.reach("evaluate.committed")
        for builder, written in zip(builders, outcomes, strict=True):
            if written:
                self._announce(builder)
                self.changed_groups.update(dict.fromkeys(change.group for change in builder.memberships))
            else:
                lost.append(builder.basis.subject.id)
        # One step more each time, because a subject that lost a race is evaluated again anyway.
        unfinished = [worker_id for worker_id in unfinished if worker_id not in lost]
        return lost + self.evaluate_workers(stage.alerts.load(unfinished), accounts) if unfinished else lost

    def _configuration(self, bases: Iterable[ports.Basis[Any]]) -> models.Configuration:
        """Return the configuration for these subjects: the one they were read with, if this process knows it.

        Otherwise they lose the race against the change of the configuration. Nothing is read a second time.
        """
        revision = next((basis.revision for basis in bases), None)
        configurations = self._stage.configurations
        return configurations.load() if revision is None else configurations.of_revision(revision)

    def _firing_groups(self, configuration: models.Configuration, over: frozenset[str]) -> member.Groups:
        """Return the firing alerts about groups that may inhibit others. Reads nothing if no rule is inhibited."""
        if over.isdisjoint(name for rule in configuration.rules for name in rule.inhibited_by):
            return {}
        return {
            (alert.last.subject_id, alert.rule): alert
            for alert in self._stage.alerts.open()
            if alert.last is not None and alert.last.group is not None
        }

    def _peers_of(self, cases: Sequence[worker.Case], configuration: models.Configuration, at: float) -> worker.Peers:
        """Return the groups that rules compare workers with."""
        reading = peers.Reading(
            workers=self._stage.workers,
            samples=self._stage.samples,
            fleet=self._fleet,
            configuration=configuration,
            kinds=self._stage.kinds,
            at=at,
        )
        return reading.groups(cases)

    # --- groups --------------------------------------------------------------------------------------------------

    def evaluate_groups(self, subject_ids: Sequence[str]) -> list[str]:
        """Evaluate each group. Return those that lost every race. Reads only the reports of its members."""
        remaining = list(subject_ids)
        for _ in range(TRIES):
            if not remaining:
                break
            bases = self._stage.alerts.load_groups(remaining)
            configuration, at = worker.usable(self._configuration(bases.values()), self._stage.kinds), self._stage.now()
            active_silences = silences.in_force(self._silences, configuration.silences, at)
            to_escalate = escalations.read(configuration, bases.values(), self._stage.silences, at)
            remaining = [subject_id for subject_id, basis in bases.items() if basis.revision != configuration.revision]
            current = [basis for subject_id, basis in bases.items() if subject_id not in remaining]
            inputs = group.Inputs(self._read_members(current, configuration), self._incomplete(current, configuration))
            pairs = [
                (verdict.VerdictBuilder(basis, at, active_silences, self._stage.kinds), basis) for basis in current
            ]
            builders = [builder for builder, basis in pairs if self._judge_group(builder, basis, configuration, inputs)]
            for builder in builders:
                escalation.apply(builder, to_escalate)
            failpoints.reach("evaluate.groups_decided")
            outcomes = self._stage.alerts.commit_many([builder.verdict() for builder in builders])
            failpoints.reach("evaluate.groups_committed")
            for builder, written in zip(builders, outcomes, strict=True):
                if written:
                    self._announce(builder)
                    members = builder.basis.record.members.values()
                    self._cooldowns.start(builder.basis.subject.id, sum(map(len, members)), self._stage.now())
                else:
                    remaining.append(builder.basis.subject.id)
        return remaining

    def _incomplete(
        self, bases: Sequence[ports.Basis[ports.GroupRecord]], configuration: models.Configuration
    ) -> frozenset[tuple[str, str]]:
        """Return the groups and new rules with members that were not evaluated yet."""
        unreported = unreported_members.UnreportedMembers(
            workers=self._stage.workers,
            fleet=self._fleet,
            configuration=configuration,
            kinds=self._stage.kinds,
            at=self._stage.now(),
        )
        return unreported.incomplete(bases)

    def _read_members(
        self, bases: Sequence[ports.Basis[ports.GroupRecord]], configuration: models.Configuration
    ) -> group.SeriesByMetric:
        """Read the series of members that rules over their values need, all at once."""
        needed = [series for basis in bases for series in group.needed_series(basis, configuration, self._stage.kinds)]
        if not needed:
            return {}
        keys = list(dict.fromkeys((series.worker_id, series.metric, series.period) for series in needed))
        since, until = min(series.since for series in needed), max(series.until for series in needed)
        return self._stage.samples.read(keys, since, until)

    def _judge_group(
        self,
        builder: verdict.VerdictBuilder,
        basis: ports.Basis[ports.GroupRecord],
        configuration: models.Configuration,
        inputs: group.Inputs,
    ) -> bool:
        """Evaluate a group. Return whether that succeeded."""
        try:
            group.judge(builder, basis, configuration, inputs)
        except Exception:
            # One group with an unforeseen state must not keep the others from being evaluated.
            log.exception("evaluate.failed", subject_id=builder.basis.subject.id)
            self._stage.liveness.count("evaluate.failed")
            return False
        return True

    def _read(self, cases: Sequence[worker.Case]) -> worker.SeriesByMetric:
        """Read every series that the cases need: recent ones in one read, those with a long history in another."""
        needed: dict[tuple[str, str, int], int] = {}
        until = 0.0
        for case in cases:
            for plan in case.plans:
                if plan.horizon is None:
                    continue
                for metric in plan.kind.metrics(plan.rule):
                    horizon = plan.horizon.operands.get(metric, plan.horizon)
                    until = max(until, horizon.requested_at or 0.0)
                    key = case.worker_id, metric, horizon.kept_at
                    needed[key] = min(plan.read_from, needed.get(key, plan.read_from))
        long = {key for key, since in needed.items() if since < until - _RECENT}
        series: dict[tuple[str, str], models.Series] = {}
        for keys in ([key for key in needed if key not in long], [key for key in needed if key in long]):
            if keys:
                series |= self._stage.samples.read(keys, min(needed[key] for key in keys), until)
        return series

    def _judge(
        self, case: worker.Case, series: worker.SeriesByMetric, context: worker.Context
    ) -> verdict.VerdictBuilder | None:
        monitored, kinds = case.basis.record.worker, self._stage.kinds
        account = context.accounts.get(monitored.scope.key)
        groups = member.inhibitors(context.configuration, monitored, context.groups, kinds)
        builder = verdict.VerdictBuilder(
            case.basis,
            self._stage.now(),
            context.active_silences,
            self._stage.kinds,
            {**(account.alerts if account else {}), **groups},
        )
        try:
            worker.judge(builder, case, series, context)
            escalation.apply(builder, context.escalations)
        except Exception:
            # One worker with an unforeseen state must not keep the others from being evaluated.
            log.exception("evaluate.failed", worker_id=case.worker_id)
            self._stage.liveness.count("evaluate.failed")
            return None
        return builder

    # --- what was written ----------------------------------------------------------------------------------------

    def _announce(self, builder: verdict.VerdictBuilder) -> None:
        """Log the verdict about a subject, call the hooks, and add its alerts to those to deliver."""
        for rule, transition, notification in builder.transitions:
            _log(builder.subject.alert_id(rule), rule, transition, notified=notification is not None)
            if notification is not None:
                self.alert_ids.append(notification.dedup_key)
                self._call_hooks(notification)

    def _call_hooks(self, notification: models.Notification) -> None:
        for hook in self._stage.violations:
            try:
                hook.violated(notification)
            except Exception:
                # A user's own code must not stop the alerts of others.
                log.exception("violations.failed", hook=type(hook).__name__, alert_id=notification.dedup_key)


def _fires(basis: ports.Basis[Any]) -> bool:
    return any(alert.open for alert in basis.alerts.values())


def _may_change(basis: ports.Basis[models.AccountState]) -> bool:
    """Return whether an alert of an account and region may change."""
    return basis.record.failing_since is not None or bool(basis.record.lost_metrics) or _fires(basis)


def _log(alert_id: str, rule: str, transition: models.Transition, *, notified: bool) -> None:
    log.info(
        "alert.changed",
        alert_id=alert_id,
        rule=rule,
        before=transition.before,
        after=transition.after,
        at=models.rfc3339(transition.at),
        value=transition.value,
        reason=transition.reason,
        correction=transition.correction,
        notified=notified,
    )
