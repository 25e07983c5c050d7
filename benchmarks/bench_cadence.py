"""Adaptive cadence against fixed: metrics requested, dollars, and how much later each alert notifies.

Collection, evaluation and delivery run in memory over generated loads. Set ``EC2_CPU_TRACES`` to a folder of recorded
loads to measure those too.
"""

from __future__ import annotations

from collections.abc import Sequence

import house

from tests.support import cadence_replay
from workermon import costs, models

#: Generated loads for each breach, and periods of a recorded load.
LOADS, RECORDED = 5, 1200
#: The fleet to price: workers, metrics, and the share of series near a threshold.
WORKERS, METRICS, NEAR = 1000, 5, 0.1


def requested_share(level: float) -> float:
    """Return the share of its periods for which a series at rest at ``level`` is requested, over four hours."""
    load = [level + place % 3 for place in range(240)]
    replay = cadence_replay.replayed(load, "adaptive", cadence_replay.rule())
    return replay.requests / replay.points


def compare(name: str, loads: Sequence[list[float | None]], breach: str, period: int) -> list[object]:
    """Return a row: metrics requested, whether both cadences notify the same, and how much later adaptive notifies."""
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
    print("# Adaptive cadence")
    fixed = costs.dollars(WORKERS * METRICS * 1440 * costs.MONTH_DAYS, ())
    near_share, far_share = requested_share(75.0), requested_share(20.0)
    share = NEAR * near_share + (1 - NEAR) * far_share
    house.table(
        f"{WORKERS} workers, {METRICS} metrics, 60 s, {NEAR:.0%} of the series near a threshold, 30 days",
        ["cadence", "series near a threshold", "series far from it", "all series", "dollars (adaptive < 700)"],
        [
            ["fixed", "1.00", "1.00", "1.00", f"{fixed:.0f}"],
            ["adaptive", f"{near_share:.2f}", f"{far_share:.2f}", f"{share:.2f}", f"{fixed * share:.0f}"],
        ],
    )
    settled, generated = cadence_replay.settled, cadence_replay.generated
    rows = [
        compare("generated", [settled(generated(seed)) for seed in range(LOADS)], breach, 60)
        for breach in ("1 of 1", "2 of 3", "3 of 3")
    ]
    rows += [
        compare(f"recorded, {name.rpartition('_')[2]}", [settled(load[:RECORDED])], "1 of 1", 300)
        for name, load in cadence_replay.traces().items()
    ]
    house.table(
        "How many periods later the adaptive cadence sends each notification",
        ["load", "breach", "requested", "notifications", "identical", "p50", "p90", "p99"],
        rows,
    )


if __name__ == "__main__":
    main()
