"""``alerts``: what fires, and what is over."""

from __future__ import annotations

import click

from workermon.cli import options, output, session


@click.command()
@click.option("--all", "every", is_flag=True, help="Those that are over too.")
@options.as_json
@session.pass_session
def alerts(own: session.Session, every: bool, as_json: bool) -> None:
    """List the alerts that fire, the oldest first.

    \b
    Example: workermon alerts --all --json
    """
    from workermon import report

    found = own.call(report.alerts, every=every)
    if as_json:
        output.document(found)
        return
    rows = [
        (
            alert["since"],
            alert["status"],
            alert["severity"],
            alert["rule"],
            alert["worker"]["name"] if alert["worker"] else "-",
            alert["summary"],
        )
        for alert in found["alerts"]
    ]
    colours = {"critical": "red", "warning": "yellow"}
    styles = [colours[alert["severity"]] if alert["open"] else None for alert in found["alerts"]]
    if rows:
        output.table(("SINCE", "STATUS", "SEVERITY", "RULE", "WORKER", "SUMMARY"), rows, styles)
    else:
        click.echo("no alert" if every else "no alert fires", err=True)
