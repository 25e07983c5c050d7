"""Builds the models from a config file's sections, and checks what takes several keys and so is not in the grammar."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workermon import errors, models
from workermon.config import cases, catalogue, channels, expressions, grammar, problems, rules, silences
from workermon.config.file import File
from workermon.models import fields
from workermon.rules import KINDS, Kinds, cycle, expression, looks_at


def build(sections: grammar.Grammar, source: str, channel_types: channels.Types, kinds: Kinds) -> File:
    """Return the file that the sections describe. Raises ``problems.Mistake`` for the first mistake."""
    read = [rules.read(place, raw_rule, kinds) for place, raw_rule in enumerate(sections.rules or ())]
    file = File(
        source=source,
        workers=sections.workers,
        discover=_discover(sections.discover),
        rules=None if sections.rules is None else tuple(rule for rule, _ in read),
        channels=None
        if sections.channels is None
        else {name: channels.read(name, section, channel_types) for name, section in sections.channels.items()},
        metrics=None if sections.metrics is None else _metrics(sections.metrics, kinds),
        collect=sections.collect,
        alerts=sections.alerts,
        accounts=None
        if sections.accounts is None
        else {name: _account(name, section) for name, section in sections.accounts.items()},
        event_queues=None
        if sections.events is None
        else {name: models.EventQueue(**dict(section)) for name, section in sections.events.items()},
        budget=sections.budget,
        limits=None if sections.limits is None else _limits(sections.limits),
        silences=None
        if sections.silences is None
        else tuple(silences.read(place, section) for place, section in enumerate(sections.silences)),
    )
    _check_names(file, read)
    _check_others(file.rules or (), kinds)
    file = file.model_copy(update={"cases": _cases(read, file.rules or (), kinds)})
    if file.collect is not None:
        _check_lateness(file.collect)
    return file


def _check_names(file: File, read: Iterable[rules.ParsedRule]) -> None:
    """Reject duplicate names and silences, and a worker with the name of another instance."""
    for place, (_, sections) in enumerate(read):
        _check_unique(f"rules[{place}].cases", "name", (case.name for case in sections))
    workers = file.workers or ()
    _check_unique("workers", "id", (worker.id for worker in workers))
    _check_unique("workers", "name", (worker.name for worker in workers))
    _check_unique("rules", "name", (rule.name for rule in file.rules or ()))
    for place, silence in enumerate(file.silences or ()):
        if any(silence.id == earlier.id for earlier in (file.silences or ())[:place]):
            raise problems.Mistake(f"silences[{place}]", "is the same as another one", "remove one of them")
    for place, worker in enumerate(workers):
        if worker.name and models.INSTANCE_ID.fullmatch(worker.name) and worker.name != worker.id:
            raise problems.Mistake(f"workers[{place}].name", "is the id of another instance", "choose another name")


def _check_others(configured_rules: Sequence[models.Rule], kinds: Kinds) -> None:
    """Reject the name of an unknown rule, and rules that depend on each other in a cycle."""
    names = {rule.name for rule in configured_rules}
    over_groups = {rule.name for rule in configured_rules if kinds[rule.kind].group_by(rule) is not None}
    for place, rule in enumerate(configured_rules):
        for name in kinds[rule.kind].operands(rule):
            path, offset = _place_of(rule, name, kinds)
            if name not in names:
                todo = errors.nearest(name, names - {rule.name})
                raise problems.Mistake(f"rules[{place}].{path}", f"{name} is not a known rule", todo, offset)
            if name in over_groups - {rule.name}:
                reason = f"{name} is a rule over groups, and only rules of one worker can be used here"
                raise problems.Mistake(f"rules[{place}].{path}", reason, "remove it", offset)
        for number, name in enumerate(rule.inhibited_by):
            _check_known(f"rules[{place}].inhibited_by[{number}]", name, {*names, *catalogue.OF_ACCOUNT}, "rule")
    circle = cycle(configured_rules, looks_at(kinds))
    if circle is not None:
        place = next(place for place, rule in enumerate(configured_rules) if rule.name == circle[0])
        path, offset = _place_of(configured_rules[place], circle[1], kinds)
        reason = f"is part of a cycle: {' -> '.join(circle)}"
        raise problems.Mistake(f"rules[{place}].{path}", reason, "remove one of them", offset)


def _cases(
    read: Sequence[rules.ParsedRule], configured_rules: Sequence[models.Rule], kinds: Kinds
) -> dict[str, tuple[cases.Case, ...]]:
    """Return the cases of each rule that has some."""
    return {
        rule.name: cases.read(f"rules[{place}]", sections, rule, configured_rules, kinds)
        for place, (rule, sections) in enumerate(read)
        if sections
    }


def _place_of(rule: models.Rule, name: str, kinds: Kinds) -> tuple[str, int | None]:
    """Return the path below a rule that names another one, and the position in the text there."""
    if name in kinds[rule.kind].operands(rule):
        return kinds[rule.kind].operand_place(rule, name)
    return f"inhibited_by[{rule.inhibited_by.index(name)}]", None


def _check_unique(section: str, key: str, values: Iterable[str | None]) -> None:
    places: dict[str, int] = {}
    for place, value in enumerate(values):
        if value is None:
            continue
        if value in places:
            reason = f"{value} is {section}[{places[value]}] already"
            raise problems.Mistake(f"{section}[{place}].{key}", reason, "remove one of them")
        places[value] = place


def _check_lateness(section: grammar.CollectSection) -> None:
    """Reject a lateness that leaves too little of the ledger for how far rules look back."""
    if 2 * section.lateness > section.retention:
        reason = f"is more than half of the retention, {fields.written(section.retention)}"
        most, needed = fields.written(section.retention // 2), fields.written(2 * section.lateness)
        todo = f"choose {most} at most, or a retention of {needed}"
        raise problems.Mistake("collect.lateness", reason, todo)


def _discover(section: grammar.DiscoverSection | None) -> models.Discover | None:
    if section is None:
        return None
    if section.regions and not section.tags:
        reason = "is missing, so every instance would match"
        raise problems.Mistake("discover.tags", reason, 'write tags = { Role = "…" }')
    return models.Discover(**dict(section))


def _account(name: str, section: grammar.AccountSection) -> models.Account:
    if name == models.DEFAULT_ACCOUNT:
        raise problems.Mistake("accounts.default", "is the name of boto3's own credentials", "choose another name")
    account = models.Account(
        role_arn=section.role_arn,
        external_id=section.external_id and section.external_id.ref(f"accounts.{name}.external_id"),
        monitoring=section.monitoring,
    )
    if account.monitoring == account.id:
        reason = "is the account of role_arn itself, and its CloudWatch is read without this key"
        raise problems.Mistake(
            f"accounts.{name}.monitoring", reason, "give the id of the monitoring account, or remove it"
        )
    return account


def _metrics(sections: Iterable[grammar.MetricSection], kinds: Kinds) -> dict[str, models.Metric]:
    metrics: dict[str, models.Metric] = {}
    reserved = {*models.CHECK_METRICS, *(kind.pseudo_metric for kind in kinds.values())}
    for place, section in enumerate(sections):
        path = f"metrics[{place}]"
        if section.name in reserved:
            reason = f"{section.name} does not come from CloudWatch"
            raise problems.Mistake(f"{path}.name", reason, "choose another name")
        if section.name in metrics:
            raise problems.Mistake(f"{path}.name", f"{section.name} is already defined", "remove one of them")
        metrics[section.name] = _metric(path, section)
    return metrics


def _metric(path: str, section: grammar.MetricSection) -> models.Metric:
    """Return a metric: a known one with other values, or one of the user's own."""
    fields = section.model_dump(exclude_none=True)
    builtin = catalogue.CATALOGUE.get(section.name)
    if builtin is not None:
        metric = builtin.model_copy(update=fields)
        return metric if metric.key == builtin.key else metric.model_copy(update={"also": ()})
    for key in ("namespace", "metric_name"):
        if key not in fields:
            reason = f"is missing, and {section.name} is not a known metric"
            todo = f"add it, or: {errors.nearest(section.name, catalogue.CATALOGUE)}"
            raise problems.Mistake(f"{path}.{key}", reason, todo)
    fields.setdefault("merge", "sum" if fields.get("statistic") in ("Sum", "SampleCount") else "max")
    return models.Metric(**fields)


def _limits(section: grammar.LimitsSection) -> dict[str, models.Limit]:
    limits = {grammar.LIMITED[key]: getattr(section, key) for key in grammar.LimitsSection.model_fields}
    return {
        api: models.Limit(bucket=limit.bucket, rate=limit.per_second)
        for api, limit in limits.items()
        if limit is not None
    }


# --- putting it in force ---------------------------------------------------------------------------------------------


def to_configuration(file: File, previous: models.Configuration, kinds: Kinds = KINDS) -> models.Configuration:
    """Return the configuration after the file is applied over ``previous``; its revision is one higher.

    A section that the file lacks is taken from ``previous``. Raises ``errors.InvalidInput`` for a reference to an
    unknown metric, channel, rule or account.
    """
    keys = {"rules", "accounts", "event_queues", "limits", "silences"}
    changes: dict[str, Any] = {key: value for key in keys if (value := getattr(file, key)) is not None}
    if file.channels is not None:
        changes["channels"] = {**catalogue.DEFAULT_CHANNELS, **file.channels}
    if file.metrics is not None:
        changes["metrics"] = {**catalogue.CATALOGUE, **file.metrics}
    if file.collect is not None:
        collect = file.collect
        changes |= {"retention": collect.retention, "lateness": collect.lateness, "chosen": collect.metrics}
        changes["cadence"] = collect.cadence
        changes["rollups"] = collect.rollups
    if file.alerts is not None:
        changes["alert_history"] = file.alerts.history
    if file.discover is not None:
        changes["discover"] = file.discover if file.discover.tags else None
    if file.budget is not None:
        changes["budget"] = file.budget.dollars_per_day
    configuration = previous.model_copy(update={**changes, "revision": previous.revision + 1})
    configuration = configuration.model_copy(update={"collect": _collected(configuration, kinds)})
    try:
        _check_references(file, configuration, kinds)
    except problems.Mistake as wrong:
        raise problems.InvalidText(
            file.location(wrong.path, wrong.place), wrong.reason, wrong.todo, wrong.place
        ) from None
    return configuration


def _collected(configuration: models.Configuration, kinds: Kinds) -> tuple[str, ...]:
    """Return the metrics to collect: those that the file chose, otherwise the defaults and those that rules need."""
    if configuration.chosen is not None:
        return tuple(name for name in dict.fromkeys(configuration.chosen) if name not in models.CHECK_METRICS)
    needed = (
        name for rule in configuration.rules for name in kinds[rule.kind].metrics(rule) if name in configuration.metrics
    )
    return tuple(dict.fromkeys((*catalogue.DEFAULT_METRICS, *needed)))


def _check_references(file: File, configuration: models.Configuration, kinds: Kinds) -> None:
    """Reject a metric, channel, rule or account that the configuration does not have."""
    metric_names = {*configuration.metrics, *models.CHECK_METRICS}
    for place, name in enumerate(configuration.chosen or ()):
        _check_known(f"collect.metrics[{place}]", name, metric_names, "metric")
    for place, rule in enumerate(configuration.rules):
        path = f"rule {rule.name} (in force)" if file.rules is None else f"rules[{place}]"
        _check_channels(path, rule, configuration.channels)
        _check_metrics(path, rule, configuration, kinds, ours=file.rules is not None)
    names = {*(rule.name for rule in configuration.rules), *catalogue.BUILTIN_RULES}
    for place, silence in enumerate(configuration.silences):
        path = f"silence {silence.id} (in force)" if file.silences is None else f"silences[{place}]"
        if silence.rule is not None:
            _check_known(f"{path}.rule", silence.rule, names, "rule")
    for path, account in _accounts(file):
        if account is not None and account != models.DEFAULT_ACCOUNT:
            _check_known(path, account, configuration.accounts, "account")


def _check_known(path: str, name: str, valid_names: Iterable[str], kind: str) -> None:
    if name not in valid_names:
        raise problems.Mistake(path, f"{name} is not a known {kind}", errors.nearest(name, valid_names))


def _check_channels(path: str, rule: models.Rule, channels: Mapping[str, models.Channel]) -> None:
    lists = {"notify": rule.notify}
    if rule.routes is not None:
        lists = {f"notify.{severity}": names for severity, names in rule.routes.items()}
    lists |= {f"escalate[{place}].notify": step.notify for place, step in enumerate(rule.escalate)}
    for key, names in lists.items():
        for place, name in enumerate(names):
            _check_known(f"{path}.{key}[{place}]", name, channels, "channel")


def _check_metrics(
    path: str, rule: models.Rule, configuration: models.Configuration, kinds: Kinds, *, ours: bool
) -> None:
    """Reject an unknown metric; ``ours``: the rule is in the file, so its metric has to be collected."""
    pseudo_metrics = [kind.pseudo_metric for kind in kinds.values() if kind.pseudo_metric is not None]
    of = expression.of(rule.metric)
    for metric in kinds[rule.kind].metrics(rule):
        place = None if of is None else of.place(metric)
        if metric in models.CHECK_METRICS:
            continue
        if metric not in configuration.metrics:
            names = (*configuration.metrics, *models.CHECK_METRICS, *(pseudo_metrics if of is None else ()))
            todo = expressions.unknown(rule.metric, metric, configuration) or errors.nearest(metric, names)
            raise problems.Mistake(f"{path}.metric", f"{metric} is not a known metric", todo, place)
        if ours and metric not in configuration.collect:
            reason = f"{metric} is not collected, so the rule could never fire"
            raise problems.Mistake(f"{path}.metric", reason, "add it to [collect] metrics", place)
    expressions.check(path, rule, kinds[rule.kind], configuration)


def _accounts(file: File) -> Iterable[tuple[str, str | None]]:
    if file.discover is not None:
        yield "discover.account", file.discover.account
    for name, queue in (file.event_queues or {}).items():
        yield f"events.{name}.account", queue.account
    for place, worker in enumerate(file.workers or ()):
        yield f"workers[{place}].account", worker.account
