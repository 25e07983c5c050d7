"""``watch`` and ``history``: samples as they come, and as they came."""

from __future__ import annotations

import csv
import json
import sys

import click

from workermon import errors, models
from workermon.cli import options, output, session


@click.command()
@click.argument("names", metavar="[WORKER]...", nargs=-1, type=options.Text())
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--seconds", type=click.IntRange(min=1), help="End after that many seconds.")
@session.pass_session
def watch(own: session.Session, names: tuple[str, ...], as_json: bool, seconds: int | None) -> None:
    """Show samples and alerts as they come, until Ctrl-C.

    How it stands comes first: the last sample of each worker, and the alerts that fire.

    \b
    Example: workermon watch render-07 --json
    """
    from workermon import fleet
    from workermon.views import watch as feed

    ids = frozenset(record.worker.id for record in own.call(fleet.resolve, names)) if names else None
    until = None if seconds is None else own.now() + seconds
    try:
        for shown in own.call(feed.watch, ids):
            if shown is None:
                sys.stdout.flush()
            elif as_json:
                click.echo(json.dumps(models.to_json(shown), ensure_ascii=False))
            else:
                click.echo(line(shown))
            if until is not None and own.now() >= until:
                return
    except KeyboardInterrupt:
        return


def line(shown: models.Event | models.Notification) -> str:
    """Return a sample or an alert as one line."""
    if isinstance(shown, models.Notification):
        colour = "green" if shown.status == "resolved" else "red" if shown.severity == "critical" else "yellow"
        text = f"{shown.at} {shown.status} {shown.rule} {shown.severity}: {shown.summary}"
        return click.style(errors.printable(text), fg=colour)
    readings = " ".join(
        f"{name}={output.quantity(models.to_json(reading)).replace(' ', '')}"
        for name, reading in shown.metrics.items()
        if reading is not None
    )
    return errors.printable(f"{shown.collected_at} {shown.worker_name} {shown.status} {readings or '-'}")


@click.command()
@click.argument("name", metavar="WORKER", type=options.Text())
@click.argument("metric", required=False, type=options.Text())
@click.option("--since", type=options.Duration(), default="1h", show_default=True, help="How far back.")
@click.option("--csv", "as_csv", is_flag=True, help="CSV; of one metric with the columns timestamp,value.")
@options.as_json
@session.pass_session
def history(own: session.Session, name: str, metric: str | None, since: int, as_csv: bool, as_json: bool) -> None:
    """Show datapoints by CloudWatch's timestamps.

    Those of one metric, or of all.

    \b
    Example: workermon history render-07 cpu_utilization --since 6h --csv
    """
    from workermon import fleet
    from workermon.views import fleet as report

    if as_csv and as_json:
        raise click.UsageError("--csv and --json are two answers to one question")
    record = own.call(fleet.resolve, [name])[0]
    found = own.call(report.history, record, metric, own.now() - since)
    points = found["datapoints"]
    if as_json:
        output.document(found)
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(("timestamp", "value") if metric else ("timestamp", "metric", "value", "unit"))
        for point in points:
            row = (point["at"], point["value"])
            writer.writerow(row if metric else (point["at"], point["metric"], point["value"], point["unit"]))
    elif points:
        output.table(
            ("TIME", "METRIC", "VALUE"), [(each["at"], each["metric"], output.quantity(each)) for each in points]
        )
    else:
        click.echo("no datapoint yet", err=True)
