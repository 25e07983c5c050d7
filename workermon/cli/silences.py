"""``silence``, ``silences``, ``unsilence`` and ``ack``: what notifies nobody for a while, and who looks after what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from workermon import errors, models
from workermon.cli import audit_recording, options, output, session, tables

if TYPE_CHECKING:
    from workermon import views

BY = click.option("--by", type=options.Text(), help="Your name; by default the user of this machine.")


@click.command(cls=audit_recording.Write)
@click.argument("alert", metavar="[ALERT]", required=False, type=options.Text())
@click.option("--worker", "name", type=options.Text(), metavar="WORKER", help="Alerts of this worker.")
@options.LABELS
@click.option("--rule", type=options.Text(), help="Alerts of this rule.")
@click.option("--for", "lasting", type=options.Duration(), metavar="2h", help="For how long.")
@click.option("--until", type=options.Text(), metavar="TIME", help="Until when, in RFC 3339.")
@click.option("--reason", type=options.Text(), required=True, help="Why.")
@BY
@options.as_json
@session.pass_session
def silence(
    cli_session: session.Session,
    alert: str | None,
    name: str | None,
    labels: tuple[str, ...],
    rule: str | None,
    lasting: int | None,
    until: str | None,
    reason: str,
    by: str | None,
    as_json: bool,
) -> None:
    """Silence alerts for a while: nobody is notified.

    ALERT is the dedup_key of one alert. Or name a worker, labels and a rule: an alert is silenced if all of them match.

    Silenced alerts are still evaluated and recorded. If one still fires when the silence ends, it notifies then. If an
    alert had notified before the silence, its end is notified too.

    \b
    Example: workermon silence --worker render-07 --for 2h --reason "new disk"
    """
    from workermon import evaluate, views

    if lasting is not None and until is not None:
        raise click.UsageError("--for and --until exclude each other")
    request = models.SilenceRequest(
        worker=name,
        labels=options.pairs(labels, "--label"),
        rule=rule,
        alert=alert,
        ends=_moment(until) if until is not None else None if lasting is None else cli_session.now() + lasting,
        reason=reason,
        by=by or session.user(),
    )
    added = cli_session.get(evaluate.Silencing).add(request)
    row = views.silence_row(added)
    if as_json:
        output.document(row)
    else:
        click.echo(f"silence {added.id} until {models.rfc3339(added.ends)}: {_subject(row)}")


def _moment(text: str) -> float:
    try:
        return models.moment_or_utc(text)
    except ValueError as error:
        raise errors.InvalidInput("--until", f"{errors.printable(text)[:40]!r} {error}", "write it so") from None


@click.command()
@options.as_json
@session.pass_session
def silences(cli_session: session.Session, as_json: bool) -> None:
    """List active silences, the first to end first, then the windows of the config file that are closed.

    \b
    Example: workermon silences --json
    """
    from workermon import views

    listing = cli_session.get(views.SilenceView).list()
    if as_json:
        output.document(listing)
    elif listing.silences:
        rows = [(row.id, _when(row), _subject(row), row.by, row.reason) for row in listing.silences]
        tables.show(("ID", "UNTIL", "MATCHES", "BY", "REASON"), rows)
    else:
        click.echo("no silences", err=True)


@click.command(cls=audit_recording.Write)
@click.argument("silence_id", metavar="ID", type=options.Text())
@session.pass_session
def unsilence(cli_session: session.Session, silence_id: str) -> None:
    """End a silence now.

    Alerts that still fire notify within seconds.

    \b
    Example: workermon unsilence 3f2a9c01
    """
    from workermon import evaluate

    cli_session.get(evaluate.Unsilencing).remove(silence_id)
    click.echo(f"silence {silence_id} ended")


@click.command(cls=audit_recording.Write)
@click.argument("alert", metavar="ALERT", type=options.Text())
@BY
@options.as_json
@session.pass_session
def ack(cli_session: session.Session, alert: str, by: str | None, as_json: bool) -> None:
    """Note that somebody is looking after an alert that fires.

    ALERT is its dedup_key: worker id and rule. The acknowledgement stops reminders and escalation, and ends with the
    alert.

    \b
    Example: workermon ack i-0abc123def4567890/cpu-high
    """
    from workermon import evaluate, views

    acknowledged = cli_session.get(evaluate.Acknowledging).acknowledge(alert, by or session.user())
    row = views.acknowledgement_row(acknowledged.acknowledgement, acknowledged.previous)
    if as_json:
        output.document(row)
        return
    before = f", as {row.previous.acked_by} did at {models.rfc3339(row.previous.at)}" if row.previous else ""
    click.echo(f"{row.alert} acknowledged by {row.acked_by}{before}")


def _when(row: views.SilenceRow) -> str:
    """Return the end of an active silence, or the next span in which it is active."""
    if row.ends is not None:
        return models.rfc3339(row.ends)
    return f"{models.rfc3339(row.next.begins)} to {models.rfc3339(row.next.ends)}" if row.next else "-"


def _subject(row: views.SilenceRow) -> str:
    if row.all:
        return "everything"
    matchers = (("worker", row.worker), ("rule", row.rule), ("alert", row.alert))
    parts = [f"{key} {name}" for key, name in matchers if name]
    return ", ".join([*parts, *(f"{key}={value}" for key, value in row.labels.items())])
