"""The grammar of the config file: its sections, their keys, and what each key may say by itself.

``docs/reference/config-file.md`` describes it. What one key means for another is checked by ``config`` or
``channels``'.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import pydantic
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    WrapValidator,
)
from pydantic import ValidatorFunctionWrapHandler as Handler

from workermon import errors, models
from workermon.config import catalogue as metrics
from workermon.config import problems

#: The channel that is there without being configured: the log of the worker process.
LOG = "log"

#: Sections that later versions bring.
LATER_SECTIONS = ("windows", "groups", "templates")

#: Keys that take a secret by name.
SECRETS = frozenset({"external_id"})

REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]{2,12}){1,3}-\d{1,2}")
ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,512}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_BREACH = re.compile(r"\s*(\d{1,5})\s+of\s+(\d{1,5})\s*")
_FLAPPING = re.compile(r"\s*(\d{1,5})\s+in\s+(\S{1,32})\s*")
_STATISTIC = re.compile(
    r"Average|Sum|Minimum|Maximum|SampleCount|IQM|(?:p|tm|wm|tc|ts)(?:\d{1,2}(?:\.\d{1,10})?|100)"
    r"|(?:TM|WM|TC|TS|PR)\([\d.%:]{1,40}\)"
)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("is no name: up to 64 letters, digits, '-', '_' and '.', the first a letter or digit")
    return text


def _region(text: str) -> str:
    if not REGION.fullmatch(text):
        raise ValueError("is no region such as us-east-1")
    return text


def _role(text: str) -> str:
    if not ROLE.fullmatch(text):
        raise ValueError("is no role such as arn:aws:iam::123456789012:role/workermon")
    return text


def _statistic(text: str) -> str:
    if not _STATISTIC.fullmatch(text):
        raise ValueError("is no statistic of CloudWatch such as Average, Sum, Maximum or p99")
    return text


def duration(value: object) -> int:
    """Read a duration of whole seconds, one at least; raises ``ValueError`` for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be a duration such as 60s or 5m")
    whole = models.seconds(value)
    if whole < 1:
        raise ValueError("must be at least 1s")
    return whole


def between(least: int, most: int) -> AfterValidator:
    """Return a validator that refuses a duration outside ``least`` to ``most`` seconds."""

    def check(seconds: int) -> int:
        if not least <= seconds <= most:
            raise ValueError(f"must be at least {_written(least)} and at most {_written(most)}")
        return seconds

    return AfterValidator(check)


def _written(seconds: int) -> str:
    """Return a duration as a file has it, in the largest unit that it is a whole number of: ``32d``, ``1m``."""
    size, unit = next((each for each in ((models.DAY, "d"), (3600, "h"), (60, "m")) if not seconds % each[0]), (1, "s"))
    return f"{seconds // size}{unit}" if seconds else "0s"


def _count(value: object) -> models.Count:
    found = _BREACH.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise ValueError('must read "M of N", such as "3 of 3"')
    m, n = int(found[1]), int(found[2])
    if not 1 <= m <= n:
        raise ValueError(f"asks for {m} of {n} slots; M must be at least 1 and at most N")
    if n > 1440:
        raise ValueError(f"looks at {n} slots; 1440 at most")
    return models.Count(m=m, n=n)


def _flapping(value: object) -> models.Flapping:
    found = _FLAPPING.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise ValueError('must read "TURNS in DURATION", such as "6 in 1h"')
    turns, within = int(found[1]), duration(found[2])
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
            raise ValueError(f"has {problems.shown(severity)!r}, which is no severity: {meant}")
        if not isinstance(names, list) or not all(isinstance(one, str) and _NAME.fullmatch(one) for one in names):
            raise ValueError(f"must name the channels for {severity} in a list")
    return {severity: tuple(dict.fromkeys(names)) for severity, names in value.items()}


def _time(value: object) -> float:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = None
    if not isinstance(value, datetime):
        raise ValueError("must be a time such as 2026-12-24T18:00:00Z")
    if value.tzinfo is None:
        raise ValueError("does not say how far from UTC it is: end it with Z, or with an offset such as +01:00")
    return value.timestamp()


Name = Annotated[str, AfterValidator(_name)]
Region = Annotated[str, AfterValidator(_region)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Duration = Annotated[int, BeforeValidator(duration, json_schema_input_type=str | int), between(1, models.DAY)]
Retention = Annotated[int, BeforeValidator(duration, json_schema_input_type=str | int), between(3600, 30 * models.DAY)]
#: As long as a datapoint takes where nothing is learnt, at the least.
Lateness = Annotated[
    int, BeforeValidator(duration, json_schema_input_type=str | int), between(metrics.DELAY, models.DAY)
]
Ahead = Annotated[int, BeforeValidator(duration, json_schema_input_type=str | int), between(60, 365 * models.DAY)]
Breach = Annotated[models.Count, BeforeValidator(_count, json_schema_input_type=str)]
Labels = dict[models.Text, models.Text]
Time = Annotated[float, BeforeValidator(_time, json_schema_input_type=str)]
#: A month and a day: the longest window of a schedule.
WindowLength = Annotated[int, BeforeValidator(duration, json_schema_input_type=str | int), between(60, 32 * models.DAY)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Levels(_Section):
    """A number for each severity; one at least."""

    warning: Number | None = None
    critical: Number | None = None


class Secret(_Section):
    """A secret by name: ``{ env = "NAME" }`` or ``{ file = "path" }``."""

    env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,255}$")] | None = None
    file: models.Text | None = None

    def ref(self, path: str) -> models.SecretRef:
        """Return what names it; one that is named in no way, or in two, is wrong at ``path``."""
        if (self.env is None) == (self.file is None):
            raise problems.Mistake(path, "names a secret by env or by file, one of the two", 'write { env = "NAME" }')
        if self.env is not None and models.is_protected_variable(self.env):
            raise problems.Mistake(
                path, f"names {problems.shown(self.env)}, and AWS_* and WORKERMON_* are never given away",
                "keep the secret in a variable of its own",
            )  # fmt: skip
        return models.SecretRef(env=self.env, file=self.file)


class WorkerSection(_Section):
    """``[[workers]]``: an instance to be monitored."""

    id: models.InstanceId
    region: Region | None = None
    name: models.Text | None = None
    interval: Duration | None = None
    labels: Labels = {}
    account: Name | None = None


class DiscoverSection(_Section):
    """``[discover]``: the fleet follows these tags. Without tags nothing is discovered any more."""

    regions: tuple[Region, ...] = ()
    tags: dict[models.Text, str] = {}
    account: Name | None = None
    interval: Duration | None = None
    labels: Labels = {}


class TurnSection(_Section):
    """What a case of a rule expects: from the value with that number on (the first is 1) the alert is in this state."""

    at: Annotated[int, Strict(), Field(ge=1)]
    to: Literal["ok", "warning", "critical"]


class CaseSection(_Section):
    """``[[rules.cases]]``: values of the rule's metric, a slot each (``nan`` is absent), and what they must turn."""

    name: models.Text
    values: Annotated[tuple[Annotated[float, Strict()], ...], Field(min_length=1, max_length=100_000)]
    period: Duration = 60
    turns: tuple[TurnSection, ...] = ()


class RuleSection(_Section):
    """``[[rules]]``: when a metric is in trouble, and when it is well again."""

    name: Name
    metric: Name
    above: Levels | None = None
    below: Levels | None = None
    breach: Breach = models.Count(m=3, n=3)
    clear: Levels | None = None
    recover: Breach = models.Count(m=2, n=2)
    missing: Literal["breach", "ok", "keep"] = "keep"
    intervals: Annotated[int, Strict(), Field(ge=1, le=1440)] = 3
    severity: models.Severity = "critical"
    states: tuple[Literal["stopped", "terminated"], ...] = ("stopped", "terminated")
    expected: tuple[models.Text, ...] = ()
    codes: tuple[models.Text, ...] = ()
    ahead: Ahead | None = None
    labels: Labels = {}
    notify: Annotated[
        tuple[Name, ...],
        WrapValidator(_routes, json_schema_input_type=tuple[Name, ...] | dict[models.Severity, tuple[Name, ...]]),
    ] = (LOG,)
    flapping: Annotated[models.Flapping, BeforeValidator(_flapping, json_schema_input_type=str)] | None = None
    cases: tuple[CaseSection, ...] = ()


class MetricSection(_Section):
    """``[[metrics]]``: a metric of one's own, or other values for a known one."""

    name: Name
    namespace: models.Text | None = None
    metric_name: models.Text | None = None
    statistic: Annotated[str, AfterValidator(_statistic)] | None = None
    unit: models.Text | None = None
    period: Duration | None = None
    merge: Literal["max", "sum"] | None = None


class CollectSection(_Section):
    """``[collect]``: what is asked for, how long it is kept, and how late it may come."""

    metrics: tuple[Name, ...] | None = None
    retention: Retention = models.DAY
    lateness: Lateness = models.LATENESS


class AccountSection(_Section):
    """``[accounts.NAME]``: how to become another AWS account."""

    role_arn: Annotated[str, AfterValidator(_role)]
    external_id: Secret | None = None


class BudgetSection(_Section):
    """``[budget]``: what a day (UTC) may cost in dollars. Without the number there is no budget any more."""

    dollars_per_day: Annotated[Number, Field(ge=0.01, le=1_000_000)] | None = None


class LimitSection(_Section):
    """How fast an API may be asked: ``bucket`` requests at once, ``per_second`` from then on."""

    bucket: Annotated[Number, Field(ge=1, le=100_000)]
    per_second: Annotated[Number, Field(ge=0.1, le=100_000)]


class LimitsSection(_Section):
    """``[limits]``: of each account and region, over all worker processes; AWS' own where left out."""

    describe: LimitSection | None = None
    list_metrics: LimitSection | None = None
    get_metric_data: LimitSection | None = None


class SilenceSection(_Section):
    """``[[silences]]``: what is told to nobody, once (``begins``, ``ends``) or at the times of a schedule.

    ``schedule`` are the five fields of cron on the clocks of ``timezone``, each the begin of a window of ``duration``.
    """

    worker: models.Text | None = None
    labels: Labels = {}
    rule: Name | None = None
    reason: models.Text
    begins: Time | None = None
    ends: Time | None = None
    schedule: models.Text | None = None
    duration: WindowLength | None = None
    timezone: models.Text | None = None


#: The operations of AWS that a key of ``[limits]`` is about; every Describe call of EC2 has the one limit.
LIMITED = {"describe": "Describe", "list_metrics": "ListMetrics", "get_metric_data": "GetMetricData"}


class Grammar(_Section):
    """The whole file. A section that is absent leaves that part alone."""

    discover: DiscoverSection | None = None
    workers: tuple[WorkerSection, ...] | None = None
    rules: tuple[RuleSection, ...] | None = None
    channels: dict[Name, dict[str, Any]] | None = None
    metrics: tuple[MetricSection, ...] | None = None
    collect: CollectSection | None = None
    accounts: dict[Name, AccountSection] | None = None
    budget: BudgetSection | None = None
    limits: LimitsSection | None = None
    silences: tuple[SilenceSection, ...] | None = None


def read(document: Mapping[str, object]) -> Grammar:
    """Return the sections of a file; raises ``mistakes.Mistake`` with the first that is wrong."""
    _known_sections(document)
    try:
        return Grammar.model_validate(document)
    except pydantic.ValidationError as wrong:
        raise problems.first(wrong, Grammar, SECRETS) from None


def _known_sections(document: Mapping[str, object]) -> None:
    known = tuple(Grammar.model_fields)
    for section in document:
        if section in LATER_SECTIONS:
            raise problems.Mistake(f"[{section}]", "is not supported in this version", "remove it")
        if section not in known:
            raise problems.Mistake(
                f"[{problems.shown(section)}]", "is no section of a config file", errors.nearest(section, known)
            )
