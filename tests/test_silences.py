"""Silences: what they mute, what is told when they end, and the commands around them."""

import json

import pytest

from tests.test_cli import A, fires, ok, one_line, run, world  # noqa: F401 - fixtures
from tests.test_evaluate import CPU, ID, MINUTE, T0, Site
from workermon import errors, models, notifications, silences
from workermon.models import Count


def made(**changes):
    """Return a silence that lasts from T0 for an hour."""
    given = {"id": "s1", "begins": T0, "ends": T0 + 3600, "reason": "why", "by": "me"} | changes
    return models.Silence.model_validate(given)


def muted(*found, worker_id=ID, labels=None, rule="r", now=T0 + 1.0):
    """Return the id of what mutes."""
    one = silences.muted(found, worker_id, labels or {}, rule, now)
    return one and one.id


@pytest.mark.parametrize(
    ("changes", "alert", "is_muted"),
    [
        ({"worker_id": ID}, {}, True),
        ({"worker_id": "i-0aaaaaaaaaaaaaaaa"}, {}, False),
        ({"rule": "r"}, {}, True),
        ({"rule": "q"}, {}, False),
        ({"labels": {"a": "1"}}, {"labels": {"a": "1", "b": "2"}}, True),
        ({"labels": {"a": "1", "b": "3"}}, {"labels": {"a": "1", "b": "2"}}, False),
        ({"worker_id": ID, "rule": "q"}, {}, False),
        ({"rule": "r"}, {"now": T0 - 1}, False),
        ({"rule": "r"}, {"now": T0 + 3600}, False),
        ({"rule": "r"}, {"now": T0 + 3599.9}, True),
    ],
)
def test_a_silence_mutes_what_all_of_it_is_true_of(changes, alert, is_muted):
    """Worker, labels and rule all have to fit, within its time; its end is no longer part of it."""
    assert muted(made(**changes), **alert) == ("s1" if is_muted else None)


def test_of_several_the_last_to_end_is_named():
    """An alert under two silences is said to be under the longer one."""
    assert muted(made(rule="r"), made(rule="r", id="s2", ends=T0 + 7200), made(rule="q", id="s3")) == "s2"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ends": T0}, "would have ended"),
        ({"ends": T0 - 5}, "would have ended"),
        ({"ends": None}, "has no end"),
        ({"ends": T0 + 366 * 86_400}, "longer than 365 days"),
        ({"rule": None}, "would mute everything"),
    ],
)
def test_a_silence_that_cannot_be_meant_is_refused(changes, why):
    """One in the past, without end, for too long or for everything is refused."""
    given = {"worker_id": None, "labels": {}, "rule": "r", "ends": T0 + 60, "reason": "x", "by": "me", "now": T0}
    with pytest.raises(errors.InvalidInput, match=why):
        silences.made("s1", **given | changes)


# --- what it does to alerts --------------------------------------------------------------------------------------


def waiting(site, channel="ops"):
    """Return what waits for a channel, as (status, severity)."""
    lane = site.store.lanes.get((f"{ID}/cpu-high", channel))
    return [(one.status, one.severity) for one in lane.waiting] if lane else []


def test_a_muted_alert_is_recorded_and_told_when_it_still_fires():
    """During the silence nothing is sent; after it what still fires is told once, with the time that it began."""
    site = Site()
    site.silences.add(made(rule="cpu-high", ends=T0 + 8 * MINUTE))
    site.minutes([95, 96, 97, 98])
    [recorded] = site.alerts.history(f"{ID}/cpu-high")
    assert (recorded.transition.after, recorded.transition.silenced_by) == ("critical", "s1")
    assert recorded.notification is not None
    assert waiting(site) == []
    assert (site.alert().told, site.alert().silenced_by, site.alert().channels) == ("critical", "s1", ())
    site.minutes([99, 99, 99], 4)  # the collection of minute 5 is the first after the silence
    assert waiting(site) == [("firing", "critical")]
    [told] = site.store.lanes[f"{ID}/cpu-high", "ops"].waiting
    assert (told.since, told.version, told.id) == (models.rfc3339(T0 + 2 * MINUTE), 2, recorded.notification.id)
    assert "silence s1 is over" in told.reason
    site.minutes([99, 20, 20], 7)
    assert waiting(site) == [("firing", "critical"), ("resolved", "critical")]


def test_what_resolved_unheard_says_nothing():
    """An alert that fired and ended within a silence, or ended later without being told, reaches nobody."""
    site = Site()
    site.silences.add(made(rule="cpu-high"))
    site.minutes([95, 96, 97, 20, 20, 20])
    assert waiting(site) == []
    assert [one.transition.silenced_by for one in site.alerts.history(f"{ID}/cpu-high")] == ["s1", "s1"]
    assert not site.alert().open
    site.silences.remove(["s1"])
    site.minutes([20, 20], 6)
    assert waiting(site) == []


def test_one_evaluation_after_the_silence_tells_no_end_of_the_unheard():
    """Where the end of the alert is seen only after the silence, nobody hears of an end without a beginning."""
    site = Site()
    site.silences.add(made(rule="cpu-high", ends=T0 + 5 * MINUTE + 30))
    site.minutes([95, 96, 97])
    at = T0 + 10 * MINUTE
    site.collected(at, {T0 + slot * MINUTE: 20.0 for slot in (3, 4, 5)})
    site.evaluate()
    assert waiting(site) == []
    assert not site.alert().open


def test_who_was_told_hears_the_end_even_in_a_silence():
    """An alert that was told before the silence is resolved to the same people, lest their incident stay open."""
    site = Site()
    site.minutes([95, 96, 97])
    site.silences.add(made(rule="cpu-high", begins=T0))
    site.minutes([20, 20], 3)
    assert waiting(site) == [("firing", "critical"), ("resolved", "critical")]


def test_a_worse_severity_within_a_silence_waits_for_its_end():
    """Who heard of a warning hears of critical after the silence; the end reaches them once."""
    one = Count(m=1, n=1)
    site = Site(CPU.model_copy(update={"breach": one, "recover": one}))
    site.minutes([85])
    site.silences.add(made(rule="cpu-high", ends=T0 + 5 * MINUTE))
    site.minutes([95], 1)
    assert waiting(site) == [("firing", "warning")]
    site.minutes([95, 95, 20], 2)
    assert waiting(site) == [("firing", "warning"), ("firing", "critical"), ("resolved", "critical")]


def test_a_muted_alert_of_a_worker_that_goes_says_nothing():
    """Pausing or removing a worker whose alert nobody heard of tells nobody."""
    site = Site()
    site.silences.add(made(worker_id=ID))
    site.minutes([95, 96, 97])
    basis = site.alerts.load([ID])[ID]
    verdict = notifications.closing(basis, site.configurations.load(), "removed", T0 + 600)
    assert verdict.channels == {"cpu-high": ()}
    site.workers.update(site.worker.model_copy(update={"monitoring": "paused"}))
    site.evaluate()
    assert waiting(site) == []
    assert not site.alert().open


def test_a_silence_of_another_rule_mutes_nothing():
    """Only what the silence names is muted."""
    site = Site()
    site.silences.add(made(rule="other"))
    site.silences.add(made(id="s2", labels={"team": "vfx"}))
    site.minutes([95, 96, 97])
    assert waiting(site) == [("firing", "critical")]


# --- the commands ------------------------------------------------------------------------------------------------


def test_a_silence_is_made_listed_and_ended(ok, run, world):  # noqa: F811
    """silence, silences and unsilence agree on one document; alerts and why name the silence."""
    ok("add", A)
    fires(world, A)
    made = json.loads(ok("silence", "--worker", "render-01", "--for", "2h", "--reason", "new disk", "--json"))
    assert (made["worker"], made["reason"], made["rule"]) == (A, "new disk", None)
    assert models.moment(made["ends"]) - models.moment(made["begins"]) == 7200
    assert json.loads(ok("silences", "--json"))["silences"] == [made]
    [alert] = json.loads(ok("alerts", "--json"))["alerts"]
    assert alert["silenced_by"] == made["id"]
    assert f"silence  {made['id']}" in ok("why", A, "cpu_utilization")
    assert made["id"] in ok("unsilence", made["id"])
    assert json.loads(ok("silences", "--json"))["silences"] == []
    assert one_line(run("unsilence", made["id"]), 3)
    [alert] = json.loads(ok("alerts", "--json"))["alerts"]
    assert alert["silenced_by"] is None


def test_a_silence_by_label_names_its_labels(ok):  # noqa: F811
    """Several labels all have to be true; the list shows them."""
    given = ("--label", "team=vfx", "--label", "tier=1", "--rule", "cpu-high")
    made = json.loads(ok("silence", *given, "--for", "90m", "--reason", "x", "--by", "kim", "--json"))
    assert (made["labels"], made["by"]) == ({"team": "vfx", "tier": "1"}, "kim")
    assert "rule cpu-high, team=vfx, tier=1" in ok("silences")


def test_the_silences_of_a_worker_go_with_it(ok, world):  # noqa: F811
    """remove leaves no silence that names the worker."""
    ok("add", A)
    ok("silence", "--worker", A, "--for", "2h", "--reason", "x")
    ok("silence", "--rule", "cpu-high", "--until", "2024-01-01T00:00:00Z", "--reason", "x")
    ok("remove", A)
    assert [one["worker"] for one in json.loads(ok("silences", "--json"))["silences"]] == [None]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (("--rule", "cpu-high", "--reason", "x"), 2),
        (("--rule", "cpu-high", "--reason", "x", "--for", "0s"), 2),
        (("--rule", "cpu-high", "--reason", "x", "--for", "-2h"), 2),
        (("--rule", "cpu-high", "--reason", "x", "--until", "2001-01-01T00:00:00Z"), 2),
        (("--rule", "cpu-high", "--reason", "x", "--until", "tomorrow"), 2),
        (("--rule", "cpu-high", "--reason", "x", "--for", "9999d"), 2),
        (("--rule", "cpu-high", "--for", "2h"), 2),
        (("--reason", "x", "--for", "2h"), 2),
        (("--rule", "cpu-hihg", "--reason", "x", "--for", "2h"), 3),
        (("--worker", "render-99", "--reason", "x", "--for", "2h"), 3),
    ],
)
def test_a_silence_that_is_refused_says_so_in_one_line(run, given, code):  # noqa: F811
    """In the past, endless, for everything, without a reason, or of what is not there."""
    one_line(run("silence", *given), code)


def test_an_alert_is_acknowledged_until_it_is_over(ok, run, world):  # noqa: F811
    """acked_by is who said so; a later episode is not acknowledged; what is over exits 1, a stranger 3."""
    ok("add", A)
    assert "did you mean" not in one_line(run("ack", f"{A}/cpu-high"), 3)
    fires(world, A)
    ok("ack", f"{A}/cpu-high", "--by", "kim")
    [alert] = json.loads(ok("alerts", "--json"))["alerts"]
    assert alert["acked_by"] == "kim"
    ok("ack", "render-01/cpu-high", "--by", "sam")
    assert json.loads(ok("alerts", "--json"))["alerts"][0]["acked_by"] == "sam"
    assert f"did you mean {A}/cpu-high?" in one_line(run("ack", f"{A}/cpu-hihg"), 3)
    fires(world, A, status="resolved", version=2)
    assert "is over already" in one_line(run("ack", f"{A}/cpu-high"), 1)


def test_an_acknowledgement_is_of_one_episode(ok, world):  # noqa: F811
    """One that was given to an earlier episode does not count for the present one."""
    ok("add", A)
    fires(world, A)
    from workermon import ports

    world.get(ports.Silences).acknowledge(
        models.Acknowledged(alert_id=f"{A}/cpu-high", since=5, by="kim", at=world.now())
    )
    [alert] = json.loads(ok("alerts", "--json"))["alerts"]
    assert alert["acked_by"] is None
