"""``for``: all slots of a time, in texts about time and about slots."""

from __future__ import annotations

import tomllib

import jsonschema
import pytest

from tests.support.evaluating import ID, Site
from workermon import config, errors, models, rules, views
from workermon.config import export
from workermon.notify import channels
from workermon.rules import threshold

MINUTE = 60
T0 = 1_699_999_200
PARSER = config.Parser(channel_types=channels.CHANNEL_TYPES)
FILE = """[[rules]]
name = "cpu-high"
metric = "cpu_utilization"
above = { critical = 90 }
for = "5m"
recover = "1 of 1"
notify = ["log"]
"""


def read(text: str = FILE) -> models.Rule:
    """Return the only rule of a file."""
    parsed_rules = PARSER.parse(text, "f.toml").rules
    assert parsed_rules
    return parsed_rules[0]


def transitions_of(
    rule: models.Rule, values: list[float | None], period: int
) -> list[tuple[int, str | None, str | None]]:
    """Return slot, state and count of the transitions by values."""
    points = [models.Datapoint(T0 + period * slot, value) for slot, value in enumerate(values) if value is not None]
    facts = rules.Facts.recorded("cpu_utilization", models.Series(period, tuple(points)), T0)
    horizon = rules.Horizon.until(T0 + period * (len(values) - 1), period)
    _, transitions = threshold.KIND.judge(rule, models.RuleState(), facts, horizon)
    return [((transition.at - T0) // period, transition.after, transition.count) for transition in transitions]


@pytest.mark.parametrize(("period", "slots"), [(60, 5), (300, 1), (120, 3), (10, 30)])
def test_it_is_all_slots_of_the_time(period: int, slots: int) -> None:
    """It equals N of N, with the smallest N whose slots cover the time."""
    values: list[float | None] = [*[95.0] * (slots - 1), 10, *[95.0] * (slots + 2), 10]
    if slots > 2:
        values[slots + 1] = None  # skipped, as by any rule that keeps absent slots
    counted = threshold.KIND.rule(
        name="cpu-high",
        metric="cpu_utilization",
        above=models.Levels(critical=90),
        breach=models.Count(m=slots, n=slots),
        recover=models.Count(m=1, n=1),
    )
    assert transitions_of(read(), values, period) == transitions_of(counted, values, period)
    assert transitions_of(read(), values, period)[-2][1:] == ("critical", f"{slots} of {slots}")


def test_words() -> None:
    """The notification and ``why`` give the time, the number of slots and their length."""
    site = Site(read())
    site.minutes([50.0, *[95.0] * 4])
    explanation = (
        site.get(views.Explanation).explain(next(iter(site.workers.get([ID]).values())), "cpu_utilization").rules[0]
    )
    assert explanation.now == "4 of 5 values above 90 %, critical fires after all slots of 5 min: 5 of 5 slots of 60 s"
    assert "for 5 min" in explanation.described
    document = explanation.to_json()
    assert (document["for"], "breach" in document) == ("5m", False)
    site.minutes([95.0, 40.0], begin=5)
    fired, resolved = (entry.notification for entry in reversed(site.alerts.history(f"{ID}/cpu-high")))
    assert fired is not None
    assert resolved is not None
    assert fired.summary == "render-07: cpu_utilization 95 % > 90 % for 5 min: 5 of 5 slots of 60 s"
    assert (resolved.value, resolved.threshold) == (40, 90)


def test_it_is_exported() -> None:
    """The exported file has ``for`` and gives the same rule. The schema has the key."""
    configuration = config.to_configuration(PARSER.parse(FILE, "f.toml"), config.DEFAULT)
    text = export.text(configuration, ())
    assert 'for = "5m"' in text
    assert "breach" not in text
    assert config.to_configuration(PARSER.parse(text, "g.toml"), config.DEFAULT).rules == configuration.rules
    jsonschema.Draft202012Validator(PARSER.schema()).validate(tomllib.loads(text))
    assert models.Configuration.model_validate_json(configuration.model_dump_json()).rules == configuration.rules


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (
            'for = "5m"',
            'for = "5m"\nbreach = "3 of 3"',
            "line 5, column 1: rules[0].for: cannot be combined with breach",
        ),
        ('for = "5m"', 'for = "0s"', "line 5, column 1: rules[0].for: must be at least 1s"),
        ('for = "5m"', 'for = "2d"', "line 5, column 1: rules[0].for: must be at least 1s and at most 1d"),
        ('for = "5m"', 'for = "1d"', "line 5, column 1: rules[0].for: looks back 1d, but datapoints are kept for 1d"),
        ('for = "5m"', 'fro = "5m"', "rules[0].fro: is not a known key; did you mean for?"),
        ("above = { critical = 90 }", "", "rules[0]: needs a threshold"),
    ],
)
def test_mistakes(old: str, new: str, error: str) -> None:
    """Invalid values are refused at their position."""
    with pytest.raises(errors.InvalidInput) as refused:
        config.to_configuration(PARSER.parse(FILE.replace(old, new), "f.toml"), config.DEFAULT)
    assert error in str(refused.value)


@pytest.mark.parametrize(
    ("lasts", "metric", "error"),
    [
        ("4m", "cpu_utilization", "for 4m is shorter than a slot with basic monitoring, 5m"),
        ("30s", "memory_utilization", "for 30s is shorter than a slot, 1m"),
        ("5m", "cpu_utilization", None),
    ],
)
def test_shorter_than_a_slot(lasts: str, metric: str, error: str | None) -> None:
    """A time shorter than one slot is allowed. ``rules check`` warns of it."""
    file = PARSER.parse(FILE.replace("5m", lasts).replace("cpu_utilization", metric), "f.toml")
    warnings = config.warnings(file, lambda _: "")
    assert [text for text in warnings if "shorter" in text] == (
        [] if error is None else [f"rule cpu-high: {error}, so one value makes it fire"]
    )
