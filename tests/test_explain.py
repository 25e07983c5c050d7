"""``why``: the recorded decision, and the state since."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.evaluating import CPU, ID, MINUTE, QUIET, T0, Site, explanation_json, points
from tests.support.present import present
from tests.support.rules import changed
from workermon import errors, models, views


def minute(slot: Any) -> Any:
    """Return the time of a slot as documents have it."""
    return models.rfc3339(T0 + slot * MINUTE)


def test_a_firing_alert_is_explained_by_what_was_recorded() -> None:
    """The last decision has the recorded reason and points, and how far it is from being over is counted."""
    site = Site()
    site.minutes([50, 95, 96, 97, 60])
    [rule] = explanation_json(site)["rules"]
    assert (rule["rule"], rule["state"], rule["notified"], rule["since"]) == (
        "cpu-high",
        "critical",
        "critical",
        minute(3),
    )
    assert rule["latched"] == ["warning", "critical"]
    [transition] = rule["history"]
    assert (transition["before"], transition["after"], transition["at"], transition["notified"]) == (
        "ok",
        "critical",
        minute(3),
        True,
    )
    assert transition["reason"] == "3 of 3 values above 90 %"
    assert [point["value"] for point in transition["points"]] == [95, 96, 97]
    assert [point["value"] for point in rule["points"]] == [96, 97, 60]
    assert "1 of 2 values at or below 90 %, critical ends at 2 of 2" in rule["now"]
    assert rule["cursor"] == minute(4)


def test_the_recorded_reason_outlives_a_change_of_the_rule() -> None:
    """A decision under an earlier threshold is shown as recorded, not computed anew."""
    site = Site()
    site.minutes([95, 96, 97])
    site.change(rules=(changed(CPU, above=models.Levels(warning=98, critical=99)),))
    [rule] = explanation_json(site)["rules"]
    assert rule["above"] == {"warning": 98, "critical": 99}
    assert rule["history"][0]["reason"] == "3 of 3 values above 90 %"


def test_what_does_not_fire_is_explained_too() -> None:
    """Without a decision it shows the rule's datapoints, what is missing, and what would make it fire."""
    site = Site()
    site.minutes([50, 95, None, 96])
    [rule] = explanation_json(site)["rules"]
    assert (rule["state"], rule["notified"], rule["history"], rule["latched"]) == ("ok", None, [], [])
    assert [(point["at"], point["value"]) for point in rule["points"]] == [
        (minute(0), 50),
        (minute(1), 95),
        (minute(3), 96),
    ]
    assert rule["missing"] == [minute(2)]
    assert (
        rule["now"]
        == "2 of 3 values above 80 %, warning fires at 3 of 3; 2 of 3 values above 90 %, critical fires at 3 of 3"
    )
    assert (rule["period"], rule["delay"]) == (60, 120)


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda site: site.change(rules=(CPU.model_copy(update={"labels": {"a": "b"}}),)), "only to workers with a=b"),
        (lambda site: site.change(collect=()), "cpu_utilization is not collected"),
        (lambda site: site.collected(T0 + 600, status="stopped"), "the instance is stopped"),
        (lambda site: site.workers.update(site.worker.model_copy(update={"monitoring": "paused"})), "paused"),
        (lambda site: None, "the instance is unknown"),
    ],
)
def test_why_says_that_nothing_is_evaluated(prepare: Any, expected: str) -> None:
    """A rule that cannot fire at present has the reason."""
    site = Site()
    if expected != "the instance is unknown":
        site.minutes([50])
    prepare(site)
    [rule] = explanation_json(site)["rules"]
    assert expected in rule["now"]


def test_every_rule_of_a_worker_is_explained_at_once() -> None:
    """Without a metric each rule has its state, those that are not for the worker too, marked as such."""
    site = Site(CPU, QUIET, CPU.model_copy(update={"name": "other", "labels": {"team": "x"}}))
    site.minutes([95, 96, 97])
    document = explanation_json(site, None)
    assert document["metric"] is None
    assert [(rule["rule"], rule["metric"], rule["applies"], rule["state"]) for rule in document["rules"]] == [
        ("cpu-high", "cpu_utilization", True, "critical"),
        ("no-data", "no-data", True, "ok"),
        ("other", "cpu_utilization", False, "ok"),
    ]
    assert document["rules"][2]["now"] == "the rule applies only to workers with team=x"


def test_a_rule_may_be_named_in_the_place_of_a_metric() -> None:
    """A rule's name selects that rule alone. A misspelt one is refused."""
    site = Site(CPU, CPU.model_copy(update={"name": "other"}))
    site.minutes([50])
    document = explanation_json(site, "other")
    assert (document["metric"], [rule["rule"] for rule in document["rules"]]) == ("cpu_utilization", ["other"])


def test_since_is_when_the_condition_began_beside_when_it_fired() -> None:
    """It has the first and the last of the deciding datapoints."""
    site = Site()
    site.minutes([50, 95, 96, 97])
    [rule] = explanation_json(site)["rules"]
    assert (rule["condition_since"], rule["since"]) == (minute(1), minute(3))


def test_silence_is_explained() -> None:
    """For no-data, why shows since when silence counts and when the alert is due."""
    site = Site(QUIET)
    site.collected(T0, {})
    site.evaluate()
    site.clock.now = T0 + 100
    [rule] = explanation_json(site, "no-data")["rules"]
    assert rule["now"] == "no successful collection for 100 s, critical fires at 180 s"
    assert rule["due"] == models.rfc3339(T0 + 180)


def active_silences(site: Any, begins: float = 0.0) -> None:
    """Silence cpu-high from a time on."""
    site.silences.add(models.Silence(id="s1", rule="cpu-high", begins=begins, ends=T0 + 3600, reason="x", by="me"))


def test_a_silenced_alert_notified_nobody_until_the_silence_is_over() -> None:
    """A silenced transition is not shown as notified. A notification at the silence's end is shown there alone."""
    site = Site()
    active_silences(site)
    site.minutes([95, 96, 97])
    [rule] = explanation_json(site)["rules"]
    assert (rule["state"], rule["notified"], rule["silenced_by"]) == ("critical", None, "s1")
    site.silences.remove(["s1"])
    site.samples.mark_pending([ID], site.clock())
    [alert] = site.evaluate()
    site.notifiers = {"log": Broken(refusals=0)}
    site.deliver(alert)
    [rule] = explanation_json(site)["rules"]
    assert (rule["notified"], rule["silenced_by"]) == ("critical", None)
    assert [(transition["silenced_by"], len(transition["deliveries"])) for transition in rule["history"]] == [
        (None, 1),
        ("s1", 0),
    ]


def test_a_notified_warning_is_shown_if_a_silence_holds_back_the_rest() -> None:
    """The warning is shown as notified, the silenced change to critical is not."""
    site = Site()
    site.minutes([85, 85, 85])
    active_silences(site, T0)
    site.minutes([95, 96, 97], 3)
    [rule] = explanation_json(site)["rules"]
    assert (rule["state"], rule["notified"], rule["silenced_by"]) == ("critical", "critical", "s1")


def test_what_an_absent_slot_counts_as_is_not_hidden_by_which_are_absent() -> None:
    """``absent`` is the rule's option and ``missing`` the slots. Both are shown."""
    site = Site()
    site.minutes([50, 95, None, 96])
    [rule] = explanation_json(site)["rules"]
    assert (rule["absent"], rule["missing"]) == ("keep", [minute(2)])


def test_a_metric_without_a_rule_has_none_and_a_stranger_is_refused() -> None:
    """A known metric without a rule gives an empty list. An unknown one exits with 3."""
    site = Site()
    assert explanation_json(site, "network_in")["rules"] == []
    with pytest.raises(errors.NotFound, match="did you mean cpu_utilization"):
        explanation_json(site, "cpu_utilisation")


class Broken:
    """A channel that refuses, and then accepts."""

    def __init__(self, refusals: int = 1) -> None:
        self.refusals = refusals
        self.tries = 0

    def send(self, channel: Any, notifications: Any) -> None:
        """Refuse the first notifications, as many as set."""
        self.tries += 1
        if self.tries <= self.refusals:
            raise errors.DeliveryFailed("ops", "it said 500", "wait")


def test_each_attempt_to_deliver_is_shown() -> None:
    """Both why and the history of alerts have each attempt with its error."""
    site = Site()
    site.change(channels={"ops": models.Channel(name="ops", type="webhook")})
    site.collected(T0 + 300, points([95, 96, 97]))
    [alert] = site.evaluate()
    site.notifiers = {"webhook": Broken()}
    for _ in range(2):
        site.deliver(alert)
        site.clock.now += 3600
    [transition] = explanation_json(site)["rules"][0]["history"]
    assert [delivery["error"] is None for delivery in transition["deliveries"]] == [False, True]
    assert "it said 500" in transition["deliveries"][0]["error"]
    [row] = site.get(views.AlertView).list(views.AlertFilter(state="all")).alerts
    assert [attempt.error is None for attempt in present(row.deliveries)] == [False, True]
