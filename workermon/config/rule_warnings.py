"""Pure: rules that are valid but probably wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from workermon import models
from workermon.config import catalogue
from workermon.models import fields
from workermon.rules import expression, forecast, threshold, threshold_options

#: The least and the greatest value of metrics with a fixed range.
_RANGES: Mapping[str, tuple[float, float]] = {
    **{name: (0.0, 100.0) for name, metric in catalogue.CATALOGUE.items() if metric.unit == "percent"},
    **dict.fromkeys(models.CHECK_METRICS, (0.0, 1.0)),
}


def warnings(rule: models.Rule, metrics: Mapping[str, models.Metric], retention: int) -> Iterator[str]:
    """Yield what is questionable about a rule; ``retention`` is for how many seconds the ledger keeps datapoints."""
    if rule.kind == forecast.KIND.name and (over := forecast.KIND.options(rule).over) > retention:
        yield (
            f"forecast over {fields.written(over)}, but the ledger keeps datapoints for {fields.written(retention)};"
            f' raise it: [collect] retention = "{fields.written(over)}"'
        )
    if rule.kind != threshold.KIND.name or rule.metric is None:
        return
    yield from _shorter_than_a_slot(rule, metrics)
    options, metric = threshold.KIND.options(rule), metrics.get(rule.metric)
    if options.side == "below" and metric is not None and metric.namespace != catalogue.EC2 and metric.merge == "max":
        yield (
            f'{metric.name} below a threshold, but of several series of a worker the maximum counts (merge = "max");'
            ' write merge = "min" below its [[metrics]] if the minimum is meant'
        )
    yield from _out_of_range(options, rule.metric)


def _shorter_than_a_slot(rule: models.Rule, metrics: Mapping[str, models.Metric]) -> Iterator[str]:
    """Yield a warning if ``for`` is shorter than one slot, so that one value makes the rule fire."""
    lasts, metrics_known = (
        threshold.KIND.options(rule).lasts,
        [metrics[name] for name in expression.operands(rule.metric) if name in metrics],
    )
    if lasts is None or not metrics_known:
        return
    basic, detailed = (
        max(metric.period_for(detailed=detailed) for metric in metrics_known) for detailed in (False, True)
    )
    if lasts < basic:
        when = "" if lasts < detailed else " with basic monitoring"
        slot = fields.written(basic)
        yield f"for {fields.written(lasts)} is shorter than a slot{when}, {slot}, so one value makes it fire"


def _out_of_range(options: threshold_options.Options, metric: str) -> Iterator[str]:
    if metric not in _RANGES:
        return
    least, greatest = _RANGES[metric]
    for severity in models.SEVERITIES:
        limit = options.thresholds.of(severity)
        if limit is None:
            continue
        if options.side == "above" and limit >= greatest:
            yield f"it cannot fire as {severity}: {metric} is never above {greatest:g}; the comparison is strict"
        elif options.side == "below" and limit <= least:
            yield f"it cannot fire as {severity}: {metric} is never below {least:g}; the comparison is strict"
