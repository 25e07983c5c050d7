"""The ``[[rules]]`` section of the config file: the keys that every kind of rule has."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict, WrapValidator

from workermon import models
from workermon.models import fields
from workermon.rules import parsing

#: The channel that exists without being configured: the log of the process that delivers.
LOG = "log"


class Mistake(Exception):
    """Keys of a section are wrong: ``key`` is the path below the section, empty for the whole section.

    ``place`` is the mistake's position in the key's text, from 0.
    """

    def __init__(self, key: str, reason: str, todo: str, place: int | None = None) -> None:
        super().__init__(key, reason, todo, place)
        self.key, self.reason, self.todo, self.place = key, reason, todo, place


class Levels(fields.Section):
    """A number for each severity; at least one is set."""

    warning: fields.Number | None = None
    critical: fields.Number | None = None

    def levels(self) -> models.Levels:
        """Return the numbers."""
        return models.Levels(warning=self.warning, critical=self.critical)


# --- the common part of [[rules]] ------------------------------------------------------------------------------------


class TransitionSection(fields.Section):
    """An expectation of a case: from the value with that number on (the first is 1) the alert is in this state.

    ``worker`` is the alert's worker, for a rule that compares workers.
    """

    at: Annotated[int, Strict(), Field(ge=1)]
    to: Literal["ok", "warning", "critical"]
    worker: models.Text | None = None


class CaseSection(fields.Section):
    """``[[rules.cases]]``: values of the rule's metric, one a slot (``nan`` is absent), and the expected result.

    For a rule over several metrics ``values`` is a table with a list for each of them. For a rule that several workers
    decide it is a table by worker's name, each with a list or such a table. ``started`` is the number of the value in
    whose slot the worker started running, for a rule with a warm-up. ``labels`` are those of the worker, for thresholds
    that come from them.
    """

    name: models.Text
    values: Annotated[
        tuple[Annotated[float, Strict()], ...],
        Field(min_length=1, max_length=parsing.MAX_VALUES),
        WrapValidator(
            parsing.case_values,
            json_schema_input_type=tuple[float, ...]
            | dict[models.Text, tuple[float, ...] | dict[fields.Name, tuple[float, ...]]],
        ),
    ]
    period: fields.Duration = 60
    turns: tuple[TransitionSection, ...] = ()
    started: Annotated[int, Strict(), Field(ge=1)] | None = None
    labels: fields.Labels = {}


class EscalationSection(fields.Section):
    """A step of ``escalate``: who is notified if an alert fires for so long and nobody has acknowledged it."""

    after: Annotated[fields.Seconds, fields.between(1, models.MAX_ESCALATION)]
    notify: Annotated[tuple[fields.Name, ...], Field(min_length=1, max_length=20)]


class RuleSection(fields.Section):
    """``[[rules]]``: when a metric is in trouble, and when it is ok again.

    These are the keys of every rule. A kind adds its own in a subclass. ``metric`` is a metric or an expression over
    metrics; kinds without a metric lack it. ``unit`` is that of an expression.
    """

    name: fields.Name
    metric: Annotated[str, Field(max_length=1000)] | None = None
    unit: models.Text | None = None
    labels: fields.Labels = {}
    notify: Annotated[
        tuple[fields.Name, ...],
        WrapValidator(
            parsing.routes,
            json_schema_input_type=tuple[fields.Name, ...] | dict[models.Severity, tuple[fields.Name, ...]],
        ),
    ] = (LOG,)
    description: models.Description | None = None
    runbook: models.Runbook | None = None
    owner: models.Text | None = None
    warmup: fields.Duration | None = None
    escalate: Annotated[tuple[EscalationSection, ...], Field(max_length=10)] = ()
    inhibited_by: tuple[fields.Name, ...] = ()
