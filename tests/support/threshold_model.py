"""Rules with thresholds of any shape, and a plain loop that computes the transitions of each."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from hypothesis import strategies as st

from workermon.models import Count, Datapoint, Levels, Rule, Severity
from workermon.rules import threshold

MINUTE = 60
#: A whole number of hours, so that slots of every period begin here.
T0 = 1_699_999_200


def rule(**changes: object) -> Rule:
    """Return a rule with above 80 warning / 90 critical and 1 of 1, unless set otherwise."""
    defaults: dict[str, Any] = {
        "name": "cpu-high",
        "metric": "cpu_utilization",
        "above": Levels(warning=80, critical=90),
        "breach": Count(m=1, n=1),
        "recover": Count(m=1, n=1),
    }
    return threshold.KIND.rule(**{**defaults, **changes})


class Change(NamedTuple):
    at: int
    before: Severity | None
    after: Severity | None


def model(used: Rule, points: dict[int, Datapoint], last: int, period: int, expected_from: int) -> list[Change]:
    """Evaluate a whole series by a plain loop that shares nothing with the fold."""
    options = threshold.KIND.options(used)
    begin = min([*points, math.ceil(expected_from / period)])
    latched = {"warning": False, "critical": False}
    changes: list[Change] = []
    severity: Severity | None = None
    for slot in range(begin, last + 1):
        if slot not in points and (options.missing == "keep" or slot * period < expected_from):
            continue

        def last_counted(n: int, slot: int = slot) -> list[float | None]:
            values: list[float | None] = []
            for back in range(2 * n):
                if slot - back in points:
                    values.append(points[slot - back].value)
                elif options.missing != "keep" and (slot - back) * period >= expected_from:
                    values.append(None)
            return values[:n]

        for name in ("warning", "critical"):
            limits = options.above or options.below
            assert limits
            limit = limits.critical if name == "critical" else limits.warning
            if limit is None:
                continue
            clear = limit
            if options.clear:
                level = options.clear.critical if name == "critical" else options.clear.warning
                clear = limit if level is None else level
            bad = [
                (options.missing == "breach") if value is None else (value > limit if options.above else value < limit)
                for value in last_counted(options.breach.n)
            ]
            good = [
                (options.missing == "ok") if value is None else (value <= clear if options.above else value >= clear)
                for value in last_counted(options.recover.n)
            ]
            if bad.count(True) >= options.breach.m:
                latched[name] = True
            elif good.count(True) >= options.recover.m:
                latched[name] = False
        now: Severity | None = "critical" if latched["critical"] else "warning" if latched["warning"] else None
        if now != severity:
            changes.append(Change(points[slot].at if slot in points else slot * period, severity, now))
            severity = now
    return changes


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """Draw a rule of any shape that the configuration takes."""

    def count() -> Count:
        n = draw(st.integers(1, 4))
        return Count(m=draw(st.integers(1, n)), n=n)

    above = draw(st.booleans())
    warning, critical = (draw(st.sampled_from([None, 60.0])), draw(st.sampled_from([None, 70.0])))
    if warning is critical is None:
        critical = 70.0
    if not above:
        warning, critical = (value and 100 - value for value in (warning, critical))
    levels = Levels(warning=warning, critical=critical)
    band = draw(st.sampled_from([None, 10.0]))
    clear = band and Levels(
        warning=warning and (warning - band if above else warning + band),
        critical=critical and (critical - band if above else critical + band),
    )
    return rule(
        above=levels if above else None,
        below=None if above else levels,
        clear=clear or None,
        breach=count(),
        recover=count(),
        missing=draw(st.sampled_from(["breach", "ok", "keep"])),
    )
