"""Changes that ``rules suggest`` proposes: they save notifications, keep important ones, and are an exact diff."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commands import A, Ports
from tests.support.evaluating import ID, MINUTE, T0, Site, points
from workermon import config, models, testing, views
from workermon.config import positions
from workermon.models import Count, Levels
from workermon.rules import KINDS, threshold
from workermon.views import rule_suggest

CPU = threshold.KIND.rule(name="cpu-high", metric="cpu_utilization", above=Levels(critical=90), breach=Count(m=3, n=3))
#: Three minutes above, three below, and a long time above in the middle of them.
PEAKS = [95.0, 95.0, 95.0, 50.0, 50.0, 50.0]
LONG = [95.0] * 12 + [50.0] * 3
VALUES = [50.0, *PEAKS * 10, *LONG, *PEAKS * 10, *LONG, *PEAKS * 4]
FIRST, SECOND = 61, 61 + len(LONG) + 60

FILE = """
# The fleet's rules.
[[rules]]
name = "cpu-high"      # the noisy one
metric = "cpu_utilization"
above = { critical = 90 }
notify = ["log"]
"""


def site(values: list[float]) -> Site:
    """Return a worker with these CPU values, a minute apart. Its rules were never evaluated."""
    new_site = Site(CPU)
    end = T0 + MINUTE * len(values) + 3 * MINUTE
    new_site.collected(end, points(values))
    new_site.clock.now = end
    return new_site


def ack(monitored: Site, minute: int, *, audit: bool = False) -> None:
    """Acknowledge the alert that fires at a minute. ``audit``: only the audit trail has it."""
    at = float(T0 + MINUTE * minute)
    if audit:
        monitored.audit.record(
            models.AuditEntry(
                id="1", at=at, by="me", origin="host", action="ack", target=f"{ID}/cpu-high", outcome="ok"
            )
        )
    else:
        monitored.silences.acknowledge(models.Acknowledgement(alert_id=f"{ID}/cpu-high", since=None, by="me", at=at))


def suggested(monitored: Site) -> tuple[rule_suggest.Suggestion, ...]:
    """Return the suggestions for the configuration in force."""
    return monitored.get(views.RuleSuggestion).suggest(monitored.configurations.load())


def test_short_peaks_are_left_out_and_acknowledged_alerts_stay() -> None:
    """The best change has the fewest notifications of those that keep both acknowledged alerts."""
    monitored = site(VALUES)
    ack(monitored, FIRST + 5, audit=True)
    ack(monitored, SECOND + 5)
    [suggestion] = suggested(monitored)
    assert (suggestion.rule, suggestion.acknowledged, suggestion.notifications_after) == ("cpu-high", 2, 4)
    assert suggestion.notifications >= 50
    assert 0 < suggestion.delay <= 600
    begins = [(episode.begin - T0) // MINUTE for episode in suggestion.episodes]
    assert [FIRST < begin < FIRST + 12 or SECOND < begin < SECOND + 12 for begin in begins] == [True, True]


def test_an_acknowledged_peak_stays() -> None:
    """If one of the short peaks was acknowledged, no change loses it."""
    monitored = site(VALUES)
    ack(monitored, 4)
    for suggestion in suggested(monitored):
        assert any(episode.begin <= T0 + 6 * MINUTE for episode in suggestion.episodes)


def test_silenced_alerts_count_for_nothing() -> None:
    """Silenced alerts notified nobody, so losing them saves nothing."""
    monitored = site(VALUES)
    end = monitored.clock.now
    monitored.silences.add(models.Silence(id="s", rule="cpu-high", begins=T0, ends=end, reason="known", by="me"))
    assert suggested(monitored) == ()


@pytest.mark.parametrize("values", [[50.0] * 100, [50.0, *LONG, 50.0, *LONG], [50.0, *PEAKS, *PEAKS]])
def test_nothing_is_proposed_that_does_not_pay(values: list[float]) -> None:
    """Rules with few notifications, or with important ones only, stay unchanged."""
    assert suggested(site(values)) == ()


def test_what_lasted_stays() -> None:
    """An episode of half an hour is kept, acknowledged or not."""
    monitored = site([50.0, *PEAKS * 10, *[95.0] * 40, *[50.0] * 5])
    [suggestion] = suggested(monitored)
    assert (suggestion.lasting, suggestion.acknowledged) == (1, 0)
    assert any((episode.end or 0) - episode.begin > 30 * MINUTE for episode in suggestion.episodes)


# --- the text ----------------------------------------------------------------------------------------------------


def rules_of(text: str) -> tuple[models.Rule, ...]:
    """Return the rules of a file."""
    return config.to_configuration(testing.parser().parse(text, "f.toml"), config.DEFAULT).rules


def test_the_diff_means_just_that() -> None:
    """A missing key gets a line. Comments and the rest stay, and the text gives the changed rule."""
    monitored = site(VALUES)
    ack(monitored, SECOND + 5)
    suggestions = suggested(monitored)
    after, edits = rule_suggest.edited(FILE, suggestions, rules_of, KINDS)
    assert edits == suggestions
    assert len(after.splitlines()) == len(FILE.splitlines()) + 1
    assert set(FILE.splitlines()) < set(after.splitlines())
    [rule] = rules_of(after)
    assert threshold.KIND.options(rule) == threshold.KIND.options(suggestions[0].changed)
    diff = rule_suggest.unified_diff(FILE, after, "f.toml")
    assert diff.startswith("--- f.toml\n+++ f.toml\n@@ ")
    assert [line for line in diff.splitlines() if line[:1] in "+-"][2:] == [
        f"+{suggestions[0].key} = {suggestions[0].after}"
    ]


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ('[[rules]]\nbreach = "3 of 3" # why\n', "breach", '[[rules]]\nbreach = "4 of 4" # why\n'),
        ("[[rules]]\r\n  above = 1\r\n", "breach", '[[rules]]\r\n  breach = "4 of 4"\r\n  above = 1\r\n'),
        ('rules = [{ above = 1, breach = "3 of 3" }]\n', "breach", 'rules = [{ above = 1, breach = "4 of 4" }]\n'),
        ("rules = [{ above = 1 }]\n", "breach", None),
        ("[[rules]]\nabove.critical = 1\n", "breach", '[[rules]]\nbreach = "4 of 4"\nabove.critical = 1\n'),
    ],
)
def test_a_value_is_replaced_in_the_text(text: str, key: str, expected: str | None) -> None:
    """Only the value changes, or a line is added. If there is no place for it, nothing is guessed."""
    changed = positions.with_value(text, ("rules", 0, key), '"4 of 4"', "above")
    assert changed == expected
    if changed is not None:
        assert tomllib.loads(changed)["rules"][0]["breach"] == "4 of 4"


def test_command(ok: Callable[..., str], world: Ports, tmp_path: Path) -> None:
    """Without a history nothing is suggested, for a file and for the set-up in force."""
    ok("add", A)
    (tmp_path / "f.toml").write_text(FILE, "utf-8")
    for arguments in ([str(tmp_path / "f.toml")], []):
        assert json.loads(ok("rules", "suggest", *arguments, "--json"))["suggestions"] == []
        assert ok("rules", "suggest", *arguments) == ""


def test_command_prints_a_diff(ok: Callable[..., str], world: Ports, tmp_path: Path) -> None:
    """A line gives the change and its effect, and the diff below it changes the file."""
    ok("add", A)
    now = int(world.clock()) // MINUTE * MINUTE
    begin = now - MINUTE * len(VALUES)
    [record] = world.workers.get([A]).values()
    series = models.Series(
        MINUTE, tuple(models.Datapoint(begin + MINUTE * place, value) for place, value in enumerate(VALUES))
    )
    requested = {"cpu_utilization": float(now)}
    condition = record.condition.model_copy(update={"requested_at": requested, "periods": {"cpu_utilization": MINUTE}})
    sample = models.Sample(
        worker=record.worker,
        collected_at=now,
        status="running",
        series={"cpu_utilization": series},
        requested_at=requested,
    )
    world.samples.write(sample, condition, "{}", force=True)
    at = float(begin + MINUTE * (SECOND + 5))
    world.silences.acknowledge(models.Acknowledgement(alert_id=f"{A}/cpu-high", since=None, by="me", at=at))
    file = tmp_path / "f.toml"
    file.write_text(FILE, "utf-8")
    document = json.loads(ok("rules", "suggest", str(file), "--json"))
    [suggestion] = document["suggestions"]
    assert "changed" not in suggestion
    lines = ok("rules", "suggest", str(file)).splitlines()
    assert lines[0].startswith(f"# cpu-high: {suggestion['key']} = ")
    numbers = f"{suggestion['notifications']} notifications become {suggestion['notifications_after']}"
    assert f"{numbers}, the 1 that somebody acknowledged still among them" in lines[0]
    assert lines[1:] == document["diff"].splitlines()
    assert file.read_text("utf-8") == FILE
