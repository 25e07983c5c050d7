"""Thresholds from a worker's own label: ``critical = "label:net_critical or 100"``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import ValidatorFunctionWrapHandler as Handler
from pydantic import WrapValidator

from workermon import errors, models
from workermon.models import fields

_NUMBER = r"[+-]?(?:[0-9]{1,300}\.?[0-9]{0,300}|\.[0-9]{1,300})(?:[eE][+-]?[0-9]{1,3})?"
_FROM_LABEL = re.compile(rf"label:\s*(\S(?:.*?\S)??)(?:\s+or\s+({_NUMBER}))?\s*")
_LABEL = re.compile(rf"\s*({_NUMBER})\s*", re.ASCII)


class LabelNumber(models.Frozen):
    """The number in a label of the worker, or ``default``; if that is ``None``, there is no threshold."""

    label: str
    default: float | None = None

    def __str__(self) -> str:
        return f"label:{self.label}" + ("" if self.default is None else f" or {self.default:g}")


class WorkerNumber(NamedTuple):
    """The value of a worker's label: its number, and what is wrong with the label's text, if anything."""

    value: float | None
    wrong: str | None = None


def of_worker(number: LabelNumber, labels: Mapping[str, str]) -> WorkerNumber:
    """Return the number for a worker with these labels.

    >>> of_worker(LabelNumber(label="limit", default=100), {"limit": "2.5e2"}).value
    250.0
    """
    text = labels.get(number.label)
    if text is None:
        return WorkerNumber(number.default)
    match = _LABEL.fullmatch(text)
    value = float(match[1]) if match else None
    if value is None or value in (float("inf"), float("-inf")):
        return WorkerNumber(
            number.default, f"the label {number.label} is {errors.printable(text)[:64]!r}, not a number"
        )
    return WorkerNumber(value)


def level(
    numbers: models.Levels | None,
    from_labels: Mapping[models.Severity, LabelNumber],
    severity: models.Severity,
    labels: Mapping[str, str],
) -> float | None:
    """Return a worker's level, whether it is the same for all or comes from its label."""
    label_names = from_labels.get(severity)
    if label_names is not None:
        return of_worker(label_names, labels).value
    return None if numbers is None else numbers.of(severity)


def words(from_labels: Mapping[models.Severity, LabelNumber]) -> str:
    """Write the levels that come from labels."""
    return " ".join(f"{severity} {number}" for severity, number in from_labels.items())


def _read(value: object, handler: Handler) -> Any:
    if not isinstance(value, str):
        return handler(value)
    match = _FROM_LABEL.fullmatch(value)
    if match is None:
        raise ValueError('must be a number, or read "label:NAME" or "label:NAME or NUMBER"')
    default = None if match[2] is None else float(match[2])
    if default in (float("inf"), float("-inf")) or re.search(r"\sor(?:\s|$)", match[1]):
        raise ValueError('must read "label:NAME or NUMBER"')
    return LabelNumber(label=match[1], default=default)


#: A number, or the label that has it; parsed as ``float`` or ``LabelNumber``.
_Given = Annotated[fields.Number, WrapValidator(_read, json_schema_input_type=float | str)]


class GivenLevels(fields.Section):
    """A number for each severity, or the worker's label that has it."""

    warning: _Given | None = None
    critical: _Given | None = None

    def numbers(self) -> models.Levels:
        """Return the levels that are numbers."""
        return models.Levels(
            **{severity: value for severity, value in self.by_severity() if isinstance(value, float | int)}
        )

    def from_labels(self) -> dict[models.Severity, LabelNumber]:
        """Return the levels that come from labels."""
        return {severity: value for severity, value in self.by_severity() if isinstance(value, LabelNumber)}

    def by_severity(self) -> Iterator[tuple[models.Severity, object]]:
        """Yield the severities that have a level, the least severe first."""
        for severity in models.SEVERITIES:
            value = getattr(self, severity)
            if value is not None:
                yield severity, value
