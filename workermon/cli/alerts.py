"""``alerts`` and ``why``: what fires, what is over, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from workermon import errors, models
from workermon.cli import options, output, session

if TYPE_CHECKING:
    from workermon import views


@click.command()
@click.option("--all", "every", is_flag=True, help="Past alerts too.")
@options.as_json
@session.pass_session
def alerts(own: session.Session, every: bool, as_json: bool) -> None:
    """List the alerts that fire, the oldest first.

    \b
    Example: workermon alerts --all --json
    """
    from workermon import views

    found = own.get(views.AlertView).list(every=every)
    if as_json:
        output.document(found)
        return
    rows = [
        (
            alert.since,
            " ".join((alert.status, *_marks(alert))),
            alert.severity,
            alert.rule,
            alert.worker.name if alert.worker else "-",
            alert.summary,
        )
        for alert in found.alerts
    ]
    colours = {"critical": "red", "warning": "yellow"}
    styles = [colours[alert.severity] if alert.open else None for alert in found.alerts]
    if rows:
        output.table(("SINCE", "STATUS", "SEVERITY", "RULE", "WORKER", "SUMMARY"), rows, styles)
    else:
        click.echo("no alert" if every else "no alert fires", err=True)


def _marks(alert: views.AlertRow) -> Iterator[str]:
    if alert.silenced_by:
        yield "(silenced)"
    elif alert.acked_by:
        yield "(acknowledged)"
    if alert.flapping:
        yield "(flapping)"


@click.command()
@click.argument("name", metavar="WORKER", type=options.Text())
@click.argument("metric", type=options.Text())
@options.as_json
@session.pass_session
def why(own: session.Session, name: str, metric: str, as_json: bool) -> None:
    """Explain why an alert fires, or does not.

    For each rule over the metric (or no-data, state, event): its state, the datapoints that it looks at, the missing
    ones, the last transitions with their recorded reasons, and each attempt to deliver.

    \b
    Example: workermon why render-07 cpu_utilization
    """
    from workermon import fleet, views

    explanation = own.get(views.Explanation)
    if models.is_delivery_alert(f"{name}/{metric}"):
        _delivery(explanation.delivery(models.channel_of(f"{name}/{metric}")), as_json)
        return
    record = own.get(fleet.Lookup).resolve([name])[0]
    found = explanation.why(record, metric)
    if as_json:
        output.document(found)
        return
    for line in _explained(found):
        click.echo(errors.printable(line))


def _delivery(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.document(found)
        return
    since = f" since {found['since']}" if found["since"] else ""
    lines = [f"channel {found['channel']} ({found['type'] or 'removed'}), {found['rule']}: {found['state']}{since}"]
    lines += [f"  reason   {found['reason']}"] if found["reason"] else []
    lines += [
        f"  waits    {one['alert']} since {one['since']}, {one['attempts']} attempts: {one['error']}"
        for one in found["waiting"]
    ]
    for line in [*lines, *(line for one in found["history"] for line in _turn(one))]:
        click.echo(errors.printable(line))


def _explained(found: dict[str, Any]) -> Iterator[str]:
    worker = found["worker"]
    last_error = f"; {found['trouble']['kind']}: {found['trouble']['message']}" if found["trouble"] else ""
    yield (
        f"{worker['name']} ({worker['id']}), {found['metric']}: {found['status']}, {found['monitoring']},"
        f" last collected with success {found['succeeded_at'] or 'never'}{last_error}"
    )
    if not found["rules"]:
        yield "no rule is over it"
    for rule in found["rules"]:
        yield ""
        yield f"{rule['rule']}: {_state(rule)}"
        wants = [f"{side} {_levels(rule[side])}" for side in ("above", "below", "clear") if side in rule]
        wants += [f"{key} {rule[key]}" for key in ("breach", "recover", "intervals") if key in rule]
        wants += [f"missing {rule['absent']}"] if "absent" in rule else []
        wants += [f"{key} {' '.join(rule[key])}" for key in ("states", "expected", "codes") if rule.get(key)]
        wants += [f"{rule['ahead']} s ahead"] if rule.get("ahead") else []
        wants += [f"severity {rule['severity']}"] if rule["kind"] in ("state", "event") else []
        wants += [f"only {key}={value}" for key, value in rule["labels"].items()]
        yield f"  rule     {', '.join(wants)}; notifies {_notified(rule)}"
        yield f"  now      {rule['now']}"
        if rule["flapping"]:
            yield f"  flapping {_flapping(rule['flapping'])}"
        for one in rule["silences"]:
            yield f"  silence  {one['id']} until {one['ends']} by {one['by']}: {one['reason']}"
        if "points" in rule:
            points = "  ".join(f"{_clock(one['at'])} {one['value']:g}" for one in rule["points"])
            yield f"  points   {points or 'none'}"
            yield f"  missing  {'  '.join(_clock(at) for at in rule['missing']) or 'none'}"
            yield (
                f"  slots    evaluated up to {rule['cursor'] or 'nothing yet'}; period {rule['period']} s,"
                f" delay {rule['delay']} s, absent counts up to {rule['horizon'] or '-'}"
            )
        for one in rule.get("changes", ()):
            why = f", {one['reason']['code']}" if one["reason"] else ""
            yield f"  seen     {one['at']} {one['status']}{why}"
        for one in rule.get("events", ()):
            told = f"; not notified: {one['not_told']}" if one["not_told"] else ""
            yield f"  event    {one['code']} {one['not_before'] or '-'} {one['description']}{told}"
        for one in rule["history"]:
            yield from _turn(one)


def _state(rule: dict[str, Any]) -> str:
    """Return a rule's state in words, and what people were last notified of."""
    if rule["state"] == "ok":
        return "not firing" + ("; the last notification says that it fires" if rule["told"] else "")
    since = f" since {rule['since']}" if rule["since"] else ""
    silenced = ", but not of the present state" if rule["told"] and rule["silenced_by"] else ""
    return f"{rule['state']}{since}; {'notified' if rule['told'] else 'not notified'}{silenced}"


def _turn(one: dict[str, Any]) -> Iterator[str]:
    yield f"  {one['at']} {one['before']} → {one['after']}: {one['reason']}"
    if one["damped"]:
        yield "    not notified: flapping"
    elif one["silenced_by"]:
        yield f"    not notified: silence {one['silenced_by']}"
    elif not one["told"]:
        yield "    not notified"
    for each in one["deliveries"]:
        yield f"    {each['at']} {each['channel']}: {each['error'] or 'accepted'}"
    if one["told"] and not one["deliveries"] and not one["silenced_by"]:
        yield "    no attempt to deliver it yet"


def _notified(rule: dict[str, Any]) -> str:
    if "routes" in rule:
        return ", ".join(f"{', '.join(names) or 'nobody'} ({what})" for what, names in rule["routes"].items())
    return ", ".join(rule["notify"]) or "nobody"


def _flapping(status: dict[str, Any]) -> str:
    if not status["flaps"]:
        return f"no: {status['counted']} transitions within {status['within']} s, {status['turns']} make it flap"
    return f"changes too often; notifies again when it has held still until {status['until']}"


def _levels(levels: dict[str, float]) -> str:
    return " ".join(f"{severity} {value:g}" for severity, value in levels.items())


def _clock(at: str) -> str:
    return at[11:]
