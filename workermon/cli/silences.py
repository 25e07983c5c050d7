"""``silence``, ``silences``, ``unsilence`` and ``ack``: what notifies nobody for a while, and who looks after what."""

from __future__ import annotations

import getpass
import secrets
from typing import TYPE_CHECKING

import click

from workermon import errors, models, ports
from workermon.cli import options, output, session

if TYPE_CHECKING:
    from workermon import views

BY = click.option("--by", type=options.Text(), help="Your name; by default the user of this machine.")


@click.command()
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
    own: session.Session,
    name: str | None,
    labels: tuple[str, ...],
    rule: str | None,
    lasting: int | None,
    until: str | None,
    reason: str,
    by: str | None,
    as_json: bool,
) -> None:
    """Notify nobody of alerts for a while.

    An alert has to match everything that you name. It is still evaluated and recorded. If it still fires when the
    silence ends, it notifies then. The end of an alert that had notified before is notified in any case.

    \b
    Example: workermon silence --worker render-07 --for 2h --reason "new disk"
    """
    from workermon import config, fleet, views
    from workermon.alerts import silences

    now = own.now()
    if lasting is not None and until is not None:
        raise click.UsageError("--for and --until exclude each other")
    ends = _moment(until) if until is not None else None if lasting is None else now + lasting
    worker_id = None if name is None else own.get(fleet.Lookup).resolve([name])[0].worker.id
    theirs = [each.name for each in own.container.get(ports.Configurations).load().rules]
    known = (*theirs, *config.STANDING)
    if rule is not None and rule not in known:
        raise errors.NotFound(f"rule {rule}", "there is none of that name", errors.nearest(rule, known))
    if rule in config.STANDING and rule not in theirs and (name is not None or labels):
        raise errors.InvalidInput(f"rule {rule}", "is not about a worker", "silence it by --rule alone")
    request = silences.Request(
        worker_id=worker_id,
        labels=options.pairs(labels, "--label"),
        rule=rule,
        ends=ends,
        reason=reason,
        by=by or _user(),
    )
    made = silences.made(secrets.token_hex(4), request, now)
    own.container.get(ports.Silences).add(made)
    row = views.silence_row(made)
    if as_json:
        output.document(row)
    else:
        click.echo(f"silence {made.id} until {models.rfc3339(made.ends)}: {_what(row)}")


def _moment(text: str) -> float:
    try:
        return models.moment(text if text[-1:].isalpha() or "+" in text[10:] else f"{text}+00:00")
    except ValueError:
        why = "is not a time such as 2026-11-23T16:00:00Z"
        raise errors.InvalidInput(f"--until {errors.printable(text)[:40]!r}", why, "write it so") from None


def _user() -> str:
    try:
        return errors.printable(getpass.getuser()).strip()[:64] or "unknown"
    except (OSError, KeyError):
        return "unknown"


@click.command()
@options.as_json
@session.pass_session
def silences(own: session.Session, as_json: bool) -> None:
    """List active silences, the first to end first, then the windows of the config file that are closed.

    \b
    Example: workermon silences --json
    """
    from workermon import views

    found = own.get(views.SilenceView).list()
    if as_json:
        output.document(found)
    elif found.silences:
        rows = [(row.id, _when(row), _what(row), row.by, row.reason) for row in found.silences]
        output.table(("ID", "UNTIL", "MUTES", "BY", "REASON"), rows)
    else:
        click.echo("no silence", err=True)


@click.command()
@click.argument("silence_id", metavar="ID", type=options.Text())
@session.pass_session
def unsilence(own: session.Session, silence_id: str) -> None:
    """End a silence now.

    Alerts that still fire notify within seconds.

    \b
    Example: workermon unsilence 3f2a9c01
    """
    kept = own.container.get(ports.Silences)
    now = own.now()
    known = [one.id for one in kept.every() if one.ends > now]
    of_file = [one.id for one in own.container.get(ports.Configurations).load().silences]
    if silence_id in of_file:
        why = "stands in the config file"
        raise errors.InvalidInput(f"silence {silence_id}", why, "remove it there and apply the file")
    if silence_id not in known:
        raise errors.NotFound(
            f"silence {silence_id}", "there is none of that id", errors.nearest(silence_id, [*known, *of_file])
        )
    kept.remove([silence_id])
    muted = [one.last.worker.id for one in own.container.get(ports.Alerts).open() if one.last and one.last.worker]
    own.container.get(ports.Samples).mark_pending(list(dict.fromkeys(muted)), now)
    click.echo(f"silence {silence_id} ended")


@click.command()
@click.argument("alert", metavar="ALERT", type=options.Text())
@BY
@options.as_json
@session.pass_session
def ack(own: session.Session, alert: str, by: str | None, as_json: bool) -> None:
    """Note that somebody is looking after an alert that fires.

    ALERT is its dedup_key, the worker and the rule. The note ends with the alert.

    \b
    Example: workermon ack i-0abc123def4567890/cpu-high
    """
    alerts = own.container.get(ports.Alerts)
    fires = {one.last.dedup_key: one for one in alerts.open() if one.last is not None}
    name, _, rule = alert.rpartition("/")
    # A worker's name in the place of its id.
    meant = [
        key
        for key, one in fires.items()
        if key == alert or (one.last and one.last.worker and one.last.worker.name == name and one.rule == rule)
    ]
    if len(meant) > 1:
        raise errors.InvalidInput(
            f"alert {alert}", f"is that of {len(meant)} workers", f"use one of {', '.join(meant)}"
        )
    if not meant:
        if any(one.notification for one in alerts.history(alert, 10)):
            raise errors.WorkermonError(f"alert {alert}", "is over already", "there is nothing to acknowledge")
        raise errors.NotFound(f"alert {alert}", "none of that name fires", errors.nearest(alert, fires))
    found = fires[meant[0]]
    seen = models.Acknowledgement(alert_id=meant[0], since=found.since, by=by or _user(), at=own.now())
    own.container.get(ports.Silences).acknowledge(seen)
    if as_json:
        output.document({"alert": seen.alert_id, "acked_by": seen.by, "at": models.rfc3339(seen.at)})
    else:
        click.echo(f"{seen.alert_id} acknowledged by {seen.by}")


def _when(row: views.SilenceRow) -> str:
    """Return until when a silence is active, or from when to when it is active next."""
    if row.ends is not None:
        return models.rfc3339(row.ends)
    return f"{models.rfc3339(row.next.begins)} to {models.rfc3339(row.next.ends)}" if row.next else "-"


def _what(row: views.SilenceRow) -> str:
    named = (("worker", row.worker), ("rule", row.rule))
    parts = [f"{key} {name}" for key, name in named if name]
    return ", ".join([*parts, *(f"{key}={value}" for key, value in row.labels.items())])
