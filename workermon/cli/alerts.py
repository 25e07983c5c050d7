"""``alerts`` and ``why``: what fires, what is over, and why."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import click

from workermon import errors, models, ports
from workermon.cli import down_warning, options, output, session, tables

if TYPE_CHECKING:
    from workermon import views


@click.command()
@click.option("--all", "every", is_flag=True, help="Past alerts too.")
@click.option("--since", type=options.Duration(), metavar="7d", help="With --all: how far back.")
@click.option("--worker", type=options.Text(), metavar="WORKER", help="Only alerts of this worker.")
@click.option("--rule", type=options.Text(), help="Only alerts of this rule.")
@options.as_json
@session.pass_session
def alerts(
    cli_session: session.Session, every: bool, since: int | None, worker: str | None, rule: str | None, as_json: bool
) -> None:
    """List the alerts that fire, the oldest first.

    With --all, past alerts follow, the newest first. SINCE is when the condition began, FIRED when the alert
    did. A narrow terminal shows fewer columns; a pipe and --json have all.

    \b
    Example: workermon alerts --all --since 7d --worker render-07
    """
    from workermon import views

    if since is not None and not every:
        raise errors.InvalidInput("--since", "is only for past alerts", "add --all")
    alert_filter = views.AlertFilter(
        state="all" if every else "open",
        since=None if since is None else cli_session.now() - since,
        worker=worker,
        rule=rule,
    )
    rows = cli_session.get(views.AlertView).list(alert_filter)
    if not rows.alerts:
        _check_known(cli_session, worker, rule)
    down_warning.warn_if_down(cli_session)
    if as_json:
        output.document(rows)
    elif rows.alerts:
        _show(rows.alerts, cli_session.now(), every=every)
    else:
        nothing = "no alert" if every else "no alert fires"
        click.echo("no alert matches" if worker or rule or since else nothing, err=True)


def _check_known(cli_session: session.Session, worker: str | None, rule: str | None) -> None:
    """Refuse an unknown worker or rule, because it is probably misspelt."""
    from workermon import config, fleet

    if worker is not None:
        cli_session.get(fleet.Lookup).resolve([worker])
    if rule is not None:
        rule_names = (
            *(configured_rule.name for configured_rule in cli_session.container.get(ports.Configurations).load().rules),
            *config.BUILTIN_RULES,
        )
        if rule not in rule_names:
            raise errors.NotFound(f"rule {rule}", "does not exist", errors.nearest(rule, rule_names))


def _show(alert_rows: Sequence[views.AlertRow], now: float, *, every: bool) -> None:
    rows = [
        [
            output.time(alert.condition_since, now),
            output.time(alert.since, now),
            *([output.time(alert.ended_at, now) if alert.ended_at else "-"] if every else []),
            " ".join((alert.status, *_marks(alert))),
            alert.severity,
            alert.rule,
            output.subject(alert),
            _summary(alert),
        ]
        for alert in alert_rows
    ]
    # Without room the status shows that a past alert has ended, and only the marks tell more about firing ones.
    marked = any(symbol for alert in alert_rows for symbol in _marks(alert))
    head = [
        tables.Column("SINCE"),
        tables.Column("FIRED", leaves=2),
        *([tables.Column("ENDED")] if every else []),
        tables.Column("STATUS", leaves=0 if marked else 3),
        tables.Column("SEVERITY"),
        tables.Column("RULE", least=12),
        tables.Column("WORKER", least=9),
        tables.Column("SUMMARY", least=20),
    ]
    colours = {"critical": "red", "warning": "yellow"}
    tables.show(head, rows, [colours[alert.severity] if alert.open else None for alert in alert_rows])


def _summary(alert: views.AlertRow) -> str:
    """Return an alert's text. A terminal leaves out the metric, because the rule's name is beside it."""
    text = output.reason(alert)
    return text.removeprefix(alert.metric).lstrip(": ") if alert.metric and sys.stdout.isatty() else text


def _marks(alert: views.AlertRow) -> Iterator[str]:
    if alert.silenced_by:
        yield "(silenced)"
    elif alert.inhibited_by:
        yield "(inhibited)"
    elif alert.acked_by:
        yield "(acknowledged)"
    if alert.escalated_to:
        yield "(escalated)"
    if alert.flapping:
        yield "(flapping)"


@click.command()
@click.argument("name", metavar="WORKER", type=options.Text())
@click.argument("metric", required=False, type=options.Text())
@options.as_json
@session.pass_session
def why(cli_session: session.Session, name: str, metric: str | None, as_json: bool) -> None:
    """Explain why an alert fires, or does not.

    It explains every rule of the worker, or only those over METRIC (or no-data, state, event): the state, the
    datapoints that the rule looks at, the missing ones, the last transitions with their recorded reasons, and each
    attempt to deliver.

    It also explains ACCOUNT/REGION with collector or lost-metrics instead of METRIC, channel:NAME with delivery,
    group:LABEL=VALUE with a RULE over groups, or the ALERT that ack takes.

    \b
    Example: workermon why render-07 cpu_utilization
    """
    explanation = _explained(cli_session, name, metric)
    down_warning.warn_if_down(cli_session)
    if as_json:
        output.document(explanation)
        return
    from workermon import views

    if isinstance(explanation, views.WorkerExplanation):
        lines = _worker_lines(explanation)
    elif isinstance(explanation, views.ChannelExplanation):
        lines = _channel_lines(explanation)
    elif isinstance(explanation, views.GroupExplanation):
        lines = _group_lines(explanation)
    else:
        lines = _account_lines(explanation)
    for line in lines:
        for part in output.wrapped(errors.printable(line)):
            click.echo(part)


Explained: TypeAlias = (
    "views.WorkerExplanation | views.ChannelExplanation | views.AccountExplanation | views.GroupExplanation"
)


def _explained(cli_session: session.Session, name: str, metric: str | None) -> Explained:
    """Return the explanation for the arguments of the command."""
    from workermon import fleet, views

    subject, rule = models.alert_parts(name) if metric is None else (name, metric)
    for channel, about in ((name, metric), (subject, rule)):
        if channel.startswith(models.CHANNEL_PREFIX) and about in (None, models.DELIVERY):
            return cli_session.get(views.ExplainChannel).explain(channel.removeprefix(models.CHANNEL_PREFIX))
    if models.group_of(name) is not None:
        groups = cli_session.get(views.ExplainGroups)
        about_worker = metric is not None or not subject or name in cli_session.get(ports.Alerts).group_ids()
        return groups.explain(name, metric) if about_worker else groups.explain(subject, rule)
    workers = cli_session.get(ports.Workers)
    records = fleet.match(workers, [name]).records
    if records:
        return cli_session.get(views.Explanation).explain(records[0], metric)
    _check_subject(name, metric)
    if name in views.account_keys(workers) and metric is None:
        return cli_session.get(views.ExplainAccount).explain(name)
    if subject == models.WHOLE_INSTALLATION and rule in views.OF_INSTALLATION:
        return cli_session.get(views.ExplainInstallation).explain(rule)
    if "/" in subject and rule in views.OF_ACCOUNTS:
        return cli_session.get(views.ExplainAccount).explain(subject, rule)
    if metric is None and subject:
        [record] = cli_session.get(fleet.Lookup).resolve([subject])
        return cli_session.get(views.Explanation).explain(record, rule_name=rule)
    raise fleet.unknown_error(workers, [name])


def _check_subject(name: str, metric: str | None) -> None:
    """Refuse a group without a value, and a rule that no channel has."""
    kind, _, alert_subject = name.partition(":")
    if kind == "group":
        label = alert_subject or "LABEL"
        label = errors.printable(label)[:64]
        raise errors.InvalidInput(f"group {label}", "it has no value", f"write group:{label}=VALUE")
    if kind == "channel":
        channel = errors.printable(alert_subject.partition("/")[0])[:64] or "NAME"
        about = errors.printable(metric or alert_subject.partition("/")[2])[:64]
        reason = f"a channel has the rule {models.DELIVERY} alone, not {about}"
        raise errors.NotFound(f"channel {channel}", reason, f"write channel:{channel} {models.DELIVERY}")


def _channel_lines(explanation: views.ChannelExplanation) -> Iterator[str]:
    state = "not firing" if explanation.state == "ok" else f"{explanation.state} since {explanation.since}"
    yield f"channel {explanation.channel} ({explanation.type or 'removed'}), {explanation.rule}: {state}"
    if explanation.reason:
        yield f"  reason    {explanation.reason}"
    for waiting in explanation.waiting:
        since = models.rfc3339(waiting.since)
        yield f"  waiting   {waiting.alert} since {since}, {waiting.attempts} attempts: {waiting.error}"
    for transition in explanation.history:
        yield from _transition_lines(transition)


def _group_lines(explanation: views.GroupExplanation) -> Iterator[str]:
    yield f"group {explanation.group.by}={explanation.group.value}: {explanation.workers} workers are known"
    for rule in explanation.rules:
        yield ""
        yield from _rule_lines(rule)


def _account_lines(explanation: views.AccountExplanation) -> Iterator[str]:
    everything = explanation.account == explanation.region
    subject = "the installation" if everything else f"account {explanation.account} in {explanation.region}"
    fires = (
        "not firing"
        if explanation.state == "ok"
        else f"{explanation.state}{_since(explanation.condition_since, explanation.since)}"
    )
    yield f"{subject}, {explanation.rule}: {fires}"
    yield f"  now       {explanation.now}"
    if explanation.last_error:
        yield f"  error     {explanation.last_error.kind}: {explanation.last_error.message}"
    if not everything:
        succeeded = "never" if explanation.succeeded_at is None else models.rfc3339(explanation.succeeded_at)
        yield f"  workers   {explanation.workers}; last successful collection {succeeded}"
    for silence in explanation.silences:
        yield _silence_line(silence)
    for transition in explanation.history:
        yield from _transition_lines(transition)


def _worker_lines(explanation: views.WorkerExplanation) -> Iterator[str]:
    failed = f"; {explanation.last_error.kind}: {explanation.last_error.message}" if explanation.last_error else ""
    succeeded = "never" if explanation.succeeded_at is None else models.rfc3339(explanation.succeeded_at)
    about = f", {explanation.metric}" if explanation.metric else ""
    yield (
        f"{explanation.worker.name} ({explanation.worker.id}){about}: {explanation.status}, {explanation.monitoring},"
        f" last successful collection {succeeded}{failed}"
    )
    for missing in explanation.missing_metrics:
        yield f"  missing   {missing.metric}: {missing.reason}"
    for cadence in explanation.cadences:
        yield f"  cadence   {cadence.metric} {cadence}"
    if not explanation.rules:
        yield "no rule is about it"
    for rule in sorted(explanation.rules, key=lambda rule: not rule.applies):
        yield ""
        yield from _rule_lines(rule)


def _rule_lines(rule: views.RuleExplanation) -> Iterator[str]:
    if not rule.applies:
        yield f"{rule.rule}: does not apply: {rule.now}"
        return
    yield f"{rule.rule}: {_state(rule)}"
    described = [*rule.described, *(f"only {key}={value}" for key, value in rule.labels.items())]
    about = f"{rule.metric} " if rule.metric and rule.metric != rule.kind else ""
    yield f"  rule      {about}{', '.join(described)}; notifies {_channels(rule)}"
    for label, text in (("about", rule.description), ("runbook", rule.runbook), ("owner", rule.owner)):
        if text is not None:
            yield f"  {label:<9} {text}"
    yield f"  now       {rule.now}"
    if rule.flapping:
        yield f"  flapping  {_flapping(rule.flapping)}"
    for step in rule.escalation:
        yield f"  escalate  {_escalation(step)}"
    for silence in rule.silences:
        yield _silence_line(silence)
    if rule.inhibited_by:
        yield f"  inhibited by {rule.inhibited_by}, which fires"
    for label, text in rule.lines:
        yield f"  {label:<9} {text}"
    for transition in rule.history:
        yield from _transition_lines(transition)


def _escalation(step: views.EscalationState) -> str:
    due = f"at {models.rfc3339(step.at)}" if step.at is not None else f"after {step.after} s"
    return f"{due} to {', '.join(step.notify)}: {step.state}"


def _silence_line(silence: views.ActiveSilence) -> str:
    return f"  silence   {silence.id} until {models.rfc3339(silence.ends)} by {silence.by}: {silence.reason}"


def _state(rule: views.RuleExplanation) -> str:
    """Return a rule's state in words, and what people were last notified of."""
    if rule.state == "ok":
        return "not firing" + ("; the last notification says that it fires" if rule.notified else "")
    silenced = ", but not of the current state" if rule.notified and (rule.silenced_by or rule.inhibited_by) else ""
    notified = "notified" if rule.notified else "not notified"
    return f"{rule.state}{_since(rule.condition_since, rule.since)}; {notified}{silenced}"


def _since(condition_since: float | None, fired: float | None) -> str:
    """Describe when a condition began, and when its alert fired if that was later."""
    if fired is None:
        return ""
    began = fired if condition_since is None else condition_since
    later = f", fired at {models.rfc3339(fired)}" if fired != began else ""
    return f" since {models.rfc3339(began)}{later}"


def _transition_lines(transition: views.RecordedTransition) -> Iterator[str]:
    yield f"  {models.rfc3339(transition.at)} {transition.before} → {transition.after}: {transition.reason}"
    if transition.flapping:
        yield "    not notified: flapping"
    elif transition.silenced_by:
        yield f"    not notified: silence {transition.silenced_by}"
    elif transition.inhibited_by:
        yield f"    not notified: inhibited by {transition.inhibited_by}"
    elif not transition.notified:
        yield "    not notified"
    for delivery in transition.deliveries:
        yield f"    {models.rfc3339(delivery.at)} {delivery.channel}: {delivery.error or 'accepted'}"
    if transition.notified and not transition.deliveries:
        yield "    no attempt to deliver it yet"


def _channels(rule: views.RuleExplanation) -> str:
    if rule.routes is not None:
        return ", ".join(f"{', '.join(names) or 'nobody'} ({severity})" for severity, names in rule.routes.items())
    return ", ".join(rule.notify) or "nobody"


def _flapping(state: views.FlappingState) -> str:
    if state.until is None:
        return f"no: {state.counted} transitions within {state.within} s, {state.turns} make it flap"
    return f"changes too often; notifies again if it does not change until {models.rfc3339(state.until)}"
