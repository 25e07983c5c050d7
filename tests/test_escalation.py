"""Escalation: an alert that keeps firing without an acknowledgement notifies further channels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support import grouping
from tests.support.commands import A, Ports
from tests.support.evaluating import CPU, ID, MINUTE, T0, Site, explanation_json
from tests.support.rules import changed
from workermon import evaluate, models, testing, views
from workermon.config import difference, export
from workermon.models import EscalationStep
from workermon.rules import KINDS

STEPS = (EscalationStep(after=900, notify=("pager",)), EscalationStep(after=3600, notify=("boss", "pager2")))
RULE = changed(CPU, escalate=STEPS)
ALERT = f"{ID}/cpu-high"


class Escalating(Site):
    """A worker whose rule escalates. It is hot until ``cool``."""

    def __init__(self, *rules: models.Rule) -> None:
        super().__init__(*(rules or (RULE,)))
        names = ("ops", "pager", "boss", "pager2")
        self.configure(channels={name: models.Channel(name=name, type="log") for name in names})
        self.minutes([95, 95, 95])
        #: When the firing notification was made.
        self.fired_at = self.clock()

    def after(self, seconds: float) -> None:
        """Look so long after the alert fired, as a sweep does: at those only that are due."""
        self.clock.now = self.fired_at + seconds
        due = self.outbox.due_escalations(self.clock(), 100)
        self.evaluate(*{alert_id.rpartition("/")[0] for alert_id in due})

    def evaluate(self, *worker_ids: str) -> list[str]:
        """Evaluate these workers, or the pending ones."""
        return testing.Monitor.evaluate(self, *worker_ids)

    def waiting(self) -> list[tuple[str, int, str]]:
        """Return the outbox as (channel, version, status), and empty it."""
        claims = self.outbox.claim(ALERT, self.clock(), 15)
        notifications = []
        while claims:
            for claimed in claims:
                notifications.append((claimed.channel, claimed.notification.version, claimed.notification.status))
                self.outbox.delivered(claimed, self.clock())
            claims = self.outbox.claim(ALERT, self.clock(), 15)
        return sorted(notifications, key=lambda notification: notification[1:])

    def acknowledge(self) -> None:
        """Acknowledge the alert."""
        self.get(evaluate.Acknowledging).acknowledge(ALERT, "eve")

    def cool(self) -> None:
        """Have it resolve at the present time."""
        begin = int(self.clock() - T0) // MINUTE
        self.minutes([10, 10, 10, 10, 10], begin)


def test_nobody_acknowledges() -> None:
    """Each step notifies its channels once, in order, with growing versions. The end notifies all of them."""
    site = Escalating()
    assert site.waiting() == [("ops", 1, "firing")]
    site.after(899)
    assert site.waiting() == []
    site.after(901)
    assert site.waiting() == [("pager", 2, "firing")]
    site.after(3599)
    assert site.waiting() == []
    site.after(3601)
    assert site.waiting() == [("boss", 3, "firing"), ("pager2", 3, "firing")]
    site.after(9000)
    assert site.waiting() == []
    site.cool()
    assert site.waiting() == [(name, 4, "resolved") for name in ("boss", "ops", "pager", "pager2")]
    assert site.outbox.due_escalations(site.clock() + 10_000, 10) == []


def test_the_notification_says_so() -> None:
    """It is the same alert with another id. Its text says for how long it was not acknowledged."""
    site = Escalating()
    site.after(901)
    site.after(3601)
    third, second, first = (entry.notification for entry in site.alerts.history(ALERT))
    assert first is not None
    assert second is not None
    assert third is not None
    assert second.summary == f"{first.summary}; not acknowledged for 15 min"
    assert third.summary == f"{first.summary}; not acknowledged for 1 h"
    assert len({first.id, second.id, third.id}) == 3
    assert (first.escalation, second.escalation) == (None, models.Escalation(step=1, after=900))
    assert models.to_json(third)["escalation"] == {"step": 2, "after": 3600}
    assert (second.dedup_key, second.since, second.at, second.value) == (
        first.dedup_key,
        first.since,
        first.at,
        first.value,
    )
    entry = site.alerts.history(ALERT)[0]
    assert (entry.transition.before, entry.transition.after) == ("critical", "critical")
    assert entry.transition.reason == "not acknowledged for 1 h: escalated to boss, pager2"


def test_an_acknowledgement_cancels_it() -> None:
    """An acknowledgement cancels later steps. Earlier steps stay."""
    site = Escalating()
    site.waiting()
    site.acknowledge()
    site.after(901)
    site.after(9000)
    assert site.waiting() == []
    assert site.outbox.due_escalations(site.clock() + 10_000, 10) == []
    second = Escalating()
    second.after(901)
    second.acknowledge()
    second.after(9000)
    assert second.waiting() == [("ops", 1, "firing"), ("pager", 2, "firing")]


def test_the_acknowledgement_of_an_earlier_episode_cancels_nothing() -> None:
    """An alert that fires again escalates again, after its own time."""
    site = Escalating()
    site.acknowledge()
    site.after(300)
    site.cool()
    begin = int(site.clock() - T0) // MINUTE
    site.minutes([95] * 4, begin)
    site.waiting()
    site.fired_at = site.clock()
    site.after(800)
    assert site.waiting() == []
    site.after(901)
    assert [channel for channel, _, _ in site.waiting()] == ["pager"]


def test_the_end_cancels_it() -> None:
    """A resolved alert does not escalate. Its end notifies only those who were notified of it."""
    site = Escalating()
    site.after(300)
    site.cool()
    site.after(9000)
    assert site.waiting() == [("ops", 1, "firing"), ("ops", 2, "resolved")]


def test_a_change_of_severity_keeps_the_clock() -> None:
    """A warning that gets critical escalates at the warning's time, and its channels are notified."""
    site = Site(changed(RULE, notify=("ops",)))
    site.minutes([85, 85, 85])
    since = site.clock()
    assert site.alert().escalates_at == since + 900
    site.minutes([95, 95, 95], 3)
    assert site.alert().escalates_at == since + 900
    site.clock.now = since + 901
    site.evaluate()
    assert site.alert().escalated_to == ("pager",)
    begin = int(site.clock() - T0) // MINUTE
    site.minutes([85, 85, 85, 85], begin)
    entry = site.alerts.history(ALERT)[0]
    assert entry.notification is not None
    assert entry.notification.severity == "warning"
    claims = {claimed.channel for claimed in site.outbox.claim(ALERT, site.clock(), 15)}
    assert claims == {"ops", "pager"}


def silence(site: Site, seconds: float) -> str:
    """Silence the alert for so long."""
    site.silences.add(
        models.Silence(id="s", rule="cpu-high", begins=site.clock(), ends=site.clock() + seconds, reason="r", by="b")
    )
    return "s"


def test_a_silence_holds_it_up() -> None:
    """A silenced alert does not escalate. The time begins anew at the silence's end."""
    site = Escalating()
    site.waiting()
    site.after(600)
    silence(site, 1800)
    site.after(901)
    assert site.waiting() == []
    assert site.alert().escalates_at is None
    site.clock.now = site.fired_at + 2460
    testing.Monitor.evaluate(site, ID)
    assert site.alert().escalates_at == site.fired_at + 2460 + 900
    site.after(2460 + 901)
    assert [channel for channel, _, _ in site.waiting()] == ["pager"]


def test_a_silenced_alert_begins_with_the_notification() -> None:
    """An alert that fires under a silence escalates so long after people were notified of it."""
    site = Site(RULE)
    silence(site, 1200)
    site.minutes([95, 95, 95])
    assert site.alert().escalates_at is None
    site.clock.now += 1300
    site.evaluate()
    assert site.alert().escalates_at == site.clock() + 900


def test_an_inhibited_alert_does_not_escalate() -> None:
    """An inhibited alert does not escalate while the other rule fires."""
    high = changed(CPU, name="worse", above=models.Levels(critical=99), notify=("ops",))
    site = Site(high, changed(RULE, inhibited_by=("worse",)))
    site.minutes([95, 95, 95])
    since = site.clock()
    site.minutes([100, 100, 100], 3)
    assert site.alert().escalates_at is None
    site.clock.now = since + 1000
    site.evaluate()
    assert site.alert().escalated == 0


def test_a_clock_that_was_ahead_holds_nothing_up() -> None:
    """A beginning in the future counts as now, so the alert escalates after its time."""
    site = Site(RULE)
    site.clock.now = T0 + 7200
    site.minutes([95, 95, 95])
    ahead = site.alert().escalation_since
    assert ahead is not None
    site.clock.now = T0 + 300
    site.evaluate()
    assert site.alert().escalation_since == T0 + 300
    site.clock.now = T0 + 1201
    site.evaluate()
    assert site.alert().escalated == 1


def test_a_due_time_beyond_all_is_found() -> None:
    """A due time that no escalation can have is due at once."""
    site = Escalating()
    site.store.escalations[ALERT] = site.clock() + models.MAX_ESCALATION + 3600
    assert site.outbox.due_escalations(site.clock(), 10) == [ALERT]


def test_rule_changes_count() -> None:
    """Without steps nothing escalates. New steps count from the change of the rule."""
    site = Escalating()
    site.configure(rules=(CPU,))
    testing.Monitor.evaluate(site, ID)
    assert site.outbox.due_escalations(site.clock() + 9999, 10) == []
    site.configure(rules=(RULE,))
    site.clock.now += 100
    testing.Monitor.evaluate(site, ID)
    assert site.alert().escalates_at == site.clock() + 900
    site.configure(rules=())
    testing.Monitor.evaluate(site, ID)
    assert site.outbox.due_escalations(site.clock() + 9999, 10) == []


def test_pausing_ends_it() -> None:
    """A paused worker's alert does not escalate."""
    site = Escalating()
    assert site.workers.update(site.worker.model_copy(update={"monitoring": "paused"}))
    testing.Monitor.evaluate(site, ID)
    assert site.outbox.due_escalations(site.clock() + 9999, 10) == []


def test_an_escalation_that_somebody_acknowledged_meanwhile_is_not_sent() -> None:
    """An acknowledgement removes the escalation from the outbox."""
    site = Escalating()
    site.waiting()
    site.after(901)
    site.acknowledge()
    site.received.clear()
    site.deliver()
    assert site.received == []
    assert site.outbox.backlog() == 0


def test_why_and_alerts_say_what_comes_and_what_came() -> None:
    """``why`` has the state of each step, ``alerts`` the notified channels and the next time."""

    def steps(site: Site) -> list[tuple[str, str | None]]:
        return [(step["state"], step["at"]) for step in explanation_json(site)["rules"][0]["escalation"]]

    site = Escalating()
    first, second = (models.rfc3339(site.fired_at + after) for after in (900, 3600))
    [row] = site.get(views.AlertView).list().alerts
    assert (row.escalated_to, row.escalates_at) == ((), first)
    assert steps(site) == [("pending", first), ("waiting", None)]
    site.after(901)
    [row] = site.get(views.AlertView).list().alerts
    assert (row.escalated_to, row.escalates_at) == (("pager",), second)
    assert steps(site) == [("done", None), ("pending", second)]
    site.acknowledge()
    [row] = site.get(views.AlertView).list().alerts
    assert row.escalates_at is None
    assert steps(site) == [("done", None), ("acknowledged", None)]
    site.cool()
    assert steps(site) == [("idle", None), ("idle", None)]


def test_the_alert_of_a_group_escalates() -> None:
    """The sweep finds it, it is evaluated as a group, and keeps its members."""
    pools = grouping.Pools(grouping.rule(escalate=(STEPS[0],)))
    for number in range(3):
        pools.add(number)
    pools.slot(T0 + MINUTE, dict.fromkeys(range(3), 20.0))
    pools.slot(T0 + 2 * MINUTE, {0: 95, 1: 95, 2: 20})

    def state() -> str:
        """Return the state of the only step in ``why``."""
        [explained] = pools.get(views.ExplainGroups).explain("group:pool=a").rules
        [step] = explained.escalation
        return step.state

    assert state() == "pending"
    pools.clock.advance(901)
    assert pools.outbox.due_escalations(pools.clock(), 10) == ["group:pool=a/pool-hot"]
    pools.evaluate("group:pool=a")
    assert state() == "done"
    [alert] = pools.alerts.open()
    assert alert.escalated_to == ("pager",)
    assert alert.last is not None
    assert alert.last.members == (grouping.worker_id(0), grouping.worker_id(1))
    assert alert.last.summary.endswith("; not acknowledged for 15 min")
    assert pools.outbox.due_escalations(pools.clock(), 10) == []


FILE = """
[channels.ops]
type = "log"

[channels.pager]
type = "log"

[[rules]]
name = "cpu-high"
metric = "cpu_utilization"
above = { critical = 90 }
notify = ["ops"]
escalate = [{ after = "15m", notify = ["pager"] }, { after = "1h", notify = ["log"] }]
"""


def test_the_file_round_trips_and_a_plan_shows_the_change() -> None:
    """Export writes the steps as in the file, the schema accepts them, and a change is one of the rule."""
    file = testing.parse(FILE)
    assert file.rules is not None
    [rule] = file.rules
    assert rule.escalate == (
        EscalationStep(after=900, notify=("pager",)), EscalationStep(after=3600, notify=("log",)),
    )  # fmt: skip
    table = export.rule_table(rule, KINDS)
    assert table["escalate"] == [{"after": "15m", "notify": ("pager",)}, {"after": "1h", "notify": ("log",)}]
    document = {"name": "a", "metric": "state", "escalate": [{"after": "15m", "notify": ["log"]}]}
    jsonschema.validate({"rules": [document]}, testing.parser().schema())
    before, after = (
        models.Configuration(rules=(version,), channels={}, metrics={}, collect=())
        for version in (rule, changed(rule, escalate=()))
    )
    [rule_difference] = difference.changes(before, after).differences
    assert [change.key for change in rule_difference.changes] == ["escalate"]


@pytest.mark.parametrize(
    ("steps", "place", "reason"),
    [
        ('[{ after = "soon", notify = ["ops"] }]', "[0].after", "'soon' is not a duration such as 30s, 5m or 24h"),
        ('[{ after = "8d", notify = ["ops"] }]', "[0].after", "must be at least 1s and at most 7d"),
        ('[{ after = "5m", notify = [] }]', "[0].notify", ""),
        ('[{ after = "5m" }]', "[0].notify", "is missing"),
        ('[{ after = "5m", notify = ["ops"], x = 1 }]', "[0].x", "is not a known key"),
        (
            '[{ after = "5m", notify = ["ops"] }, { after = "5m", notify = ["pager"] }]',
            "[1].after", "comes no later than the step before it, 5m",
        ),
        (
            '[{ after = "5m", notify = ["ops"] }, { after = "9m", notify = ["ops"] }]',
            "[1].notify[0]", "ops is escalate[0].notify[0] already",
        ),
        ('[{ after = "5m", notify = ["pagr"] }]', "[0].notify[0]", "pagr is not a known channel"),
    ],
)  # fmt: skip
def test_a_wrong_escalation_is_refused(
    run: Callable[..., object], tmp_path: Path, steps: str, place: str, reason: str
) -> None:
    """``rules check`` refuses invalid steps at their line and column."""
    text = FILE.partition("escalate = ")[0] + f"escalate = {steps}\n"
    (tmp_path / "f.toml").write_text(text)
    result: Any = run("rules", "check", str(tmp_path / "f.toml"))
    assert result.exit_code == 2
    assert "line 13, column " in result.stderr
    assert f"rules[0].escalate{place}: {reason}" in result.stderr


def test_commands_show_it(world: Ports, ok: Callable[..., str], tmp_path: Path) -> None:
    """The rule in words names its steps, and ``export`` has them."""
    (tmp_path / "f.toml").write_text(FILE)
    ok("apply", str(tmp_path / "f.toml"))
    ok("add", A)
    output = ok("why", A, "cpu_utilization")
    assert "escalates after 15 min to pager, escalates after 1 h to log" in output
    assert "  escalate  after 900 s to pager: idle" in output
    assert '{ after = "15m", notify = ["pager"] }' in ok("export")
    [rule] = json.loads(ok("why", A, "cpu_utilization", "--json"))["rules"]
    assert [step["notify"] for step in rule["escalation"]] == [["pager"], ["log"]]
