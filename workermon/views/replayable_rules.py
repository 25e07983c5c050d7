"""Which rules can be replayed over recorded datapoints, and which metrics they need."""

from __future__ import annotations

from workermon import errors, models, rules

#: What to do about a rule that a trace of one metric cannot decide.
_OF_SEVERAL = "replay it from the ledger: leave --csv out"


def needed_metrics(rule: models.Rule, configuration: models.Configuration, kinds: rules.Kinds) -> tuple[str, ...]:
    """Return the metrics whose datapoints decide a rule: its own, and those of the rules that it depends on."""
    return rules.needed_metrics(rule, configuration.rules, kinds)


def over_metrics(
    configuration: models.Configuration, kinds: rules.Kinds, metric: str | None = None, *, groups: bool = False
) -> list[models.Rule]:
    """Return the rules over datapoints, which can be replayed; with ``metric``, only those over it.

    Rules over groups need the datapoints of a whole fleet. They are left out unless ``groups``.
    """
    candidates = [rule for rule in configuration.rules if groups or not _over_groups(rule, kinds)]
    needed = ((rule, needed_metrics(rule, configuration, kinds)) for rule in candidates)
    return [rule for rule, metrics in needed if metrics and metric in (None, *metrics)]


def _over_groups(rule: models.Rule, kinds: rules.Kinds) -> bool:
    """Return whether a rule needs the datapoints of a group: it is over one, or compares workers with it."""
    kind = kinds[rule.kind]
    return kind.group_by(rule) is not None or kind.compares_by(rule) is not None


def rules_for(
    configuration: models.Configuration, kinds: rules.Kinds, metric: str | None, source: str
) -> list[models.Rule]:
    """Return the rules over the metric of a trace.

    If ``metric`` is ``None``, it is the one that all rules are about, or the one that occurs in ``source`` (the name of
    the trace). Raises ``errors.NotFound`` if no rule is about that metric, and ``errors.InvalidInput`` if the metric is
    ambiguous or if all matching rules need other metrics too.
    """
    needed = {rule.name: needed_metrics(rule, configuration, kinds) for rule in over_metrics(configuration, kinds)}
    replayed = [rule for rule in configuration.rules if len(needed.get(rule.name, ())) == 1]
    several = over_several(configuration, kinds, metric)
    metrics = list(dict.fromkeys(needed[rule.name][0] for rule in replayed))
    if several and (not metrics or (metric is not None and metric not in metrics)):
        raise errors.InvalidInput(source, f"has one metric, and rule {several[0]}", _OF_SEVERAL)
    if metric is None:
        candidates = metrics if len(metrics) == 1 else [name for name in metrics if name in source]
        if len(candidates) != 1:
            reason = "the rules are about several metrics" if metrics else "no rule is about a metric"
            todo = f"add --metric, one of {', '.join(metrics)}" if metrics else "add a [[rules]] with a threshold"
            raise errors.InvalidInput(source, reason, todo)
        metric = candidates[0]
    if metric not in metrics:
        raise errors.NotFound(f"metric {metric}", "no rule of the file is about it", errors.nearest(metric, metrics))
    return [rule for rule in replayed if needed[rule.name] == (metric,)]


def over_several(configuration: models.Configuration, kinds: rules.Kinds, metric: str | None = None) -> list[str]:
    """Return name and metrics of each rule over several metrics that include ``metric``."""
    return [
        f"{rule.name} is over {' and '.join(metrics)}"
        for rule in over_metrics(configuration, kinds, metric)
        if len(metrics := needed_metrics(rule, configuration, kinds)) > 1
    ]
