"""``status`` and ``doctor``: does every part work, and does it have what it needs."""

from __future__ import annotations

import click

from workermon import errors, models, ports
from workermon.cli import options, output, session


@click.command()
@options.as_json
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show whether every part works; exit 0 only then.

    \b
    Example: workermon status --json
    """
    from workermon.health import status as health

    own: session.Session = ctx.obj
    found = own.call(health.status)
    if as_json:
        output.document(models.to_json(found))
    else:
        rows = [("ok" if part.ok else "DOWN", part.name, errors.printable(part.reason)) for part in found.parts]
        output.table(("STATE", "PART", "WHY"), rows, [None if part.ok else "red" for part in found.parts])
        queued = ", ".join(f"{number} {name}" for name, number in found.queues.items())
        figures = ", ".join(f"{number} {what}" for what, number in found.workers.items())
        click.echo(f"workers: {figures}; alerts: {found.alerts} firing; waiting notifications: {found.backlog}")
        click.echo(f"messages: {queued}")
        spent, rate = found.bill.last_24h, found.bill.rate
        click.echo(
            f"AWS in 24 h: {spent.calls} calls, {spent.metrics} metrics asked, ${spent.dollars:.2f}; "
            f"at the present rate {rate.calls} calls and ${rate.dollars:.2f} a day"
        )
        if found.bill.budget is not None:
            projected = found.bill.projected
            click.echo(
                f"budget: ${found.bill.budget:.2f} a day"
                + ("" if projected is None else f", ${projected:.2f} projected for today")
                + ("" if projected is None or projected <= found.bill.budget else ": over budget")
            )
        if found.bill.stretched:
            stretched = ", ".join(f"{name} ×{factor}" for name, factor in found.bill.stretched.items())
            click.echo(f"longer periods to stay within it: {stretched}")
        for scope in found.scopes:
            where = f"account {scope.account} in {scope.region}"
            if scope.reason is not None:
                click.echo(f"{where}: {scope.state} since {scope.since}: {errors.printable(scope.reason)}")
            for api, share in scope.slowed.items():
                said = f"asked at {share:.0%} of its rate, because AWS refused more" if share else "does not answer"
                click.echo(f"{where}: {api} {said}")
        for kind, number in found.troubled.items():
            click.echo(f"collection fails for {number}: {kind}")
        for name, why in found.quarantined.items():
            click.echo(f"entry set aside: {errors.printable(name)}: {errors.printable(why)}")
    ctx.exit(0 if found.ok else 1)


@click.command()
@options.as_json
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Show whether every part works, and try what it needs.

    It tries AWS permissions, Redis settings and the clocks, and exits 0 only if all is well.

    \b
    Example: workermon doctor
    """
    from workermon.health import doctor as stage
    from workermon.health import status as health

    own: session.Session = ctx.obj
    parts = own.call(health.status).parts
    checks = [stage.Check(name=part.name, ok=part.ok, reason=part.reason) for part in parts]
    checks += own.call(stage.server)
    accounts: dict[models.AccountRegion, list[str]] = {}
    for record in own.container.get(ports.Workers).every():
        accounts.setdefault(record.worker.scope, []).append(record.worker.id)
    if not accounts and own.default_region is not None:
        accounts[models.AccountRegion(region=own.default_region)] = []
    for scope, members in accounts.items():
        checks += own.call(stage.aws, scope, members)
    if not accounts:
        checks.append(stage.Check(name="aws", ok=False, reason="no region is configured", todo="set AWS_REGION"))
    ok = all(check.ok for check in checks)
    if as_json:
        output.document({"ok": ok, "checks": [models.to_json(check) for check in checks]})
    else:
        rows = [
            (
                "ok" if one.ok else "BAD",
                one.name,
                errors.printable(f"{one.reason}{f'; {one.todo}' if one.todo else ''}"),
            )
            for one in checks
        ]
        output.table(("STATE", "WHAT", "WHY"), rows, [None if one.ok else "red" for one in checks])
    ctx.exit(0 if ok else 1)
