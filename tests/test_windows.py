"""When a metric is asked for, from when on, and what is learnt of delays: each rule by itself."""

from __future__ import annotations

import json

import pytest

from workermon import metrics, models, windows

T = 1_699_999_200
HOUR = 3600


def point(at: int) -> models.Datapoint:
    """Return a datapoint so many seconds after ``T``."""
    return models.Datapoint(T + at, 1.0)


def due(
    age: float, *, asked: float = 60, absent: float | None = None, expected: int = T + 300, stretch: int = 1
) -> bool:
    """Tell whether the look at an age of the expected datapoint asks, the last one being ``asked`` seconds ago."""
    at = expected + age
    return windows.is_due(expected, at - asked, at, period=300, interval=60, absent=absent, stretch=stretch)


@pytest.mark.parametrize(
    ("age", "more", "says"),
    [
        (100, {}, True),  # nothing is learnt: each look asks
        (-20, {}, False),  # its period has not begun
        (-3, {}, True),  # a look may come a little early
        (100, {"absent": 320}, False),
        (322, {"absent": 320}, False),  # a look may come a little late
        (330, {"absent": 320}, True),
        (3000, {"absent": 320}, True),  # overdue
        (100, {"absent": 320, "asked": 300}, True),  # once a period, whatever was learnt
        (100, {"absent": 320, "asked": -50}, True),  # the clock was set back
        (280, {"absent": 320, "expected": T // 2400 * 2400}, True),  # tried now and then
        (200, {"absent": 320, "expected": T // 2400 * 2400}, False),
        (330, {"absent": 320, "asked": 300, "stretch": 3}, False),
        (330, {"absent": 320, "asked": 900, "stretch": 3}, True),
    ],
)
def test_a_look_asks_where_something_new_may_be(age: float, more: dict, says: bool) -> None:
    """Before its time, within it and beyond it; learnt, not learnt, and stretched."""
    assert due(age, **more) is says


def test_what_was_never_asked_for_or_never_seen_is_asked_for() -> None:
    """Nothing can be waited for then."""
    assert windows.is_due(None, None, T, period=300, interval=60, absent=None)
    assert windows.is_due(T, None, T, period=300, interval=60, absent=900)
    assert windows.is_due(None, T - 1, T, period=300, interval=60, absent=None)


def learn(delay: windows.Delay | None, number: int, age: float = 380, absent: float = 320, watched: bool = True):
    """Return what is known after the datapoint of a slot was seen to appear."""
    sight = windows.Sight(T + number * 300, age, absent, watched)
    return windows.learn(delay, [sight], period=300, interval=60)


def test_nothing_is_made_of_a_few_sights() -> None:
    """Only from the fifth datapoint on that was watched coming; those that were not do not count."""
    delay = None
    for number in range(4):
        delay = learn(delay, number)
        delay = learn(delay, number)
    assert delay is not None
    assert delay.absent is None
    assert windows.patience(delay, period=300, interval=60) == metrics.DELAY
    delay = learn(delay, 4, watched=False)
    assert delay.absent is None
    delay = learn(delay, 5)
    assert delay.absent == 320
    assert windows.patience(delay, period=300, interval=60) == 380 - 300 + 60


def test_the_least_age_counts_for_two_windows() -> None:
    """What is seen later than the least does not raise it before both windows went by."""
    delay = learn(None, 0, age=360, absent=300)
    for number in range(1, 3 * windows.WINDOW):
        delay = learn(delay, number, age=440, absent=380)
        if number < windows.WINDOW:
            assert delay.floor == 300
    assert delay.absent == 380


def test_what_comes_earlier_than_learnt_overturns_it() -> None:
    """All is learnt anew then."""
    delay = None
    for number in range(8):
        delay = learn(delay, number)
    assert learn(delay, 8, age=318, absent=258, watched=False).absent is None


def test_a_window_without_news_makes_it_unknown() -> None:
    """After a long outage of the monitor each look asks again."""
    delay = None
    for number in range(8):
        delay = learn(delay, number)
    assert learn(delay, 8 + 3 * windows.WINDOW).absent is None


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
    """It is plain JSON, and what is none of ours is nothing."""
    delay = learn(learn(None, 0), 1)
    assert windows.Delay.of(json.loads(json.dumps(list(delay)))) == delay
    for broken in (None, 7, [], ["x"] * 6, {"a": 1}, [1, None, None, 1, 1, 1]):
        assert windows.Delay.of(broken) is None


def test_no_place_believes_more_than_the_others_saw() -> None:
    """Where one place knew late datapoints only, the others' sights hold it back."""
    late, usual = None, None
    for number in range(8):
        late, usual = learn(late, number, age=700, absent=640), learn(usual, number)
    assert windows.absent([late, usual, None, None, None, None], 60) == [380, 320, None, None, None, None]
    assert windows.absent([None] * 6, 60) == [None] * 6


def test_a_sight_teaches_only_where_we_waited() -> None:
    """Not after an outage of ours, not of what has not come, not of what is later than late."""
    given = {"period": 300, "interval": 60}
    assert windows.sight(T, T + 320, T + 380, [point(0)], **given) == windows.Sight(T, 380, 320, True)
    assert windows.sight(T, T + 80, T + 380, [point(0)], **given) == windows.Sight(T, 380, 320, False)
    assert windows.sight(T, T - 300, T + 380, [point(0)], **given) is None
    assert windows.sight(T, T + 320, T + 380, [point(300)], **given) is None
    assert windows.sight(T, T + 940, T + 1000, [point(0)], **given) is None
    assert windows.sight(T, T + 500, T + 380, [point(0)], **given) is None
    assert windows.sight(None, T, T + 60, [point(0)], **given) is None


def since(latest: int | None, asked: int | None, at: int, **given: int) -> tuple[int, int]:
    """Return both beginnings in seconds after ``T``, for a worker added at ``T``."""
    known = None if latest is None else point(latest)
    wanted = {"period": 300, "retention": models.DAY, **given}
    near, whole = windows.since(known, None if asked is None else T + asked, T, T + at, **wanted)
    return near - T, whole - T


def test_a_window_begins_at_the_watermark_less_the_lateness() -> None:
    """One period more is free, and makes up for what differs between datapoints."""
    assert since(HOUR, HOUR + 380, HOUR + 440) == (HOUR - 1200, HOUR - 1200)


def test_a_new_worker_is_asked_for_its_last_hour() -> None:
    """From before it was added; and later from before it was last asked for."""
    assert since(None, None, 0) == (-HOUR, -HOUR)
    assert since(None, 7200, 7260) == (HOUR, HOUR)


def test_a_failure_after_some_datapoints_came_does_not_move_the_watermark() -> None:
    """The last ask with success counts, whatever came in part after it."""
    assert since(7200, 600, 7260)[1] == 600 - 1200


def test_who_fell_silent_is_asked_for_little_until_it_speaks() -> None:
    """An hour and the lateness before it was last asked for; all of it in case something is there."""
    near, whole = since(0, 6 * HOUR, 6 * HOUR + 60)
    assert (near, whole) == (6 * HOUR - 4500, -1200)
    assert since(0, 600, 6 * HOUR) == (-1200, -1200)  # it was us who were away


def test_no_window_is_longer_than_the_retention_or_begins_in_the_future() -> None:
    """Whatever the datapoints and our clock say."""
    assert since(0, 0, 3 * models.DAY, retention=7200)[1] == 3 * models.DAY - 7200
    assert since(9000, 9000, 0)[1] == -1200


def test_what_is_waited_for_is_the_next_or_the_earliest_gap() -> None:
    """A gap counts as long as datapoints may come late, and off the grid the phase is kept."""
    grid = [point(at) for at in range(0, 3600, 300)]
    assert windows.expected(grid[-1], grid, 300) == T + 3600
    assert windows.expected(grid[-1], [each for each in grid if each.at != T + 2700], 300) == T + 2700
    assert windows.expected(grid[-1], [each for each in grid if each.at != T + 600], 300) == T + 3600
    assert windows.expected(grid[-1], [], 300) == T + 3600
    assert windows.expected(None, [], 300) is None
    assert windows.expected(point(3607), [point(3007), point(3607)], 300) == T + 3307
