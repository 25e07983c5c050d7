"""Score the kind ``unusual`` on labelled CloudWatch series as the Numenta Anomaly Benchmark does, and measure its CPU.

The series are not part of the project. Set ``NAB_DATA`` to the directories that have them, separated by colons. The
first directory has ``windows.json``, the anomaly windows by file. Without ``NAB_DATA`` only the CPU is measured.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import nab

from workermon import models, rules
from workermon.rules import forecast, threshold, unusual

Detector = Callable[[nab.Labelled], list[int]]


# --- detectors ---------------------------------------------------------------------------------------------------


def by_rule(used: models.Rule) -> Detector:
    """Return a detector that flags each datapoint at which the rule fires."""

    def flag(labelled: nab.Labelled) -> list[int]:
        period = statistics.mode(later - earlier for earlier, later in itertools.pairwise(labelled.times))
        points = tuple(map(models.Datapoint, labelled.times, labelled.values))
        facts = rules.Facts.recorded(used.metric or "", models.Series(period, points), points[0].at)
        horizon = rules.Horizon.until(points[-1].at, period)
        _, transitions = rules.KINDS[used.kind].judge(used, models.RuleState(), facts, horizon)
        firing_by_time = {transition.at: transition.after is not None for transition in transitions}
        firing, flagged = False, []
        for place, at in enumerate(labelled.times):
            firing = firing_by_time.get(at, firing)
            if firing:
                flagged.append(place)
        return flagged

    return flag


def silent(labelled: nab.Labelled) -> list[int]:  # noqa: ARG001 - whatever the series is
    """Flag nothing."""
    return []


def fixed(labelled: nab.Labelled) -> list[int]:
    """Flag values above the 99.9th percentile of the probation."""
    trained = sorted(labelled.values[: labelled.probation])
    limit = trained[min(len(trained) - 1, math.ceil(0.999 * len(trained)) - 1)]
    return [place for place, value in enumerate(labelled.values) if value > limit]


def gaussian(window: int, deviations: float) -> Detector:
    """Return a detector that flags values more than ``deviations`` from the mean of the last ``window`` datapoints."""

    def flag(labelled: nab.Labelled) -> list[int]:
        flagged, total, squares = [], 0.0, 0.0
        shift = labelled.values[0]
        for place, value in enumerate(labelled.values):
            size = min(place, window)
            if size >= 2:
                mean = total / size
                spread = math.sqrt(max(squares / size - mean**2, 0.0))
                if abs(value - shift - mean) > deviations * max(spread, 1e-9):
                    flagged.append(place)
            total, squares = total + value - shift, squares + (value - shift) ** 2
            if place >= window:
                dropped = labelled.values[place - window] - shift
                total, squares = total - dropped, squares - dropped**2
        return flagged

    return flag


def onsets(flagged: Iterable[int]) -> list[int]:
    """Return where each run of flagged datapoints begins: there somebody is notified."""
    flagged_places = set(flagged)
    return sorted(place for place in flagged_places if place - 1 not in flagged_places)


# --- tables ------------------------------------------------------------------------------------------------------


def scores(series: Sequence[nab.Labelled], detector: Detector) -> tuple[float, float]:
    """Return two scores of a detector: by its alerts, and by every datapoint at which it fires."""
    flagged = [(labelled, detector(labelled)) for labelled in series]
    return nab.score((labelled_series, onsets(places)) for labelled_series, places in flagged), nab.score(flagged)


def rule(**keys: object) -> models.Rule:
    """Return an ``unusual`` rule with the defaults of the config file, changed by ``keys``."""
    return unusual.KIND.rule("unusual", metric="trace", **{"beyond": 4.0, **keys})


def detectors() -> dict[str, Detector]:
    """Return the detectors to compare, by their names in the table."""
    return {
        "never fires": silent,
        "fixed threshold, 99.9th percentile of the probation": fixed,
        **{
            f"windowed Gaussian, {window} datapoints, {deviations} deviations": gaussian(window, deviations)
            for window in (288, 2016)
            for deviations in (4, 6, 8)
        },
        'unusual = { beyond = 4, season = "day" }': by_rule(rule()),
        'unusual = { beyond = 4, season = "week" }': by_rule(rule(season="week")),
        'unusual, beyond = 4, breach = "3 of 3"': by_rule(rule(breach=models.Count(m=3, n=3))),
        'unusual, beyond = 4, recover = "12 of 12"': by_rule(rule(recover=models.Count(m=12, n=12))),
        **{f"unusual, beyond = {beyond}": by_rule(rule(beyond=beyond)) for beyond in (3.0, 3.5, 4.5, 5.0, 6.0)},
    }


def accuracy(directories: Sequence[Path]) -> None:
    """Print the scores, and the result of the default rule for each series."""
    series = list(nab.load(directories))
    print("| detector | score by alerts | score by datapoints that fire |")
    print("| --- | --- | --- |")
    for name, detector in detectors().items():
        by_alerts, by_datapoints = scores(series, detector)
        print(f"| {name} | {by_alerts:.1f} | {by_datapoints:.1f} |")
    print()
    print("| series | windows | found | false alerts |")
    print("| --- | --- | --- | --- |")
    for labelled in series:
        alerts = [place for place in onsets(by_rule(rule())(labelled)) if place >= labelled.probation]
        within = {window for window in labelled.windows for place in alerts if window[0] <= place <= window[1]}
        outside = [place for place in alerts if not any(window[0] <= place <= window[1] for window in labelled.windows)]
        print(f"| {labelled.name} | {len(labelled.windows)} | {len(within)} | {len(outside)} |")


def cost() -> None:
    """Print the CPU of each kind of rule, minute by minute over two days after a week of history."""
    chance = random.Random(1)
    minutes = 9 * 1440
    values = [40 + 20 * math.sin(place / 1440 * 2 * math.pi) + chance.gauss(0, 2) for place in range(minutes)]
    begin = 19_676 * models.DAY
    points = [models.Datapoint(begin + 60 * place, value) for place, value in enumerate(values)]
    kinds = {
        "threshold": threshold.KIND.rule("a", metric="trace", above=models.Levels(critical=90)),
        "forecast over 1 day": forecast.KIND.rule("b", metric="trace", reaches=98.0, within=6 * 3600),
        "unusual of the day": unusual.KIND.rule("c", metric="trace", beyond=4.0),
        "unusual of the week": unusual.KIND.rule("d", metric="trace", beyond=4.0, season="week"),
    }
    print("| rule | µs per slot | x threshold | bytes of state |")
    print("| --- | --- | --- | --- |")
    plain = 0.0
    for name, used in kinds.items():
        spent, size = _minute_by_minute(used, points)
        plain = plain or spent
        print(f"| {name} | {spent * 1e6:.0f} | {spent / plain:.1f} | {size} |")


def _minute_by_minute(used: models.Rule, points: Sequence[models.Datapoint]) -> tuple[float, int]:
    """Return the CPU seconds per slot and the bytes of the state. Each evaluation gets the datapoints it needs."""
    kind, begin, warm = rules.KINDS[used.kind], points[0].at, 7 * 1440
    state, spent = models.RuleState(), 0.0
    for place in (warm, *range(warm + 1, len(points))):
        horizon = rules.Horizon.until(points[place].at, 60)
        need = kind.needed_from(used, state, horizon, rules.Facts()) or begin
        known_points = tuple(points[max(0, (need - begin) // 60) : place + 1])
        facts = rules.Facts.recorded("trace", models.Series(60, known_points), begin)
        before = time.process_time()
        kind.needed_from(used, state, horizon, facts)
        state, _ = kind.judge(used, state, facts, horizon)
        spent += time.process_time() - before if place > warm else 0.0
    return spent / (len(points) - warm - 1), len(state.model_dump_json())


if __name__ == "__main__":
    cost()
    print()
    if data_paths := os.environ.get("NAB_DATA"):
        accuracy([Path(part) for part in data_paths.split(":")])
    else:
        print("NAB_DATA is not set, so nothing is scored: the labelled series are not part of the project.")
