"""The scoring of labelled series in ``benchmarks/bench_unusual.py``, and the kind ``unusual`` on them if available."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.skipif(not BENCHMARKS.exists(), reason="only a checkout has benchmarks")


@pytest.fixture(name="bench")
def _bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import the benchmark as a program does: its modules are beside it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bench_unusual

    return bench_unusual


def labelled(nab: Any, windows: tuple[tuple[int, int], ...], number: int = 1000) -> Any:
    """Return a series with windows, whose first 150 datapoints do not count."""
    times = tuple(range(0, 300 * number, 300))
    return nab.Labelled(name="a", times=times, values=(0.0,) * number, windows=windows)


def test_the_scale(bench: ModuleType) -> None:
    """No detection scores 0, each window at its start without a false alarm 100. The probation does not count."""
    series = labelled(bench.nab, ((300, 399), (600, 699)))
    assert bench.nab.score([(series, [])]) == 0
    assert bench.nab.score([(series, [300, 600])]) == pytest.approx(100)
    assert bench.nab.score([(series, [10, 149, 300, 301, 600])]) == pytest.approx(100)
    assert bench.nab.score([(series, [300])]) == pytest.approx(50)


def test_earlier_is_better_and_false_alarms_cost(bench: ModuleType) -> None:
    """The end of a window is worth little. A false alarm costs up to 0.11, less right after a window."""
    nab = bench.nab
    series = labelled(nab, ((300, 399),))
    assert nab.raw(series, [399]) == pytest.approx(nab.sigmoid(-0.01) / nab.sigmoid(-1.0))
    assert nab.raw(series, [300, 350]) == nab.raw(series, [300])
    assert nab.raw(series, [200, 300]) == pytest.approx(1 - 0.11)
    assert nab.raw(series, [300, 900]) == pytest.approx(1 - 0.11)
    assert nab.raw(series, [300, 405]) == pytest.approx(1 + 0.11 * nab.sigmoid(6 / 99))
    assert nab.raw(series, []) == -1


def test_detectors_flag_what_they_say(bench: ModuleType) -> None:
    """The plain detectors flag a peak, and an alert of the kind begins where its run of datapoints does."""
    values = [1.0 + place % 7 / 10 for place in range(1200)]
    values[1000] = 50.0
    series = bench.nab.Labelled(
        name="a", times=tuple(range(0, 300 * 1200, 300)), values=tuple(values), windows=((990, 1010),)
    )
    assert bench.fixed(series) == [1000]
    assert bench.gaussian(288, 6)(series) == [1000]
    assert bench.onsets(bench.by_rule(bench.rule())(series)) == [1000]
    assert bench.scores([series], bench.by_rule(bench.rule()))[0] > 50


def test_on_labelled_series(bench: ModuleType) -> None:
    """The defaults of a rule score better than the plain detectors on the series that ``NAB_DATA`` names."""
    folder = os.environ.get("NAB_DATA")
    if folder is None:
        pytest.skip("NAB_DATA is not set: the labelled series are not part of the project")
    series = list(bench.nab.load([Path(part) for part in folder.split(":")]))
    plain = max(bench.scores(series, score)[0] for score in (bench.fixed, bench.gaussian(2016, 8)))
    assert bench.scores(series, bench.by_rule(bench.rule()))[0] > plain
