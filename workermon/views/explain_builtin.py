"""Explain: why an alert about a channel, an account and region, or the installation fires, or does not.

Their rules always apply; they are not in the config file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from workermon import errors, models, ports
from workermon.alerts import builtin_rules, builtin_texts, silences, subject
from workermon.views.document import Document, Time
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

#: The rules about accounts and regions, and those about the installation.
OF_ACCOUNTS, OF_INSTALLATION = builtin_rules.OF_ACCOUNTS, builtin_rules.OF_INSTALLATION


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
    history: tuple[RecordedTransition, ...]


class AccountExplanation(Document):
    """The state of a rule about an account and region, or (``*``) about the installation.

    ``since`` is when the alert fired, ``condition_since`` when its condition began; ``now`` describes the present
    state. ``failing_since`` and ``last_error`` are those of the newest collections there, ``workers`` is how many are
    monitored.
    """

    account: str
    region: str
    rule: str
    state: str
    since: Time | None
    condition_since: Time | None
    reason: str | None
    now: str
    succeeded_at: Time | None
    failing_since: Time | None
    last_error: CollectionFailure | None
    workers: int
    silences: tuple[ActiveSilence, ...]
    history: tuple[RecordedTransition, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExplainChannel:
    """Explains the alert about the delivery to a channel."""

    alerts: ports.Alerts
    configurations: ports.Configurations
    outbox: ports.Outbox
    now: ports.Clock

    def explain(self, channel: str) -> ChannelExplanation:
        """Return whether a channel accepts notifications, what waits for it, and its alert.

        Raises ``errors.NotFound`` for a channel that is not in the configuration and has no alert.
        """
        channels = self.configurations.load().channels
        alert = self.alerts.load_channel(channel).alerts.get(models.DELIVERY)
        if channel not in channels and alert is None:
            reason = "it is not in the configuration"
            raise errors.NotFound(
                f"channel {errors.printable(channel)[:64]}", reason, errors.nearest(channel, channels)
            )
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
            history=recorded_transitions(self.alerts.history(models.delivery_alert(channel), HISTORY)),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MonitorAlertExplanation:
    """Reads what is known of an alert that is about no worker itself."""

    alerts: ports.Alerts
    configurations: ports.Configurations
    silences: ports.Silences
    now: ports.Clock

    def read(self, about: subject.Subject, rule: str, alert: models.Alert | None) -> AccountExplanation:
        """Return it; how it stands and what is known beside it are left open."""
        at = self.now()
        firing = alert if alert is not None and alert.rule_state.severity is not None else None
        in_force = silences.in_force(self.silences.every(), self.configurations.load().silences, at)
        return AccountExplanation(
            account=subject.ANY,
            region=subject.ANY,
            rule=rule,
            state="ok" if firing is None else firing.rule_state.severity or "ok",
            since=firing.since if firing else None,
            condition_since=(firing.condition_since or firing.since) if firing else None,
            reason=firing.last.reason if firing and firing.last else None,
            now="",
            succeeded_at=None,
            failing_since=None,
            last_error=None,
            workers=0,
            silences=active(in_force, about, rule, at),
            history=recorded_transitions(self.alerts.history(about.alert_id(rule), HISTORY)),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExplainAccount:
    """Explains the alerts about an account and region."""

    explanation: MonitorAlertExplanation
    workers: ports.Workers
    alerts: ports.Alerts
    now: ports.Clock

    def explain(self, key: str, rule: str = builtin_rules.COLLECTOR) -> AccountExplanation:
        """Return whether anything can be collected in an account and region, and the alert of one of its rules.

        ``key`` is ``account/region``, ``rule`` one of ``builtin_rules.OF_ACCOUNTS``. Raises ``errors.NotFound`` for an
        account and region from which nothing is collected.
        """
        basis = self.alerts.load_monitor_alerts().accounts.get(key)
        workers = [record for record in self.workers.every() if record.worker.scope.key == key]
        if basis is None and not workers:
            todo = errors.nearest(key, account_keys(self.workers))
            raise errors.NotFound(f"account {errors.printable(key)[:80]}", "nothing is collected there", todo)
        state = basis.record if basis is not None else None
        alert = basis.alerts.get(rule) if basis is not None else None
        account, region = models.account_and_region(key)
        about = subject.of_account(models.AccountState(key=key, at=0, interval=0))
        explanation = self.explanation.read(about, rule, alert)
        lost = rule == models.LOST_METRICS
        return explanation.model_copy(
            update={
                "account": account,
                "region": region,
                "now": _lost_metrics_now(state) if lost else _collection_now(state, self.now()),
                "succeeded_at": state.succeeded_at if state else None,
                "failing_since": state.failing_since if state else None,
                "last_error": failure(state.last_error if state else None),
                "workers": len(workers),
            }
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExplainInstallation:
    """Explains the alerts about the installation."""

    explanation: MonitorAlertExplanation
    workers: ports.Workers
    alerts: ports.Alerts
    configurations: ports.Configurations
    costs: ports.Costs
    unreadable: ports.Unreadable

    def explain(self, rule: str) -> AccountExplanation:
        """Return the state and the alert of one of ``builtin_rules.OF_INSTALLATION``."""
        alert = self.alerts.load_monitor_alerts().installation.alerts.get(rule)
        explanation = self.explanation.read(subject.INSTALLATION, rule, alert)
        if rule == models.BUDGET:
            now = _budget_now(self.costs.budget_decision(), self.configurations.load().budget)
        else:
            now = _records_now(self.unreadable.load())
        return explanation.model_copy(update={"now": now, "workers": len(self.workers.ids())})


def account_keys(workers: ports.Workers) -> tuple[str, ...]:
    """Return every account and region with workers, as ``account/region``."""
    return tuple(sorted({record.worker.scope.key for record in workers.every()}))


def _collection_now(state: models.AccountState | None, at: float) -> str:
    """Describe the state of collection in an account and region."""
    if state is None:
        return "nothing was collected there yet"
    if state.failing_since is None or state.last_error is None:
        return "collection succeeds"
    patience = builtin_rules.COLLECTOR_INTERVALS * state.interval
    began = state.failing_since - state.interval
    return f"no successful collection for {max(0, round(at - began))} s, critical fires at {patience} s"


def _lost_metrics_now(state: models.AccountState | None) -> str:
    """Describe which metrics stopped arriving from much of the fleet."""
    if state is None or not state.lost_metrics:
        return "no metric stopped arriving from much of the fleet"
    return builtin_texts.lost_metrics(state.lost_metrics)


def _records_now(unreadable: Mapping[str, str]) -> str:
    """Describe which records cannot be read."""
    if not unreadable:
        return "every record can be read"
    return builtin_texts.unreadable_records(unreadable.items())


def _budget_now(decision: models.BudgetDecision, budget: float | None) -> str:
    """Describe how the budget is kept."""
    if budget is None:
        return "there is no budget"
    expected = builtin_texts.expected_cost(decision, budget)
    if not decision.period_multipliers:
        return f"{expected}; all metrics are requested at their own periods"
    return f"{expected}; requested less often: {builtin_texts.longer_periods(decision)}"
