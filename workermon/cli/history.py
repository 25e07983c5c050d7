"""``history``: datapoints, and summaries of hours."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING

import click

from workermon import models
from workermon.cli import down_warning, options, output, session, tables

if TYPE_CHECKING:
    from workermon import views


@click.command()
@click.argument("name", metavar="WORKER", type=options.Text())
@click.argument("metric", required=False, type=options.Text())
@click.option("--since", type=options.Duration(), default="1h", show_default=True, help="How far back.")
@click.option("--step", type=options.Duration(), help="1h: minimum, mean, maximum, p95 and count of each hour.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV; for one metric: timestamp,value.")
@options.as_json
@session.pass_session
def history(
    cli_session: session.Session,
    name: str,
    metric: str | None,
    since: int,
    step: int | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show datapoints by CloudWatch's timestamps, or with --step 1h a summary of each hour.

    Without METRIC it shows every metric. Hours are kept for longer than datapoints.

    \b
    Example: workermon history render-07 cpu_utilization --since 6h --csv
    """
    from workermon import fleet, views

    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    record = cli_session.get(fleet.Lookup).resolve([name])[0]
    begin = cli_session.now() - since
    recorded: views.History | views.HourlyHistory
    if step is None:
        recorded = cli_session.get(views.HistoryView).history(record, metric, begin)
    else:
        recorded = cli_session.get(views.HourlyHistoryView).hourly(record, metric, begin, step)
    down_warning.warn_if_down(cli_session)
    if as_json:
        output.document(recorded)
    elif isinstance(recorded, views.HourlyHistory):
        _show_hours(recorded, as_csv=as_csv)
    elif as_csv:
        _write_csv(recorded)
    elif recorded.datapoints:
        rows = [
            (models.rfc3339(point.at), point.metric, output.quantity(point.value, point.unit))
            for point in recorded.datapoints
        ]
        tables.show(("TIME", "METRIC", "VALUE"), rows)
    else:
        click.echo("no datapoint yet", err=True)


def _write_csv(recorded: views.History) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if recorded.metric is not None:
        writer.writerow(("timestamp", "value"))
        writer.writerows((models.rfc3339(point.at), point.value) for point in recorded.datapoints)
        return
    writer.writerow(("timestamp", "metric", "value", "unit"))
    writer.writerows((models.rfc3339(point.at), point.metric, point.value, point.unit) for point in recorded.datapoints)


def _show_hours(hourly: views.HourlyHistory, *, as_csv: bool) -> None:
    if as_csv:
        several = hourly.metric is None
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(("timestamp", *(("metric",) if several else ()), "min", "avg", "max", "p95", "count"))
        for hour in hourly.datapoints:
            metric_cell = (hour.metric,) if several else ()
            writer.writerow((models.rfc3339(hour.at), *metric_cell, hour.min, hour.avg, hour.max, hour.p95, hour.count))
    elif hourly.datapoints:
        rows = [
            (
                models.rfc3339(hour.at),
                hour.metric,
                *(output.quantity(value, hour.unit) for value in (hour.min, hour.avg, hour.max, hour.p95)),
                str(hour.count),
            )
            for hour in hourly.datapoints
        ]
        tables.show(("HOUR", "METRIC", "MIN", "AVG", "MAX", "P95", "COUNT"), rows)
    else:
        click.echo("no datapoint yet", err=True)
