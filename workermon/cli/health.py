"""``status`` and ``doctor``: does every part work, and does it have what it needs?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from workermon import errors, models
from workermon.cli import options, output, session, tables

if TYPE_CHECKING:
    from workermon import health


@click.command()
@options.as_json
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show whether every part works.

    The exit code is 0 only if all of them do.

    \b
    Example: workermon status --json
    """
    from workermon import health

    cli_session: session.Session = ctx.obj
    report = cli_session.get(health.StatusCheck).status()
    if as_json:
        output.document(models.to_json(report))
    else:
        rows = [("ok" if part.ok else "DOWN", part.name, errors.printable(part.reason)) for part in report.parts]
        tables.show(("STATE", "PART", "WHY"), rows, [None if part.ok else "red" for part in report.parts])
        for line in _figures(report):
            click.echo(errors.printable(line))
    ctx.exit(0 if report.ok else 1)


def _figures(state: health.Status) -> Iterator[str]:
    figures = ", ".join(f"{number} {'in all' if name == 'all' else name}" for name, number in state.workers.items())
    yield f"workers: {figures}; alerts: {state.alerts} firing; waiting notifications: {state.backlog}"
    yield f"messages: {', '.join(f'{number} {name}' for name, number in state.queues.items())}"
    yield from _costs(state.bill)
    for entry in state.crowded:
        yield f"{entry.worker}: {entry.series:,} series of {entry.metric}, {entry.asked} are requested"
    for scope in state.scopes:
        account_region = f"account {scope.account} in {scope.region}"
        if scope.reason is not None:
            yield f"{account_region}: {scope.state} since {scope.since}: {scope.reason}"
        for api, share in scope.slowed.items():
            pace = f"limited to {share:.0%} of its rate, because AWS refused more" if share else "does not answer"
            yield f"{account_region}: {api} {pace}"
    for kind, number in state.troubled.items():
        yield f"collection fails for {number}: {kind}"
    for name, reason in state.quarantined.items():
        yield f"schedule entry set aside: {name}: {reason}"
    for name, reason in state.unreadable.items():
        yield f"record left out: {name}: {reason}"


def _costs(bill: health.Bill) -> Iterator[str]:
    spent, rate = bill.last_24h, bill.rate
    yield (
        f"AWS in 24 h: {spent.calls} calls, {spent.metrics} metrics requested, ${spent.dollars:.2f}; "
        f"at the current rate {rate.calls} calls and ${rate.dollars:.2f} a day"
    )
    if bill.budget is not None:
        projected = "" if bill.projected is None else f", ${bill.projected:.2f} projected for today"
        over = bill.projected is not None and bill.projected > bill.budget
        yield f"budget: ${bill.budget:.2f} a day{projected}{': over budget' if over else ''}"
    if bill.stretched:
        longer = ", ".join(f"{name} ×{factor}" for name, factor in bill.stretched.items())
        yield f"longer periods to stay within it: {longer}"


@click.command()
@options.as_json
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check every part, and try what it needs.

    That is AWS permissions, the settings of Redis, and the clocks. The exit code is 0 only if all is well.

    \b
    Example: workermon doctor
    """
    from workermon import health

    cli_session: session.Session = ctx.obj
    examination = cli_session.get(health.Doctor).examine(cli_session.default_region)
    if as_json:
        output.document(models.to_json(examination))
    else:
        rows = [
            (
                "ok" if check.ok else "BAD",
                check.name,
                errors.printable(f"{check.reason}{f'; {check.todo}' if check.todo else ''}"),
            )
            for check in examination.checks
        ]
        tables.show(("STATE", "WHAT", "WHY"), rows, [None if check.ok else "red" for check in examination.checks])
    ctx.exit(0 if examination.ok else 1)
