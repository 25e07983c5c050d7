"""The requests to AWS, and the budget's decisions about them."""

from __future__ import annotations

from workermon.models.base import Frozen

#: Stands for the whole installation in place of an ``AccountRegion.key``.
WHOLE_INSTALLATION = "*/*"

#: The rule about the budget. It always applies.
BUDGET = "budget"

#: The rule about records that cannot be read. It always applies.
RECORDS = "records"


class Hour(Frozen):
    """The requests to AWS within an hour from ``start`` on (a time), counted since ``counted_since``.

    ``calls`` are requests by ``(AccountRegion.key, operation)``, ``metrics`` the requested metrics by
    ``(AccountRegion.key, namespace/name)``, ``full`` those that would have been requested without a budget.
    """

    start: int
    counted_since: float
    calls: dict[tuple[str, str], int] = {}
    metrics: dict[tuple[str, str], int] = {}
    full: dict[tuple[str, str], int] = {}


class UsageTotals(Frozen):
    """All requests to AWS since the installation began to count them; the keys are those of ``Hour``."""

    calls: dict[tuple[str, str], int] = {}
    metrics: dict[tuple[str, str], int] = {}


class BudgetDecision(Frozen):
    """The budget's multipliers of each metric's period, if above 1; decided ``at`` a time.

    ``weights`` are the same multipliers by CloudWatch's ``namespace/name``. ``projected`` and ``budget`` are dollars of
    the day (UTC) of ``at``. ``since`` is when these multipliers were decided.
    """

    at: float = 0.0
    period_multipliers: dict[str, int] = {}
    weights: dict[str, int] = {}
    projected: float = 0.0
    budget: float | None = None
    since: float = 0.0
