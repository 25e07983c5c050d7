"""Channels by severity: who is notified of what, and that later transitions notify the same channels."""

from __future__ import annotations

import pytest

from tests.support.evaluating import CPU, ID, MINUTE, T0, Site
from tests.support.rules import changed
from workermon import config, errors, models, testing
from workermon.config import difference, export
from workermon.models import Count

ONE = Count(m=1, n=1)
#: Warnings to the chat, criticals to both.
ROUTED = changed(
    CPU,
    breach=ONE,
    recover=ONE,
    notify=("chat", "pager"),
    routes={"warning": ("chat",), "critical": ("chat", "pager")},
)


def notified(site: Site, channel: str) -> list[tuple[str, str]]:
    """Return the outbox of a channel, as (status, severity)."""
    queue = site.store.queues.get((f"{ID}/cpu-high", channel))
    return [(notification.status, notification.severity) for notification in queue.waiting] if queue else []


def routed(**routes: tuple[str, ...]) -> models.Rule:
    """Return the rule with other routes."""
    return ROUTED.model_copy(update={"routes": routes})


def test_a_warning_stays_in_the_chat() -> None:
    """The pager gets neither a warning nor its end."""
    site = Site(ROUTED)
    site.minutes([85, 20])
    assert notified(site, "chat") == [("firing", "warning"), ("resolved", "warning")]
    assert notified(site, "pager") == []


def test_it_escalates_to_who_is_for_critical() -> None:
    """A channel that was notified of critical is notified when it is less severe, and when it resolves."""
    site = Site(ROUTED)
    site.minutes([85, 95, 85, 20])
    assert notified(site, "chat") == [
        ("firing", "warning"), ("firing", "critical"), ("firing", "warning"), ("resolved", "warning")
    ]  # fmt: skip
    assert notified(site, "pager") == [("firing", "critical"), ("firing", "warning"), ("resolved", "warning")]
    site.minutes([85], 4)
    assert notified(site, "pager")[3:] == [], "another episode begins anew"


def test_channels_notified_of_a_warning_are_notified_of_critical() -> None:
    """Channels notified of a warning are notified of critical, even if critical goes to others only."""
    site = Site(routed(warning=("chat",), critical=("pager",)))
    site.minutes([85, 95, 20])
    assert notified(site, "chat") == [("firing", "warning"), ("firing", "critical"), ("resolved", "critical")]
    assert notified(site, "pager") == [("firing", "critical"), ("resolved", "critical")]


def test_a_severity_without_channels_notifies_nobody() -> None:
    """Neither its beginning nor its end notifies. If it gets critical later, that does."""
    site = Site(routed(critical=("pager",)))
    site.minutes([85, 20, 85, 95, 20])
    assert notified(site, "chat") == []
    assert notified(site, "pager") == [("firing", "critical"), ("resolved", "critical")]


def test_the_end_reaches_all_notified_channels_whatever_the_rule_says_by_then() -> None:
    """The end notifies all notified channels, even if the rule was removed or its routes changed."""
    for rules in ((), (routed(warning=("other",), critical=("other",)),)):
        site = Site(ROUTED)
        site.minutes([95])
        site.change(rules=rules)
        site.minutes([20], 1)
        assert [notified(site, name)[-1][0] for name in ("chat", "pager")] == ["resolved", "resolved"]
        assert notified(site, "other") == []


def test_after_a_silence_the_severity_decides() -> None:
    """A muted alert notifies the channels of its severity at the silence's end."""
    site = Site(ROUTED)
    site.silences.add(models.Silence(id="s1", rule="cpu-high", begins=T0, ends=T0 + 5 * MINUTE, reason="x", by="me"))
    site.minutes([85, 85, 85])
    assert (notified(site, "chat"), notified(site, "pager")) == ([("firing", "warning")], [])


FILE = """
[[rules]]
name = "cpu-high"
metric = "cpu_utilization"
above = { warning = 80, critical = 90 }
notify = { warning = ["chat"], critical = ["chat", "pager"] }
flapping = "6 in 90m"
[[rules]]
name = "quiet"
metric = "no-data"
notify = { critical = ["pager"] }
flapping = "3 in 1d"
[channels.chat]
type = "log"
[channels.pager]
type = "log"
"""


def parsed(text: str) -> models.Configuration:
    """Return the configuration of a file."""
    return config.to_configuration(testing.parse(text, "f.toml"), config.DEFAULT)


def test_a_file_routes_by_severity_and_export_gives_it_back() -> None:
    """Channels are set by severity or for all, for flapping too. Export writes them back."""
    configuration = parsed(FILE)
    assert configuration.rules[0].routes == {"warning": ("chat",), "critical": ("chat", "pager")}
    assert configuration.rules[0].notify == ("chat", "pager")
    assert configuration.rules[0].flapping == models.Flapping(turns=6, within=5400)
    assert parsed(export.text(configuration, [])).rules == configuration.rules
    alike = parsed(FILE.replace('{ critical = ["pager"] }', '["pager"]'))
    assert alike.rules[1].routes is None
    assert difference.changes(configuration, alike).rules.changed == ("quiet",)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            '"chat", "pager"]',
            '"chat", "pagr"]',
            "[0].notify.critical[1]: pagr is not a known channel; did you mean pager?",
        ),
        (
            'warning = ["chat"]',
            'warn = ["chat"]',
            "line 6, column 1: rules[0].notify: has 'warn', which is not a severity: did you mean warning?",
        ),
        ('warning = ["chat"]', 'warning = "chat"', "rules[0].notify: must name the channels for warning in a list"),
        ('warning = ["chat"]', "warning = [1]", "rules[0].notify: must name the channels for warning in a list"),
        ("6 in 90m", "6 of 90m", 'line 7, column 1: rules[0].flapping: must read "TURNS in DURATION"'),
        ("6 in 90m", "2 in 90m", "rules[0].flapping: asks for 2 turns; 3 at least"),
        ("6 in 90m", "6 in 30s", "rules[0].flapping: looks at less than a minute"),
        ("6 in 90m", "6 in 90x", "rules[0].flapping: '90x' is not a duration"),
        ('"6 in 90m"', "6", "rules[0].flapping: must read"),
    ],
)
def test_what_is_wrong_is_refused_by_its_place(old: str, new: str, expected: str) -> None:
    """The error has line, column, field, and what to write."""
    assert old in FILE
    with pytest.raises(errors.InvalidInput) as caught:
        parsed(FILE.replace(old, new, 1))
    assert expected in str(caught.value)
