"""Alerts as people read them: beginning, end, and selection."""

from typing import Any, Literal

import pytest

from tests.support.evaluating import CPU, ID, MINUTE, QUIET, T0, Site
from tests.support.rules import changed
from workermon import models, views

OTHER = "i-0abc0123456789de0"
#: A monitor for whom a worker has been silent for long enough fires at the next evaluation.
DUE = 3 * MINUTE


def time(slot: int) -> str:
    """Return the time of a slot as documents have it."""
    return models.rfc3339(T0 + slot * MINUTE)


def test_an_alert_says_when_its_condition_began_when_it_fired_and_when_it_was_over() -> None:
    """The first of the three datapoints beyond the threshold is when it began, the third when it fired."""
    site = Site()
    site.minutes([50, 95, 96, 97])
    [row] = site.get(views.AlertView).list().alerts
    assert (row.condition_since, row.since, row.ended_at, row.open) == (time(1), time(3), None, True)
    site.minutes([60, 61], 4)
    assert site.get(views.AlertView).list().alerts == ()
    [row] = site.get(views.AlertView).list(views.AlertFilter(state="all")).alerts
    assert (row.condition_since, row.since, row.ended_at, row.open) == (time(1), time(3), time(5), False)
    assert models.to_json(row)["condition_since"] == time(1)


def test_a_value_between_those_that_count_does_not_begin_the_condition() -> None:
    """With 3 of 5 the condition begins at the first datapoint beyond the threshold, not at the window's start."""
    site = Site(changed(CPU, breach=models.Count(m=3, n=5)))
    site.minutes([50, 50, 95, 50, 95, 95])
    [row] = site.get(views.AlertView).list().alerts
    assert (row.condition_since, row.since) == (time(2), time(5))


def test_a_change_of_severity_goes_on_with_the_condition_that_began_it() -> None:
    """A critical alert that was a warning before began with the warning."""
    site = Site()
    site.minutes([85, 85, 85, 95, 95, 95])
    [row] = site.get(views.AlertView).list().alerts
    assert (row.severity, row.condition_since, row.since) == ("critical", time(0), time(2))


def test_silence_begins_with_the_last_success() -> None:
    """An alert about missing data began when the last collection succeeded, intervals before it fires."""
    site = Site(QUIET)
    site.collected(T0, {})
    site.evaluate()
    site.clock.now = T0 + DUE + 1
    site.evaluate()
    [row] = site.get(views.AlertView).list().alerts
    assert (row.condition_since, row.since) == (time(0), models.rfc3339(T0 + DUE))


def test_alerts_are_chosen_by_worker_rule_and_time() -> None:
    """A worker is selected by id or name. Alerts that ended before the time are left out, firing ones never."""
    site = Site()
    site.minutes([95, 95, 95, 50, 50])
    everything = views.AlertFilter(state="all")
    [over] = site.get(views.AlertView).list(everything).alerts

    def chosen(**options: Any) -> list[str]:
        return [row.id for row in site.get(views.AlertView).list(views.AlertFilter(state="all", **options)).alerts]

    assert chosen(worker=ID) == chosen(worker="render-07") == chosen(rule="cpu-high") == [over.id]
    assert chosen(worker="render-08") == chosen(rule="memory-high") == []
    assert (chosen(since=T0 + 4 * MINUTE), chosen(since=T0 + 5 * MINUTE)) == ([over.id], [])
    site.minutes([95, 95, 95], 5)
    firing = [
        row.open for row in site.get(views.AlertView).list(views.AlertFilter(state="all", since=T0 + models.DAY)).alerts
    ]
    assert firing == [True], "what fires is not over, however old it is"


def test_each_episode_is_one_row() -> None:
    """Two episodes of one alert are two rows. An episode with a change of severity is one."""
    site = Site()
    site.minutes([85, 85, 85, 95, 95, 95, 50, 50, 85, 85, 85])
    rows = site.get(views.AlertView).list(views.AlertFilter(state="all")).alerts
    assert [(row.since, row.ended_at) for row in rows] == [(time(10), None), (time(2), time(7))]


def test_an_alert_written_by_an_older_version_began_when_it_fired() -> None:
    """If no beginning was recorded, it is the time at which the alert fired."""
    site = Site()
    site.minutes([95, 95, 95])
    basis = site.alerts.load([ID])[ID]
    alert = basis.alerts["cpu-high"]
    assert alert.last is not None
    older = alert.last.model_copy(update={"condition_since": None})
    site.store.alerts[ID].alerts["cpu-high"] = alert.model_copy(update={"last": older})
    [row] = site.get(views.AlertView).list().alerts
    assert row.condition_since == row.since == time(2)


@pytest.mark.parametrize("state", ["open", "all"])
def test_an_alert_has_the_unit_of_its_value(state: Literal["open", "all"]) -> None:
    """A reader can write the value without knowing the metric."""
    site = Site()
    site.minutes([95, 95, 95])
    [row] = site.get(views.AlertView).list(views.AlertFilter(state=state)).alerts
    assert (row.value, row.unit) == (95, "percent")
