"""One test of doctor."""

from __future__ import annotations

from workermon import models


class Check(models.Frozen):
    """The result of one test; ``todo`` says what to do if it is not ok."""

    name: str
    ok: bool
    reason: str
    todo: str | None = None


def clock_check(name: str, whose: str, ahead: float, limit: int, max_difference: float) -> Check:
    """Compare a clock with ours, in seconds: up to ``limit`` is ok, up to ``max_difference`` is not measured."""
    ok = abs(ahead) <= limit
    if abs(ahead) <= max_difference:
        reason = "in step with this machine's clock"
    else:
        reason = f"{whose} is {abs(ahead):.1f} s {'ahead' if ahead > 0 else 'behind'}"
        reason += "" if ok else f", more than {limit} s"
    return Check(name=name, ok=ok, reason=reason, todo=None if ok else "synchronise the clocks (chrony, ntpd)")
