"""The budget alert: longer periods, a projection above the budget, and its end."""

from __future__ import annotations

from typing import Any

from tests.support.refused import SCOPE, T0, Fleet
from workermon import models
from workermon.fleet import AccountClosing
from workermon.notify import text

BUDGET = "*/*/budget"


class Spent:
    """A fleet and its budget decisions. Each call is an evaluation."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.costs, self.since = fleet, fleet.costs, 0.0
        self.notified: list[str] = []
        self.silences = fleet.silences

    def decide(self, after: float, projected: float = 4.0, **period_multipliers: int) -> None:
        """Decide how often each metric is requested, as collections do each minute, and evaluate twice."""
        before, at = self.costs.budget_decision(), T0 + after
        self.since = at if period_multipliers != before.period_multipliers else before.since
        decided = models.BudgetDecision(
            at=at, period_multipliers=period_multipliers, projected=projected, budget=5.0, since=self.since
        )
        assert self.costs.decide(decided, before)
        self.judge(after + 1)
        self.judge(after + 2)

    def judge(self, after: float) -> None:
        """Evaluate one worker, and with it the budget."""
        self.fleet.clock.now = T0 + after
        self.notified += self.fleet.evaluate(self.fleet.elsewhere.id)

    def last(self) -> models.Notification:
        """Return the last notification."""
        (recorded, *_) = self.fleet.alerts.history(BUDGET)
        assert recorded.notification is not None
        return recorded.notification


def test_a_budget_that_lengthens_periods_notifies_once(fleet: Any) -> None:
    """It notifies at the beginning, not at each step, and at the end. Its times are those of the decisions."""
    spent = Spent(fleet)
    spent.decide(0)
    assert fleet.alerts.history(BUDGET) == []
    spent.decide(60, network_out=2)
    spent.decide(120, network_out=2)
    spent.decide(180, network_out=15, network_in=4)
    assert spent.notified == [BUDGET]
    notification = spent.last()
    assert (notification.kind, notification.rule) == ("collector", "budget")
    assert (notification.status, notification.severity) == ("firing", "warning")
    assert (notification.worker, notification.scope) == (None, {"account": "*", "region": "*"})
    assert notification.at == notification.since == models.rfc3339(T0 + 60)
    assert notification.summary == "budget: metrics are requested less often to keep to it"
    assert text.plain(notification).splitlines()[1] == "where: workermon"
    assert notification.reason == "$4.00 are expected today, of $5.00; network_out each 2 periods"
    assert [alert.rule for alert in fleet.alerts.open()] == ["budget"]
    assert [claimed.channel for claimed in fleet.outbox.claim(BUDGET, fleet.clock.now, 5)] == ["ops"]
    spent.decide(240)
    assert spent.notified == [BUDGET] * 2
    over = spent.last()
    assert (over.status, over.at, over.version) == ("resolved", models.rfc3339(T0 + 240), notification.version + 1)
    assert over.since == notification.since
    assert over.id != notification.id
    assert fleet.alerts.open() == []
    spent.decide(300)
    assert spent.notified == [BUDGET] * 2
    spent.decide(360, network_out=2)
    repeated = spent.last()
    assert (repeated.status, repeated.version) == ("firing", over.version + 1)
    assert repeated.id != notification.id


def test_a_budget_that_is_not_kept_is_critical(fleet: Any) -> None:
    """It notifies once, although the projection oscillates, and resolves like a warning."""
    spent = Spent(fleet)
    for after, projected in ((60, 4.9), (120, 5.1), (180, 4.9), (240, 5.2)):
        spent.decide(after, projected, network_out=15)
    assert spent.notified == [BUDGET] * 2
    notification = spent.last()
    assert (notification.severity, notification.at, notification.since) == (
        "critical",
        models.rfc3339(T0 + 120),
        models.rfc3339(T0 + 60),
    )
    assert notification.summary == "budget: $5.10 are expected today, of $5.00 though metrics are requested less often"
    spent.decide(300)
    assert (spent.last().status, spent.last().severity) == ("resolved", "critical")


def test_its_id_is_the_same_however_often_it_is_evaluated(fleet: Any) -> None:
    """Two evaluations of the same decision give the same result, so a replay does not notify again."""
    ids = []
    for _ in range(2):
        spent = Spent(Fleet())
        spent.decide(60, network_out=2)
        ids.append(spent.last().id)
    assert ids[0] == ids[1]


def test_a_silenced_budget_notifies_when_the_silence_is_over(fleet: Any) -> None:
    """It is silenced by its rule. If it has ended when the silence ends, nobody is notified."""
    spent = Spent(fleet)
    spent.silences.add(models.Silence(id="quiet", rule="budget", begins=T0, ends=T0 + 600, reason="known", by="me"))
    spent.decide(60, network_out=2)
    assert fleet.outbox.due(T0 + 100, 10) == []
    spent.judge(601)
    assert [claimed.channel for claimed in fleet.outbox.claim(BUDGET, fleet.clock.now, 5)] == ["ops"]
    spent.decide(660)
    assert spent.last().status == "resolved"


def test_it_is_no_failing_account(fleet: Any) -> None:
    """A reconciliation does not end it for want of workers, and the alerts of accounts go their own way."""
    spent = Spent(fleet)
    spent.decide(60, network_out=2)
    assert fleet.get(AccountClosing).close_unused_accounts() == ()
    fleet.minutes(2, 6)
    assert {alert.last.dedup_key for alert in fleet.alerts.open() if alert.last} == {BUDGET, f"{SCOPE}/collector"}
