"""A kind of rule is one file and a row of a table. No other part has to change."""

from __future__ import annotations

import tomllib

import jsonschema
import pytest

from tests.rules.new_kind import unchanged
from workermon import config, errors, evaluate, fleet, models, rules, testing, views
from workermon.config import export
from workermon.notify import channels
from workermon.rules import Facts, Horizon
from workermon.views import backtest, rule_review

#: The row.
KINDS = {**rules.KINDS, unchanged.KIND.name: unchanged.KIND}
PARSER = config.Parser(channel_types=channels.CHANNEL_TYPES, kinds=KINDS)

MINUTE = 60
T0 = 1_699_999_200

FILE = """
[[rules]]
name = "cpu-hangs"
metric = "cpu_utilization"
unchanged = 3
severity = "critical"
notify = ["log"]

[[rules]]
name = "cpu-high"
metric = "cpu_utilization"
above = { critical = 90 }
"""


def configuration(text: str = FILE) -> models.Configuration:
    """Return the configuration of a file."""
    return config.to_configuration(PARSER.parse(text, "f.toml"), config.DEFAULT, KINDS)


def test_a_file_asks_for_it() -> None:
    """The parser reads the keys of the kind, and the other kinds read theirs beside it."""
    hangs, high = configuration().rules
    assert (hangs.kind, hangs.metric, hangs.severity) == ("unchanged", "cpu_utilization", "critical")
    assert unchanged.KIND.options(hangs) == unchanged.Options(unchanged=3)
    assert high.kind == "threshold"


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (
            "unchanged = 3",
            "unchanged = 1",
            "line 5, column 1: rules[0].unchanged: should be greater than or equal to 2",
        ),
        ("unchanged = 3", 'unchanged = 3\nbreach = "1 of 1"', "rules[0].breach: is not for unchanged = …"),
        ("unchanged = 3", "unchangd = 3", "rules[0].unchangd: is not a known key"),
        ("cpu_utilization", "status_check_failed", "line 4, column 1: rules[0].metric: is the same as long as all is"),
        ("above = { critical = 90 }", 'above = { critical = 90 }\nahead = "1h"', "is only for metric = 'event'"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, error: str) -> None:
    """Its keys are checked and named by their place as those of any kind."""
    with pytest.raises(errors.InvalidInput) as refused:
        configuration(FILE.replace(old, new, 1))
    assert error in str(refused.value)


def test_without_the_row_it_is_not_known() -> None:
    """Without the row its key is unknown."""
    with pytest.raises(errors.InvalidInput, match=r"rules\[0\].unchanged: is not a known key"):
        config.Parser(channel_types=channels.CHANNEL_TYPES).parse(FILE, "f.toml")


def test_it_is_exported_and_valid_by_the_schema() -> None:
    """An export gives the same rule, and the schema has its key."""
    parsed = configuration()
    text = export.text(parsed, (), kinds=KINDS)
    assert configuration(text).rules == parsed.rules
    jsonschema.Draft202012Validator(PARSER.schema()).validate(tomllib.loads(text))


def test_it_survives_being_stored() -> None:
    """The kind's options are the same after the configuration was stored as JSON."""
    parsed = configuration()
    assert models.Configuration.model_validate_json(parsed.model_dump_json()).rules == parsed.rules


@pytest.mark.parametrize("cuts", [[9], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [3, 3, 7, 9]])
def test_it_is_a_pure_fold(cuts: list[int]) -> None:
    """However often it is evaluated, it fires and resolves at the times of the deciding datapoints."""
    rule = configuration().rules[0]
    points = [
        models.Datapoint(T0 + MINUTE * place, value) for place, value in enumerate([1, 2, 2, 2, 2, 3, 4, 4, 4, 5.0])
    ]
    state, transitions = models.RuleState(), list[models.Transition]()
    for cut in cuts:
        series = models.Series(MINUTE, tuple(points[: cut + 1]))
        facts = Facts(series={"cpu_utilization": series})
        state, new_transitions = unchanged.KIND.judge(rule, state, facts, Horizon.until(T0 + MINUTE * cut, MINUTE))
        transitions += new_transitions
    assert [((transition.at - T0) // MINUTE, transition.after) for transition in transitions] == [
        (3, "critical"), (5, None), (8, "critical"), (9, None),
    ]  # fmt: skip


def test_it_is_evaluated_and_notified() -> None:
    """The stages evaluate the rule, record its transitions and notify with its text."""
    monitor = testing.Monitor(configuration(), T0)
    monitor.kinds = KINDS
    worker = monitor.add_worker("i-0abc0123456789def", name="render-07", added_at=T0 - 3600, detailed=True)
    values = [40.0, 97.0, 97.0, 97.0, 50.0]
    monitor.cloudwatch.put(worker.id, "CPUUtilization", [(T0 + MINUTE * n, value) for n, value in enumerate(values)])
    for _ in range(7):
        monitor.clock.advance(MINUTE)
        monitor.collect()
        monitor.get(evaluate.Evaluation).evaluate([worker.id])
        monitor.deliver()
    notifications = [notification for notification in monitor.received if notification.rule == "cpu-hangs"]
    assert [(row.kind, row.status, row.severity, row.at) for row in notifications] == [
        ("unchanged", "firing", "critical", models.rfc3339(T0 + 3 * MINUTE)),
        ("unchanged", "resolved", "critical", models.rfc3339(T0 + 4 * MINUTE)),
    ]
    assert notifications[0].summary == "render-07: cpu_utilization hangs at 97 %"
    (record,) = monitor.workers.get([worker.id]).values()
    hangs, high = monitor.get(views.Explanation).explain(record, "cpu_utilization").to_json()["rules"]
    assert (hangs["rule"], hangs["kind"], hangs["unchanged"], hangs["state"]) == ("cpu-hangs", "unchanged", 3, "ok")
    assert (hangs["values"][-1], hangs["now"]) == (50.0, "2 different values in 3 slots")
    assert (high["rule"], high["kind"]) == ("cpu-high", "threshold")


def test_it_is_backtested() -> None:
    """Recorded datapoints give the episodes that the rule would have fired, with the kind's own peak."""
    rule = configuration().rules[0]
    values = [1.0, 97.0, 97.0, 97.0, 50.0]
    points = tuple(models.Datapoint(T0 + MINUTE * place, value) for place, value in enumerate(values))
    [episode] = backtest.episodes(rule, [models.Series(MINUTE, points)], unchanged.KIND)
    assert (episode.severity, episode.begin, episode.end) == ("critical", T0 + 3 * MINUTE, T0 + 4 * MINUTE)
    assert episode.peak == 97.0


def filled_monitor() -> testing.Monitor:
    """Return a monitor with this kind and a ledger in which a worker's CPU hangs once."""
    monitor = testing.Monitor(configuration(), T0)
    monitor.kinds = KINDS
    worker = monitor.add_worker("i-0abc0123456789def", name="render-07", added_at=T0 - 3600, detailed=True)
    values = [40.0, 97.0, 97.0, 97.0, 50.0]
    monitor.cloudwatch.put(worker.id, "CPUUtilization", [(T0 + MINUTE * n, value) for n, value in enumerate(values)])
    monitor.clock.advance(7 * MINUTE)
    monitor.collect()
    return monitor


@pytest.mark.parametrize("read", ["ledger", "trace"])
def test_recorded_data_is_replayed(read: str) -> None:
    """Its rule is replayed over the ledger and over a trace as one of the built-in kinds, and reviews compare it."""
    monitor, loaded = filled_monitor(), configuration()
    records = list(monitor.workers.every())
    hangs, _ = loaded.rules
    if read == "ledger":
        replays = monitor.get(views.LedgerBacktest).replay(records, hangs, loaded)
    else:
        points = tuple(
            models.Datapoint(T0 + MINUTE * n, value) for n, value in enumerate([40.0, 97.0, 97.0, 97.0, 50.0])
        )
        replays = backtest.over_trace(loaded, KINDS, "cpu_utilization", models.Series(MINUTE, points))
    [episode] = [episode for replay in replays for episode in replay.episodes if replay.rule == hangs]
    assert (episode.begin, episode.end, episode.unit) == (T0 + 3 * MINUTE, T0 + 4 * MINUTE, "percent")
    before = rule_review.Side(source="old", configuration=config.DEFAULT, replays=())
    after = rule_review.Side(source="new", configuration=loaded, replays=replays)
    by_name = {rule.rule: rule for rule in rule_review.compare(before, after, KINDS, since=None).rules}
    assert by_name["cpu-hangs"].fired == rule_review.Counts(before=0, after=1)


def test_cloudwatch_history_is_replayed() -> None:
    """Its rule is replayed over CloudWatch's own history."""
    monitor, loaded = filled_monitor(), configuration()
    records, hangs = list(monitor.workers.every()), loaded.rules[:1]
    requests = monitor.get(views.CloudWatchRequests).requests_for(records, hangs, loaded, T0)
    [replay] = monitor.get(views.CloudWatchHistory).replay(records, hangs, loaded, requests)
    assert [episode.begin for episode in replay.episodes] == [T0 + 3 * MINUTE]


def test_a_terminated_worker_leaves() -> None:
    """A reconciliation asks each rule whether the end of a terminated worker was notified."""
    monitor = filled_monitor()
    (record,) = monitor.workers.every()
    monitor.ec2.become(record.worker.id, "terminated")
    repairs = monitor.get(fleet.Reconciliation).reconcile().repairs
    assert [repair.worker_id for repair in repairs] == [record.worker.id]
