"""Adaptive cadence against fixed: metrics asked, dollars, and how much later each alert is notified.

In memory, without processes: collection, evaluation and delivery over generated loads, and over recorded ones if
``EC2_CPU_TRACES`` names a folder of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import house

from tests.support import cadence_replay
from workermon import costs, models

#: Loads of each breach, and periods of a recorded load.
LOADS, RECORDED = 5, 1200
#: The fleet that is priced: workers, metrics, and how many of the series are near a threshold.
WORKERS, METRICS, NEAR = 1000, 5, 0.1


def requested_share(level: float) -> float:
    """Return for which part of its periods a series at rest at a level is asked for, over four hours."""
    load = [level + place % 3 for place in range(240)]
    replay = cadence_replay.replayed(load, "adaptive", cadence_replay.rule())
    return replay.requests / replay.points


def compared(name: str, loads: Sequence[list[float | None]], breach: str, period: int) -> list[object]:
    """Return a row: how often both ask, whether they notify the same, and how much later adaptive does."""
    requests, points, later, is_same = 0, 0, list[float](), True
    levels = models.Levels(warning=50, critical=90) if period > 60 else None
    for load in loads:
        rule = cadence_replay.rule(breach, levels)
        fixed, adaptive = (cadence_replay.replayed(load, cadence, rule, period) for cadence in ("fixed", "adaptive"))
        requests, points = requests + adaptive.requests, points + fixed.requests
        is_same &= list(fixed.notified) == list(adaptive.notified)
        later += [
            adaptive.notified[episode] - at for episode, at in fixed.notified.items() if episode in adaptive.notified
        ]
    delays = [f"{house.percentile(later, part) / period:.0f}" for part in (0.5, 0.9, 0.99)] if later else ["-"] * 3
    return [name, breach, f"{requests / points:.2f}", len(later), "yes" if is_same else "NO", *delays]


def main() -> None:
    """Measure, and print the tables."""
    print("# What adaptive cadence saves, and what it costs")
    fixed = costs.dollars(WORKERS * METRICS * 1440 * costs.MONTH_DAYS, ())
    near_share, far_share = requested_share(75.0), requested_share(20.0)
    share = NEAR * near_share + (1 - NEAR) * far_share
    house.table(
        f"{WORKERS} workers, {METRICS} metrics, 60 s, {NEAR:.0%} of the series near a threshold, 30 days",
        ["cadence", "asked of a series near", "of one far", "of all", "dollars (adaptive < 700)"],
        [
            ["fixed", "1.00", "1.00", "1.00", f"{fixed:.0f}"],
            ["adaptive", f"{near_share:.2f}", f"{far_share:.2f}", f"{share:.2f}", f"{fixed * share:.0f}"],
        ],
    )
    settled, generated = cadence_replay.settled, cadence_replay.generated
    rows = [
        compared("generated", [settled(generated(seed)) for seed in range(LOADS)], breach, 60)
        for breach in ("1 of 1", "2 of 3", "3 of 3")
    ]
    rows += [
        compared(f"recorded, {name.rpartition('_')[2]}", [settled(load[:RECORDED])], "1 of 1", 300)
        for name, load in cadence_replay.traces().items()
    ]
    house.table(
        "Each notification of fixed, and how many periods later adaptive sends it",
        ["load", "breach", "asked", "notifications", "the same", "p50", "p90", "p99"],
        rows,
    )


if __name__ == "__main__":
    main()
