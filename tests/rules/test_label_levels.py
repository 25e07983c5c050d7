"""Thresholds from labels: each worker is compared with its own."""

from __future__ import annotations

import tomllib

import jsonschema
import pytest

from tests.support.evaluating import ID, T0, Site
from workermon import config, errors, fleet, models, rules, views
from workermon.config import export
from workermon.health import doctor
from workermon.models import Levels
from workermon.notify import channels
from workermon.rules import threshold
from workermon.views import ledger_backtest, rule_cases

PARSER = config.Parser(channel_types=channels.CHANNEL_TYPES)
OTHER = "i-0fff0123456789def"
FILE = """[[rules]]
name = "cpu-high"
metric = "cpu_utilization"
above = { warning = 50, critical = "label:cpu_critical or 90" }
breach = "1 of 1"
recover = "1 of 1"
notify = ["log"]
"""


def configured(text: str = FILE) -> models.Configuration:
    """Return the configuration of a file."""
    return config.to_configuration(PARSER.parse(text, "f.toml"), config.DEFAULT)


def levels(above: str, labels: dict[str, str], clear: str = "") -> tuple[Levels | None, Levels | None]:
    """Return the thresholds and the clear levels of a worker with labels."""
    text = FILE.replace('{ warning = 50, critical = "label:cpu_critical or 90" }', above)
    (rule,) = configured(text + (f"clear = {clear}\n" if clear else "")).rules
    options = threshold.KIND.options(threshold.KIND.for_worker(rule, labels))
    return options.above, options.clear


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("70", 70),
        (" 7.5e1 ", 75),
        ("70%", 90),
        ("", 90),
        ("nan", 90),
        ("1e999", 90),
        ("1_0", 90),
        (None, 90),
        ("٣", 90),
    ],
)
def test_a_label_that_is_a_number_counts(text: str | None, expected: float) -> None:
    """A numeric label is the threshold. Other text or a missing label gives the number after ``or``."""
    labels = {} if text is None else {"cpu_critical": text}
    assert levels('{ critical = "label:cpu_critical or 90" }', labels)[0] == Levels(critical=expected)


def test_without_a_default_the_level_does_not_apply() -> None:
    """A worker without the label has no such level. If it has no level, the rule does not apply."""
    assert levels('{ warning = 50, critical = "label:c" }', {})[0] == Levels(warning=50)
    assert levels('{ warning = 50, critical = "label:c" }', {"c": "60"})[0] == Levels(warning=50, critical=60)
    (rule,) = configured(FILE.replace("warning = 50, ", "").replace(" or 90", "")).rules
    worker = Site().worker
    reason = threshold.KIND.not_applied(rule, worker, config.DEFAULT)
    assert reason == "it has no threshold without a number in the label cpu_critical"
    labelled = worker.model_copy(update={"labels": {"cpu_critical": "3"}})
    assert threshold.KIND.not_applied(rule, labelled, config.DEFAULT) is None


def test_a_clear_level_that_would_make_it_flap_is_left_out() -> None:
    """``clear`` may come from a label. On the wrong side of the worker's threshold the threshold is used."""
    above = '{ critical = "label:c or 90" }'
    assert levels(above, {"c": "95"}, "{ critical = 85 }") == (Levels(critical=95), Levels(critical=85))
    assert levels(above, {"c": "80"}, "{ critical = 85 }") == (Levels(critical=80), None)
    assert levels(above, {"d": "70"}, '{ critical = "label:d" }')[1] == Levels(critical=70)
    assert levels(above, {}, '{ critical = "label:d" }')[1] is None


def test_each_worker_is_notified_with_its_own() -> None:
    """The alert, its notification and its end have the threshold of the worker."""
    site = Site(*configured(FILE.replace("warning = 50, ", "")).rules)
    second_worker = site.add(OTHER, name="render-08", labels={"cpu_critical": "60"})
    for minute, value in enumerate((70.0, 95.0, 55.0)):
        at = T0 + 60 * minute
        for worker in (site.worker, second_worker):
            site.collected(at + 180, {at: value}, worker=worker)
        site.evaluate(ID, OTHER)
    notified = {
        worker_id: [
            (entry.notification.status, entry.notification.threshold, entry.notification.value)
            for entry in reversed(site.alerts.history(f"{worker_id}/cpu-high"))
            if entry.notification
        ]
        for worker_id in (ID, OTHER)
    }
    assert notified[OTHER] == [
        ("firing", 60, 70),
        ("resolved", 60, 55),
    ]
    assert notified[ID][0] == ("firing", 90, 95)


def test_why_shows_the_own_threshold_and_what_is_wrong() -> None:
    """``why`` shows the rule as written, the worker's number, and an invalid label."""
    site = Site(*configured().rules)
    second_worker = site.add(OTHER, name="render-08", labels={"cpu_critical": "much"})
    site.collected(T0 + 180, {T0: 70.0}, worker=second_worker)
    site.evaluate(OTHER)
    (record,) = site.workers.get([OTHER]).values()
    explanation = site.get(views.Explanation).explain(record, "cpu_utilization").rules[0]
    document = explanation.to_json()
    assert document["above"] == {"warning": 50, "critical": "label:cpu_critical or 90"}
    assert [level["threshold"] for level in document["levels"]] == [50, 90]
    assert document["doubts"] == ["the label cpu_critical is 'much', not a number, so 90 holds"]
    assert ("labels", document["doubts"][0]) in explanation.lines
    assert "above warning 50 % critical label:cpu_critical or 90" in explanation.described


@pytest.mark.parametrize(
    ("label", "error"),
    [
        ("much", "the label cpu_critical is 'much', not a number, so 90 holds"),
        ("40", "critical, 40, is not above the warning, 50"),
        ("95", None),
    ],
)
def test_rules_check_and_doctor_say_what_is_doubtful(label: str, error: str | None) -> None:
    """An invalid label of a worker is a warning that names the worker. Nothing fails."""
    site = Site(*configured().rules)
    workers = [site.add(OTHER, name="render-08", labels={"cpu_critical": label})]
    warnings = fleet.check_coverage(PARSER.parse(FILE, "f.toml"), configured(), workers).warnings
    checks = list(site.get(doctor.rules.RuleExamination).examine(list(site.workers.get([OTHER]).values())))
    if error is None:
        assert (warnings, checks) == ((), [])
    else:
        assert warnings == (f"rule cpu-high: for render-08: {error}",)
        assert [check.reason for check in checks] == [f"for render-08: {error}"]


def test_it_is_exported_and_stored() -> None:
    """Export, JSON and schema have the label as in the file."""
    configuration = configured(FILE + 'clear = { warning = 45, critical = "label:cpu_clear or 80" }\n')
    text = export.text(configuration, ())
    assert 'above = { warning = 50.0, critical = "label:cpu_critical or 90" }' in text
    assert configured(text).rules == configuration.rules
    assert models.Configuration.model_validate_json(configuration.model_dump_json()).rules == configuration.rules
    jsonschema.Draft202012Validator(PARSER.schema()).validate(tomllib.loads(text))


@pytest.mark.parametrize(
    ("written", "error"),
    [
        ('"90"', 'must be a number, or read "label:NAME"'),
        ('"label:"', 'must be a number, or read "label:NAME"'),
        ('"label:x or y"', 'must read "label:NAME or NUMBER"'),
        ('"label:x or 1e999"', 'must read "label:NAME or NUMBER"'),
        ("true", "must be a number"),
    ],
)
def test_mistakes(written: str, error: str) -> None:
    """A value that is neither a number nor a label is refused at its position."""
    with pytest.raises(errors.InvalidInput) as refused:
        configured(FILE.replace('"label:cpu_critical or 90"', written))
    assert "line 4, column 25: rules[0].above.critical: " in str(refused.value)
    assert error in str(refused.value)


def test_backtest_and_cases() -> None:
    """A replay uses each worker's own threshold. A case may set the worker's labels."""
    site = Site(*configured(FILE.replace("warning = 50, ", "")).rules)
    second_worker = site.add(OTHER, name="render-08", labels={"cpu_critical": "60"})
    for worker in (site.worker, second_worker):
        site.collected(T0 + 600, {T0: 70.0, T0 + 60: 70.0, T0 + 120: 70.0}, worker=worker)
    configuration = site.configurations.load()
    replays = site.get(ledger_backtest.LedgerBacktest).replay(
        list(site.workers.every()), configuration.rules[0], configuration
    )
    assert [(replay.worker and replay.worker.name, len(replay.episodes)) for replay in replays] == [
        ("render-07", 0),
        ("render-08", 1),
    ]
    case = '[[rules.cases]]\nname = "{}"\nvalues = [70]\n'
    text = FILE.replace("warning = 50, ", "") + case.format("plain")
    text += (
        case.format("own") + 'labels = {{ cpu_critical = "60" }}\nturns = [{{ at = 1, to = "critical" }}]\n'.format()
    )
    file = PARSER.parse(text, "f.toml")
    assert rule_cases.test(file, config.to_configuration(file, config.DEFAULT), rules.KINDS).passed
