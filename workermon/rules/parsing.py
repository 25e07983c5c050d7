"""Parses the texts that the kinds of rules share: "3 of 3", "6 in 1h", and who is notified."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from pydantic import ValidatorFunctionWrapHandler as Handler

from workermon import errors, models
from workermon.models import fields

_COUNT = re.compile(r"\s*(\d{1,5})\s+of\s+(\d{1,5})\s*", re.ASCII)
_FLAPPING = re.compile(r"\s*(\d{1,5})\s+in\s+(\S{1,32})\s*", re.ASCII)

#: Values of a case for one metric.
MAX_VALUES = 100_000

#: Slots. The longest window of a rule: a day of one-minute slots.
MAX_SLOTS = 1440


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


def _members(value: object) -> models.Members:
    match = _COUNT.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise ValueError('must read "M of N", such as "3 of 10"')
    m, n = int(match[1]), int(match[2])
    if not 1 <= m <= n:
        raise ValueError(f"asks for {m} of {n} workers; M must be at least 1 and at most N")
    return models.Members(m=m, n=n)


def _flapping(value: object) -> models.Flapping:
    match = _FLAPPING.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise ValueError('must read "TURNS in DURATION", such as "6 in 1h"')
    transitions, within = int(match[1]), fields.duration(match[2])
    if not 3 <= transitions <= 100:
        raise ValueError(f"asks for {transitions} turns; 3 at least, 100 at most")
    if not 60 <= within <= 7 * models.DAY:
        raise ValueError("looks at less than a minute or more than 7 days")
    return models.Flapping(turns=transitions, within=within)


def routes(value: object, handler: Handler) -> Any:
    """Parse who is notified: a list, or a table of lists by severity."""
    if not isinstance(value, dict):
        return handler(value)
    for severity, names in value.items():
        if severity not in models.SEVERITIES:
            suggestion = errors.nearest(str(severity), models.SEVERITIES)
            raise ValueError(f"has {errors.printable(str(severity))[:64]!r}, which is not a severity: {suggestion}")
        if not isinstance(names, list) or not all(isinstance(name, str) and fields.is_name(name) for name in names):
            raise ValueError(f"must name the channels for {severity} in a list")
    return {severity: tuple(dict.fromkeys(names)) for severity, names in value.items()}


def case_values(value: object, handler: Handler) -> Any:
    """Parse the values of a case: a list, or a table of lists by metric or worker, or one by worker of such tables."""
    if not isinstance(value, dict):
        return handler(value)
    tables = [isinstance(values, dict) for values in value.values()]
    if any(tables) and not all(tables):
        raise ValueError("mixes lists and tables; write one or the other for every worker")
    read = {_key(key): _table(values) if all(tables) else _list(key, values) for key, values in value.items()}
    lists = [values for item in read.values() for values in (item.values() if isinstance(item, dict) else [item])]
    if not lists:
        raise ValueError("has no list of values")
    if len({len(values) for values in lists}) > 1:
        raise ValueError("gives lists of different lengths; write nan where a value is absent")
    return read


def _table(lists: Mapping[str, object]) -> dict[str, tuple[float, ...]]:
    if not lists:
        raise ValueError("has no list of values")
    return {_key(name): _list(name, values) for name, values in lists.items()}


def _key(name: str) -> str:
    try:
        return models.one_line(name)
    except ValueError as error:
        raise ValueError(f"has {errors.printable(name)[:64]!r}, which {error}") from None


def _list(name: str, values: object) -> tuple[float, ...]:
    printable_name = errors.printable(name)[:64]
    if not isinstance(values, list) or not values or len(values) > MAX_VALUES:
        raise ValueError(f"must give a list of values for {printable_name}")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise ValueError(f"has for {printable_name} something that is not a number")
    return tuple(float(value) for value in values)


def _label_name(name: str) -> str:
    if "=" in name:
        raise ValueError("is not a label's name: it has a '='")
    return name


LabelName = Annotated[models.Text, AfterValidator(_label_name)]
Count = Annotated[models.Count, BeforeValidator(_count, json_schema_input_type=str)]
Members = Annotated[models.Members, BeforeValidator(_members, json_schema_input_type=str)]
Flapping = Annotated[models.Flapping, BeforeValidator(_flapping, json_schema_input_type=str)]
