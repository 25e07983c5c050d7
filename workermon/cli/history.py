"""``history``: datapoints as they came."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING

import click

from workermon import models
from workermon.cli import options, output, session, tables, vitals

if TYPE_CHECKING:
    from workermon import views


@click.command()
@click.argument("name", metavar="WORKER", type=options.Text())
@click.argument("metric", required=False, type=options.Text())
@click.option("--since", type=options.Duration(), default="1h", show_default=True, help="How far back.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV; for one metric: timestamp,value.")
@options.as_json
@session.pass_session
def history(own: session.Session, name: str, metric: str | None, since: int, as_csv: bool, as_json: bool) -> None:
    """Show datapoints by CloudWatch's timestamps.

    Without METRIC it shows every metric.

    \b
    Example: workermon history render-07 cpu_utilization --since 6h --csv
    """
    from workermon import fleet, views

    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    record = own.get(fleet.Lookup).resolve([name])[0]
    found = own.get(views.HistoryView).history(record, metric, own.now() - since)
    vitals.warn_if_down(own)
    if as_json:
        output.document(found)
    elif as_csv:
        _write_csv(found)
    elif found.datapoints:
        rows = [
            (models.rfc3339(point.at), point.metric, output.quantity(point.value, point.unit))
            for point in found.datapoints
        ]
        tables.show(("TIME", "METRIC", "VALUE"), rows)
    else:
        click.echo("no datapoint yet", err=True)


def _write_csv(found: views.History) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if found.metric is not None:
        writer.writerow(("timestamp", "value"))
        writer.writerows((models.rfc3339(point.at), point.value) for point in found.datapoints)
        return
    writer.writerow(("timestamp", "metric", "value", "unit"))
    writer.writerows((models.rfc3339(point.at), point.metric, point.value, point.unit) for point in found.datapoints)
