"""The kind ``outlier``: a worker that differs from the others of its group."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.grouping import CPU, MINUTE, T0, Pools, worker_id
from workermon import config, errors, models, rules, views
from workermon.config import export
from workermon.models import Count
from workermon.rules import outlier, peers, when
from workermon.views import explain, ledger_backtest, replayable_rules


def at(slot: int) -> int:
    """Return the time of a slot."""
    return T0 + slot * MINUTE


def rule(**keys: object) -> models.Rule:
    """Return a rule beyond 4 scaled MADs of the pool for one slot."""
    options = {"by": "pool", "beyond": 4.0, "breach": Count(m=1, n=1), "recover": Count(m=1, n=1)}
    return outlier.KIND.rule("odd-one-out", **({"metric": CPU, "notify": ("ops",)} | options | keys))


def pools_of(size: int, *pool_rules: models.Rule) -> Pools:
    """Return a pool of so many workers."""
    pools = Pools(*(pool_rules or (rule(),)))
    for number in range(size):
        pools.add(number)
    return pools


def values(size: int, **by_worker: float) -> dict[int, float]:
    """Return values around 30 %, a little apart, and those of single workers."""
    return {number: 28.0 + number for number in range(size)} | {
        int(name[1:]): value for name, value in by_worker.items()
    }


def statuses(pools: Pools) -> list[tuple[str, str]]:
    """Return key and status of each notification so far."""
    return [(key, status) for key, status, _ in pools.notified()]


ALERT = f"{worker_id(0)}/odd-one-out"


def test_the_one_that_differs_is_notified() -> None:
    """One worker far from the median fires, with median, distance and size of its group. No other worker does."""
    pools = pools_of(8)
    pools.slot(at(1), values(8))
    assert pools.notified() == []
    pools.slot(at(2), values(8, w0=97.5))
    [(key, status, summary)] = pools.notified()
    assert (key, status) == (ALERT, "firing")
    assert "cpu_utilization 97.5 %" in summary
    assert "scaled MADs above the median 32.5 % of 8 workers in pool=a" in summary
    pools.slot(at(3), values(8))
    assert statuses(pools) == [(ALERT, "firing"), (ALERT, "resolved")]


def test_a_group_that_moves_together_is_nobodys_outlier() -> None:
    """A pool that is at 95 % as a whole has no outlier. A pool of four is too small for one."""
    pools = pools_of(8)
    pools.slot(at(1), values(8))
    pools.slot(at(2), {number: value + 65 for number, value in values(8).items()})
    assert pools.notified() == []
    few = pools_of(4)
    few.slot(at(1), values(4, w0=99.0))
    assert few.notified() == []


def test_a_constant_group_divides_by_no_zero() -> None:
    """With equal values the spread has a minimum: a small difference is not an outlier, a large one is."""
    pools = pools_of(6)
    pools.slot(at(1), dict.fromkeys(range(6), 50.0) | {0: 53.0})
    assert pools.notified() == []
    pools.slot(at(2), dict.fromkeys(range(6), 50.0) | {0: 60.0})
    pools.slot(at(3), dict.fromkeys(range(6), 0.0))
    pools.slot(at(4), dict.fromkeys(range(6), 0.0) | {0: 1.0})
    assert statuses(pools) == [(ALERT, "firing"), (ALERT, "resolved"), (ALERT, "firing")]


def test_a_side_can_be_left_out() -> None:
    """A rule about high values ignores an idle worker."""
    for side, fires in (("above", False), ("below", True), ("both", True)):
        pools = pools_of(6, rule(side=side))
        pools.slot(at(1), values(6, w0=0.5))
        assert bool(pools.notified()) is fires


def test_a_slot_waits_for_the_others() -> None:
    """A worker is compared when all have the slot. A silent worker delays that only for a while."""
    pools = pools_of(6)
    pools.slot(at(1), values(6))
    pools.slot(at(2), {number: value for number, value in values(6, w0=99.0).items() if number != 5})
    assert pools.notified() == []
    pools.slot(at(2), {5: 33.0})
    pools.slot(at(3), values(6, w0=99.0))
    assert statuses(pools) == [(ALERT, "firing")]
    silent = pools_of(6)
    silent.slot(at(1), values(6))
    for slot in range(2, 9):
        silent.slot(at(slot), {number: value for number, value in values(6, w0=99.0).items() if number != 5})
    assert statuses(silent) == [(ALERT, "firing")]


def test_late_datapoints_of_others_correct() -> None:
    """If late datapoints show that the others changed too, the alert is corrected."""
    pools = pools_of(6)
    pools.slot(at(1), values(6))
    pools.slot(at(2), values(6, w0=95.0))
    assert statuses(pools) == [(ALERT, "firing")]
    for number in range(1, 6):
        pools.collected(number, at(3), {at(2): 95.0 + number})
    pools.evaluate()
    pools.slot(at(3), values(6))
    newest = [entry.transition for entry in pools.alerts.history(ALERT)]
    assert any(transition.withdrawn for transition in newest)
    assert statuses(pools)[-1] == (ALERT, "resolved")


def test_one_that_stops_is_not_waited_for() -> None:
    """The others are evaluated without it. Earlier decisions stay."""
    pools = pools_of(6)
    pools.slot(at(1), values(6, w0=99.0))
    pools.collected(5, at(2), status="stopped")
    for slot in range(2, 4):
        pools.slot(at(slot), {number: value for number, value in values(6, w0=99.0).items() if number != 5})
    assert statuses(pools) == [(ALERT, "firing")]
    assert pools.alerts.load([worker_id(0)])[worker_id(0)].alerts["odd-one-out"].rule_state.cursor == at(3)


def explanation_of(pools: Pools, number: int) -> explain.RuleExplanation:
    """Return the explanation of the rule for a worker."""
    record = pools.workers.get([worker_id(number)])[worker_id(number)]
    return pools.get(views.Explanation).explain(record, rule_name="odd-one-out").rules[0]


def test_why_shows_the_group() -> None:
    """why shows median, MAD, distance and size, a group that is too small, and a missing label."""
    pools = pools_of(6)
    pools.add(9, pool=None)
    pools.slot(at(1), values(6, w0=99.0))
    document = explanation_of(pools, 0).to_json()
    assert document["group"] == {"by": "pool", "value": "a"}
    [slot] = document["distances"]
    assert (slot["value"], slot["median"], slot["group_size"]) == (99.0, 31.5, 6)
    assert slot["distance"] == round(67.5 / (1.4826 * 1.5), 2)
    assert ("group", "median 31.5 %, scaled MAD 2.22 %, of 6 workers in pool=a") in explanation_of(pools, 0).lines
    assert explanation_of(pools, 9).now == "it has no label pool, by whose values the rule makes groups"
    few = pools_of(4)
    few.slot(at(1), values(4))
    assert explanation_of(few, 0).now.startswith("4 workers of pool=a have a value at ")
    assert explanation_of(few, 0).now.endswith(", 5 are needed to tell an outlier")


def test_a_kind_of_your_own_may_compare_workers_too() -> None:
    """A kind beside the built-in ones that compares workers is evaluated with its group, and ``why`` shows it."""

    class OwnOutlier(outlier.Outlier):
        name = "own-outlier"

    pools = pools_of(8, rule().model_copy(update={"kind": OwnOutlier.name}))
    pools.kinds = {**rules.KINDS, OwnOutlier.name: OwnOutlier()}
    pools.slot(at(1), values(8, w0=97.5))
    assert statuses(pools) == [(ALERT, "firing")]
    assert explanation_of(pools, 0).to_json()["group"] == {"by": "pool", "value": "a"}


def test_backtest_replays_it_from_the_ledger() -> None:
    """The episodes from the ledger equal the notified ones. One worker is replayed with its whole group."""
    pools = pools_of(6)
    for slot in range(1, 8):
        pools.slot(at(slot), values(6, w0=99.0) if 3 <= slot < 5 else values(6))
    ledger = pools.get(ledger_backtest.LedgerBacktest)
    for records in (list(pools.workers.every()), [pools.workers.get([worker_id(0)])[worker_id(0)]]):
        episodes = [
            episode
            for replay in ledger.replay(records, rule(), pools.configurations.load())
            for episode in replay.episodes
        ]
        assert [(episode.worker, episode.begin, episode.end, episode.peak) for episode in episodes] == [
            (worker_id(0), at(3), at(5), 99.0)
        ]
    assert replayable_rules.over_metrics(pools.configurations.load(), rules.KINDS) == []


def test_a_rule_over_it_is_replayed_beside_the_group() -> None:
    """A rule over other rules sees the outlier in a backtest as well."""
    over = when.KIND.rule("together", when="odd-one-out", notify=("ops",))
    pools = pools_of(6, rule(), over)
    for slot in range(1, 8):
        pools.slot(at(slot), values(6, w0=99.0) if 3 <= slot < 5 else values(6))
    replays = pools.get(ledger_backtest.LedgerBacktest).replay(
        list(pools.workers.every()), over, pools.configurations.load()
    )
    assert [(episode.worker, episode.begin) for replay in replays for episode in replay.episodes] == [
        (worker_id(0), at(3))
    ]


def test_a_worker_that_joins_is_compared_at_once() -> None:
    """New workers make a group large enough for an outlier, at the same clock time."""
    pools = pools_of(4)
    pools.slot(at(1), values(4, w0=99.0))
    assert pools.notified() == []
    for number in (4, 5):
        pools.add(number, added_at=at(1))
    pools.slot(at(2), values(6, w0=99.0))
    assert statuses(pools) == [(ALERT, "firing")]


def test_one_with_longer_slots_counts_with_the_one_around() -> None:
    """A slot of five minutes counts for each of its minutes. Shorter slots count by their mean."""
    long = peers.Peer(T0 + 299, 300, 300, T0, (models.Datapoint(T0, 10.0),))
    short = tuple(
        peers.Peer(T0 + 299, 60, 60, T0, tuple(models.Datapoint(at(n), 10.0 + n) for n in range(5))) for _ in "1234"
    )
    group = peers.PeerGroup("pool", "a", dict(zip("abcde", (long, *short), strict=True)))
    minutes, by_five_minutes = group.medians(60), group.medians(300)
    assert [
        group_median and (group_median.median, group_median.size) for _, group_median in sorted(minutes.items())
    ] == [(10.0 + n, 5) for n in range(5)]
    assert [group_median and group_median.median for group_median in by_five_minutes.values()] == [12.0]


# --- the config file -------------------------------------------------------------------------------------------------

FILE = """
[[rules]]
name = "odd-one-out"
metric = "cpu_utilization"
outlier = { by = "pool", beyond = 4, side = "above" }
severity = "warning"
breach = "2 of 3"
clear = 3
"""


def test_a_file_and_its_export() -> None:
    """A rule is the same after an export. By default it fires after three slots of three."""
    pools = Pools()
    configuration = config.to_configuration(pools.parser.parse(FILE, "fleet.toml"), config.DEFAULT)
    [read] = configuration.rules
    assert (read.kind, read.severity) == ("outlier", "warning")
    assert outlier.KIND.options(read).breach == Count(m=2, n=3)
    assert pools.parser.parse(export.text(configuration, []), "export.toml").rules == (read,)
    default = pools.parser.parse(FILE.replace('breach = "2 of 3"', 'recover = "2 of 2"'), "fleet.toml")
    [plain] = default.rules or ()
    assert outlier.KIND.options(plain).breach == Count(m=3, n=3)
    assert "more than 4 scaled MADs above the median of the workers with the same pool" in outlier.KIND.described(
        read, "percent"
    )


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('by = "pool", ', "", "line 5, column 1: rules[0].outlier.by: is missing"),
        ("by =", "bye =", "line 5, column 13: rules[0].outlier.bye: is not a known key; did you mean by?"),
        ('"pool"', '"pool=a"', "line 5, column 13: rules[0].outlier.by: is not a label's name: it has a '='"),
        ("beyond = 4", "beyond = 0", "line 5, column 26: rules[0].outlier.beyond: should be greater than 0"),
        ("beyond", "beyund", "line 5, column 26: rules[0].outlier.beyund: is not a known key; did you mean beyond?"),
        ('"above"', '"up"', "line 5, column 38: rules[0].outlier.side: 'up' is none of above, below, both"),
        ("outlier", "outliar", "line 5, column 1: rules[0].outliar: is not a known key; did you mean outlier?"),
        ("clear = 3", "clear = 5", "line 8, column 1: rules[0].clear: 5 is more than beyond, 4"),
        ("clear = 3", 'for = "1h"', "line 8, column 1: rules[0].for: cannot be combined with breach"),
        ("clear = 3", "below = { critical = 5 }", "line 8, column 1: rules[0].below: is not for outlier = …"),
        ('"cpu_utilization"', '"cpu_utilization / 2"', "rules[0].metric: is an expression"),
        (
            "clear = 3",
            'cases = [{ name = "a", values = [1.0] }]',
            "line 8, column 24: rules[0].cases[0].values: is one list, and several workers decide the rule",
        ),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, error: str) -> None:
    """An error has line, column, the reason and the nearest valid word."""
    with pytest.raises(errors.InvalidInput) as refused:
        Pools().parser.parse(FILE.replace(old, new, 1), "fleet.toml")
    assert error in str(refused.value)


# --- however it is fed -----------------------------------------------------------------------------------------------

SLOTS = 9
Change = tuple[int, str | None]


def plain(used: models.Rule, of_workers: Sequence[Mapping[int, float]], number: int) -> list[Change]:
    """Evaluate one worker beside its group by a plain loop over all slots, without code of the rule."""
    options = outlier.KIND.options(used)
    compared: dict[int, float] = {}
    for slot, value in of_workers[number].items():
        group = [trace[slot] for trace in of_workers if slot in trace]
        median = statistics.median(group)
        spread = max(1.4826 * statistics.median([abs(value - median) for value in group]), 0.02 * abs(median), 1e-9)
        distance = (value - median) / spread if len(group) >= 5 else 0.0
        compared[slot] = {"both": abs(distance), "above": distance, "below": -distance}[options.side]
    changes: list[Change] = []
    firing = False
    for slot in range(SLOTS):
        if slot not in compared and options.missing == "keep":
            continue

        def counted(n: int, slot: int = slot) -> list[float]:
            back = [slot - place for place in range(2 * n)]
            return [compared.get(earlier, 0.0) for earlier in back if earlier in compared or options.missing == "ok"][
                :n
            ]

        bad = sum(value > options.beyond for value in counted(options.breach.n))
        good = sum(value <= options.beyond for value in counted(options.recover.n))
        now = bad >= options.breach.m or (firing and good < options.recover.m)
        if now != firing:
            changes.append((at(slot), "critical" if now else None))
            firing = now
    return changes


@examples(40)
@given(st.data())
def test_any_order_grouping_and_lateness_come_to_the_same(data: st.DataObject) -> None:
    """In any order of datapoints and evaluations, each worker's state is that of a plain loop over all."""
    size = data.draw(st.integers(4, 7))
    n = data.draw(st.integers(1, 3))
    used = rule(
        side=data.draw(st.sampled_from(["above", "below", "both"])),
        missing=data.draw(st.sampled_from(["keep", "ok"])),
        breach=Count(m=data.draw(st.integers(1, n)), n=n),
        recover=Count(m=1, n=data.draw(st.integers(1, 2))),
    )
    value = st.sampled_from([0.0, 10.0, 10.0, 11.0, 12.0, 50.0, 90.0, None])
    drawn = [data.draw(st.lists(value, min_size=SLOTS, max_size=SLOTS)) for _ in range(size)]
    of_workers = [
        {slot: drawn_value for slot, drawn_value in enumerate(column) if drawn_value is not None} for column in drawn
    ]
    pools = pools_of(size, used)
    numbers = st.lists(st.integers(0, size - 1), unique=True)
    arrived: list[set[int]] = [set() for _ in range(size)]
    for slot in range(SLOTS):
        for number in data.draw(numbers):
            late = data.draw(st.sets(st.integers(0, slot), max_size=2))
            new = {time_slot: new_value for time_slot, new_value in of_workers[number].items() if time_slot <= slot}
            new = {
                time_slot: new_value
                for time_slot, new_value in new.items()
                if time_slot not in late and time_slot not in arrived[number]
            }
            arrived[number] |= set(new)
            pools.collected(number, at(slot + 1), {at(time_slot): new_value for time_slot, new_value in new.items()})
        pools.evaluate(*(worker_id(number) for number in data.draw(numbers)))
    for number in data.draw(st.permutations(range(size))):
        new = {
            time_slot: new_value
            for time_slot, new_value in of_workers[number].items()
            if time_slot not in arrived[number]
        }
        pools.collected(number, at(SLOTS), {at(time_slot): new_value for time_slot, new_value in new.items()})
        pools.evaluate(worker_id(number))
    pools.evaluate(*(worker_id(number) for number in range(size)))
    for number, basis in enumerate(pools.alerts.load([worker_id(number) for number in range(size)]).values()):
        trail = basis.alerts["odd-one-out"].rule_state.trail
        assert [(change.at, change.severity) for change in trail] == plain(used, of_workers, number)
