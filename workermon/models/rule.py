"""A rule, and the state of its fold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import Field

from workermon.models.base import DAY, Frozen, Severity, leads
from workermon.models.worker import Worker


class Levels(Frozen):
    """A number for each severity; at least one is set."""

    warning: float | None = Field(default=None, allow_inf_nan=False)
    critical: float | None = Field(default=None, allow_inf_nan=False)

    def of(self, severity: Severity) -> float | None:
        """Return the number of a severity."""
        return self.critical if severity == "critical" else self.warning


class Count(Frozen):
    """``m`` of the last ``n`` expected slots."""

    m: int = Field(ge=1)
    n: int = Field(ge=1, le=1440)

    def __str__(self) -> str:
        return f"{self.m} of {self.n}"


class Members(Frozen):
    """``m`` workers of a group that should have ``n``."""

    m: int = Field(ge=1)
    n: int = Field(ge=1)

    def __str__(self) -> str:
        return f"{self.m} of {self.n}"


class Flapping(Frozen):
    """An alert flaps if it fires or resolves ``turns`` times within ``within`` seconds of data time.

    It stops flapping after the same time without a change.
    """

    turns: int = Field(ge=2, le=1440)
    within: int = Field(ge=1, le=7 * DAY)


#: Seconds. The longest time after which an alert escalates.
MAX_ESCALATION = 7 * DAY


class EscalationStep(Frozen):
    """Channels that are notified if an alert has fired for ``after`` seconds and nobody has acknowledged it."""

    after: int = Field(ge=1, le=MAX_ESCALATION)
    notify: tuple[str, ...]


class Rule(Frozen):
    """When a worker is in trouble, and when it is ok again.

    ``kind`` names the kind of rule, and ``options`` are that kind's own; ``rules.KINDS`` reads them. ``metric`` is
    ``None`` for a kind without a metric, and may be an expression over metrics. ``unit`` is that of its values if it
    cannot be derived. ``severity`` is for a rule without thresholds. ``notify`` are all channels; ``routes`` has the
    severities of channels that are not notified of all. ``description``, ``runbook`` (an address) and ``owner`` are for
    the people notified. ``warmup``: slots that begin within so many seconds after the worker's start do not count.
    While a rule of ``inhibited_by`` fires, nobody is notified. The steps of ``escalate`` are in order of time.
    """

    name: str
    kind: str = "threshold"
    metric: str | None = None
    unit: str | None = None
    severity: Severity = "critical"
    options: dict[str, Any] = {}
    labels: dict[str, str] = {}
    notify: tuple[str, ...] = ("log",)
    routes: dict[Severity, tuple[str, ...]] | None = None
    flapping: Flapping | None = None
    description: str | None = None
    runbook: str | None = None
    owner: str | None = None
    warmup: int | None = None
    inhibited_by: tuple[str, ...] = ()
    escalate: tuple[EscalationStep, ...] = ()

    def without_warmup(self) -> Rule:
        """Return the rule for a worker whose start is unknown."""
        return self if self.warmup is None else self.model_copy(update={"warmup": None})

    def channels(self, severity: Severity) -> tuple[str, ...]:
        """Return the channels that are notified of a severity."""
        return self.notify if self.routes is None else self.routes.get(severity, ())

    def applies_to(self, worker: Worker) -> bool:
        """Return whether a worker has every label that the rule requires."""
        return not self.labels or self.has_labels(worker.labels)

    def has_labels(self, labels: Mapping[str, str]) -> bool:
        """Return whether these labels include every one that the rule requires."""
        return all(labels.get(key) == value for key, value in self.labels.items())


class SeverityChange(NamedTuple):
    """From ``at`` on an alert has ``severity`` (``None``: resolved)."""

    at: int
    severity: Severity | None
    #: Which severities are latched, as bits: 1 warning, 2 critical. ``severity`` is the highest of them.
    latched: int


class FlapState(Frozen):
    """Whether an alert flaps, after all changes before those of its trail.

    ``recent`` are the times at which it last fired or resolved; ``fires`` is whether it fires after the last of them.
    """

    fires: bool = False
    recent: tuple[int, ...] = ()
    flaps: bool = False


class RuleState(Frozen):
    """How far a rule is evaluated for one worker, and with what result: the state of the fold.

    ``cursor`` is the time of the last slot evaluated. ``trail`` lists the changes since one lateness before the cursor,
    and the change before those, so that the fold can go back to any time in between; ``trimmed``: there were earlier
    changes. ``metric`` and ``period`` (seconds) are the series that the fold walks. A kind without a metric puts its
    name there. Nothing before ``start`` counts. ``events`` are the scheduled events that were notified, each with its
    time. ``band`` is what a rule has learned about its metric (``rules.band``), ``None`` if nothing. ``lost_metrics``
    are the metrics that the alert about lost metrics has named.
    """

    cursor: int | None = None
    trail: tuple[SeverityChange, ...] = ()
    trimmed: bool = False
    metric: str | None = None
    period: int | None = None
    start: int | None = None
    flap_state: FlapState | None = None
    events: tuple[str, ...] = ()
    band: str | None = None
    lost_metrics: tuple[str, ...] = ()

    @property
    def severity(self) -> Severity | None:
        """Return the state at the cursor."""
        return self.trail[-1].severity if self.trail else None

    def leads(self, now: float) -> bool:
        """Return whether a clock that was ahead wrote it: one of its times is in the future."""
        flap_state = self.flap_state
        return (
            leads(self.cursor, now)
            or leads(self.start, now)
            or (bool(self.trail) and leads(self.trail[-1].at, now))
            or (flap_state is not None and bool(flap_state.recent) and leads(flap_state.recent[-1], now))
        )

    def clamped(self, now: float) -> RuleState:
        """Return the state with every future time set to the present; the rest stays."""
        if not self.leads(now):
            return self
        latest = int(now)
        flap_state = self.flap_state and self.flap_state.model_copy(
            update={"recent": tuple(min(at, latest) for at in self.flap_state.recent)}
        )
        return self.model_copy(
            update={
                "cursor": None if self.cursor is None else min(self.cursor, latest),
                "start": None if self.start is None else min(self.start, latest),
                "trail": tuple(change._replace(at=min(change.at, latest)) for change in self.trail),
                "flap_state": flap_state,
            }
        )
