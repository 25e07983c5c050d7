"""Messages for people: their text, and templates."""

from __future__ import annotations

import json

import pytest

from tests.support.notifications import notification, of
from workermon import config, errors, models, testing
from workermon.notify import text

TOPIC = "arn:aws:sns:eu-west-1:123456789012:alerts"


def scoped() -> models.Notification:
    """Return a notification about an account."""
    return notification(
        dedup_key="lab/us-east-1/collector", kind="collector", rule="collector", metric=None, value=None,
        threshold=None,
        worker=None, scope={"account": "lab", "region": "us-east-1"}, summary="account lab in us-east-1: denied",
        reason="denied: <not> allowed",
    )  # fmt: skip


def test_text_says_what_people_ask() -> None:
    """The text has metric, worker, start, value with its history, threshold, and how to silence it."""
    points = [models.Datapoint(1_700_000_000 + 60 * at, value) for at, value in enumerate((85.0, 91.0, 97.5))]
    body = text.plain(notification(points=points))
    assert body.splitlines() == [
        "[FIRING critical] rénder-07: cpu_utilization 97.5 % > 90 % for 3 of 3 datapoints",
        "where: rénder-07 (i-0abc0123456789def) in us-east-1",
        "labels: a=b",
        "since: 2023-11-14T22:13:20Z",
        "value: cpu_utilization 97.5 % ▁▄█",
        "threshold: 90 %",
        "silence: workermon silence --worker i-0abc0123456789def --rule cpu-high --for 2h --reason '…'",
        "acknowledge: workermon ack i-0abc0123456789def/cpu-high",
    ]


def test_text_says_when_it_began_beside_when_it_fired() -> None:
    """The text has the time since which the condition is true, and the time when the alert fired."""
    late = notification(condition_since="2023-11-14T22:11:20Z", at="2023-11-14T22:20:00Z")
    lines = text.plain(late).splitlines()
    assert "since: 2023-11-14T22:11:20Z, fired at 2023-11-14T22:13:20Z, decided at 2023-11-14T22:20:00Z" in lines


def test_a_metric_of_ones_own_has_its_unit_everywhere() -> None:
    """Value and threshold are written with the unit that the config file gives to the metric."""
    body = text.plain(notification(metric="queue_age", unit="ms", value=1500.0, threshold=900.0))
    assert "value: queue_age 1500 ms" in body
    assert "threshold: 900 ms" in body


@pytest.mark.parametrize(
    ("states", "title"),
    [
        (("critical", "critical", "critical", "warning"), "[FIRING 3 critical, 1 warning] cpu-high: 4 alerts in"),
        (("warning", "warning"), "[FIRING 2 warning] cpu-high: 2 alerts in"),
        (("critical", "warning", None), "[FIRING 1 critical, 1 warning; RESOLVED 1] cpu-high: 3 alerts in"),
        ((None, None), "[RESOLVED 2] cpu-high: 2 alerts in"),
    ],
)
def test_the_title_of_a_group_counts_each_severity(states: tuple[str | None, ...], title: str) -> None:
    """A warning among critical alerts is counted as a warning, a resolved one as resolved."""
    group = [
        notification(place, status="firing" if severity else "resolved", severity=severity or "critical")
        for place, severity in enumerate(states)
    ]
    assert text.subject(group).startswith(title)


def test_text_of_what_is_over() -> None:
    """A resolved alert has its reason, and no hint to silence it."""
    body = text.plain(notification(status="resolved", reason="the worker was removed"))
    assert body.startswith("[RESOLVED] ")
    assert "reason: the worker was removed" in body
    assert "silence" not in body


def test_text_of_an_account() -> None:
    """An alert of an account names account and region, and is silenced by its rule."""
    body = text.plain(scoped())
    assert "where: account lab in us-east-1" in body
    assert "workermon silence --rule collector --for 2h" in body


def test_text_cannot_be_forged() -> None:
    """Control characters in text of others begin no line."""
    body = text.plain(notification(summary="x\nwhere: elsewhere\x1b[31m"))
    assert "\x1b" not in body
    assert len([line for line in body.splitlines() if line.startswith("where:")]) == 1


def test_template_fields_are_those_that_are_checked() -> None:
    """A template has every field that the grammar allows, and no other."""
    assert (
        sorted(text.fields(notification())) == sorted(text.fields(scoped())) == sorted(config.channels.TEMPLATE_FIELDS)
    )


def test_template_replaces_the_text() -> None:
    """A template's names are replaced by the message's values. A dollar sign stays."""
    channel = of("email", template="$$5 says ${worker}: $value of $threshold in $region")
    assert text.body(channel, [notification()]) == "$5 says rénder-07: 97.5 % of 90 % in us-east-1"


@pytest.mark.parametrize("template", ["$nothing", "100 $", "${}", "${summary.__class__}"])
def test_template_that_does_not_render_falls_back(template: str) -> None:
    """If the template fails, the plain text is sent."""
    assert text.body(of("email", template=template), [notification()]) == text.plain(notification())


@pytest.mark.parametrize("template", ["$nothing", "100 $", "${}", "${summary.__class__}", ""])
def test_template_that_does_not_render_is_refused(template: str) -> None:
    """The config file's check refuses a template that cannot render."""
    with pytest.raises(errors.InvalidInput, match=r"channels\.ops\.template"):
        testing.parse(
            f'[channels.ops]\ntype = "sns"\ntopic_arn = "{TOPIC}"\ntemplate = {json.dumps(template)}\n', "f.toml"
        )


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("@everyone <@123>", "[@]everyone <[@]123>"),
        ("https://evil.example/a", "https[:]//evil[.]example/a"),
        ("www.evil.example", "www[.]evil.example"),
        ("mailto:a@b.cc", "mailto[:]a[@]b.cc"),
        ("[here](evil.example)", "[here] (evil.example)"),
        ("~town-square", "[~]town-square"),
        ("web\u200b-1\u202e\u00ad", "web\\u200b-1\\u202e\\xad"),
        ("web-1.prod.example.com 10:00 a@", "web-1.prod.example.com 10:00 a@"),
        ("日本 é 👩 ✓", "日本 é 👩 ✓"),
    ],
)
def test_what_comes_from_outside_is_shown_and_does_nothing(raw: str, expected: str) -> None:
    """Names and labels of AWS make no link or mention and hide nothing. The rest stays readable."""
    worker = {"id": "i-1", "name": raw, "region": "us-east-1", "labels": {"a": raw}}
    hostile = notification(worker=worker, summary=f"{raw}: it is hot", reason=raw)
    lines = text.plain(hostile).splitlines()
    assert lines[:3] == [
        f"[FIRING critical] {expected}: it is hot",
        f"where: {expected} (i-1) in us-east-1",
        f"labels: a={expected}",
    ]
    assert f"reason: {expected}" in lines
    of_template = models.Channel(name="ops", type="email", template="$worker|$labels|$summary|$reason|$where|$title")
    assert text.rendered(of_template, hostile) == "|".join(
        (expected, f"a={expected}", f"{expected}: it is hot", expected, f"{expected} (i-1) in us-east-1", lines[0])
    )
    assert expected in text.body(models.Channel(name="ops", type="email"), [hostile, hostile])
