"""The config file: its grammar, its validation, and what it makes of the configuration in force.

A file is checked as a whole before anything of it is used. What this version does not support yet is refused by
name, never ignored. ``docs/commands.md`` tells the grammar and what was decided in it.
"""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
import string
import tomllib
import typing
import zoneinfo
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from importlib.metadata import entry_points
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import pydantic
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    WrapValidator,
)
from pydantic import ValidatorFunctionWrapHandler as Handler

from workermon import errors, metrics, models, positions, scheduled, states
from workermon import silences as silencing

#: The metric name by which a rule asks for the alert "no successful collection for some intervals".
NO_DATA = "no-data"

#: The names in the place of a metric that ask for a kind of rule of their own, and the keys that each takes beside
#: ``name``, ``metric``, ``labels`` and ``notify``.
KINDS: dict[str, frozenset[str]] = {
    NO_DATA: frozenset({"intervals", "severity", "flapping"}),
    states.KIND: frozenset({"states", "expected", "severity"}),
    scheduled.KIND: frozenset({"codes", "ahead", "severity"}),
}

#: The channel that is there without being configured: the log of the worker process.
LOG = "log"

#: Sections that later versions bring.
LATER_SECTIONS = ("windows", "groups", "templates")

#: Rules that always hold, beside those of the file: an account in trouble, a channel that takes nothing, a budget that
#: has metrics asked less often.
STANDING = ("collector", models.DELIVERY, models.BUDGET)

#: A time from which schedules are looked at, for checking one needs no clock: the beginning of 2026 in UTC.
_SINCE = 1_767_225_600
#: Types of channels, and the keys that each must and may have beside ``type``, ``allow_private`` and ``per_minute``.
CHANNELS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "webhook": (frozenset({"url"}), frozenset({"secret", "repeat"})),
    "log": (frozenset(), frozenset({"repeat"})),
    "slack": (frozenset({"url"}), frozenset({"template", "group_wait", "repeat"})),
    "pagerduty": (frozenset({"secret"}), frozenset({"url"})),
    "sns": (frozenset({"topic_arn"}), frozenset({"template", "repeat"})),
    "email": (
        frozenset({"host", "from", "to"}),
        frozenset({"port", "security", "user", "secret", "template", "group_wait", "repeat"}),
    ),
    "alertmanager": (frozenset({"url"}), frozenset({"user", "secret", "repeat"})),
    "apprise": (frozenset({"url"}), frozenset({"template", "group_wait", "repeat"})),
}

#: Types whose whole address is a secret, so that ``secret`` may name it too.
_WHOLE_SECRET = frozenset({"slack", "apprise"})

#: Entry points of this group are types of channels of a user's own.
OWN_CHANNELS = "workermon.channels"

#: What a channel's template may name, as ``$summary`` or ``${summary}``.
TEMPLATE_FIELDS = (
    "account", "at", "chart", "dedup_key", "id", "kind", "labels", "metric", "reason", "region", "rule", "severity",
    "silence", "since", "status", "summary", "threshold", "title", "value", "where", "worker", "worker_id",
)  # fmt: skip

#: Characters. A config file of 100,000 workers is a tenth of this.
LONGEST = 64_000_000

REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]{2,12}){1,3}-\d{1,2}")
ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,512}", re.ASCII)
TOPIC = re.compile(r"arn:aws[a-z-]*:sns:([a-z0-9-]+):\d{12}:[A-Za-z0-9_-]{1,256}(?:\.fifo)?", re.ASCII)
_MAILBOX = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,39}")
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


def _seconds(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be a duration such as 60s or 5m")
    whole = models.seconds(value)
    if whole < 1:
        raise ValueError("must be at least 1s")
    return whole


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
    turns, within = int(found[1]), _seconds(found[2])
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
            meant = nearest(str(severity), models.SEVERITIES)
            raise ValueError(f"has {_shown(severity)!r}, which is no severity: {meant}")
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
Duration = Annotated[int, BeforeValidator(_seconds, json_schema_input_type=str), Field(le=models.DAY)]
Retention = Annotated[int, BeforeValidator(_seconds, json_schema_input_type=str), Field(ge=3600, le=30 * models.DAY)]
#: As long as a datapoint takes where nothing is learnt, at the least.
Lateness = Annotated[int, BeforeValidator(_seconds, json_schema_input_type=str), Field(ge=metrics.DELAY, le=models.DAY)]
Ahead = Annotated[int, BeforeValidator(_seconds, json_schema_input_type=str), Field(ge=60, le=365 * models.DAY)]
Repeat = Annotated[int, BeforeValidator(_seconds, json_schema_input_type=str), Field(ge=60, le=7 * models.DAY)]
Breach = Annotated[models.Count, BeforeValidator(_count, json_schema_input_type=str)]
Labels = dict[models.Text, models.Text]
Time = Annotated[float, BeforeValidator(_time, json_schema_input_type=str)]
#: A month and a day: the longest window of a schedule.
WindowLength = Annotated[int, BeforeValidator(_seconds, json_schema_input_type=str), Field(ge=60, le=32 * models.DAY)]


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


def _url(value: object) -> str | Secret:
    if isinstance(value, str):
        if len(value) > 2048:
            raise ValueError("is longer than 2048 characters")
        return value
    if isinstance(value, dict):
        try:
            return Secret.model_validate(value)
        except pydantic.ValidationError:
            raise ValueError('must be a text, or a secret by name such as { env = "NAME" }') from None
    raise ValueError("must be a text")


def _wait(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be a duration such as 0s or 30s")
    return models.seconds(value)


def _topic(text: str) -> str:
    found = TOPIC.fullmatch(text)
    if not found or not REGION.fullmatch(found[1]):
        raise ValueError("is no topic such as arn:aws:sns:us-east-1:123456789012:alerts")
    return text


def _mailbox(text: str) -> str:
    if not _MAILBOX.fullmatch(text) or ".." in text:
        raise ValueError("is no address such as ops@example.com")
    return text


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise ValueError("is no host such as mail.example.com")
    return text


Mailbox = Annotated[str, AfterValidator(_mailbox)]


class ChannelSection(_Section):
    """``[channels.NAME]``: where notifications go. Which keys a type takes is in ``CHANNELS``.

    ``routing_key`` and ``password`` are other names of ``secret``, for those who look for these.
    """

    type: Name
    url: Annotated[str | Secret, PlainValidator(_url, json_schema_input_type=str | Secret)] | None = None
    secret: Secret | None = None
    routing_key: Secret | None = None
    password: Secret | None = None
    allow_private: Annotated[bool, Strict()] = False
    template: Annotated[str, Field(min_length=1, max_length=4000)] | None = None
    per_minute: Annotated[Number, Field(ge=2, le=60_000)] | None = None
    repeat: (
        Annotated[int, BeforeValidator(_seconds, json_schema_input_type=str), Field(ge=60, le=7 * models.DAY)] | None
    ) = None
    group_wait: Annotated[int, BeforeValidator(_wait, json_schema_input_type=str), Field(le=600)] | None = None
    topic_arn: Annotated[str, AfterValidator(_topic)] | None = None
    host: Annotated[str, AfterValidator(_host)] | None = None
    port: Annotated[int, Strict(), Field(ge=1, le=65_535)] | None = None
    security: Literal["starttls", "tls", "none"] | None = None
    user: models.Text | None = None
    sender: Annotated[Mailbox | None, Field(alias="from")] = None
    to: Annotated[tuple[Mailbox, ...], Field(max_length=100)] = ()
    options: dict[models.Text, str] = {}


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
    channels: dict[Name, ChannelSection] | None = None
    metrics: tuple[MetricSection, ...] | None = None
    collect: CollectSection | None = None
    accounts: dict[Name, AccountSection] | None = None
    budget: BudgetSection | None = None
    limits: LimitsSection | None = None
    silences: tuple[SilenceSection, ...] | None = None


class Case(models.Frozen):
    """A case of a rule: values in slots of ``period`` seconds, ``None`` where absent, and what they must turn.

    ``turns`` are ``(number of the value, state)``, the first value is 1, the state ``ok``, ``warning`` or ``critical``.
    """

    name: str
    values: tuple[float | None, ...]
    period: int
    turns: tuple[tuple[int, str], ...]


class File(models.Frozen):
    """A valid config file; ``None`` is a section that it does not have, so that part is left alone.

    ``source`` names it in errors. ``cases`` are those of its rules, by the rule's name.
    """

    source: str
    workers: tuple[WorkerSection, ...] | None = None
    discover: models.Discover | None = None
    rules: tuple[models.Rule, ...] | None = None
    channels: dict[str, models.Channel] | None = None
    metrics: dict[str, models.Metric] | None = None
    collect: CollectSection | None = None
    accounts: dict[str, models.Account] | None = None
    budget: BudgetSection | None = None
    limits: dict[str, models.Limit] | None = None
    silences: tuple[models.Maintenance, ...] | None = None
    cases: dict[str, tuple[Case, ...]] = Field(default_factory=dict)
    text: str = Field(default="", repr=False)

    def where(self, path: str) -> str:
        """Return how an error names a place of this file: source, path, and line and column where they are known."""
        return _where(self.source, path, self.text)


#: Seconds. The periods below a minute that CloudWatch has; above, any number of minutes.
SHORT_PERIODS = frozenset({1, 5, 10, 20, 30})


def check_intervals(file: File, least: int) -> None:
    """Refuse an interval below the least allowed, in seconds, by its place in the file."""
    named = [(f"workers[{place}].interval", worker.interval) for place, worker in enumerate(file.workers or ())]
    named.append(("discover.interval", file.discover.interval if file.discover else None))
    for path, interval in named:
        if interval is not None and interval < least:
            why = f"{interval} s is below the least allowed, {least} s"
            raise errors.InvalidInput(file.where(path), why, "choose a longer one, or set WORKERMON_MIN_INTERVAL")


def check_silences(file: File, now: float) -> None:
    """Refuse a silence that is over, or that ends too late; what is asked for now has to be of some use."""
    for place, one in enumerate(file.silences or ()):
        if one.ends is None:
            continue
        if one.ends <= now:
            why = f"was over at {models.rfc3339(one.ends)}"
            raise errors.InvalidInput(file.where(f"silences[{place}].ends"), why, "give a time to come, or remove it")
        if one.begins is None and one.ends - now > silencing.LONGEST:
            why = "is more than 365 days away"
            raise errors.InvalidInput(file.where(f"silences[{place}].ends"), why, "choose a nearer one")


def warnings(file: File, secrets: Callable[[models.SecretRef], str]) -> list[str]:
    """Return what is valid in a file and may be meant, and will not work as things stand here.

    ``secrets`` looks one up; where it is not to be had here, another process may have it.
    """
    told = []
    for channel in (file.channels or {}).values():
        for key in ("url", "secret"):
            ref = getattr(channel, key)
            if not isinstance(ref, models.SecretRef):
                continue
            try:
                secrets(ref)
            except errors.InvalidInput:
                what = f"{ref.env} is not set here" if ref.env is not None else f"{ref.file} cannot be read here"
                told.append(f"channels.{channel.name}.{key}: {what}; the process that delivers needs it")
    for rule in file.rules or ():
        for code in rule.expected:
            if code not in states.CODES:
                told.append(f"rule {rule.name}: {code} is none of the codes that EC2 documents; {_meant(code)}")
    for name, metric in (file.metrics or {}).items():
        period = metric.period
        if period is not None and period not in SHORT_PERIODS and period % 60:
            told.append(
                f"metrics.{name}.period: CloudWatch takes 1, 5, 10, 20, 30 and multiples of 60 s, not {period} s"
            )
    return told


def _levels(warning: float | None, critical: float | None) -> models.Levels:
    return models.Levels(warning=warning, critical=critical)


#: What holds where no file says otherwise (docs/commands.md lists it).
DEFAULT = models.Configuration(
    rules=(
        models.Rule(name="cpu-high", metric="cpu_utilization", above=_levels(80, 90)),
        models.Rule(name="memory-high", metric="memory_utilization", above=_levels(80, 90)),
        models.Rule(name="disk-high", metric="disk_utilization", above=_levels(90, 98)),
        models.Rule(
            name="status-check-failed",
            metric=metrics.STATUS_CHECK_FAILED,
            above=_levels(None, 0),
            breach=models.Count(m=2, n=2),
        ),
        models.Rule(name=NO_DATA, kind="no-data"),
    ),
    channels={LOG: models.Channel(name=LOG, type="log")},
    metrics=dict(metrics.CATALOGUE),
    collect=metrics.DEFAULT,
)


# --- reading -----------------------------------------------------------------------------------------------------


class _Wrong(Exception):
    """Something at a path of the file is wrong."""

    def __init__(self, path: str, why: str, todo: str) -> None:
        super().__init__(path, why, todo)
        self.path, self.why, self.todo = path, why, todo


def parse(text: str, source: str) -> File:
    """Read and check a config file.

    Raises ``errors.InvalidInput`` with the first thing that is wrong: the source, the path in the file, its line and
    column, why, and what to write instead.
    """
    if len(text) > LONGEST:
        raise errors.InvalidInput(source, f"is longer than {LONGEST:,} characters", "split it")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as why:
        raise errors.InvalidInput(source, f"is no TOML: {why}", "mend it there") from None
    except RecursionError:
        raise errors.InvalidInput(source, "is nested too deeply", "write it flat") from None
    try:
        _known_sections(document)
        try:
            grammar = Grammar.model_validate(document)
        except pydantic.ValidationError as wrong:
            raise _first(wrong) from None
        return _file(grammar, source).model_copy(update={"text": text})
    except _Wrong as wrong:
        raise errors.InvalidInput(_where(source, wrong.path, text), wrong.why, wrong.todo) from None


def _where(source: str, path: str, text: str) -> str:
    if not path:
        return source
    offsets = {_path(place): offset for place, offset in positions.find(text).items()} if text else {}
    there = path.strip("[]") if path.startswith("[") else path
    while there and there not in offsets:  # a key that is missing has the place of what lacks it
        there = there[: max(there.rfind("."), there.rfind("["), 0)]
    if not there:
        return f"{source}: {path}"
    line, column = positions.line_and_column(text, offsets[there])
    return f"{source}: line {line}, column {column}: {path}"


def schema() -> dict[str, Any]:
    """Return the JSON schema of the config file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Grammar.model_json_schema()}


def nearest(name: str, known: Iterable[str]) -> str:
    """Say what was probably meant, else what there is.

    >>> nearest("cpu_utilisation", ["cpu_utilization", "network_in"])
    'did you mean cpu_utilization?'
    >>> nearest("x", ["a", "b"])
    'known: a, b'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"known: {', '.join(names)}" if names else "there is none yet"


def _meant(code: str) -> str:
    hint = nearest(code, states.CODES)
    return hint if hint.startswith("did you mean") else "it counts as written"


def _shown(text: object) -> str:
    return errors.printable(str(text))[:64]


def _known_sections(document: Mapping[str, object]) -> None:
    known = tuple(Grammar.model_fields)
    for section in document:
        if section in LATER_SECTIONS:
            raise _Wrong(f"[{section}]", "is not supported in this version", "remove it")
        if section not in known:
            raise _Wrong(f"[{_shown(section)}]", "is no section of a config file", nearest(section, known))


_TYPES = {
    "string_type": "must be a text",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "tuple_type": "must be a list",
    "finite_number": "must be a finite number",
}


def _path(where: Iterable[int | str]) -> str:
    path = ""
    for part in where:
        if part == "[key]":  # pydantic's mark for "the key itself"
            continue
        path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{_shown(part)}"
    return path


def _fields(where: Iterable[int | str]) -> list[str]:
    """Return the keys that are known at a place of the grammar."""
    kind: Any = Grammar
    for part in where:
        kind = _inside(kind, part)
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def _inside(kind: Any, part: int | str) -> Any:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(str(part))
        kind = field.annotation if field else None
    else:
        inner = typing.get_args(kind)
        kind = inner[-1 if typing.get_origin(kind) is dict else 0] if inner else None
    while type(None) in typing.get_args(kind):  # X | None
        kind = next(each for each in typing.get_args(kind) if each is not type(None))
    return kind


def _first(wrong: pydantic.ValidationError) -> _Wrong:
    """Turn pydantic's first complaint into one of ours; the value itself is never repeated where it may be secret."""
    # A misspelt key first: that another one is missing is often no more than its echo.
    found = min(wrong.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
    where, kind = found["loc"], found["type"]
    path = _path(where)
    if kind == "extra_forbidden":
        known = _fields(where[:-1])
        return _Wrong(path, "is no key here", nearest(str(where[-1]), known))
    if kind == "missing":
        return _Wrong(path, "is missing", "add it")
    if {"secret", "external_id", "routing_key", "password"} & set(where):
        return _Wrong(
            path, "must be a secret by name, not the secret itself", 'write { env = "NAME" } or { file = "…" }'
        )
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", str(found.get("ctx", {}).get("expected", "")))
        return _Wrong(path, f"{_shown(found['input'])!r} is none of {', '.join(choices)}", "choose one of them")
    why = _TYPES.get(kind) or found["msg"].removeprefix("Value error, ").replace("Input should", "should")
    return _Wrong(path, why, "see 'The config file' in docs/commands.md")


# --- what the grammar cannot say ---------------------------------------------------------------------------------


def _file(grammar: Grammar, source: str) -> File:
    own = _metrics(grammar.metrics or ())
    file = File(
        source=source,
        workers=grammar.workers,
        discover=_discover(grammar.discover),
        rules=None if grammar.rules is None else tuple(_rule(f"rules[{i}]", it) for i, it in enumerate(grammar.rules)),
        channels=None if grammar.channels is None else _channels(grammar.channels),
        metrics=None if grammar.metrics is None else own,
        collect=grammar.collect and _collect(grammar.collect),
        accounts=None if grammar.accounts is None else {k: _account(k, v) for k, v in grammar.accounts.items()},
        budget=grammar.budget,
        limits=None if grammar.limits is None else _limits(grammar.limits),
        silences=None
        if grammar.silences is None
        else tuple(_silence(f"silences[{i}]", it) for i, it in enumerate(grammar.silences)),
        cases={it.name: _cases(f"rules[{i}]", it) for i, it in enumerate(grammar.rules or ()) if it.cases},
    )
    for place, rule in enumerate(grammar.rules or ()):
        _once(f"rules[{place}].cases", "name", (it.name for it in rule.cases))
    _once("workers", "id", (it.id for it in grammar.workers or ()))
    _once("workers", "name", (it.name for it in grammar.workers or ()))
    _once("rules", "name", (it.name for it in grammar.rules or ()))
    for place, silence in enumerate(file.silences or ()):
        if any(silence.id == other.id for other in (file.silences or ())[:place]):
            raise _Wrong(f"silences[{place}]", "says what another one says", "remove one of them")
    for place, worker in enumerate(grammar.workers or ()):
        if worker.name and models.INSTANCE_ID.fullmatch(worker.name) and worker.name != worker.id:
            raise _Wrong(f"workers[{place}].name", "is the id of another instance", "choose another name")
    return file


def _collect(section: CollectSection) -> CollectSection:
    """Refuse a lateness that leaves no room in the ledger for what rules look back at from there."""
    if 2 * section.lateness > section.retention:
        why = f"is more than half of the retention, {section.retention} s"
        todo = f"choose {section.retention // 2}s at most, or a retention of {2 * section.lateness}s"
        raise _Wrong("collect.lateness", why, todo)
    return section


def _once(section: str, key: str, values: Iterable[str | None]) -> None:
    seen: dict[str, int] = {}
    for place, value in enumerate(values):
        if value is None:
            continue
        if value in seen:
            raise _Wrong(
                f"{section}[{place}].{key}", f"{value} is {section}[{seen[value]}] already", "remove one of them"
            )
        seen[value] = place


def _discover(section: DiscoverSection | None) -> models.Discover | None:
    if section is None:
        return None
    if section.regions and not section.tags:
        raise _Wrong("discover.tags", "is missing, so every instance would be meant", 'write tags = { Role = "…" }')
    return models.Discover(**dict(section))


def _account(name: str, section: AccountSection) -> models.Account:
    if name == "default":
        raise _Wrong("accounts.default", "is the name of boto3's own credentials", "choose another name")
    return models.Account(
        role_arn=section.role_arn,
        external_id=section.external_id and _secret(f"accounts.{name}.external_id", section.external_id),
    )


def _secret(path: str, section: Secret) -> models.SecretRef:
    if (section.env is None) == (section.file is None):
        raise _Wrong(path, "names a secret by env or by file, one of the two", 'write { env = "NAME" }')
    return models.SecretRef(env=section.env, file=section.file)


def _metrics(sections: Iterable[MetricSection]) -> dict[str, models.Metric]:
    found: dict[str, models.Metric] = {}
    for place, section in enumerate(sections):
        path = f"metrics[{place}]"
        if section.name in (metrics.STATUS_CHECK_FAILED, *KINDS):
            raise _Wrong(f"{path}.name", f"{section.name} does not come from CloudWatch", "choose another name")
        if section.name in found:
            raise _Wrong(f"{path}.name", f"{section.name} is described already", "remove one of them")
        given = section.model_dump(exclude_none=True)
        known = metrics.CATALOGUE.get(section.name)
        for key in ("namespace", "metric_name"):
            if known is None and key not in given:
                why = f"is missing, and {section.name} is no known metric"
                raise _Wrong(f"{path}.{key}", why, f"add it, or: {nearest(section.name, metrics.CATALOGUE)}")
        if known is not None:
            found[section.name] = known.model_copy(update=given)
        else:
            given.setdefault("merge", "sum" if given.get("statistic") in ("Sum", "SampleCount") else "max")
            found[section.name] = models.Metric(**given)
    return found


def _channels(sections: Mapping[str, ChannelSection]) -> dict[str, models.Channel]:
    return {name: _channel(name, section) for name, section in sections.items()}


def _channel(name: str, section: ChannelSection) -> models.Channel:
    path = f"channels.{name}"
    given = {"from" if key == "sender" else key for key in section.model_fields_set} - {"type"}
    for other, of in (("routing_key", "pagerduty"), ("password", "email")):
        if other in given:
            if section.type != of:
                raise _Wrong(f"{path}.{other}", f"is only for type {of}", "remove it")
            if "secret" in given:
                raise _Wrong(f"{path}.{other}", "is another name of secret, which is there too", "remove one of them")
            given = given - {other} | {"secret"}
    section_url, section_secret = section.url, section.secret or section.routing_key or section.password
    if section.type in _WHOLE_SECRET and "secret" in given and "url" not in given:
        section_url, section_secret = section_secret, None
        given = given - {"secret"} | {"url"}
    _keys(path, section, given)
    secret = section_secret and _secret(f"{path}.secret", section_secret)
    url: str | models.SecretRef | None = None
    if isinstance(section_url, Secret):
        url = _secret(f"{path}.url", section_url)
    elif section_url is not None:
        _address(f"{path}.url", section_url, section)
        url = section_url
    if section.type == "email":
        _mail(path, section, secret is not None)
    if section.template is not None:
        _template(f"{path}.template", section.template)
    return models.Channel(
        name=name,
        type=section.type,
        url=url,
        secret=secret,
        allow_private=section.allow_private,
        template=section.template,
        per_minute=section.per_minute,
        group_wait=section.group_wait,
        repeat=section.repeat,
        topic_arn=section.topic_arn,
        host=section.host,
        port=section.port,
        security=section.security,
        user=section.user,
        sender=section.sender,
        to=section.to,
        options=section.options,
    )


def _keys(path: str, section: ChannelSection, given: set[str]) -> None:
    if section.type not in CHANNELS:
        own = {point.name for point in entry_points(group=OWN_CHANNELS)}
        if section.type not in own:
            known = [*CHANNELS, *sorted(own)]
            raise _Wrong(
                f"{path}.type", f"{section.type!r} is none of {', '.join(known)}", nearest(section.type, known)
            )
        return
    must, may = CHANNELS[section.type]
    if section.type == "log" and given & {"url", "secret"}:
        raise _Wrong(path, "of type log takes neither url nor secret", "remove them")
    for key in sorted(given - must - may - {"allow_private", "per_minute"}):
        takes = ", ".join(sorted(must | may)) or "nothing"
        raise _Wrong(f"{path}.{key}", f"is not for type {section.type}, which takes {takes}", "remove it")
    for key in sorted(must - given):
        raise _Wrong(f"{path}.{key}", "is missing", "add it")
    if "user" in given and "secret" not in given:
        raise _Wrong(f"{path}.secret", "is missing beside user", 'write secret = { env = "NAME" }')


def _mail(path: str, section: ChannelSection, secret: bool) -> None:
    if not section.to:
        raise _Wrong(f"{path}.to", "names nobody", 'write to = ["ops@example.com"]')
    if secret and section.user is None:
        raise _Wrong(f"{path}.user", "is missing beside the secret", "add it")
    if section.security == "none" and not section.allow_private:
        todo = "use starttls or tls, or allow_private = true for a server of your own network"
        raise _Wrong(f"{path}.security", "none sends mail in the clear", todo)
    if section.security == "none" and secret:
        raise _Wrong(f"{path}.security", "none would send the password in the clear", "use starttls or tls")
    if not section.allow_private and section.host and (section.host == "localhost" or _is_private(section.host)):
        todo = "set allow_private = true if it is a server of your own network"
        raise _Wrong(f"{path}.host", "is a private address", todo)


def _template(path: str, text: str) -> None:
    template = string.Template(text)
    if not template.is_valid():
        raise _Wrong(path, "has a $ that begins no name", "write $summary or ${summary}; a dollar sign itself is $$")
    for name in template.get_identifiers():
        if name not in TEMPLATE_FIELDS:
            raise _Wrong(path, f"${_shown(name)} is nothing that a message has", nearest(name, TEMPLATE_FIELDS))


def _address(path: str, url: str, section: ChannelSection) -> None:
    """Check an address as far as its text goes; the address really connected to is checked on delivery."""
    if section.type == "apprise":
        raise _Wrong(path, "holds a token, so it must be a secret by name", 'write url = { env = "NAME" }')
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    blank = errors.printable(url) != url or any(each.isspace() for each in url)
    if parts.scheme not in ("https", "http") or not host or blank or not _is_host(host):
        raise _Wrong(path, "is no address such as https://example.com/hook", "write it in full")
    if "@" in parts.netloc:
        raise _Wrong(path, "has credentials in it", "sign with a secret by name instead")
    if section.type == "slack" and (host == "slack.com" or host.endswith(".slack.com")):
        raise _Wrong(path, "of Slack is a secret itself", 'write url = { env = "NAME" }')
    if section.allow_private:
        return
    if parts.scheme != "https":
        raise _Wrong(path, "is not https", "use https, or allow_private = true for a receiver of your own network")
    if host == "localhost" or _is_private(host):
        raise _Wrong(path, "is a private address", "set allow_private = true if it is a receiver of your own network")


def _is_host(host: str) -> bool:
    """Tell whether a host's name can be: letters of any script, digits, hyphens and dots, or an address."""
    return re.fullmatch(r"[\w-]+(\.[\w-]+)*\.?", host) is not None or (
        ":" in host and re.fullmatch(r"[0-9a-f:.]+(%[\w.-]+)?", host) is not None
    )


def _is_private(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False  # a name: looked up, and checked, when it is connected to


def _rule(path: str, section: RuleSection) -> models.Rule:
    if section.metric in KINDS:
        return _kind_rule(path, section)
    for key in ("intervals", "severity", "states", "expected", "codes", "ahead"):
        if key in section.model_fields_set:
            of = " or ".join(repr(kind) for kind, keys in KINDS.items() if key in keys)
            raise _Wrong(f"{path}.{key}", f"is only for metric = {of}", "remove it")
    if (section.above is None) == (section.below is None):
        raise _Wrong(path, "needs a threshold: above or below, one of the two", "write above = { critical = 90 }")
    above = section.above is not None
    side = "above" if above else "below"
    levels = section.above or section.below
    assert levels is not None
    worse: Callable[[float, float], bool] = (lambda one, other: one > other) if above else (lambda o, other: o < other)
    if levels.warning is None and levels.critical is None:
        raise _Wrong(f"{path}.{side}", "names no threshold", "write { warning = …, critical = … }, or one of them")
    if levels.warning is not None and levels.critical is not None and not worse(levels.critical, levels.warning):
        raise _Wrong(
            f"{path}.{side}.critical",
            f"{levels.critical:g} must be {side} the warning, {levels.warning:g}",
            "exchange them, or leave one out",
        )
    _clear(f"{path}.clear", section.clear, levels, side, worse)
    return models.Rule(
        name=section.name,
        metric=section.metric,
        above=_plain(section.above),
        below=_plain(section.below),
        breach=section.breach,
        clear=_plain(section.clear),
        recover=section.recover,
        missing=section.missing,
        labels=section.labels,
        flapping=section.flapping,
        **_notified(section),
    )


def _notified(section: RuleSection) -> dict[str, Any]:
    """Return a rule's channels: all of them, and which hear of what where the file says so."""
    given: Any = section.notify
    if isinstance(given, dict):
        return {"notify": tuple(dict.fromkeys(name for names in given.values() for name in names)), "routes": given}
    return {"notify": tuple(dict.fromkeys(given))}


def _silence(path: str, section: SilenceSection) -> models.Maintenance:
    if section.worker is None and section.rule is None and not section.labels:
        raise _Wrong(path, "would mute everything", "name a worker, labels or a rule")
    timezone = section.timezone or "UTC"
    if section.schedule is None:
        for key in ("duration", "timezone"):
            if key in section.model_fields_set:
                raise _Wrong(f"{path}.{key}", "is only for a schedule", 'add schedule = "0 2 * * sun", or remove it')
        if section.ends is None:
            todo = "add ends, or schedule and duration"
            raise _Wrong(path, "has no end", todo)
        if section.begins is not None and section.ends <= section.begins:
            raise _Wrong(f"{path}.ends", "does not come after begins", "exchange them")
        if section.begins is not None and section.ends - section.begins > silencing.LONGEST:
            raise _Wrong(f"{path}.ends", "is more than 365 days after begins", "choose a nearer one")
    else:
        for key in ("begins", "ends"):
            if key in section.model_fields_set:
                raise _Wrong(f"{path}.{key}", "does not go with a schedule", "keep one of the two")
        if section.duration is None:
            raise _Wrong(f"{path}.duration", "is missing beside schedule", 'write duration = "2h"')
        try:
            silencing.zone(timezone)
        except ValueError as why:
            close = difflib.get_close_matches(timezone, zoneinfo.available_timezones(), n=1)
            todo = f"did you mean {close[0]}?" if close else "see the names of the tz database"
            raise _Wrong(f"{path}.timezone", f"{_shown(timezone)!r} {why}", todo) from None
        try:
            silencing.check_schedule(section.schedule, timezone, section.duration, _SINCE)
        except ValueError as why:
            todo = 'write minute, hour, day, month and day of the week, such as "0 2 * * sun"'
            if "for ever" in str(why):
                todo = "choose a shorter duration, or change the rule"
            raise _Wrong(f"{path}.schedule", f"{_shown(section.schedule)!r} {why}", todo) from None
    given = section.model_dump(exclude={"timezone"})
    made = models.Maintenance(id="", **given, timezone=timezone)
    return made.model_copy(update={"id": silencing.identity(made)})


def _limits(section: LimitsSection) -> dict[str, models.Limit]:
    given = {LIMITED[key]: getattr(section, key) for key in LimitsSection.model_fields}
    return {api: models.Limit(bucket=it.bucket, rate=it.per_second) for api, it in given.items() if it is not None}


def _plain(levels: Levels | None) -> models.Levels | None:
    return None if levels is None else _levels(levels.warning, levels.critical)


def _clear(path: str, clear: Levels | None, levels: Levels, side: str, worse: Callable[[float, float], bool]) -> None:
    if clear is None:
        return
    if clear.warning is None and clear.critical is None:
        raise _Wrong(path, "names no number", "write { warning = …, critical = … }, or leave it out")
    for severity in models.SEVERITIES:
        back, out = getattr(clear, severity), getattr(levels, severity)
        if back is None:
            continue
        if out is None:
            raise _Wrong(f"{path}.{severity}", f"clears a severity that {side} does not have", "remove it")
        if worse(back, out):
            raise _Wrong(
                f"{path}.{severity}",
                f"{back:g} is {side} the threshold, {out:g}, so the alert would flap",
                f"choose {out:g} or {'less' if side == 'above' else 'more'}",
            )


def _cases(path: str, section: RuleSection) -> tuple[Case, ...]:
    found = []
    for place, case in enumerate(section.cases):
        turns = tuple((turn.at, turn.to) for turn in case.turns)
        for at, (number, _) in enumerate(turns):
            where = f"{path}.cases[{place}].turns[{at}].at"
            if number > len(case.values):
                raise _Wrong(where, f"there are {len(case.values)} values only", "number them from 1")
            if at and number <= turns[at - 1][0]:
                raise _Wrong(where, "comes before the turn above it", "list the turns in order of time")
        values = tuple(value if math.isfinite(value) else None for value in case.values)
        found.append(Case(name=case.name, values=values, period=case.period, turns=turns))
    return tuple(found)


def _kind_rule(path: str, section: RuleSection) -> models.Rule:
    """Return a rule that is about no metric but about what its metric's place names."""
    own = KINDS[section.metric]
    for key in RuleSection.model_fields:
        if key in section.model_fields_set and key not in own | {"name", "metric", "labels", "notify"}:
            todo = "remove it; intervals is its threshold"
            if key == "cases":
                todo = "remove them; there are no values to try it on"
            elif section.metric != NO_DATA:
                todo = f"remove it; it takes {', '.join(sorted(own))}"
            raise _Wrong(f"{path}.{key}", f"is not for metric = {section.metric!r}", todo)
    common: dict[str, Any] = {"name": section.name, "labels": section.labels, **_notified(section)}
    if section.metric == states.KIND:
        if not section.states:
            raise _Wrong(f"{path}.states", "names no state", 'write ["stopped", "terminated"], or one of them')
        _codes(f"{path}.expected", section.expected, states.CODES)
        return models.Rule(
            kind=states.KIND,
            states=tuple(dict.fromkeys(section.states)),
            expected=tuple(dict.fromkeys(section.expected)),
            severity=section.severity,
            **common,
        )
    if section.metric == scheduled.KIND:
        if not section.codes and "codes" in section.model_fields_set:
            raise _Wrong(f"{path}.codes", "names no event", f"leave it out for all: {', '.join(scheduled.CODES)}")
        _codes(f"{path}.codes", section.codes, scheduled.CODES)
        return models.Rule(
            kind=scheduled.KIND,
            codes=tuple(dict.fromkeys(section.codes)),
            ahead=section.ahead,
            severity=section.severity,
            by_code="severity" not in section.model_fields_set,
            **common,
        )
    return models.Rule(
        kind="no-data", intervals=section.intervals, severity=section.severity, flapping=section.flapping, **common
    )


#: As EC2 writes the codes of a StateReason; it may have more of them than it documents.
_REASON = re.compile(r"(?:Client|Server)(?:\.[A-Z][A-Za-z]{1,63}){1,3}")


def _codes(path: str, codes: Iterable[str], known: Collection[str]) -> None:
    for place, code in enumerate(codes):
        if code not in known and not (known is states.CODES and _REASON.fullmatch(code)):
            raise _Wrong(f"{path}[{place}]", f"{_shown(code)} is no code of EC2", nearest(code, known))


# --- putting it in force -----------------------------------------------------------------------------------------


def to_configuration(file: File, previous: models.Configuration) -> models.Configuration:
    """Return what is in force once the file is applied over ``previous``; its revision is one higher.

    A section that the file lacks is taken from ``previous``. Raises ``errors.InvalidInput`` for a reference to
    nothing: a metric, channel or account that neither has.
    """
    catalogue = previous.metrics if file.metrics is None else {**metrics.CATALOGUE, **file.metrics}
    rules = previous.rules if file.rules is None else file.rules
    chosen = previous.chosen if file.collect is None else file.collect.metrics
    made = models.Configuration(
        revision=previous.revision + 1,
        rules=rules,
        channels=previous.channels if file.channels is None else {**DEFAULT.channels, **file.channels},
        metrics=catalogue,
        collect=_collected(chosen, rules, catalogue),
        retention=previous.retention if file.collect is None else file.collect.retention,
        lateness=previous.lateness if file.collect is None else file.collect.lateness,
        chosen=chosen,
        accounts=previous.accounts if file.accounts is None else file.accounts,
        discover=previous.discover if file.discover is None else _wanted(file.discover),
        budget=previous.budget if file.budget is None else file.budget.dollars_per_day,
        limits=previous.limits if file.limits is None else file.limits,
        silences=previous.silences if file.silences is None else file.silences,
    )
    try:
        _references(file, made)
    except _Wrong as wrong:
        raise errors.InvalidInput(file.where(wrong.path), wrong.why, wrong.todo) from None
    return made


def _wanted(discover: models.Discover) -> models.Discover | None:
    return discover if discover.tags else None


def _collected(
    chosen: tuple[str, ...] | None, rules: Iterable[models.Rule], catalogue: Mapping[str, models.Metric]
) -> tuple[str, ...]:
    if chosen is not None:
        return tuple(name for name in dict.fromkeys(chosen) if name != metrics.STATUS_CHECK_FAILED)
    needed = (rule.metric for rule in rules if rule.metric in catalogue)
    return tuple(dict.fromkeys((*metrics.DEFAULT, *(name for name in needed if name is not None))))


def _references(file: File, made: models.Configuration) -> None:
    known = {*made.metrics, metrics.STATUS_CHECK_FAILED}
    for place, name in enumerate(made.chosen or ()):
        if name not in known:
            raise _Wrong(f"collect.metrics[{place}]", f"{name} is no known metric", nearest(name, known))
    for place, rule in enumerate(made.rules):
        ours = file.rules is not None
        path = f"rules[{place}]" if ours else f"rule {rule.name} (in force)"
        routes = (
            {"notify": rule.notify} if rule.routes is None else {f"notify.{key}": it for key, it in rule.routes.items()}
        )
        for where, channels in routes.items():
            for at, channel in enumerate(channels):
                if channel not in made.channels:
                    raise _Wrong(f"{path}.{where}[{at}]", f"{channel} is no channel", nearest(channel, made.channels))
        if rule.kind != "threshold":
            continue
        if rule.metric not in known:
            names = {*known, *KINDS}
            raise _Wrong(f"{path}.metric", f"{rule.metric} is no known metric", nearest(str(rule.metric), names))
        if ours and rule.metric not in (*made.collect, metrics.STATUS_CHECK_FAILED):
            why = f"{rule.metric} is not collected, so the rule could never fire"
            raise _Wrong(f"{path}.metric", why, "add it to [collect] metrics")
    rules = {*(rule.name for rule in made.rules), *STANDING}
    for place, silence in enumerate(made.silences):
        if silence.rule is not None and silence.rule not in rules:
            where = f"silences[{place}]" if file.silences is not None else f"silence {silence.id} (in force)"
            raise _Wrong(f"{where}.rule", f"{silence.rule} is no rule", nearest(silence.rule, rules))
    for path, account in _accounts(file):
        if account is not None and account != "default" and account not in made.accounts:
            raise _Wrong(path, f"{account} is no account", nearest(account, made.accounts))


def _accounts(file: File) -> Iterable[tuple[str, str | None]]:
    if file.discover is not None:
        yield "discover.account", file.discover.account
    for place, worker in enumerate(file.workers or ()):
        yield f"workers[{place}].account", worker.account
