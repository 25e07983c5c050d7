"""What ``why`` shows about a rule with a threshold: the slots that it compares, and the state of its levels."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from workermon import models
from workermon.rules import check_words, expression_facts, kind, slots, wording
from workermon.rules.threshold_options import Options


class PointDetails(models.Frozen):
    """A datapoint in its JSON form."""

    at: str
    value: float
    operands: dict[str, float | None] | None = Field(default=None, exclude_if=lambda operands: operands is None)


class MissingDetails(models.Frozen):
    """An absent slot of an expression, and its absent operands; none: it cannot be computed from them."""

    at: str
    operands: tuple[str, ...]


class LevelDetails(models.Frozen):
    """The state of a level: ``breaching`` of ``of`` counted slots, ``clear_of`` of ``recovering`` ones are clear."""

    severity: models.Severity
    threshold: float
    clear: float
    latched: bool
    breaching: int
    of: int
    clear_of: int
    recovering: int


class Details(models.Frozen):
    """The rule's input; durations in seconds, times in RFC 3339."""

    period: int
    delay: int
    asked: str | None
    horizon: str | None
    points: tuple[PointDetails, ...] = ()
    missing: tuple[str, ...] = ()
    missing_operands: tuple[MissingDetails, ...] = Field(default=(), exclude_if=lambda missing: not missing)
    levels: tuple[LevelDetails, ...] = ()
    impaired: tuple[check_words.ImpairmentDetails, ...] = Field(default=(), exclude_if=lambda checks: not checks)


def with_slots(
    details: Details, view: slots.View, terms: Sequence[expression_facts.Term], times: Sequence[int]
) -> Details:
    """Return the details with the compared slots; ``terms`` are those of an expression at these ``times``."""
    operands = {at: {term.text: term.values[place] for term in terms} for place, at in enumerate(times) if terms}
    return details.model_copy(
        update={
            "points": tuple(
                PointDetails(at=models.rfc3339(at), value=value, operands=operands.get(at)) for at, value in view.points
            ),
            "missing": tuple(models.rfc3339(at) for at in view.absent),
            "missing_operands": tuple(
                MissingDetails(
                    at=models.rfc3339(at),
                    operands=tuple(text for text, value in operands[at].items() if value is None),
                )
                for at in view.absent
                if terms
            ),
            "levels": tuple(
                LevelDetails(
                    severity=level.severity,
                    threshold=level.threshold,
                    clear=level.clear,
                    latched=level.latched,
                    breaching=level.breaching,
                    of=view.counted,
                    clear_of=level.cleared,
                    recovering=view.recovering,
                )
                for level in view.levels
            ),
        }
    )


def levels_now(options: Options, view: slots.View, unit: str, period: int) -> list[str]:
    """Describe each level: how many slots breach it, and at how many it fires or resolves."""
    clear = f"at or {'below' if options.side == 'above' else 'above'}"
    return [
        f"{level.cleared} of {view.recovering} values {clear} {wording.quantity(level.clear, unit)},"
        f" {level.severity} ends at {options.recover}"
        if level.latched
        else f"{level.breaching} of {view.counted} values {options.side} {wording.quantity(level.threshold, unit)},"
        f" {wording.fires_at(level.severity, options.breach, options.lasts, period)}"
        for level in view.levels
    ]


def operand_lines(terms: Sequence[expression_facts.Term], times: Sequence[int]) -> list[tuple[str, str]]:
    """Describe each operand of an expression in each slot."""
    return [
        (
            "operands",
            f"{wording.time_of_day(at)} "
            + "  ".join(
                f"{term.text} {'absent' if value is None else wording.quantity(value, term.unit)}"
                for term in terms
                for value in term.values[place : place + 1]
            ),
        )
        for place, at in enumerate(times)
        if terms
    ]


def explanation(
    now: str,
    details: Details,
    rule_state: models.RuleState,
    unit: str = "count",
    operands: Sequence[tuple[str, str]] = (),
) -> kind.Explanation:
    """Return the explanation with the lines below ``now``."""
    points = "  ".join(f"{point.at[11:]} {wording.quantity(point.value, unit)}" for point in details.points)
    until = "nothing yet" if rule_state.cursor is None else f"up to {models.rfc3339(rule_state.cursor)}"
    evaluated = (
        f"{until}; period {details.period} s, delay {details.delay} s,"
        f" slots without a datapoint count as absent up to {details.horizon or '-'}"
    )
    lines: tuple[tuple[str, str], ...] = (
        ("points", points or "none"),
        *operands,
        ("missing", "  ".join(at[11:] for at in details.missing) or "none"),
        ("evaluated", evaluated),
    )
    if (check_text := check_words.words(details.impaired)) is not None:
        lines = (*lines, ("EC2", check_text.removeprefix("EC2: ")))
    return kind.Explanation(now, details, lines)
