"""When a metric is requested, from which time on, and what is learned of delays."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from tests.support.present import present
from workermon import models
from workermon.collect import polling
from workermon.rules import horizon

T = 1_699_999_200
HOUR = 3600
LATE = models.LATENESS


def point(at: int) -> models.Datapoint:
    """Return a datapoint so many seconds after ``T``."""
    return models.Datapoint(T + at, 1.0)


def look(expected: int | None, requested: float | None, at: float) -> polling.Look:
    """Return the collection of a metric with a period of 300 s, once a minute."""
    return polling.Look(expected=expected, requested_at=requested, at=at, period=300, interval=60)


def due(
    age: float, *, seconds_ago: float = 60, absent: float | None = None, expected: int = T + 300, multiplier: int = 1
) -> bool:
    """Return whether a collection requests an expected datapoint of that age, ``seconds_ago`` after the last one."""
    at = expected + age
    return polling.is_due(look(expected, at - seconds_ago, at), absent, multiplier)


@pytest.mark.parametrize(
    ("age", "more", "asks"),
    [
        (100, {}, True),  # nothing is learned: each look asks
        (-20, {}, False),  # its period has not begun
        (-3, {}, True),  # a look may come a little early
        (100, {"absent": 320}, False),
        (322, {"absent": 320}, False),  # a look may come a little late
        (330, {"absent": 320}, True),
        (3000, {"absent": 320}, True),  # overdue
        (100, {"absent": 320, "seconds_ago": 300}, True),  # once a period, whatever was learned
        (100, {"absent": 320, "seconds_ago": -50}, True),  # the clock was set back
        (280, {"absent": 320, "expected": T // 2400 * 2400}, True),  # tried now and then
        (200, {"absent": 320, "expected": T // 2400 * 2400}, False),
        (330, {"absent": 320, "seconds_ago": 300, "multiplier": 3}, False),
        (330, {"absent": 320, "seconds_ago": 900, "multiplier": 3}, True),
    ],
)
def test_a_request_is_made_if_something_new_may_exist(age: float, more: dict[str, Any], asks: bool) -> None:
    """Requests are made only if something new may exist: before, within and after the learned time."""
    assert due(age, **more) is asks


def test_what_was_never_asked_for_or_never_seen_is_asked_for() -> None:
    """A metric without a request or a datapoint is requested."""
    assert polling.is_due(look(None, None, T), None)
    assert polling.is_due(look(T, None, T), 900)
    assert polling.is_due(look(None, T - 1, T), None)


def learn(
    delay: polling.Delay | None, number: int, age: float = 380, absent: float = 320, watched: bool = True
) -> polling.Delay:
    """Return the learned state after the datapoint of a slot appeared."""
    arrival = polling.Arrival(T + number * 300, age, absent, watched)
    return present(polling.learn(delay, [arrival], period=300, interval=60))


def test_nothing_is_made_of_a_few_arrivals() -> None:
    """A delay is learned from five observed arrivals. Arrivals that were not observed do not count."""
    delay: polling.Delay | None = None
    for number in range(4):
        delay = learn(delay, number)
        delay = learn(delay, number)
    assert delay is not None
    assert delay.absent is None
    assert polling.patience(delay, period=300, interval=60, lateness=LATE) == horizon.DELAY
    delay = learn(delay, 4, watched=False)
    assert delay.absent is None
    delay = learn(delay, 5)
    assert delay.absent == 320
    assert polling.patience(delay, period=300, interval=60, lateness=LATE) == 380 - 300 + 60


def test_the_least_age_counts_for_two_windows() -> None:
    """The least age counts until two windows have passed without a smaller one."""
    delay = learn(None, 0, age=360, absent=300)
    for number in range(1, 3 * polling.WINDOW):
        delay = learn(delay, number, age=440, absent=380)
        if number < polling.WINDOW:
            assert delay.floor == 300
    assert delay.absent == 380


def test_what_comes_earlier_than_learnt_overturns_it() -> None:
    """A datapoint before the learned delay restarts learning."""
    delay = None
    for number in range(8):
        delay = learn(delay, number)
    assert learn(delay, 8, age=318, absent=258, watched=False).absent is None


def test_a_window_without_news_makes_it_unknown() -> None:
    """After a long outage of the monitor every collection requests it again."""
    delay = None
    for number in range(8):
        delay = learn(delay, number)
    assert learn(delay, 8 + 3 * polling.WINDOW).absent is None


def test_one_straggler_says_little_of_the_usual() -> None:
    """The usual age rises by a quarter of the difference, and falls again."""
    delay = None
    for number in range(8):
        delay = learn(delay, number)
    late = learn(delay, 8, age=780, absent=720)
    assert late.usual == 480
    for number in range(9, 60):
        late = learn(late, number)
    assert late.usual < 390


def test_what_is_learnt_survives_its_being_kept() -> None:
    """It is plain JSON. Unknown content is ignored."""
    delay = learn(learn(None, 0), 1)
    assert polling.Delay.of(json.loads(json.dumps(list(delay)))) == delay
    for broken in (None, 7, [], ["x"] * 6, {"a": 1}, [1, None, None, 1, 1, 1]):
        assert polling.Delay.of(broken) is None


def test_no_place_believes_more_than_the_others_saw() -> None:
    """If one account and region saw only late datapoints, arrivals of the others limit its delay."""
    late, usual = None, None
    for number in range(8):
        late, usual = learn(late, number, age=700, absent=640), learn(usual, number)
    assert polling.absent([late, usual, None, None, None, None], 60) == [380, 320, None, None, None, None]
    assert polling.absent([None] * 6, 60) == [None] * 6


def test_an_arrival_teaches_only_where_we_waited() -> None:
    """Nothing is learned after an outage, from absent datapoints, or from those beyond the lateness."""
    assert polling.arrival(look(T, T + 320, T + 380), [T], lateness=LATE) == polling.Arrival(T, 380, 320, True)
    assert polling.arrival(look(T, T + 80, T + 380), [T], lateness=LATE) == polling.Arrival(T, 380, 320, False)
    assert polling.arrival(look(T, T - 300, T + 380), [T], lateness=LATE) is None
    assert polling.arrival(look(T, T + 320, T + 380), [T + 300], lateness=LATE) is None
    assert polling.arrival(look(T, T + 1140, T + 1200), [T], lateness=LATE) is not None
    assert polling.arrival(look(T, T + 1141, T + 1201), [T], lateness=LATE) is None
    assert polling.arrival(look(T, T + 500, T + 380), [T], lateness=LATE) is None
    assert polling.arrival(look(None, T, T + 60), [T], lateness=LATE) is None


def since(latest: int | None, requested: int | None, at: int, **options: int) -> tuple[int, int]:
    """Return both starts in seconds after ``T``, for a worker added at ``T`` with a full last request."""
    latest_at = None if latest is None else T + latest
    keywords = {"retention": models.DAY, "lateness": LATE, **options}
    asked_at = None if requested is None else T + requested
    period = keywords.pop("period", 300)
    last_look = polling.Look(
        expected=None, requested_at=asked_at, at=T + at, period=period, interval=60, full_at=asked_at
    )
    begin = polling.since(last_look, latest_at, T, **keywords)
    return begin.recent_since - T, begin.full_since - T


def test_a_window_begins_at_the_watermark_less_the_lateness() -> None:
    """One more period costs nothing, and covers differences between datapoints."""
    assert since(HOUR, HOUR + 380, HOUR + 440) == (HOUR - 1200, HOUR - 1200)


def test_a_new_worker_is_asked_for_its_last_hour() -> None:
    """A first request begins before the addition, a later one before the last request."""
    assert since(None, None, 0) == (-HOUR, -HOUR)
    assert since(None, 7200, 7260) == (HOUR, HOUR)


def test_a_failure_after_some_datapoints_came_does_not_move_the_watermark() -> None:
    """The last successful request counts, whatever arrived partially after it."""
    assert since(7200, 600, 7260)[1] == 600 - 1200


def test_who_fell_silent_is_asked_for_little_until_it_speaks() -> None:
    """A silent metric is requested from an hour and the lateness before its last request.

    When it returns, all of it is.
    """
    recent, full = since(0, 6 * HOUR, 6 * HOUR + 60)
    assert (recent, full) == (6 * HOUR - 4500, -1200)
    assert since(0, 600, 6 * HOUR) == (-1200, -1200)  # it was us who were away


def test_no_window_is_longer_than_the_retention_or_begins_in_the_future() -> None:
    """This is so for any datapoints and any clock."""
    assert since(0, 0, 3 * models.DAY, retention=7200)[1] == 3 * models.DAY - 7200
    assert since(9000, 9000, 0)[1] == -1200


def test_a_full_request_reaches_back_to_the_one_before_it() -> None:
    """Later datapoints may be as late as the lateness. If the time is unknown, the earliest possible one counts."""
    newest, at = T + HOUR, T + HOUR + 500
    for full_at, begin in [(T + HOUR + 200, 0), (T + HOUR - 100, -100), (None, -60), (at, -60)]:
        requested_at = T + HOUR + 240
        last_look = polling.Look(
            expected=None, requested_at=requested_at, at=at, period=60, interval=60, full_at=full_at
        )
        expected = (T + HOUR + begin - LATE - 60) // 60 * 60
        assert polling.since(last_look, newest, T, retention=models.DAY, lateness=LATE).full_since == expected


def short(latest: int = 600, **changes: float | None) -> bool:
    """Return whether a request for a metric of 60 s may cover new datapoints only."""
    usual: dict[str, Any] = {"expected": T + 660, "requested_at": T + 700, "at": T + 760, "full_at": T + 640}
    return polling.suffices_short(polling.Look(**{**usual, "period": 60, "interval": 60, **changes}), T + latest)


def test_a_short_request_suffices_between_two_full_ones() -> None:
    """A request is full if there is a gap or a revision, or if the last full one lacked the metric."""
    assert short()
    assert not short(at=T + 900)  # the next full look
    assert not short(at=T + 590)  # the clock was set back
    assert not short(expected=T + 540)
    assert not short(expected=None)
    assert not short(full_at=None)
    assert not short(requested_at=None)
    assert not short(requested_at=T + 630)
    assert not short(latest=1200, expected=T + 1260)  # a datapoint that is ahead of the clock


def test_a_short_request_begins_at_the_newest_datapoint() -> None:
    """It begins on a period and within the retention. A silent metric's begins as usual."""
    assert polling.shortened(polling.Begin(T, T), T + 607, 60) == polling.Begin(T + 600, T + 600)
    assert polling.shortened(polling.Begin(T + 900, T + 900), T + 600, 60) == polling.Begin(T + 900, T + 900)
    assert polling.shortened(polling.Begin(T + 900, T), T, 60) == polling.Begin(T + 900, T)


def waited_for(latest: models.Datapoint | None, arrived: list[models.Datapoint], lateness: int = LATE) -> int | None:
    """Return the expected datapoint after an answer, with a period of 300 s."""
    newest = None if latest is None else latest.at
    return polling.expected(newest, [datapoint.at for datapoint in arrived], period=300, lateness=lateness)


def test_what_is_waited_for_is_the_next_or_the_earliest_gap() -> None:
    """A gap counts while datapoints may still be late. Timestamps off the period keep their offset."""
    grid = [point(at) for at in range(0, 3600, 300)]
    assert waited_for(grid[-1], grid) == T + 3600
    assert waited_for(grid[-1], [datapoint for datapoint in grid if datapoint.at != T + 2700]) == T + 2700
    assert waited_for(grid[-1], [datapoint for datapoint in grid if datapoint.at != T + 600]) == T + 3600
    assert waited_for(grid[-1], []) == T + 3600
    assert waited_for(None, []) is None
    assert waited_for(point(3607), [point(3007), point(3607)]) == T + 3307


def test_a_gap_is_waited_for_no_longer_than_the_lateness_and_a_quarter_of_an_hour() -> None:
    """A short lateness ends the wait sooner. A long one does not extend it."""
    grid = [point(at) for at in range(0, 3600, 300)]
    with_gap = [datapoint for datapoint in grid if datapoint.at != T + 2700]
    assert waited_for(grid[-1], with_gap, 600) == T + 2700
    assert waited_for(grid[-1], with_gap, 120) == T + 3600
    with_gap = [datapoint for datapoint in grid if datapoint.at != T + 600]
    assert waited_for(grid[-1], with_gap, 7200) == T + 3600


def test_the_lateness_says_how_far_back_is_asked() -> None:
    """A request reaches a period beyond the lateness, for a silent metric an hour and the lateness."""
    assert since(HOUR, HOUR + 380, HOUR + 440, lateness=120)[1] == HOUR - 600  # on the grid
    assert since(HOUR, HOUR + 380, HOUR + 440, lateness=7200)[1] == HOUR - 7500
    assert since(0, 6 * HOUR, 6 * HOUR + 60, lateness=7200) == (3 * HOUR, -7500)


def test_a_short_lateness_waits_as_long_and_learns_as_much() -> None:
    """A short lateness shortens neither the wait for usual datapoints nor what is learned."""
    delay = None
    for number in range(8):
        delay = learn(delay, number, age=800, absent=740)
    waits = [polling.patience(delay, period=300, interval=60, lateness=late) for late in (120, LATE, 7200)]
    assert waits == [560, 560, 560]
    assert polling.arrival(look(T, T + 740, T + 800), [T], lateness=120) is not None
    for number in range(8, 40):
        delay = learn(delay, number, age=4000, absent=3940)
    assert polling.patience(delay, period=300, interval=60, lateness=120) == LATE
    assert polling.patience(delay, period=300, interval=60, lateness=7200) > 3000
    assert polling.arrival(look(T, T + 3940, T + 4000), [T], lateness=7200) is not None


_TIMES = strategies.integers(0, 3 * models.DAY)


@hypothesis.given(
    latest=strategies.none() | _TIMES,
    requested=strategies.none() | _TIMES,
    at=_TIMES,
    period=strategies.sampled_from([1, 60, 300, 3600]),
    retention=strategies.integers(HOUR, models.DAY),
    lateness=strategies.integers(120, models.DAY // 2),
)
def test_a_window_holds_all_that_may_still_come(
    latest: int | None, requested: int | None, at: int, period: int, retention: int, lateness: int
) -> None:
    """It begins one lateness before the newest datapoint, on a period and within the retention."""
    recent, full = since(latest, requested, at, period=period, retention=retention, lateness=lateness)
    assert recent >= full
    assert (recent + T) % period == (full + T) % period == 0
    watermark = min(moment for moment in (latest, requested, at) if moment is not None)
    if latest is not None:
        assert full <= max(watermark - lateness, at - retention)
        # No wider than is needed, by two periods at most: of the grid, and for what differs between datapoints.
        assert full > max(watermark - lateness, at - retention) - 2 * period - 1


@hypothesis.given(
    slots=strategies.sets(strategies.integers(0, 60), min_size=1),
    period=strategies.sampled_from([60, 300]),
    lateness=strategies.integers(120, models.DAY),
)
def test_what_is_waited_for_is_not_there(slots: set[int], period: int, lateness: int) -> None:
    """It is the earliest of the next datapoint and the gaps that may still be filled."""
    arrived = [models.Datapoint(T + slot * period, 1.0) for slot in sorted(slots)]
    expected = polling.expected(
        arrived[-1].at, [datapoint.at for datapoint in arrived], period=period, lateness=lateness
    )
    assert expected is not None
    slot = (expected - T) // period
    assert slot not in slots
    oldest = max(min(slots), (arrived[-1].at - T - min(lateness, LATE)) // period)
    assert slot == min({*range(oldest, max(slots) + 2)} - slots)


@hypothesis.given(
    strategies.sampled_from([60, 300]),
    strategies.lists(
        strategies.tuples(strategies.floats(0, 0.99), strategies.integers(0, 4)), min_size=20, max_size=20
    ),
    strategies.booleans(),
)
def test_a_full_request_comes_at_least_each_fifth_interval(
    interval: int, requests: list[tuple[float, int]], same_turn: bool
) -> None:
    """Wherever in its interval a request is, and whatever the turns. With one turn exactly each fifth is full."""
    full_at: float | None = None
    full_slots: list[int] = []
    for slot, (place, turn) in enumerate(requests):
        at = T + (slot + place) * interval
        if polling.is_full_look_due(full_at, at, interval, requests[0][1] if same_turn else turn):
            full_at = at
            full_slots.append(slot)
    gaps = [later - sooner for sooner, later in itertools.pairwise([*full_slots, len(requests)])]
    assert max(gaps) <= horizon.FULL_LOOK_EVERY
    assert not same_turn or set(gaps[1:-1]) == {horizon.FULL_LOOK_EVERY}


def test_batches_take_turns_with_their_full_requests() -> None:
    """About a fifth of a fleet's batches has one in each interval, and a batch keeps its turn."""
    batches = [[f"i-{100 * batch + number:017x}" for number in range(100)] for batch in range(500)]
    turns = Counter(polling.turn_of(batch) for batch in batches)
    assert sorted(turns) == list(range(horizon.FULL_LOOK_EVERY))
    assert 70 < min(turns.values()) <= max(turns.values()) < 130
    assert polling.turn_of(reversed(batches[7])) == polling.turn_of(batches[7][:50])
