"""The kind ``no-data``: no collection of a worker succeeds for some intervals."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, Strict

from workermon import models
from workermon.rules import flapping, kind, latches, parsing, section, wording
from workermon.rules.horizon import Horizon


class NoDataSection(section.RuleSection):
    """The keys of a ``no-data`` rule."""

    intervals: Annotated[int, Strict(), Field(ge=1, le=1440)] = 3
    severity: models.Severity = "critical"
    flapping: parsing.Flapping | None = None


class Options(models.Frozen):
    """After how many intervals of the worker without a successful collection it fires."""

    intervals: int = 3


class Details(models.Frozen):
    """The start of a worker's silence, and when the rule is due to fire; times in RFC 3339."""

    succeeded_at: str | None
    counts_from: str
    due: str


class NoData(kind.Kind[Options]):
    """No collection of a worker succeeds for some intervals."""

    name = "no-data"
    pseudo_metric = "no-data"
    section_type = NoDataSection
    options_type = Options
    by_clock = True
    about_collection = True
    ends_with = models.GONE
    late_reason = "it was held back until now"

    def parse(self, raw_rule: NoDataSection) -> tuple[Options, models.Severity]:
        """Return the number of intervals."""
        return Options(intervals=raw_rule.intervals), raw_rule.severity

    def advice_on_key(self, key: str) -> str:
        """Return what to do about a key of another kind."""
        return super().advice_on_key(key) if key == "cases" else "remove it; intervals is its threshold"

    def export(self, rule: models.Rule) -> dict[str, object]:
        """Return the keys of a rule."""
        return {"intervals": self.options(rule).intervals, "severity": rule.severity}

    def steady_range(self, rule: models.Rule) -> tuple[float, float] | None:
        """Return any value: it looks at none."""
        return -math.inf, math.inf

    def is_steady(self, rule: models.Rule, rule_state: models.RuleState) -> bool:
        """Return whether it does not fire, and no pause has to be considered."""
        return rule_state.severity is None and (rule_state.start is None or rule_state.cursor is not None)

    def judge(
        self, rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, horizon: Horizon | None
    ) -> kind.Judgement:
        """Return the new state and the changes by the time of the facts.

        It fires at the time that ``due`` returns, and resolves with the next success. While the start of the monitor is
        unknown, nothing fires.
        """
        state = rule_state if rule_state.metric is None else models.RuleState()  # another kind's state is dropped
        if state.start is not None and state.cursor is None:
            # After a pause the silence counts from the first evaluation of the active worker.
            now = math.floor(facts.at)
            state = state.model_copy(update={"start": now, "cursor": now})
        before, transitions = state, list[models.Transition]()
        patience, succeeded = self.patience(rule, facts), facts.condition.succeeded_at
        if state.severity is not None and succeeded is not None and succeeded > state.trail[-1].at - patience:
            at = max(math.floor(succeeded), state.trail[-1].at)
            reason = "a collection succeeded"
            transitions.append(models.Transition(at=at, before=state.severity, after=None, reason=reason))
            state = state.model_copy(update={"trail": (models.SeverityChange(at, None, 0),)})
        if state.severity is None and facts.monitoring_since is not None:
            counts_from = self.counts_from(state, facts)
            at = math.ceil(counts_from + patience)
            if facts.at > at:
                fires = models.Transition(
                    at=at,
                    before=None,
                    after=rule.severity,
                    reason=self._reason(rule, facts.interval),
                    condition_since=math.floor(counts_from),
                )
                transitions.append(fires)
                change = models.SeverityChange(at, rule.severity, latches.BITS[rule.severity])
                state = state.model_copy(update={"trail": (change,)})
        if transitions and rule.flapping is not None:
            # No past is revised here, so all changes are final at once.
            changes = [models.SeverityChange(transition.at, transition.after, 0) for transition in transitions]
            flaps = flapping.among(rule, before.flap_state, changes)
            transitions = [
                transition.model_copy(update={"flapping": transition.at in flaps}) for transition in transitions
            ]
            state = state.model_copy(update={"flap_state": flapping.settled(rule, before.flap_state, changes)})
        return state, tuple(transitions)

    def patience(self, rule: models.Rule, facts: kind.Facts) -> int:
        """Return for how many seconds a worker may be silent."""
        return self.options(rule).intervals * facts.interval

    def counts_from(self, rule_state: models.RuleState, facts: kind.Facts) -> float:
        """Return since when silence counts.

        That is the latest of the last success, the worker's addition, the state's start and the monitor's own start.
        """
        succeeded = facts.condition.succeeded_at or facts.added_at
        return max(succeeded, facts.added_at, facts.monitoring_since or 0, rule_state.start or 0)

    def summary(self, rule: models.Rule, transition: models.Transition, unit: str, interval: int) -> str:
        """Return for how long no collection succeeded."""
        return "collected again" if transition.after is None else self._reason(rule, interval)

    def reason(self, transition: models.Transition, last_error: models.CollectionError | None) -> str | None:
        """Return why collections fail."""
        if last_error is not None and transition.after:
            return wording.collection_error(last_error)
        return transition.cause

    def conditions(self, rule: models.Rule) -> dict[str, object]:
        """Return the number of intervals."""
        return self.export(rule)

    def described(self, rule: models.Rule, unit: str) -> tuple[str, ...]:
        """Return the number of intervals in words."""
        return (f"intervals {self.options(rule).intervals}",)

    def explain(
        self, rule: models.Rule, rule_state: models.RuleState, facts: kind.Facts, horizon: Horizon | None
    ) -> kind.Explanation:
        """Explain for how long the worker is silent."""
        counts_from, patience = self.counts_from(rule_state, facts), self.patience(rule, facts)
        details = Details(
            succeeded_at=wording.time(facts.condition.succeeded_at),
            counts_from=models.rfc3339(counts_from),
            due=models.rfc3339(counts_from + patience),
        )
        if facts.monitoring_since is None:
            return kind.Explanation("the monitor itself has not run long enough to know", details)
        silent = max(0, round(facts.at - counts_from))
        return kind.Explanation(
            f"no successful collection for {silent} s, {rule.severity} fires at {patience} s", details
        )

    def _reason(self, rule: models.Rule, interval: int) -> str:
        intervals = self.options(rule).intervals
        return f"no successful collection for {intervals} intervals ({intervals * interval} s)"


KIND = NoData()
