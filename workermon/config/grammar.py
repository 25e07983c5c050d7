"""The grammar of the config file: its sections, their keys, and the values allowed for each key alone.

``docs/reference/config-file.md`` explains it to users. ``build`` checks keys against one another. ``rules`` and
``channels`` parse their sections by the kind of the rule and the type of the channel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, time
from typing import Annotated, Any, Literal

import pydantic
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
)

from workermon import errors, models
from workermon.config import problems
from workermon.models import fields
from workermon.rules import horizon

#: Sections of later versions.
LATER_SECTIONS = ("windows", "groups", "templates")

#: Keys that take a secret by name.
SECRETS = frozenset({"external_id"})

REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]{2,12}){1,3}-\d{1,2}", re.ASCII)
ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,512}", re.ASCII)
QUEUE = re.compile(r"https?://[A-Za-z0-9.-]{1,253}(?::\d{1,5})?/[A-Za-z0-9_./-]{1,200}", re.ASCII)
_STATISTIC = re.compile(
    r"Average|Sum|Minimum|Maximum|SampleCount|IQM|(?:p|tm|wm|tc|ts)(?:\d{1,2}(?:\.\d{1,10})?|100)"
    r"|(?:TM|WM|TC|TS|PR)\([\d.%:]{1,40}\)",
    re.ASCII,
)


_TIME_OF_DAY = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d", re.ASCII)


def _region(text: str) -> str:
    if not REGION.fullmatch(text):
        raise ValueError("is not a region such as us-east-1")
    return text


def _role(text: str) -> str:
    if not ROLE.fullmatch(text):
        raise ValueError("is not a role such as arn:aws:iam::123456789012:role/workermon")
    return text


def _account_id(text: str) -> str:
    if not re.fullmatch(r"\d{12}", text, re.ASCII):
        raise ValueError("is not the id of an account: 12 digits, as text")
    return text


def _queue_url(text: str) -> str:
    if not QUEUE.fullmatch(text):
        raise ValueError(
            "is not the address of a queue such as https://sqs.us-east-1.amazonaws.com/123456789012/workermon"
        )
    return text


def _statistic(text: str) -> str:
    if not _STATISTIC.fullmatch(text):
        raise ValueError("is not a statistic of CloudWatch such as Average, Sum, Maximum or p99")
    return text


def _time_of_day(value: object) -> str:
    if isinstance(value, time) and value == time(value.hour, value.minute):
        value = f"{value:%H:%M}"
    if not isinstance(value, str) or not _TIME_OF_DAY.fullmatch(value):
        raise ValueError('must be a time of day such as "04:00"')
    return value


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
    try:
        return models.in_calendar(value)
    except ValueError:
        raise ValueError("must be a time such as 2026-12-24T18:00:00Z") from None


def _tags(value: object) -> object:
    """Parse tags that are labels of the same name: a list of them stands for a table."""
    if isinstance(value, list | tuple):
        if not all(isinstance(tag, str) for tag in value):
            raise ValueError("must be a list of tags' names")
        return {tag: tag for tag in value}
    return value


def _label(text: str) -> str:
    if "=" in text:
        raise ValueError('has "=", which the name of a label cannot have; rename it: { pool = "the tag" }')
    return text


def _tag(text: str) -> str:
    if len(text) > MAX_TAG_LENGTH:
        raise ValueError(f"is longer than the name of a tag can be, {MAX_TAG_LENGTH} characters")
    return text


#: Maximum characters of a tag's name in EC2.
MAX_TAG_LENGTH = 128

LabelName = Annotated[models.Text, AfterValidator(_label)]
LabelTags = Annotated[
    dict[LabelName, Annotated[models.Text, AfterValidator(_tag)]],
    BeforeValidator(_tags, json_schema_input_type=tuple[LabelName, ...] | dict[LabelName, models.Text]),
]


def _rollups(value: object) -> int:
    if value == "off" or (value == 0 and not isinstance(value, bool)):
        return 0
    seconds = fields.duration(value)
    if not models.DAY <= seconds <= 3650 * models.DAY:
        raise ValueError("must be at least 1d and at most 3650d, or off")
    return seconds


Region = Annotated[str, AfterValidator(_region)]
Retention = Annotated[fields.Seconds, fields.between(3600, 30 * models.DAY)]
#: At least as long as a datapoint is awaited before a delay is learned.
Lateness = Annotated[fields.Seconds, fields.between(horizon.DELAY, models.DAY)]
#: Long-term data: 0 or "off" keeps no roll-ups.
LongTerm = Annotated[fields.Seconds, fields.between(models.DAY, 3650 * models.DAY)]
Rollups = Annotated[int, BeforeValidator(_rollups, json_schema_input_type=str | int)]
Time = Annotated[float, BeforeValidator(_time, json_schema_input_type=str)]
TimeOfDay = Annotated[str, BeforeValidator(_time_of_day, json_schema_input_type=str)]
#: A month and a day: the longest window of a schedule.
WindowLength = Annotated[fields.Seconds, fields.between(60, 32 * models.DAY)]


class Secret(fields.Section):
    """A secret by name: ``{ env = "NAME" }`` or ``{ file = "path" }``."""

    env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,255}$")] | None = None
    file: models.Text | None = None

    def ref(self, path: str) -> models.SecretRef:
        """Return its name. None, or two, are an error at ``path``."""
        if (self.env is None) == (self.file is None):
            raise problems.Mistake(path, "names a secret by env or by file, one of the two", 'write { env = "NAME" }')
        if self.env is not None and models.is_protected_variable(self.env):
            raise problems.Mistake(
                path, f"names {problems.excerpt(self.env)}, and AWS_* and WORKERMON_* are never given away",
                "keep the secret in a variable of its own",
            )  # fmt: skip
        return models.SecretRef(env=self.env, file=self.file)


class WorkerSection(fields.Section):
    """``[[workers]]``: an instance to be monitored."""

    id: models.InstanceId
    region: Region | None = None
    name: models.Text | None = None
    interval: fields.Duration | None = None
    labels: fields.Labels = {}
    account: fields.Name | None = None


class DiscoverSection(fields.Section):
    """``[discover]``: the fleet follows these tags. Without tags nothing is discovered any more."""

    regions: tuple[Region, ...] = ()
    tags: dict[models.Text, str] = {}
    account: fields.Name | None = None
    interval: fields.Duration | None = None
    labels: fields.Labels = {}
    labels_from_tags: LabelTags = {}


class MetricSection(fields.Section):
    """``[[metrics]]``: a metric of one's own, or other values for a known one."""

    name: fields.Name
    namespace: models.Text | None = None
    metric_name: models.Text | None = None
    statistic: Annotated[str, AfterValidator(_statistic)] | None = None
    unit: models.Text | None = None
    period: fields.Duration | None = None
    merge: Literal["max", "min", "sum"] | None = None
    include: dict[models.Text, tuple[models.Text, ...]] | None = None
    exclude: dict[models.Text, tuple[models.Text, ...]] | None = None


class CollectSection(fields.Section):
    """``[collect]``: what is asked for, how long it is kept, and how late it may come."""

    metrics: tuple[fields.Name, ...] | None = None
    retention: Retention = models.DAY
    lateness: Lateness = models.LATENESS
    cadence: Literal["fixed", "adaptive"] = "fixed"
    rollups: Rollups = models.ROLLUPS


class AlertsSection(fields.Section):
    """``[alerts]``: for how long the history of alerts is kept."""

    history: LongTerm = models.ALERT_HISTORY


class AccountSection(fields.Section):
    """``[accounts.NAME]``: how to become another AWS account."""

    role_arn: Annotated[str, AfterValidator(_role)]
    external_id: Secret | None = None
    monitoring: Annotated[str, AfterValidator(_account_id)] | None = None


class EventsSection(fields.Section):
    """``[events.NAME]``: a queue of SQS that EventBridge fills."""

    queue_url: Annotated[models.Text, AfterValidator(_queue_url)]
    account: fields.Name | None = None


class BudgetSection(fields.Section):
    """``[budget]``: what a day (UTC) may cost in dollars. Without the number there is no budget any more."""

    dollars_per_day: Annotated[fields.Number, Field(ge=0.01, le=1_000_000)] | None = None


class LimitSection(fields.Section):
    """How fast an API may be asked: ``bucket`` requests at once, ``per_second`` from then on."""

    bucket: Annotated[fields.Number, Field(ge=1, le=100_000)]
    per_second: Annotated[fields.Number, Field(ge=0.1, le=100_000)]


class LimitsSection(fields.Section):
    """``[limits]``: of each account and region, over all worker processes; AWS' own where left out."""

    describe: LimitSection | None = None
    list_metrics: LimitSection | None = None
    get_metric_data: LimitSection | None = None


class SilenceSection(fields.Section):
    """``[[silences]]``: alerts that notify nobody, once (``begins``, ``ends``) or at the times of a schedule.

    ``schedule`` are the five fields of cron on the clocks of ``timezone``. Each is the begin of a window that lasts for
    ``duration``, or ``until`` a time of day. ``all`` is there instead of worker, labels and rule.
    """

    worker: models.Text | None = None
    labels: fields.Labels = {}
    rule: fields.Name | None = None
    all: bool = False
    reason: models.Text
    begins: Time | None = None
    ends: Time | None = None
    schedule: models.Text | None = None
    duration: WindowLength | None = None
    until: TimeOfDay | None = None
    timezone: models.Text | None = None


#: The operations of AWS that a key of ``[limits]`` is about; every Describe call of EC2 has the one limit.
LIMITED = {"describe": "Describe", "list_metrics": "ListMetrics", "get_metric_data": "GetMetricData"}


class Grammar(fields.Section):
    """The whole file. A section that is absent leaves that part alone."""

    discover: DiscoverSection | None = None
    workers: tuple[WorkerSection, ...] | None = None
    rules: tuple[dict[str, Any], ...] | None = None
    channels: dict[fields.Name, dict[str, Any]] | None = None
    metrics: tuple[MetricSection, ...] | None = None
    collect: CollectSection | None = None
    alerts: AlertsSection | None = None
    accounts: dict[fields.Name, AccountSection] | None = None
    events: dict[fields.Name, EventsSection] | None = None
    budget: BudgetSection | None = None
    limits: LimitsSection | None = None
    silences: tuple[SilenceSection, ...] | None = None


def read(document: Mapping[str, object]) -> Grammar:
    """Return the sections of a file; raises ``problems.Mistake`` for the first that is wrong."""
    _known_sections(document)
    try:
        return Grammar.model_validate(document)
    except pydantic.ValidationError as wrong:
        raise problems.first(wrong, Grammar, SECRETS) from None


def _known_sections(document: Mapping[str, object]) -> None:
    section_names = tuple(Grammar.model_fields)
    for section in document:
        if section in LATER_SECTIONS:
            raise problems.Mistake(f"[{section}]", "is not supported in this version", "remove it")
        if section not in section_names:
            raise problems.Mistake(
                f"[{problems.excerpt(section)}]",
                "is not a section of a config file",
                errors.nearest(section, section_names),
            )
