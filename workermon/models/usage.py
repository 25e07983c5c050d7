"""What is asked of AWS, and what the budget makes of it."""

from __future__ import annotations

from workermon.models.base import Frozen

#: The key of what is of the whole installation and of no account and region, and the rule about its budget.
EVERYWHERE, BUDGET = "*/*", "budget"


class Hour(Frozen):
    """What was asked of AWS within an hour from ``start`` on (a time), counted from ``begun`` on.

    ``calls`` are requests by ``(scope key, operation)``, ``metrics`` the metrics asked by ``(scope key,
    namespace/name)``, ``full`` those that would have been asked without a budget.
    """

    start: int
    begun: float
    calls: dict[tuple[str, str], int] = {}
    metrics: dict[tuple[str, str], int] = {}
    full: dict[tuple[str, str], int] = {}


class BudgetDecision(Frozen):
    """What the budget makes of the periods: ``factors`` by metric, those above 1 only; decided ``at`` a time.

    ``weights`` are the same by CloudWatch's ``namespace/name``. ``projected`` and ``budget`` are dollars of the day
    (UTC) that ``at`` is in; ``since`` is when these factors were decided.
    """

    at: float = 0.0
    period_multipliers: dict[str, int] = {}
    weights: dict[str, int] = {}
    projected: float = 0.0
    budget: float | None = None
    since: float = 0.0
