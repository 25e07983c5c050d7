"""Silences: what they match, what notifies at their end, and their commands."""

from __future__ import annotations

import json
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support import delivering, refused
from tests.support.commands import A, B, Session, fires, one_line
from tests.support.evaluating import CPU, ID, MINUTE, T0, Site
from tests.support.examples import examples
from tests.support.present import present
from tests.support.rules import changed
from workermon import config, errors, evaluate, models, ports, testing, views
from workermon import settings as settings_of
from workermon.alerts import lifecycle, maintenance, silences
from workermon.cli import run as run_command
from workermon.config import difference, export
from workermon.models import Count


def silence_of(**changes: Any) -> Any:
    """Return a silence that lasts from T0 for an hour."""
    fields = {"id": "s1", "begins": T0, "ends": T0 + 3600, "reason": "why", "by": "me"} | changes
    return models.Silence.model_validate(fields)


def muted(*known_silences: Any, worker_id: Any = ID, labels: Any = None, rule: str = "r", now: Any = T0 + 1.0) -> Any:
    """Return the id of the active silence."""
    worker = models.NotifiedWorker(id=worker_id, name="render-07", region="us-east-1", labels=labels or {})
    mute = silences.muting(known_silences, f"{worker_id}/{rule}", worker, now)
    return mute and mute.id


@pytest.mark.parametrize(
    ("changes", "alert", "is_muted"),
    [
        ({"worker": ID}, {}, True),
        ({"worker": "render-07"}, {}, True),
        ({"worker": "render-08"}, {}, False),
        ({"worker": "i-0aaaaaaaaaaaaaaaa"}, {}, False),
        ({"rule": "r"}, {}, True),
        ({"rule": "q"}, {}, False),
        ({"labels": {"a": "1"}}, {"labels": {"a": "1", "b": "2"}}, True),
        ({"labels": {"a": "1", "b": "3"}}, {"labels": {"a": "1", "b": "2"}}, False),
        ({"worker": ID, "rule": "q"}, {}, False),
        ({"rule": "r"}, {"now": T0 - 1}, False),
        ({"rule": "r"}, {"now": T0 + 3600}, False),
        ({"rule": "r"}, {"now": T0 + 3599.9}, True),
    ],
)
def test_a_silence_mutes_what_all_of_it_is_true_of(changes: Any, alert: Any, is_muted: bool) -> None:
    """Worker, labels and rule all have to match within its time. The end is excluded."""
    assert muted(silence_of(**changes), **alert) == ("s1" if is_muted else None)


def test_of_several_the_last_to_end_is_named() -> None:
    """An alert under two silences names the one that ends later."""
    assert (
        muted(silence_of(rule="r"), silence_of(rule="r", id="s2", ends=T0 + 7200), silence_of(rule="q", id="s3"))
        == "s2"
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ends": T0}, "would have ended"),
        ({"ends": T0 - 5}, "would have ended"),
        ({"ends": None}, "has no end"),
        ({"ends": T0 + 366 * 86_400}, "longer than 365 days"),
        ({"rule": None}, "would silence everything"),
    ],
)
def test_a_silence_that_cannot_be_meant_is_refused(changes: Any, reason: str) -> None:
    """A silence in the past, without end, too long, or for everything is refused."""
    request = models.SilenceRequest(**{"rule": "r", "ends": T0 + 60, "reason": "x", "by": "me"} | changes)
    with pytest.raises(errors.InvalidInput, match=reason):
        silences.create("s1", request, T0)


# --- what it does to alerts --------------------------------------------------------------------------------------


def waiting(site: Any, channel: str = "ops") -> Any:
    """Return the outbox of a channel, as (status, severity)."""
    queue = site.store.queues.get((f"{ID}/cpu-high", channel))
    return [(notification.status, notification.severity) for notification in queue.waiting] if queue else []


def test_a_muted_alert_is_recorded_and_notifies_if_it_still_fires() -> None:
    """A silence notifies nobody. If an alert still fires at its end, it notifies once, with its beginning."""
    site = Site()
    site.silences.add(silence_of(rule="cpu-high", ends=T0 + 8 * MINUTE))
    site.minutes([95, 96, 97, 98])
    [recorded] = site.alerts.history(f"{ID}/cpu-high")
    assert (recorded.transition.after, recorded.transition.silenced_by) == ("critical", "s1")
    assert recorded.notification is not None
    assert waiting(site) == []
    assert (site.alert().notified_severity, site.alert().silenced_by, site.alert().channels) == ("critical", "s1", ())
    site.minutes([99, 99, 99], 4)  # the collection of minute 5 is the first after the silence
    assert waiting(site) == [("firing", "critical")]
    [notification] = site.store.queues[f"{ID}/cpu-high", "ops"].waiting
    assert (notification.since, notification.version, notification.id) == (
        models.rfc3339(T0 + 2 * MINUTE),
        2,
        recorded.notification.id,
    )
    assert "silence s1 is over" in present(notification.reason)
    site.minutes([99, 20, 20], 7)
    assert waiting(site) == [("firing", "critical"), ("resolved", "critical")]


def test_what_resolved_silenced_notifies_nobody() -> None:
    """If nobody was notified that an alert fires, nobody is notified that it resolves."""
    site = Site()
    site.silences.add(silence_of(rule="cpu-high"))
    site.minutes([95, 96, 97, 20, 20, 20])
    assert waiting(site) == []
    assert [entry.transition.silenced_by for entry in site.alerts.history(f"{ID}/cpu-high")] == ["s1", "s1"]
    assert not site.alert().open
    site.silences.remove(["s1"])
    site.minutes([20, 20], 6)
    assert waiting(site) == []


def test_one_evaluation_after_the_silence_notifies_no_end() -> None:
    """If an evaluation after the silence finds the end, it notifies nobody: nobody was notified of the beginning."""
    site = Site()
    site.silences.add(silence_of(rule="cpu-high", ends=T0 + 5 * MINUTE + 30))
    site.minutes([95, 96, 97])
    at = T0 + 10 * MINUTE
    site.collected(at, {T0 + slot * MINUTE: 20.0 for slot in (3, 4, 5)})
    site.evaluate()
    assert waiting(site) == []
    assert not site.alert().open


def test_notified_people_are_notified_of_the_end_even_in_a_silence() -> None:
    """An alert that notified before the silence notifies its end during it. Otherwise incidents would stay open."""
    site = Site()
    site.minutes([95, 96, 97])
    site.silences.add(silence_of(rule="cpu-high", begins=T0))
    site.minutes([20, 20], 3)
    assert waiting(site) == [("firing", "critical"), ("resolved", "critical")]


def test_a_worse_severity_within_a_silence_waits_for_its_end() -> None:
    """After the silence those notified of a warning are notified of critical, and once of the end."""
    single_slot = Count(m=1, n=1)
    site = Site(changed(CPU, breach=single_slot, recover=single_slot))
    site.minutes([85])
    site.silences.add(silence_of(rule="cpu-high", ends=T0 + 5 * MINUTE))
    site.minutes([95], 1)
    assert waiting(site) == [("firing", "warning")]
    site.minutes([95, 95, 20], 2)
    assert waiting(site) == [("firing", "warning"), ("firing", "critical"), ("resolved", "critical")]


def test_a_muted_alert_of_a_worker_that_goes_says_nothing() -> None:
    """Pausing or removing a worker notifies nobody if its alert had notified nobody."""
    site = Site()
    site.silences.add(silence_of(worker=ID))
    site.minutes([95, 96, 97])
    basis = site.alerts.load([ID])[ID]
    verdict = lifecycle.closing(basis, site.configurations.load(), "removed", T0 + 600)
    assert verdict.channels == {"cpu-high": ()}
    site.workers.update(site.worker.model_copy(update={"monitoring": "paused"}))
    site.evaluate()
    assert waiting(site) == []
    assert not site.alert().open


def test_a_silence_of_another_rule_mutes_nothing() -> None:
    """A silence mutes only alerts that it matches."""
    site = Site()
    site.silences.add(silence_of(rule="other"))
    site.silences.add(silence_of(id="s2", labels={"team": "vfx"}))
    site.minutes([95, 96, 97])
    assert waiting(site) == [("firing", "critical")]


# --- the commands ------------------------------------------------------------------------------------------------


def test_a_silence_is_made_listed_and_ended(ok: Any, run: Any, world: Any) -> None:
    """silence, silences and unsilence print the same document. alerts and why name the silence."""
    ok("add", A)
    fires(world, A)
    created = json.loads(ok("silence", "--worker", "render-01", "--for", "2h", "--reason", "new disk", "--json"))
    assert (created["worker"], created["reason"], created["rule"]) == ("render-01", "new disk", None)
    assert models.moment(created["ends"]) - models.moment(created["begins"]) == 7200
    assert json.loads(ok("silences", "--json"))["silences"] == [created]
    [alert] = json.loads(ok("alerts", "--json"))["alerts"]
    assert alert["silenced_by"] == created["id"]
    assert f"silence   {created['id']}" in ok("why", A, "cpu_utilization")
    assert created["id"] in ok("unsilence", created["id"])
    assert json.loads(ok("silences", "--json"))["silences"] == []
    assert one_line(run("unsilence", created["id"]), 3)
    [alert] = json.loads(ok("alerts", "--json"))["alerts"]
    assert alert["silenced_by"] is None


def test_a_silence_by_name_covers_a_replacement(ok: Any, world: Any) -> None:
    """A silence by name also covers a replacement with that name. One by id covers that instance only."""
    ok("add", A)
    by_name = json.loads(ok("silence", "--worker", "render-01", "--for", "2h", "--reason", "x", "--json"))
    by_id = json.loads(ok("silence", "--worker", A, "--for", "3h", "--reason", "x", "--json"))
    fires(world, A)
    [alert] = json.loads(ok("alerts", "--json"))["alerts"]
    assert alert["silenced_by"] == by_id["id"]
    ok("remove", A)
    ok("add", B, "--name", "render-01")
    fires(world, B)
    [alert] = json.loads(ok("alerts", "--json"))["alerts"]
    assert (alert["worker"]["id"], alert["silenced_by"]) == (B, by_name["id"])
    assert [row["id"] for row in json.loads(ok("silences", "--json"))["silences"]] == [by_name["id"]]


def test_one_alert_is_silenced_by_its_dedup_key(ok: Any, run: Any, world: Any) -> None:
    """A worker's key means worker and rule, by id or name. An account's key means that account only."""
    ok("add", A)
    fires(world, A)
    created = json.loads(ok("silence", f"{A}/cpu-high", "--for", "2h", "--reason", "x", "--json"))
    assert (created["worker"], created["rule"], created["alert"]) == (A, "cpu-high", None)
    [alert] = json.loads(ok("alerts", "--json"))["alerts"]
    assert alert["silenced_by"] == created["id"]
    created_by_name = json.loads(ok("silence", "render-01/disk-high", "--for", "2h", "--reason", "x", "--json"))
    assert (created_by_name["worker"], created_by_name["rule"]) == ("render-01", "disk-high")
    assert "did you mean cpu-high?" in one_line(run("silence", f"{A}/cpu-hihg", "--for", "2h", "--reason", "x"), 3)
    assert "does not exist" in one_line(run("silence", "x/cpu-high", "--for", "2h", "--reason", "x"), 3)
    beside = ("--rule", "cpu-high", "--for", "2h", "--reason", "x")
    assert "and also a worker" in one_line(run("silence", f"{A}/cpu-high", *beside), 2)


def test_one_account_is_silenced_by_the_key_of_its_alert(fleet: Any) -> None:
    """The same rule's alert of another account and region still notifies."""
    fleet.minutes(1, 6)
    key = f"{refused.SCOPE}/collector"
    stage = fleet.get(evaluate.Silencing)
    request = models.SilenceRequest(alert=key, ends=fleet.clock() + 3600, reason="x", by="me")
    expiry = stage.add(request)
    assert (expiry.alert, expiry.worker, expiry.rule) == (key, None, None)
    assert silences.muting([expiry], key, None, fleet.clock()) == expiry
    assert silences.muting([expiry], "default/us-east-1/collector", None, fleet.clock()) is None
    with pytest.raises(errors.NotFound, match=f"did you mean {key}"):
        stage.add(request.model_copy(update={"alert": f"{refused.SCOPE}/collectors"}))
    assert views.silence_row(expiry).alert == key


def test_a_silence_by_label_names_its_labels(ok: Any) -> None:
    """Several labels all have to match. The list shows them."""
    options = ("--label", "team=vfx", "--label", "tier=1", "--rule", "cpu-high")
    created = json.loads(ok("silence", *options, "--for", "90m", "--reason", "x", "--by", "kim", "--json"))
    assert (created["labels"], created["by"]) == ({"team": "vfx", "tier": "1"}, "kim")
    assert "rule cpu-high, team=vfx, tier=1" in ok("silences")


def test_the_silences_of_a_worker_go_with_it(ok: Any, world: Any) -> None:
    """remove leaves no silence that names the worker."""
    ok("add", A)
    ok("silence", "--worker", A, "--for", "2h", "--reason", "x")
    ok("silence", "--rule", "cpu-high", "--until", "2024-01-01T00:00:00Z", "--reason", "x")
    ok("remove", A)
    assert [row["worker"] for row in json.loads(ok("silences", "--json"))["silences"]] == [None]


@pytest.mark.parametrize("until", ["2024-01-01T00:00:00", "2024-01-01T01:30+01:30", "2023-12-31T19:00:00-05:00"])
def test_the_end_of_a_silence_is_read_in_any_offset(ok: Any, until: str) -> None:
    """Without an offset a time is in UTC. An offset may be behind UTC too."""
    ok("silence", "--rule", "cpu-high", "--until", until, "--reason", "x")
    (row,) = json.loads(ok("silences", "--json"))["silences"]
    assert row["ends"] == "2024-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--rule", "cpu-high", "--reason", "x"), 2),
        (("--rule", "cpu-high", "--reason", "x", "--for", "0s"), 2),
        (("--rule", "cpu-high", "--reason", "x", "--for", "-2h"), 2),
        (("--rule", "cpu-high", "--reason", "x", "--until", "2001-01-01T00:00:00Z"), 2),
        (("--rule", "cpu-high", "--reason", "x", "--until", "tomorrow"), 2),
        (("--rule", "cpu-high", "--reason", "x", "--until", "0001-01-01T00:00:00+14:00"), 2),
        (("--rule", "cpu-high", "--reason", "x", "--until", "9999-12-31T23:59:59-14:00"), 2),
        (("--rule", "cpu-high", "--reason", "x", "--until", "9999-12-31T23:59:59.999999Z"), 2),
        (("--rule", "cpu-high", "--reason", "x", "--for", "9999d"), 2),
        (("--rule", "cpu-high", "--for", "2h"), 2),
        (("--reason", "x", "--for", "2h"), 2),
        (("--rule", "cpu-hihg", "--reason", "x", "--for", "2h"), 3),
        (("--worker", "render-99", "--reason", "x", "--for", "2h"), 3),
    ],
)
def test_a_silence_that_is_refused_says_so_in_one_line(run: Any, arguments: Any, code: int) -> None:
    """It is refused in the past, without end, for everything, without a reason, or for an unknown subject."""
    one_line(run("silence", *arguments), code)


def test_an_alert_is_acknowledged_until_it_is_over(ok: Any, run: Any, world: Any) -> None:
    """acked_by names the person. A later episode is not acknowledged.

    A past alert exits with 1, an unknown one with 3.
    """
    ok("add", A)
    assert "did you mean" not in one_line(run("ack", f"{A}/cpu-high"), 3)
    fires(world, A)
    ok("ack", f"{A}/cpu-high", "--by", "kim")
    [alert] = json.loads(ok("alerts", "--json"))["alerts"]
    assert alert["acked_by"] == "kim"
    repeated = json.loads(ok("ack", "render-01/cpu-high", "--by", "sam", "--json"))
    assert json.loads(ok("alerts", "--json"))["alerts"][0]["acked_by"] == "sam"
    assert (repeated["alert"], repeated["acked_by"], repeated["previous"]["acked_by"]) == (
        f"{A}/cpu-high",
        "sam",
        "kim",
    )
    assert "acknowledged by lee, as sam did at " in ok("ack", f"{A}/cpu-high", "--by", "lee")
    assert f"did you mean {A}/cpu-high?" in one_line(run("ack", f"{A}/cpu-hihg"), 3)
    fires(world, A, status="resolved", version=2)
    assert "is over already" in one_line(run("ack", f"{A}/cpu-high"), 1)


def test_an_acknowledgement_is_of_one_episode(ok: Any, world: Any) -> None:
    """An acknowledgement of an earlier episode does not count for the present one."""
    ok("add", A)
    fires(world, A)
    from workermon import ports

    world.get(ports.Silences).acknowledge(
        models.Acknowledgement(alert_id=f"{A}/cpu-high", since=5, by="kim", at=world.clock())
    )
    [alert] = json.loads(ok("alerts", "--json"))["alerts"]
    assert alert["acked_by"] is None


# --- maintenance windows -----------------------------------------------------------------------------------------

BERLIN = "Europe/Berlin"
#: Clocks go forward at 2026-03-29 02:00 in Berlin and back at 2026-10-25 03:00; in New York at other days.
NIGHTS = {
    BERLIN: ("2026-03-29T00:30:00Z", "2026-10-25T00:30:00Z"),
    "America/New_York": ("2026-03-08T06:30:00Z", "2026-11-01T05:30:00Z"),
    "UTC": ("2026-03-29T00:30:00Z",),
}


def window(schedule: str = "0 2 * * *", duration: int | None = 7200, timezone: str = "UTC", **changes: Any) -> Any:
    """Return a recurring silence of the rule ``r``."""
    fields = {"id": "w1", "rule": "r", "reason": "patching"} | changes
    return models.Maintenance.model_validate(
        fields | {"schedule": schedule, "duration": duration, "timezone": timezone}
    )


def times_of(span: Any) -> Any:
    """Return a window's two times, as people write them."""
    return span and (models.rfc3339(span.begins), models.rfc3339(span.ends))


def open_at(text: Any, maintenance_window: Any) -> Any:
    """Return the window that is open at a time."""
    return times_of(maintenance.current(maintenance_window, models.moment(text)))


def test_a_window_opens_and_ends_by_the_clock() -> None:
    """A window begins with its minute and excludes its end. The next one is on the next day."""
    maintenance_window = window()
    assert open_at("2026-11-23T01:59:59Z", maintenance_window) is None
    night = ("2026-11-23T02:00:00Z", "2026-11-23T04:00:00Z")
    assert (
        open_at("2026-11-23T02:00:00Z", maintenance_window)
        == open_at("2026-11-23T03:59:59.900Z", maintenance_window)
        == night
    )
    assert open_at("2026-11-23T04:00:00Z", maintenance_window) is None
    for now in ("2026-11-23T01:59:59Z", "2026-11-22T04:00:00Z"):
        assert times_of(maintenance.following(maintenance_window, models.moment(now))) == night
    assert times_of(maintenance.following(maintenance_window, models.moment(night[0])))[0] == "2026-11-24T02:00:00Z"


def test_windows_that_meet_are_one() -> None:
    """Windows that overlap or touch end with the last of them. The next window begins after that."""
    maintenance_window = window("0 0 * * sat,sun", 30 * 3600)
    assert open_at("2026-11-21T12:00:00Z", maintenance_window)[1] == "2026-11-23T06:00:00Z"
    assert (
        times_of(maintenance.following(maintenance_window, models.moment("2026-11-21T12:00:00Z")))[0]
        == "2026-11-28T00:00:00Z"
    )
    maintenance_window = window("0 9-11 * * *", 3600)
    assert open_at("2026-11-21T09:30:00Z", maintenance_window)[1] == "2026-11-21T12:00:00Z"


@pytest.mark.parametrize(
    ("schedule", "day", "windows"),
    [
        # The clocks skip the hour from 2 to 3: the window begins after it, and keeps its length.
        ("30 2 * * *", "2026-03-29", [("2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z")]),
        # The hour from 2 to 3 comes twice: the first time counts, once.
        ("30 2 * * *", "2026-10-25", [("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z")]),
        ("0 1 * * *", "2026-10-25", [("2026-10-24T23:00:00Z", "2026-10-25T00:00:00Z")]),
        ("0 3 * * *", "2026-10-25", [("2026-10-25T02:00:00Z", "2026-10-25T03:00:00Z")]),
    ],
)
def test_when_the_clocks_change(schedule: str, day: str, windows: Any) -> None:
    """A window opens once on each day by its time zone's clock, and keeps its length."""
    maintenance_window, spans = window(schedule, 3600, BERLIN), []
    begin = models.moment(f"{day}T00:00:00Z") - 2 * 3600
    for at in range(int(begin), int(begin) + 26 * 3600, 300):
        span = times_of(maintenance.current(maintenance_window, at))
        if span and span not in spans and span[0][:10] in (day, windows[0][0][:10]):
            spans.append(span)
    assert spans == windows


@pytest.mark.parametrize(
    ("schedule", "until", "day", "windows"),
    [
        ("0 22 * * *", "04:00", "2026-11-23", [("2026-11-23T21:00:00Z", "2026-11-24T03:00:00Z")]),
        ("30 1 * * *", "02:30", "2026-11-23", [("2026-11-23T00:30:00Z", "2026-11-23T01:30:00Z")]),
        # The clocks skip the hour from 2 to 3, so the night is an hour shorter; a skipped end is right after the gap.
        ("0 22 * * *", "04:00", "2026-03-28", [("2026-03-28T21:00:00Z", "2026-03-29T02:00:00Z")]),
        ("0 1 * * *", "02:30", "2026-03-29", [("2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z")]),
        # The hour from 2 to 3 comes twice, so the night is an hour longer; an end within it is the first one.
        ("0 22 * * *", "04:00", "2026-10-24", [("2026-10-24T20:00:00Z", "2026-10-25T03:00:00Z")]),
        ("0 1 * * *", "02:30", "2026-10-25", [("2026-10-24T23:00:00Z", "2026-10-25T00:30:00Z")]),
    ],
)
def test_a_window_ends_by_the_clock_on_every_day(schedule: str, until: str, day: str, windows: Any) -> None:
    """Its end is a time of day in its zone, also in the nights when the clocks change."""
    maintenance_window: Any = window(schedule, None, BERLIN, until=until)
    spans: list[Any] = []
    begin = models.moment(f"{day}T00:00:00Z") - 2 * 3600
    for at in range(int(begin), int(begin) + 26 * 3600, 300):
        span = times_of(maintenance.current(maintenance_window, at))
        if span and span not in spans and span[0] == windows[0][0]:
            spans.append(span)
    assert spans == windows


WINDOW = """
[[silences]]
reason = "patching"
schedule = "0 22 * * *"
"""


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ('all = true\nuntil = "04:00"', None),
        ("all = true\nuntil = 04:00:00", None),
        ('all = true\nuntil = "4:00"', "until: must be a time of day such as"),
        ('all = true\nuntil = "24:00"', "until: must be a time of day such as"),
        ('all = true\nuntil = "04:00"\nduration = "6h"', "until: cannot be combined with duration"),
        ("all = true", "duration: is missing beside schedule"),
        ('all = true\nuntil = "22:00"', "is open for ever"),
        ('all = true\nrule = "cpu-high"\nuntil = "04:00"', "all: cannot be combined with worker, labels or rule"),
        (
            'all = false\nuntil = "04:00"',
            "would silence everything; name a worker, labels or a rule, or write all = true",
        ),
    ],
)
def test_a_window_until_a_time_of_day_or_about_everything_is_read(lines: str, wrong: str | None) -> None:
    """A window takes one of two ends. It covers everything only if it says so."""
    if wrong is None:
        [read_window] = parsed(WINDOW + lines).silences
        assert (read_window.all, read_window.until, read_window.duration) == (True, "04:00", None)
    else:
        with pytest.raises(errors.InvalidInput, match=wrong):
            parsed(WINDOW + lines)


def test_until_goes_with_a_schedule_only() -> None:
    """``until`` is refused without a schedule, because a single window has its own end."""
    with pytest.raises(errors.InvalidInput, match="until: is only for a schedule"):
        parsed('[[silences]]\nrule = "r"\nreason = "x"\nends = 2040-01-01T00:00:00Z\nuntil = "04:00"\n')


def test_a_window_about_everything_mutes_every_alert_and_comes_back_by_export(
    ok: Any, world: Any, tmp_path: Path
) -> None:
    """It mutes alerts of workers and accounts. silences, plan and export show it as written."""
    file = tmp_path / "night.toml"
    file.write_text(WINDOW.replace("0 22 * * *", "0 0 * * *") + 'all = true\nuntil = "23:59"\n')
    assert "added silence everything, 0 0 * * * UTC until 23:59" in ok("apply", str(file))
    ok("add", A)
    fires(world, A)
    [alert] = json.loads(ok("alerts", "--json"))["alerts"]
    [row] = json.loads(ok("silences", "--json"))["silences"]
    assert (alert["silenced_by"], row["all"], row["until"], row["worker"]) == (row["id"], True, "23:59", None)
    assert "everything" in ok("silences")
    in_force = silences.in_force([], world.configurations.load().silences, world.clock())
    assert silences.muting(in_force, "default/us-east-1/collector", None, world.clock())
    exported = ok("export")
    assert 'until = "23:59"' in exported
    file.write_text(exported)
    assert json.loads(ok("apply", str(file), "--json"))["changed"] == []


def numbers(field: Any, low: Any, high: Any) -> Any:
    """Return the numbers that a field of a schedule names: lists, ranges and steps."""
    numbers_named = set()
    for part in field.split(","):
        part, _, step = part.partition("/")
        begin, _, end = part.partition("-")
        chosen = range(low, high + 1) if part == "*" else range(int(begin), int(end or begin) + 1)
        numbers_named |= set(chosen[:: int(step or 1)])
    return numbers_named


def begins(schedule: Any, timezone: Any, since: Any, until: Any) -> Any:
    """Return the begins of a schedule between two times, by a check of each minute."""
    minutes, hours, days, months, weekdays = schedule.split()
    zone, begin_times = zoneinfo.ZoneInfo(timezone), set()
    minute, hour, day = numbers(minutes, 0, 59), numbers(hours, 0, 23), numbers(days, 1, 31)
    month, weekday = numbers(months, 1, 12), numbers(weekdays, 0, 6)
    either = not days.startswith("*") and not weekdays.startswith("*")

    def fits(local: Any) -> Any:
        if local.minute not in minute or local.hour not in hour:
            return False
        of_month, of_week = local.day in day, local.isoweekday() % 7 in weekday
        return local.month in month and (of_month or of_week if either else of_month and of_week)

    if minutes.startswith("*") or hours.startswith("*"):
        for at in range(since, until, 60):
            if fits(datetime.fromtimestamp(at, zone)):
                begin_times.add(at)
        return sorted(begin_times)
    for local in range(since - 86_400, until + 86_400, 60):
        if local // 60 % 60 not in minute:
            continue
        naive = datetime.fromtimestamp(local, UTC).replace(tzinfo=None)
        if fits(naive):
            real = naive.replace(tzinfo=zone)
            while datetime.fromtimestamp(real.timestamp(), zone).replace(tzinfo=None) != naive:
                naive += timedelta(minutes=1)
                real = naive.replace(tzinfo=zone)
            begin_times.add(int(real.timestamp()))
    return sorted(at for at in begin_times if since <= at < until)


@examples(100)
@example("30", "2", "*", "*", 3600, (BERLIN, NIGHTS[BERLIN][1]), 40, 0)  # the hour's second time: it goes on
@example("30", "2", "*", "*", 300, (BERLIN, NIGHTS[BERLIN][1]), 40, 0)  # and the next one is tomorrow's
@given(
    st.sampled_from(["0", "30", "15,45", "*/20", "7-9"]),
    st.sampled_from(["2", "1-3", "*", "*/6", "0,3"]),
    st.sampled_from(["*", "25-29", "1,8"]),
    st.sampled_from(["*", "0", "1-5"]),
    st.sampled_from([60, 300, 3600, 7200, 100_000]),
    st.sampled_from([(zone, night) for zone, nights in NIGHTS.items() for night in nights]),
    st.one_of(st.integers(-60, 120), st.integers(-60, 120), st.integers(-2 * 1440, 2 * 1440)),
    st.integers(0, 59),
)
def test_windows_are_those_of_a_minute_by_minute_model(
    minute: Any, hour: Any, day: Any, weekday: Any, duration: Any, night: Any, offset: Any, second: Any
) -> None:
    """Open or not, end and next begin equal those of a loop over all minutes, around clock changes too."""
    timezone, middle = night
    schedule = f"{minute} {hour} {day} * {weekday}"
    now = int(models.moment(middle)) + 60 * offset + second
    far = 5 * 86_400
    begin_times = begins(schedule, timezone, now // 60 * 60 - far, now // 60 * 60 + far)
    maintenance_window = window(schedule, duration, timezone)
    span = maintenance.current(maintenance_window, now)
    in_force = [at for at in begin_times if at <= now < at + duration]
    assert (span is not None) is bool(in_force)
    after = now
    if span is not None:
        ends = max(in_force) + duration
        for at in begin_times:
            if now < at <= ends:
                ends = at + duration
        if ends < now + far - 86_400:  # as far as the loop can see
            assert (span.begins, span.ends) == (max(in_force), ends)
        after = span.ends
    later = [at for at in begin_times if at > after]
    if later and after < now + far - 86_400:
        assert present(maintenance.following(maintenance_window, now)).begins == later[0]


def test_a_silence_without_a_schedule_is_one_window() -> None:
    """It is open from its begin until its end. Without a begin it is open at once."""
    maintenance_window = models.Maintenance(id="w1", rule="r", reason="x", begins=T0, ends=T0 + 60)
    assert maintenance.current(maintenance_window, T0 - 1) is None
    assert (
        maintenance.following(maintenance_window, T0 - 1)
        == maintenance.current(maintenance_window, T0)
        == (T0, T0 + 60)
    )
    assert maintenance.following(maintenance_window, T0) is None
    assert models.is_over(maintenance_window, T0 + 60)
    assert not models.is_over(window(), T0)
    assert maintenance.current(maintenance_window.model_copy(update={"begins": None}), T0 - 1e6) is not None


# --- windows in the config file ----------------------------------------------------------------------------------

FILE = """
[[silences]]
rule = "cpu-high"
reason = "patching"
schedule = "0 2 * * sun"
duration = "2h"
timezone = "Europe/Berlin"

[[silences]]
worker = "render-01"
labels = { team = "vfx" }
reason = "new disk"
begins = 2030-01-01T00:00:00Z
ends = "2030-01-01T04:00:00+01:00"
"""


def parsed(text: Any) -> Any:
    """Return the configuration of a file over the default one."""
    return config.to_configuration(testing.parse(text, "f.toml"), config.DEFAULT)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("0 2 * * sun", "0 2 * * sud", "line 5, column 1: silences[0].schedule: '0 2 * * sud' is not a schedule"),
        ("0 2 * * sun", "0 2 * *", "silences[0].schedule: '0 2 * *' does not have the five fields"),
        ("0 2 * * sun", "0 0 2 * * sun", "does not have the five fields"),
        ("0 2 * * sun", "@daily", "does not have the five fields"),
        ("0 2 * * sun", "0 0 30 2 *", "is not a schedule"),
        ("Europe/Berlin", "Europe/Berln", "line 7, column 1: silences[0].timezone: 'Europe/Berln' is not a time zone"),
        ("Europe/Berlin", "Europe/Berln", "did you mean Europe/Berlin?"),
        ("Europe/Berlin", "../../etc/passwd", "is not a time zone"),
        ("Europe/Berlin", "Europe", "is not a time zone"),
        ('duration = "2h"\n', "", "silences[0].duration: is missing beside schedule"),
        ('"2h"', '"5s"', "silences[0].duration: must be at least 1m"),
        ('"2h"', '"20d"', "is open for ever"),
        ('"cpu-high"', '"cpu-hihg"', "line 3, column 1: silences[0].rule: cpu-hihg is not a known rule; did you mean"),
        ('reason = "patching"\n', "", "silences[0].reason: is missing"),
        ('ends = "2030-01-01T04:00:00+01:00"', "", "silences[1]: has no end"),
        ("04:00:00+01:00", "01:00:00+01:00", "silences[1].ends: does not come after begins"),
        ("04:00:00+01:00", "04:00:00", "does not say how far from UTC"),
        ("2030-01-01T04", "2032-01-01T04", "more than 365 days after begins"),
        ('"2030-01-01T04:00:00+01:00"', '"tomorrow"', "must be a time such as"),
        ('"2030-01-01T04:00:00+01:00"', '"9999-12-31T23:59:59-14:00"', "silences[1].ends: must be a time such as"),
        ('"2030-01-01T04:00:00+01:00"', "9999-12-31T23:59:59-14:00", "silences[1].ends: must be a time such as"),
        ('rule = "cpu-high"\n', "", "silences[0]: would silence everything"),
        ('reason = "new disk"', 'reason = "new disk"\nduration = "2h"', "silences[1].duration: is only for a schedule"),
        ('timezone = "', 'ends = "2030-01-01T04:00:00Z"\ntimezone = "', "cannot be combined with a schedule"),
        ("rule =", "rulle =", "silences[0].rulle: is not a known key; did you mean rule?"),
        ("[[silences]]\nworker", '[[silences]]\nrule = "cpu-high"\nreason = "x"\nschedule = "0 2 * * sun"\n'
         'duration = "120m"\ntimezone = "Europe/Berlin"\n[[silences]]\nworker',
         "silences[1]: is the same as another one"),
    ],
)  # fmt: skip
def test_a_window_that_is_wrong_is_refused_by_its_place(old: str, new: str, expected: str) -> None:
    """An error names line, column, field, the reason, and what to write."""
    assert old in FILE
    with pytest.raises(errors.InvalidInput) as caught:
        parsed(FILE.replace(old, new))
    assert expected in str(caught.value)


def test_a_window_that_is_over_is_refused() -> None:
    """A new window must not be over already, and its end must not be too far away."""
    file = testing.parse(FILE, "f.toml")
    config.check_silences(file, models.moment("2029-12-31T00:00:00Z"))
    with pytest.raises(errors.InvalidInput, match=r"line 14, column 1: silences\[1\].ends: ended at 2030-01-01T03"):
        config.check_silences(file, models.moment("2030-01-02T00:00:00Z"))
    endless = testing.parse(FILE.replace("begins = 2030-01-01T00:00:00Z\n", ""), "f.toml")
    with pytest.raises(errors.InvalidInput, match="more than 365 days away"):
        config.check_silences(endless, models.moment("2026-01-01T00:00:00Z"))


def test_what_was_applied_is_exported() -> None:
    """The exported file has the same silences, without past ones."""
    configuration = parsed(FILE)
    reparsed = parsed(export.text(configuration, []))
    assert reparsed.silences == configuration.silences
    assert len(parsed(export.text(configuration, [], models.moment("2031-01-01T00:00:00Z"))).silences) == 1
    assert parsed(export.text(parsed("silences = []"), [])).silences == ()


def test_a_file_without_the_section_leaves_windows_alone() -> None:
    """A file without the section changes no window, an empty section ends them. plan describes each."""
    configuration = parsed(FILE)
    unchanged = config.to_configuration(testing.parse("[collect]", "g.toml"), configuration)
    assert unchanged.silences == configuration.silences
    emptied = config.to_configuration(testing.parse("silences = []", "g.toml"), configuration)
    assert difference.changes(configuration, emptied).silences.removed == (
        "rule cpu-high, 0 2 * * sun Europe/Berlin for 7200 s",
        "worker render-01, team=vfx, from 2030-01-01T00:00:00Z until 2030-01-01T03:00:00Z",
    )
    reworded = parsed(FILE.replace("patching", "patch night"))
    assert difference.changes(configuration, reworded).silences == difference.Names(
        added=(), changed=("rule cpu-high, 0 2 * * sun Europe/Berlin for 7200 s",), removed=()
    )


def test_a_rule_that_a_window_names_cannot_go_alone() -> None:
    """Rules are refused if a window in force names a missing one. The alert of accounts always exists."""
    configuration = parsed(FILE)
    with pytest.raises(
        errors.InvalidInput, match=r"silence file-\w{8} \(in force\)\.rule: cpu-high is not a known rule"
    ):
        config.to_configuration(testing.parse("rules = []", "g.toml"), configuration)
    assert parsed(FILE.replace('"cpu-high"', '"collector"')).silences[0].rule == "collector"


# --- what windows do to alerts -----------------------------------------------------------------------------------


def maintained(site: Any, **changes: Any) -> None:
    """Put a window over minutes 0 to 8 in force."""
    fields = {"id": "file-1", "rule": "cpu-high", "reason": "patching", "begins": T0, "ends": T0 + 8 * MINUTE}
    site.change(silences=(models.Maintenance.model_validate(fields | changes),))


@pytest.mark.parametrize("changes", [{}, {"rule": None, "worker": ID}, {"rule": None, "worker": "render-07"}])
def test_a_window_mutes_and_what_still_fires_notifies_at_its_end(changes: Any) -> None:
    """By rule, id or name: alerts are recorded with the window's id and notify once after it."""
    site = Site()
    maintained(site, **changes)
    site.minutes([95, 96, 97, 98])
    [recorded] = site.alerts.history(f"{ID}/cpu-high")
    assert recorded.transition.silenced_by == "file-1"
    assert waiting(site) == []
    site.minutes([99, 99, 99], 4)
    assert waiting(site) == [("firing", "critical")]
    [notification] = site.store.queues[f"{ID}/cpu-high", "ops"].waiting
    assert "silence file-1 is over" in present(notification.reason)


def test_a_recurring_window_mutes_each_time() -> None:
    """Alerts in the next window are muted too."""
    site = Site()
    hour = models.Maintenance(id="file-1", rule="cpu-high", reason="x", schedule="0 * * * *", duration=600)
    site.change(silences=(hour,))
    begin = -(-T0 // 3600) * 60 - T0 // 60  # minutes until the hour is full
    site.minutes([20, 20, 20], begin - 6)
    site.minutes([95, 95, 95], begin)
    assert waiting(site) == []
    site.minutes([95] * 6, begin + 3)
    assert waiting(site) == [("firing", "critical")]
    site.minutes([20, 20], begin + 9)
    site.minutes([95, 95, 95], begin + 60)
    assert waiting(site) == [("firing", "critical"), ("resolved", "critical")]


def test_removing_a_window_from_the_file_notifies_what_fires() -> None:
    """If a window is removed from the file, firing alerts notify."""
    site = Site()
    maintained(site, ends=T0 + 1e6)
    site.minutes([95, 96, 97])
    site.change(silences=())
    site.evaluate()
    assert waiting(site) == [("firing", "critical")]


@pytest.mark.parametrize("by", ["command", "file", "command, taken back"])
@pytest.mark.parametrize("looks", [False, True])
def test_the_sweep_finds_what_the_end_sets_free(by: str, looks: bool) -> None:
    """A sweep marks the worker as pending once after the end, without a collection.

    It does so even if a read in between showed no silence and no new configuration.
    """
    site = Site()

    def check(stage: evaluate.SilenceExpiry) -> None:
        pending_work = ports.BacklogCounts(site.store.revision, 1, len(site.silences.every()), 0, 0, 0, 0)
        stage.check(pending_work if looks else None)

    if by == "file":
        maintained(site)
    else:
        site.silences.add(silence_of(rule="cpu-high", ends=T0 + 8 * MINUTE))
    site.minutes([95, 96, 97])
    ends = site.get(evaluate.SilenceExpiry)
    check(ends)
    assert site.samples.pending(T0 + 1e6, 10) == []
    site.clock.now = T0 + 8 * MINUTE
    if by == "command, taken back":
        site.silences.remove([silence.id for silence in site.silences.every()])
    late = site.get(evaluate.SilenceExpiry)
    for worker_id in (ends, late):  # one that was there before the end, and one that starts after it
        check(worker_id)
        assert site.samples.pending(T0 + 1e6, 10) == [ID]
        site.store.pending.clear()
        check(worker_id)
        assert site.samples.pending(T0 + 1e6, 10) == []
    site.evaluate()
    assert waiting(site) == [("firing", "critical")]


def test_the_sweep_leaves_alone_what_another_silence_mutes() -> None:
    """An alert under two silences waits for the end of both."""
    site = Site()
    maintained(site)
    site.silences.add(silence_of(rule="cpu-high"))
    site.minutes([95, 96, 97])
    ends = site.get(evaluate.SilenceExpiry)
    ends.check()
    site.clock.now = T0 + 9 * MINUTE
    ends.check()
    assert site.samples.pending(T0 + 1e6, 10) == []


# --- alerts of accounts and channels -----------------------------------------------------------------------------


def test_only_a_rule_by_itself_mutes_an_alert_without_a_worker() -> None:
    """A silence that names a worker or a label does not match an alert without a worker."""

    def by(**changes: Any) -> Any:
        new_silence = silence_of(**changes)
        return silences.muting([new_silence], "default/us-east-1/collector", None, T0 + 1.0) is not None

    assert by(rule="collector")
    assert not by(rule="cpu-high")
    assert not by(rule="collector", worker=ID)
    assert not by(rule="collector", labels={"a": "1"})
    assert not by(labels={"a": "1"})
    assert not by(worker=ID)


def received(fleet: Any) -> Any:
    """Return the notifications about the account's alert that a working channel has by now."""
    accepted, alert_id = [], f"{refused.SCOPE}/collector"
    while claims := fleet.outbox.claim(alert_id, fleet.clock(), 15):
        for claimed in claims:
            fleet.outbox.delivered(claimed, fleet.clock())
            accepted.append((claimed.channel, claimed.notification.status))
    return accepted


@pytest.mark.parametrize("by", ["command", "file"])
def test_a_failing_account_notifies_when_its_silence_is_over(fleet: Any, by: str) -> None:
    """It is recorded with the silence and notifies at its end. Its resolution notifies the same people."""
    mute = {"id": "s1", "rule": "collector", "reason": "x", "begins": 0.0, "ends": refused.T0 + 600.0}
    if by == "command":
        fleet.silences.add(models.Silence.model_validate(mute | {"by": "me"}))
    else:
        configuration = fleet.configurations.load()
        changes = {"revision": configuration.revision + 1, "silences": (models.Maintenance.model_validate(mute),)}
        assert fleet.configurations.save(configuration.model_copy(update=changes))
    fleet.minutes(1, 8)
    assert received(fleet) == []
    [recorded] = fleet.alerts.history(f"{refused.SCOPE}/collector")
    assert recorded.transition.silenced_by == "s1"
    fleet.minutes(9, 12)
    assert received(fleet) == [("ops", "firing")]
    fleet.minutes(13, 16, None)
    assert received(fleet) == [("ops", "resolved")]


def test_an_account_that_recovers_silenced_notifies_nobody(fleet: Any) -> None:
    """If the alert notified nobody, its resolution notifies nobody."""
    fleet.silences.add(silence_of(rule="collector", begins=0.0, ends=refused.T0 + 1e6))
    fleet.minutes(1, 6)
    fleet.minutes(7, 8, None)
    assert received(fleet) == []
    transitions = [entry.transition for entry in fleet.alerts.history(f"{refused.SCOPE}/collector")]
    assert [(transition.after, transition.silenced_by) for transition in transitions] == [
        (None, "s1"),
        ("critical", "s1"),
    ]


class Half:
    """A notifier whose channels all accept, except ops until it works."""

    def __init__(self) -> None:
        self.works = False
        self.accepted: list[tuple[str, str, int]] = []

    def send(self, channel: Any, notifications: Any) -> None:
        (notification,) = notifications
        if channel.name == "ops" and not self.works:
            raise delivering.refusal()
        if notification.rule == models.DELIVERY:
            self.accepted.append((channel.name, notification.status, notification.version))


@pytest.mark.parametrize("recovers", [False, True])
def test_a_dead_channel_notifies_when_its_silence_is_over(recovers: bool) -> None:
    """A channel alert under a silence is recorded. If it still fires at the end, the sweep notifies."""
    site, receiver = delivering.Site("ops", "log"), Half()
    mute = models.Silence(
        id="s1", rule="delivery", begins=0.0, ends=delivering.NOW + models.DAY + 1000, reason="x", by="me"
    )
    site.silences.add(mute)

    def deliver(*alert_ids: str) -> None:
        site.deliver_to(receiver, *alert_ids, *site.outbox.due(site.clock(), 1000))

    site.enqueue()
    deliver()
    site.clock.advance(models.DAY + 400)
    deliver()
    deliver()
    [recorded] = site.alerts.history("channel:ops/delivery")
    assert (recorded.transition.after, recorded.transition.silenced_by) == ("critical", "s1")
    assert receiver.accepted == []
    ends = site.get(evaluate.SilenceExpiry)
    ends.check()
    if recovers:
        receiver.works = True
        site.enqueue()
        deliver()
    site.clock.advance(1000)
    ends.check()
    assert site.dispatcher.delivered == ([] if recovers else ["channel:ops/delivery"])
    deliver(*site.dispatcher.delivered)
    assert receiver.accepted == ([] if recovers else [("log", "firing", 2)])
    if not recovers:
        receiver.works = True
        site.enqueue()
        deliver()
        deliver()
        assert receiver.accepted[1:] == [("log", "resolved", 3)]


# --- the commands and windows ------------------------------------------------------------------------------------


@pytest.fixture
def applied(ok: Any, world: Any, tmp_path: Path) -> Any:
    """Apply a file with a window that is open for all but a minute of the year, and one that is closed now."""
    file = tmp_path / "fleet.toml"
    now = world.clock()
    ends = models.rfc3339(now + 3600)
    file.write_text(
        f"""
[[silences]]
rule = "cpu-high"
reason = "move"
ends = "{ends}"

[[silences]]
rule = "collector"
reason = "patching"
schedule = "0 0 1 1 *"
duration = "1h"
timezone = "Europe/Berlin"
"""
    )
    ok("apply", str(file))
    return file


def test_silences_lists_windows_with_their_origin(ok: Any, run: Any, world: Any, applied: Any) -> None:
    """Open windows come first, then the next ones. A window of the file can only be ended by the file."""
    ok("add", A)
    ok("silence", "--rule", "cpu-high", "--for", "2h", "--reason", "x")
    rows = json.loads(ok("silences", "--json"))["silences"]
    assert [(row["origin"], row["open"], row["reason"]) for row in rows] == [
        ("file", True, "move"), ("command", True, "x"), ("file", False, "patching"),
    ]  # fmt: skip
    assert rows[0]["ends"] == models.rfc3339(world.clock() + 3600)
    assert rows[0]["next"] is None
    assert rows[2]["next"]["begins"].endswith("-12-31T23:00:00Z")
    assert (rows[2]["begins"], rows[2]["ends"]) == (None, None)
    assert rows[2]["next"]["begins"] + " to" in ok("silences")
    assert "is in the config file; remove it there" in one_line(run("unsilence", rows[0]["id"]), 2)
    assert f"did you mean {rows[0]['id']}?" in one_line(run("unsilence", rows[0]["id"][:-1]), 3)
    fires(world, A)
    [alert] = json.loads(ok("alerts", "--json"))["alerts"]
    assert alert["silenced_by"] in {rows[0]["id"], rows[1]["id"]}
    assert f"silence   {rows[0]['id']} until {rows[0]['ends']} by the config file: move" in ok(
        "why", A, "cpu_utilization"
    )


def test_plan_apply_and_export_agree_on_windows(ok: Any, run: Any, world: Any, applied: Any, tmp_path: Path) -> None:
    """plan names the changes, an export applied again changes nothing, and past windows are refused."""
    out = tmp_path / "again.toml"
    out.write_text(ok("export"))
    assert "silence" not in ok("plan", str(out))
    text = applied.read_text()
    applied.write_text(text.replace("0 0 1 1 *", "0 0 1 2 *"))
    output = ok("plan", str(applied))
    assert "removed silence rule collector, 0 0 1 1 * Europe/Berlin for 3600 s" in output
    assert "added silence rule collector, 0 0 1 2 * Europe/Berlin for 3600 s" in output
    applied.write_text(text.replace(models.rfc3339(world.clock() + 3600), "2001-01-01T00:00:00Z"))
    for command in (("plan",), ("apply",), ("rules", "check")):
        assert "silences[0].ends: ended at 2001" in one_line(run(*command, str(applied)), 2)
    assert 'reason = "move"' in ok("export"), "nothing was applied"


def test_a_window_of_a_worker_that_nobody_knows_is_warned_of(ok: Any, run: Any, applied: Any) -> None:
    """An unknown worker is a warning, because it may be added later. A misspelt name gets a hint."""
    ok("add", A)
    windows = (
        f'\n[[silences]]\nworker = "{name}"\nreason = "x"\nschedule = "0 0 * * *"\nduration = "1h"\n'
        for name in ("rendre-01", "render-01")
    )
    applied.write_text("".join((applied.read_text(), *windows)))
    for command in ("plan", "apply"):
        result = run(command, str(applied))
        assert result.exit_code == 0
        assert result.stderr == "warning: silences[2].worker: there is no rendre-01 yet; did you mean render-01?\n"


def test_up_starts_with_a_window_that_is_over(applied: Any, world: Any) -> None:
    """A past window does not stop ``up`` after maintenance. It is logged."""
    file = testing.parse(applied.read_text(), str(applied))
    world.clock.advance(7200)
    cli_session = Session(settings_of.Settings(_env_file=None), world)
    with structlog.testing.capture_logs() as logged:
        run_command._apply(cli_session, file, "us-east-1")
    assert [entry["event"] for entry in logged if entry["log_level"] == "warning"] == ["up.silence_over"]
    assert len(world.get(ports.Configurations).load().silences) == 2


def test_the_alert_of_accounts_is_silenced_by_its_rule_alone(ok: Any, run: Any) -> None:
    """The rules collector, budget and delivery always exist, and belong to no worker."""
    for rule in ("collector", "budget", "delivery"):
        created = json.loads(ok("silence", "--rule", rule, "--for", "2h", "--reason", "x", "--json"))
        assert created["rule"] == rule
    one_line(run("silence", "--rule", "collector", "--label", "a=1", "--for", "2h", "--reason", "x"), 2)


def test_a_rule_of_ones_own_with_such_a_name_is_silenced_like_any_other(ok: Any, world: Any) -> None:
    """A rule in the file with such a name has workers, and is silenced like any other."""
    configurations = world.get(ports.Configurations)
    configuration = configurations.load()
    rule = configuration.rules[0].model_copy(update={"name": "budget"})
    assert configurations.save(
        configuration.model_copy(update={"revision": configuration.revision + 1, "rules": (rule,)})
    )
    ok("silence", "--rule", "budget", "--label", "a=1", "--for", "2h", "--reason", "x")


def test_the_page_has_an_example_that_is_valid() -> None:
    """The windows in docs/how-to/silences-and-maintenance-windows.md can be applied."""
    page = (Path(__file__).parent.parent / "docs" / "how-to" / "silences-and-maintenance-windows.md").read_text("utf-8")
    [example] = [block.partition("```")[0] for block in page.split("```toml\n") if block.startswith("[[silences]]")]
    first, second = parsed(example).silences
    assert (first.schedule, first.duration, first.timezone) == ("0 2 * * sun", 7200, "Europe/Berlin")
    assert (second.worker, second.begins, second.ends) == ("render-07", 2_237_997_600, 2_238_008_400)


def test_apply_says_that_windows_changed_and_has_what_fires_evaluated(ok: Any, world: Any, applied: Any) -> None:
    """A removed window is listed as a change, and every worker is marked as pending."""
    ok("add", A)
    world.store.pending.clear()
    applied.write_text("silences = []")
    output = ok("apply", str(applied))
    assert "removed silence rule collector" in output
    assert "changed silences" in output
    assert A in world.store.pending
    assert "no silence" not in ok("silences")
