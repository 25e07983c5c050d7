"""The config file: what it makes of the configuration in force, and what its sections mean for one another.

A file is checked as a whole before anything of it is used. What a section may say by itself is ``grammar``, of which
type a channel may say what is ``channels``, and how an error names its place is ``mistakes``. What this version does
not support yet is refused by name, never ignored.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import tomllib
import zoneinfo
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from pydantic import Field

from workermon import errors, models
from workermon.config import catalogue as metrics
from workermon.config import channels, grammar, problems
from workermon.rules import event, state

#: The metric name by which a rule asks for the alert "no successful collection for some intervals".
NO_DATA = "no-data"

#: The names in the place of a metric that ask for a kind of rule of their own, and the keys that each takes beside
#: ``name``, ``metric``, ``labels`` and ``notify``.
KINDS: dict[str, frozenset[str]] = {
    NO_DATA: frozenset({"intervals", "severity", "flapping"}),
    state.KIND: frozenset({"states", "expected", "severity"}),
    event.KIND: frozenset({"codes", "ahead", "severity"}),
}

#: Rules that always hold, beside those of the file: an account in trouble, a channel that takes nothing, a budget that
#: has metrics asked less often.
STANDING = ("collector", models.DELIVERY, models.BUDGET)

#: A time from which schedules are looked at, for checking one needs no clock: the beginning of 2026 in UTC.
_SINCE = 1_767_225_600

#: Characters. A config file of 100,000 workers is a tenth of this.
LONGEST = 64_000_000


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
    workers: tuple[grammar.WorkerSection, ...] | None = None
    discover: models.Discover | None = None
    rules: tuple[models.Rule, ...] | None = None
    channels: dict[str, models.Channel] | None = None
    metrics: dict[str, models.Metric] | None = None
    collect: grammar.CollectSection | None = None
    accounts: dict[str, models.Account] | None = None
    budget: grammar.BudgetSection | None = None
    limits: dict[str, models.Limit] | None = None
    silences: tuple[models.Maintenance, ...] | None = None
    cases: dict[str, tuple[Case, ...]] = Field(default_factory=dict)
    text: str = Field(default="", repr=False)

    def where(self, path: str) -> str:
        """Return how an error names a place of this file: source, path, and line and column where they are known."""
        return problems.where(self.source, path, self.text)


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
        if one.begins is None and one.ends - now > models.MAX_SILENCE:
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
            except errors.SecretNotAllowed as why:
                told.append(f"channels.{channel.name}.{key}: {why.why} (asked for here: {ref.env or ref.file})")
            except errors.InvalidInput:
                what = f"{ref.env} is not set here" if ref.env is not None else f"{ref.file} cannot be read here"
                told.append(f"channels.{channel.name}.{key}: {what}; the process that delivers needs it")
    for rule in file.rules or ():
        for code in rule.expected:
            if code not in state.CODES:
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


#: What holds where no file says otherwise (docs/reference/config-file.md lists it).
DEFAULT = models.Configuration(
    rules=(
        models.Rule(name="cpu-high", metric="cpu_utilization", above=_levels(80, 90)),
        models.Rule(name="memory-high", metric="memory_utilization", above=_levels(80, 90)),
        models.Rule(name="disk-high", metric="disk_utilization", above=_levels(90, 98)),
        models.Rule(
            name="status-check-failed",
            metric=models.STATUS_CHECK_FAILED,
            above=_levels(None, 0),
            breach=models.Count(m=2, n=2),
        ),
        models.Rule(name=NO_DATA, kind="no-data"),
    ),
    channels={grammar.LOG: models.Channel(name=grammar.LOG, type="log")},
    metrics=dict(metrics.CATALOGUE),
    collect=metrics.DEFAULT,
)


# --- reading -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parser:
    """Reads config files. ``channel_types`` are the types of channel that a file may name."""

    channel_types: channels.Types

    def parse(self, text: str, source: str) -> File:
        """Read and check a config file.

        Raises ``errors.InvalidInput`` with the first thing that is wrong: the source, the path in the file, its line
        and column, why, and what to write instead.
        """
        if len(text) > LONGEST:
            raise errors.InvalidInput(source, f"is longer than {LONGEST:,} characters", "split it")
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as why:
            raise errors.InvalidInput(*problems.syntax(source, str(why)), "mend it there") from None
        except RecursionError:
            raise errors.InvalidInput(source, "is nested too deeply", "write it flat") from None
        except ValueError:
            # Of what a text may have in it, Python refuses by this alone a whole number of thousands of digits.
            raise errors.InvalidInput(source, "has a number that is far too long", "shorten it") from None
        try:
            return _file(grammar.read(document), source, self.channel_types).model_copy(update={"text": text})
        except problems.Mistake as wrong:
            raise errors.InvalidInput(problems.where(source, wrong.path, text), wrong.why, wrong.todo) from None

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the config file."""
        document = grammar.Grammar.model_json_schema()
        section, definitions = channels.schema(self.channel_types)
        document["$defs"] |= definitions
        document["properties"]["channels"]["anyOf"][0]["additionalProperties"] = section
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}


def _meant(code: str) -> str:
    hint = errors.nearest(code, state.CODES)
    return hint if hint.startswith("did you mean") else "it counts as written"


# --- what the grammar cannot say ---------------------------------------------------------------------------------


def _file(sections: grammar.Grammar, source: str, channel_types: channels.Types) -> File:
    own = _metrics(sections.metrics or ())
    file = File(
        source=source,
        workers=sections.workers,
        discover=_discover(sections.discover),
        rules=None
        if sections.rules is None
        else tuple(_rule(f"rules[{i}]", it) for i, it in enumerate(sections.rules)),
        channels=None
        if sections.channels is None
        else {name: channels.read(name, it, channel_types) for name, it in sections.channels.items()},
        metrics=None if sections.metrics is None else own,
        collect=sections.collect and _collect(sections.collect),
        accounts=None if sections.accounts is None else {k: _account(k, v) for k, v in sections.accounts.items()},
        budget=sections.budget,
        limits=None if sections.limits is None else _limits(sections.limits),
        silences=None
        if sections.silences is None
        else tuple(_silence(f"silences[{i}]", it) for i, it in enumerate(sections.silences)),
        cases={it.name: _cases(f"rules[{i}]", it) for i, it in enumerate(sections.rules or ()) if it.cases},
    )
    for place, rule in enumerate(sections.rules or ()):
        _once(f"rules[{place}].cases", "name", (it.name for it in rule.cases))
    _once("workers", "id", (it.id for it in sections.workers or ()))
    _once("workers", "name", (it.name for it in sections.workers or ()))
    _once("rules", "name", (it.name for it in sections.rules or ()))
    for place, silence in enumerate(file.silences or ()):
        if any(silence.id == other.id for other in (file.silences or ())[:place]):
            raise problems.Mistake(f"silences[{place}]", "says what another one says", "remove one of them")
    for place, worker in enumerate(sections.workers or ()):
        if worker.name and models.INSTANCE_ID.fullmatch(worker.name) and worker.name != worker.id:
            raise problems.Mistake(f"workers[{place}].name", "is the id of another instance", "choose another name")
    return file


def _collect(section: grammar.CollectSection) -> grammar.CollectSection:
    """Refuse a lateness that leaves no room in the ledger for what rules look back at from there."""
    if 2 * section.lateness > section.retention:
        why = f"is more than half of the retention, {section.retention} s"
        todo = f"choose {section.retention // 2}s at most, or a retention of {2 * section.lateness}s"
        raise problems.Mistake("collect.lateness", why, todo)
    return section


def _once(section: str, key: str, values: Iterable[str | None]) -> None:
    seen: dict[str, int] = {}
    for place, value in enumerate(values):
        if value is None:
            continue
        if value in seen:
            raise problems.Mistake(
                f"{section}[{place}].{key}", f"{value} is {section}[{seen[value]}] already", "remove one of them"
            )
        seen[value] = place


def _discover(section: grammar.DiscoverSection | None) -> models.Discover | None:
    if section is None:
        return None
    if section.regions and not section.tags:
        raise problems.Mistake(
            "discover.tags", "is missing, so every instance would be meant", 'write tags = { Role = "…" }'
        )
    return models.Discover(**dict(section))


def _account(name: str, section: grammar.AccountSection) -> models.Account:
    if name == "default":
        raise problems.Mistake("accounts.default", "is the name of boto3's own credentials", "choose another name")
    return models.Account(
        role_arn=section.role_arn,
        external_id=section.external_id and section.external_id.ref(f"accounts.{name}.external_id"),
    )


def _metrics(sections: Iterable[grammar.MetricSection]) -> dict[str, models.Metric]:
    found: dict[str, models.Metric] = {}
    for place, section in enumerate(sections):
        path = f"metrics[{place}]"
        if section.name in (models.STATUS_CHECK_FAILED, *KINDS):
            raise problems.Mistake(
                f"{path}.name", f"{section.name} does not come from CloudWatch", "choose another name"
            )
        if section.name in found:
            raise problems.Mistake(f"{path}.name", f"{section.name} is described already", "remove one of them")
        given = section.model_dump(exclude_none=True)
        known = metrics.CATALOGUE.get(section.name)
        for key in ("namespace", "metric_name"):
            if known is None and key not in given:
                why = f"is missing, and {section.name} is no known metric"
                raise problems.Mistake(
                    f"{path}.{key}", why, f"add it, or: {errors.nearest(section.name, metrics.CATALOGUE)}"
                )
        if known is not None:
            found[section.name] = known.model_copy(update=given)
        else:
            given.setdefault("merge", "sum" if given.get("statistic") in ("Sum", "SampleCount") else "max")
            found[section.name] = models.Metric(**given)
    return found


def _rule(path: str, section: grammar.RuleSection) -> models.Rule:
    if section.metric in KINDS:
        return _kind_rule(path, section)
    for key in ("intervals", "severity", "states", "expected", "codes", "ahead"):
        if key in section.model_fields_set:
            of = " or ".join(repr(kind) for kind, keys in KINDS.items() if key in keys)
            raise problems.Mistake(f"{path}.{key}", f"is only for metric = {of}", "remove it")
    if (section.above is None) == (section.below is None):
        raise problems.Mistake(
            path, "needs a threshold: above or below, one of the two", "write above = { critical = 90 }"
        )
    above = section.above is not None
    side = "above" if above else "below"
    levels = section.above or section.below
    assert levels is not None
    worse: Callable[[float, float], bool] = (lambda one, other: one > other) if above else (lambda o, other: o < other)
    if levels.warning is None and levels.critical is None:
        raise problems.Mistake(
            f"{path}.{side}", "names no threshold", "write { warning = …, critical = … }, or one of them"
        )
    if levels.warning is not None and levels.critical is not None and not worse(levels.critical, levels.warning):
        raise problems.Mistake(
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


def _notified(section: grammar.RuleSection) -> dict[str, Any]:
    """Return a rule's channels: all of them, and which hear of what where the file says so."""
    given: Any = section.notify
    if isinstance(given, dict):
        return {"notify": tuple(dict.fromkeys(name for names in given.values() for name in names)), "routes": given}
    return {"notify": tuple(dict.fromkeys(given))}


def _silence(path: str, section: grammar.SilenceSection) -> models.Maintenance:
    if section.worker is None and section.rule is None and not section.labels:
        raise problems.Mistake(path, "would mute everything", "name a worker, labels or a rule")
    timezone = section.timezone or "UTC"
    if section.schedule is None:
        for key in ("duration", "timezone"):
            if key in section.model_fields_set:
                raise problems.Mistake(
                    f"{path}.{key}", "is only for a schedule", 'add schedule = "0 2 * * sun", or remove it'
                )
        if section.ends is None:
            todo = "add ends, or schedule and duration"
            raise problems.Mistake(path, "has no end", todo)
        if section.begins is not None and section.ends <= section.begins:
            raise problems.Mistake(f"{path}.ends", "does not come after begins", "exchange them")
        if section.begins is not None and section.ends - section.begins > models.MAX_SILENCE:
            raise problems.Mistake(f"{path}.ends", "is more than 365 days after begins", "choose a nearer one")
    else:
        for key in ("begins", "ends"):
            if key in section.model_fields_set:
                raise problems.Mistake(f"{path}.{key}", "does not go with a schedule", "keep one of the two")
        if section.duration is None:
            raise problems.Mistake(f"{path}.duration", "is missing beside schedule", 'write duration = "2h"')
        try:
            models.zone(timezone)
        except ValueError as why:
            close = difflib.get_close_matches(timezone, zoneinfo.available_timezones(), n=1)
            todo = f"did you mean {close[0]}?" if close else "see the names of the tz database"
            raise problems.Mistake(f"{path}.timezone", f"{problems.shown(timezone)!r} {why}", todo) from None
        try:
            models.check_schedule(section.schedule, timezone, section.duration, _SINCE)
        except ValueError as why:
            todo = 'write minute, hour, day, month and day of the week, such as "0 2 * * sun"'
            if "for ever" in str(why):
                todo = "choose a shorter duration, or change the rule"
            raise problems.Mistake(f"{path}.schedule", f"{problems.shown(section.schedule)!r} {why}", todo) from None
    given = section.model_dump(exclude={"timezone"})
    made = models.Maintenance(id="", **given, timezone=timezone)
    return made.model_copy(update={"id": models.maintenance_id(made)})


def _limits(section: grammar.LimitsSection) -> dict[str, models.Limit]:
    given = {grammar.LIMITED[key]: getattr(section, key) for key in grammar.LimitsSection.model_fields}
    return {api: models.Limit(bucket=it.bucket, rate=it.per_second) for api, it in given.items() if it is not None}


def _plain(levels: grammar.Levels | None) -> models.Levels | None:
    return None if levels is None else _levels(levels.warning, levels.critical)


def _clear(
    path: str, clear: grammar.Levels | None, levels: grammar.Levels, side: str, worse: Callable[[float, float], bool]
) -> None:
    if clear is None:
        return
    if clear.warning is None and clear.critical is None:
        raise problems.Mistake(path, "names no number", "write { warning = …, critical = … }, or leave it out")
    for severity in models.SEVERITIES:
        back, out = getattr(clear, severity), getattr(levels, severity)
        if back is None:
            continue
        if out is None:
            raise problems.Mistake(f"{path}.{severity}", f"clears a severity that {side} does not have", "remove it")
        if worse(back, out):
            raise problems.Mistake(
                f"{path}.{severity}",
                f"{back:g} is {side} the threshold, {out:g}, so the alert would flap",
                f"choose {out:g} or {'less' if side == 'above' else 'more'}",
            )


def _cases(path: str, section: grammar.RuleSection) -> tuple[Case, ...]:
    found = []
    for place, case in enumerate(section.cases):
        turns = tuple((turn.at, turn.to) for turn in case.turns)
        for at, (number, _) in enumerate(turns):
            where = f"{path}.cases[{place}].turns[{at}].at"
            if number > len(case.values):
                raise problems.Mistake(where, f"there are {len(case.values)} values only", "number them from 1")
            if at and number <= turns[at - 1][0]:
                raise problems.Mistake(where, "comes before the turn above it", "list the turns in order of time")
        values = tuple(value if math.isfinite(value) else None for value in case.values)
        found.append(Case(name=case.name, values=values, period=case.period, turns=turns))
    return tuple(found)


def _kind_rule(path: str, section: grammar.RuleSection) -> models.Rule:
    """Return a rule that is about no metric but about what its metric's place names."""
    own = KINDS[section.metric]
    for key in grammar.RuleSection.model_fields:
        if key in section.model_fields_set and key not in own | {"name", "metric", "labels", "notify"}:
            todo = "remove it; intervals is its threshold"
            if key == "cases":
                todo = "remove them; there are no values to try it on"
            elif section.metric != NO_DATA:
                todo = f"remove it; it takes {', '.join(sorted(own))}"
            raise problems.Mistake(f"{path}.{key}", f"is not for metric = {section.metric!r}", todo)
    common: dict[str, Any] = {"name": section.name, "labels": section.labels, **_notified(section)}
    if section.metric == state.KIND:
        if not section.states:
            raise problems.Mistake(
                f"{path}.states", "names no state", 'write ["stopped", "terminated"], or one of them'
            )
        _codes(f"{path}.expected", section.expected, state.CODES)
        return models.Rule(
            kind=state.KIND,
            states=tuple(dict.fromkeys(section.states)),
            expected=tuple(dict.fromkeys(section.expected)),
            severity=section.severity,
            **common,
        )
    if section.metric == event.KIND:
        if not section.codes and "codes" in section.model_fields_set:
            raise problems.Mistake(f"{path}.codes", "names no event", f"leave it out for all: {', '.join(event.CODES)}")
        _codes(f"{path}.codes", section.codes, event.CODES)
        return models.Rule(
            kind=event.KIND,
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
        if code not in known and not (known is state.CODES and _REASON.fullmatch(code)):
            raise problems.Mistake(
                f"{path}[{place}]", f"{problems.shown(code)} is no code of EC2", errors.nearest(code, known)
            )


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
    except problems.Mistake as wrong:
        raise errors.InvalidInput(file.where(wrong.path), wrong.why, wrong.todo) from None
    return made


def _wanted(discover: models.Discover) -> models.Discover | None:
    return discover if discover.tags else None


def _collected(
    chosen: tuple[str, ...] | None, rules: Iterable[models.Rule], catalogue: Mapping[str, models.Metric]
) -> tuple[str, ...]:
    if chosen is not None:
        return tuple(name for name in dict.fromkeys(chosen) if name != models.STATUS_CHECK_FAILED)
    needed = (rule.metric for rule in rules if rule.metric in catalogue)
    return tuple(dict.fromkeys((*metrics.DEFAULT, *(name for name in needed if name is not None))))


def _references(file: File, made: models.Configuration) -> None:
    known = {*made.metrics, models.STATUS_CHECK_FAILED}
    for place, name in enumerate(made.chosen or ()):
        if name not in known:
            raise problems.Mistake(
                f"collect.metrics[{place}]", f"{name} is no known metric", errors.nearest(name, known)
            )
    for place, rule in enumerate(made.rules):
        ours = file.rules is not None
        path = f"rules[{place}]" if ours else f"rule {rule.name} (in force)"
        routes = (
            {"notify": rule.notify} if rule.routes is None else {f"notify.{key}": it for key, it in rule.routes.items()}
        )
        for where, told in routes.items():
            for at, channel in enumerate(told):
                if channel not in made.channels:
                    raise problems.Mistake(
                        f"{path}.{where}[{at}]", f"{channel} is no channel", errors.nearest(channel, made.channels)
                    )
        if rule.kind != "threshold":
            continue
        if rule.metric not in known:
            names = {*known, *KINDS}
            raise problems.Mistake(
                f"{path}.metric", f"{rule.metric} is no known metric", errors.nearest(str(rule.metric), names)
            )
        if ours and rule.metric not in (*made.collect, models.STATUS_CHECK_FAILED):
            why = f"{rule.metric} is not collected, so the rule could never fire"
            raise problems.Mistake(f"{path}.metric", why, "add it to [collect] metrics")
    rules = {*(rule.name for rule in made.rules), *STANDING}
    for place, silence in enumerate(made.silences):
        if silence.rule is not None and silence.rule not in rules:
            where = f"silences[{place}]" if file.silences is not None else f"silence {silence.id} (in force)"
            raise problems.Mistake(f"{where}.rule", f"{silence.rule} is no rule", errors.nearest(silence.rule, rules))
    for path, account in _accounts(file):
        if account is not None and account != "default" and account not in made.accounts:
            raise problems.Mistake(path, f"{account} is no account", errors.nearest(account, made.accounts))


def _accounts(file: File) -> Iterable[tuple[str, str | None]]:
    if file.discover is not None:
        yield "discover.account", file.discover.account
    for place, worker in enumerate(file.workers or ()):
        yield f"workers[{place}].account", worker.account
