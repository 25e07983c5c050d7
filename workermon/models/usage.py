"""What AWS is asked for, and what the budget decides about it."""

from __future__ import annotations

from workermon.models.base import Frozen

#: Stands for the whole installation in the place of an ``AccountRegion.key``.
EVERYWHERE = "*/*"

#: The rule about the budget, which always holds.
BUDGET = "budget"

#: The rule about records that cannot be read, which always holds.
RECORDS = "records"


class Hour(Frozen):
    """The requests to AWS within an hour from ``start`` on (a time), counted from ``begun`` on.

    ``calls`` are requests by ``(AccountRegion.key, operation)``, ``metrics`` the metrics asked for by
    ``(AccountRegion.key, namespace/name)``, ``full`` those that would have been asked for without a budget.
    """

    start: int
    begun: float
    calls: dict[tuple[str, str], int] = {}
    metrics: dict[tuple[str, str], int] = {}
    full: dict[tuple[str, str], int] = {}


class UsageTotals(Frozen):
    """All requests to AWS since the installation began to count them; the keys are those of ``Hour``."""

    calls: dict[tuple[str, str], int] = {}
    metrics: dict[tuple[str, str], int] = {}


class BudgetDecision(Frozen):
    """By what the budget multiplies the period of each metric, those above 1 only; decided ``at`` a time.

    ``weights`` are the same multipliers by CloudWatch's ``namespace/name``. ``projected`` and ``budget`` are dollars of
    the day (UTC) of ``at``. ``since`` is when these multipliers were decided.
    """

    at: float = 0.0
    period_multipliers: dict[str, int] = {}
    weights: dict[str, int] = {}
    projected: float = 0.0
    budget: float | None = None
    since: float = 0.0
