"""Types of config file keys that several sections use, and the base of every section."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict

from workermon.models.base import DAY, Text, seconds

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Section(BaseModel):
    """The base of every section: immutable, unknown keys are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


def keys(section: type[BaseModel]) -> list[str]:
    """Return the keys of a section, by their names in the file."""
    return [field.alias or name for name, field in section.model_fields.items()]


def is_name(text: str) -> bool:
    """Return whether a text is the name of a rule, channel, metric or account."""
    return _NAME.fullmatch(text) is not None


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError("is not a name: up to 64 letters, digits, '-', '_' and '.', the first a letter or digit")
    return text


def duration(value: object) -> int:
    """Parse a duration of whole seconds. Raises ``ValueError`` for anything else, and for less than a second."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be a duration such as 60s or 5m")
    total = seconds(value)
    if total < 1:
        raise ValueError("must be at least 1s")
    return total


def between(least: int, most: int) -> AfterValidator:
    """Return a validator of durations from ``least`` to ``most`` seconds."""

    def check(value: int) -> int:
        if not least <= value <= most:
            raise ValueError(f"must be at least {written(least)} and at most {written(most)}")
        return value

    return AfterValidator(check)


def written(length: int) -> str:
    """Format a duration in seconds for the file, in the largest unit that divides it.

    >>> written(32 * 86400), written(90), written(0)
    ('32d', '90s', '0s')
    """
    units = ((DAY, "d"), (3600, "h"), (60, "m"))
    size, unit = next((unit for unit in units if not length % unit[0]), (1, "s"))
    return f"{length // size}{unit}" if length else "0s"


Name = Annotated[str, AfterValidator(_name)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
#: A duration in seconds, such as "5m" in the file. Add a ``between``.
Seconds = Annotated[int, BeforeValidator(duration, json_schema_input_type=str | int)]
Duration = Annotated[Seconds, between(1, DAY)]
Labels = dict[Text, Text]
