"""The ``[[rules]]`` section of the config file: its common keys, and the types of keys that the kinds share."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Strict, WrapValidator
from pydantic import ValidatorFunctionWrapHandler as Handler

from workermon import errors, models
from workermon.models import fields

#: The channel that exists without being configured: the log of the process that delivers.
LOG = "log"

_COUNT = re.compile(r"\s*(\d{1,5})\s+of\s+(\d{1,5})\s*")
_FLAPPING = re.compile(r"\s*(\d{1,5})\s+in\s+(\S{1,32})\s*")

#: Slots. The longest window of a rule: a day of one-minute slots.
MAX_SLOTS = 1440


class Mistake(Exception):
    """Keys of a section are wrong: ``key`` is the path below the section, empty for all of it."""

    def __init__(self, key: str, why: str, todo: str) -> None:
        super().__init__(key, why, todo)
        self.key, self.why, self.todo = key, why, todo


# --- types of keys ---------------------------------------------------------------------------------------------------


def _count(value: object) -> models.Count:
    match = _COUNT.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise ValueError('must read "M of N", such as "3 of 3"')
    m, n = int(match[1]), int(match[2])
    if not 1 <= m <= n:
        raise ValueError(f"asks for {m} of {n} slots; M must be at least 1 and at most N")
    if n > MAX_SLOTS:
        raise ValueError(f"looks at {n} slots; {MAX_SLOTS} at most")
    return models.Count(m=m, n=n)


def _flapping(value: object) -> models.Flapping:
    match = _FLAPPING.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise ValueError('must read "TURNS in DURATION", such as "6 in 1h"')
    turns, within = int(match[1]), fields.duration(match[2])
    if not 3 <= turns <= 100:
        raise ValueError(f"asks for {turns} turns; 3 at least, 100 at most")
    if not 60 <= within <= 7 * models.DAY:
        raise ValueError("looks at less than a minute or more than 7 days")
    return models.Flapping(turns=turns, within=within)


def _routes(value: object, handler: Handler) -> Any:
    """Read who is notified: a list, or a table of lists by severity."""
    if not isinstance(value, dict):
        return handler(value)
    for severity, names in value.items():
        if severity not in models.SEVERITIES:
            meant = errors.nearest(str(severity), models.SEVERITIES)
            raise ValueError(f"has {errors.printable(str(severity))[:64]!r}, which is not a severity: {meant}")
        if not isinstance(names, list) or not all(isinstance(name, str) and fields.is_name(name) for name in names):
            raise ValueError(f"must name the channels for {severity} in a list")
    return {severity: tuple(dict.fromkeys(names)) for severity, names in value.items()}


Count = Annotated[models.Count, BeforeValidator(_count, json_schema_input_type=str)]
Flapping = Annotated[models.Flapping, BeforeValidator(_flapping, json_schema_input_type=str)]


class Levels(fields.Section):
    """A number for each severity; one at least."""

    warning: fields.Number | None = None
    critical: fields.Number | None = None

    def levels(self) -> models.Levels:
        """Return the numbers."""
        return models.Levels(warning=self.warning, critical=self.critical)


# --- the common part of [[rules]] ------------------------------------------------------------------------------------


class TurnSection(fields.Section):
    """What a case of a rule expects: from the value with that number on (the first is 1) the alert is in this state."""

    at: Annotated[int, Strict(), Field(ge=1)]
    to: Literal["ok", "warning", "critical"]


class CaseSection(fields.Section):
    """``[[rules.cases]]``: values of the rule's metric, a slot each (``nan`` is absent), and what they must turn."""

    name: models.Text
    values: Annotated[tuple[Annotated[float, Strict()], ...], Field(min_length=1, max_length=100_000)]
    period: fields.Duration = 60
    turns: tuple[TurnSection, ...] = ()


class RuleSection(fields.Section):
    """``[[rules]]``: when a metric is in trouble, and when it is ok again.

    These are the keys of every rule. A kind adds its own in a subclass.
    """

    name: fields.Name
    metric: fields.Name
    labels: fields.Labels = {}
    notify: Annotated[
        tuple[fields.Name, ...],
        WrapValidator(
            _routes, json_schema_input_type=tuple[fields.Name, ...] | dict[models.Severity, tuple[fields.Name, ...]]
        ),
    ] = (LOG,)
