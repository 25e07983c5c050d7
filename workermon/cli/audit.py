"""``audit``: who changed what."""

from __future__ import annotations

import click

from workermon import models
from workermon.cli import options, output, session, tables


@click.command()
@click.option("--since", type=options.Duration(), default="7d", show_default=True, help="How far back.")
@options.as_json
@session.pass_session
def audit(cli_session: session.Session, since: int, as_json: bool) -> None:
    """List changes by command and API, the newest first: who, from where, what and when.

    \b
    Example: workermon audit --since 24h
    """
    from workermon import views

    entries = cli_session.get(views.AuditView).list(since)
    if as_json:
        output.document(entries)
    elif entries.audit:
        rows = [
            (models.rfc3339(row.at), row.by, row.origin, " ".join(filter(None, (row.action, row.target))), row.outcome)
            for row in entries.audit
        ]
        tables.show(("TIME", "WHO", "FROM", "WHAT", "OUTCOME"), rows)
    else:
        click.echo("no changes recorded", err=True)
