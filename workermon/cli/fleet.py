"""``add``, ``discover``, ``remove``, ``pause``, ``resume``, ``list``, ``show``, ``refresh``, ``reconcile``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from workermon import errors, models, ports
from workermon.cli import audit_recording, down_warning, options, output, session, tables

if TYPE_CHECKING:
    from workermon import views


def _scope(
    cli_session: session.Session, region: str | None, role_arn: str | None, external_id: str | None
) -> models.AccountRegion:
    if external_id is not None and role_arn is None:
        raise errors.InvalidInput("--external-id", "needs a role", "add --role-arn")
    chosen_region = cli_session.region(region)
    if role_arn is None:
        return models.AccountRegion(region=chosen_region)
    # The role is part of the account's name, so that two roles of one account are distinguished.
    parts = role_arn.split(":")
    account = f"{parts[4]}:{parts[5].removeprefix('role/')}"
    return models.AccountRegion(region=chosen_region, account=account, role_arn=role_arn, external_id=external_id)


def _collect(cli_session: session.Session, workers: Iterable[models.Worker]) -> None:
    """Take the first sample at once. A failure is a warning, because the next interval tries again."""
    active = [worker.id for worker in workers if worker.monitoring == "active"]
    try:
        failed: Mapping[str, errors.WorkermonError] = cli_session.collect(active).failed
    except errors.WorkermonError as error:
        failed = {"collection": error}
    for name, failure in failed.items():
        output.warn(f"{name}: {failure}")


@click.command(cls=audit_recording.Write)
@click.argument("instance_ids", metavar="INSTANCE_ID...", nargs=-1, required=True, type=options.InstanceId())
@click.option("--region", type=options.Text(), help="Their region; by default the one that boto3 is configured for.")
@click.option("--role-arn", type=options.Role(), help="The role to assume for them.")
@click.option("--external-id", type=options.Text(), help="The external id that the role asks for.")
@click.option("--name", type=options.Text(), help="A name instead of the instance's Name tag.")
@options.INTERVAL
@options.LABELS
@click.option("--no-verify", is_flag=True, help="Do not ask EC2 whether they exist.")
@session.pass_session
def add(
    cli_session: session.Session,
    instance_ids: tuple[str, ...],
    region: str | None,
    role_arn: str | None,
    external_id: str | None,
    name: str | None,
    interval: int | None,
    labels: tuple[str, ...],
    no_verify: bool,
) -> None:
    """Monitor instances: all of them or none.

    \b
    Example: workermon add i-0abc123def4567890 --region us-east-1 --interval 60s --label team=vfx
    """
    from workermon import fleet

    every = options.interval(interval, cli_session.settings)
    add_options = fleet.AddOptions(
        scope=_scope(cli_session, region, role_arn, external_id),
        name=name,
        interval=every,
        labels=options.pairs(labels, "--label"),
        verify=not no_verify,
    )
    added = cli_session.get(fleet.Adding).add(instance_ids, add_options)
    _collect(cli_session, added)
    for worker in added:
        click.echo(f"added {worker.id} as {worker.name}, every {worker.interval} s")


@click.command(cls=audit_recording.Write)
@click.option("--tag", "tags", type=options.Pair(), multiple=True, metavar="K=V", help="A tag; may be repeated.")
@click.option("--region", "regions", type=options.Text(), multiple=True, help="A region to search; may be repeated.")
@options.INTERVAL
@options.LABELS
@click.option("--dry-run", is_flag=True, help="Only show what would be added.")
@options.as_json
@session.pass_session
def discover(
    cli_session: session.Session,
    tags: tuple[str, ...],
    regions: tuple[str, ...],
    interval: int | None,
    labels: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Find instances by tag, and add those that are not monitored.

    Without a tag every instance matches.

    \b
    Example: workermon discover --tag Role=render --region us-east-1 --dry-run
    """
    from workermon import fleet

    every = options.interval(interval, cli_session.settings)
    scopes = [models.AccountRegion(region=cli_session.region(region)) for region in dict.fromkeys(regions or (None,))]
    discovered = cli_session.get(fleet.Discovery).discover(
        options.pairs(tags, "--tag"),
        scopes,
        interval=every,
        labels=options.pairs(labels, "--label"),
        dry_run=dry_run,
    )
    if not dry_run:
        _collect(cli_session, discovered.added)
    if as_json:
        added = [{"id": worker.id, "name": worker.name, "region": worker.region} for worker in discovered.added]
        failed = {scope: str(error) for scope, error in discovered.failed.items()}
        output.document(
            {"added": added, "known": list(discovered.already_monitored), "failed": failed, "dry_run": dry_run}
        )
    else:
        for worker in discovered.added:
            click.echo(f"{'would add' if dry_run else 'added'} {worker.id} as {worker.name}, {worker.region}")
        if not discovered.added:
            output.warn(
                f"nothing new; {len(discovered.already_monitored)} of the instances found are monitored already"
            )
    _fail(discovered.failed)


@click.command(cls=audit_recording.Write)
@options.WORKERS
@session.pass_session
def remove(cli_session: session.Session, names: tuple[str, ...]) -> None:
    """Stop monitoring workers and delete their data; may be repeated.

    Their open alerts resolve. The history of their alerts stays.

    \b
    Example: workermon remove render-07 i-0abc123def4567890
    """
    from workermon import fleet

    removed = cli_session.get(fleet.Removing).remove(names)
    for worker in removed.workers:
        click.echo(f"removed {_label(worker)}")
    for name in removed.unknown:
        click.echo(f"{name} was not monitored", err=True)


@click.command(cls=audit_recording.Write)
@options.WORKERS
@session.pass_session
def pause(cli_session: session.Session, names: tuple[str, ...]) -> None:
    """Stop collecting workers for a while; may be repeated.

    Their datapoints stay; open alerts resolve with the reason.

    \b
    Example: workermon pause render-07
    """
    from workermon import fleet

    for worker in cli_session.get(fleet.Pausing).pause(names):
        click.echo(f"paused {_label(worker)}")


@click.command(cls=audit_recording.Write)
@options.WORKERS
@session.pass_session
def resume(cli_session: session.Session, names: tuple[str, ...]) -> None:
    """Collect paused workers again; may be repeated.

    \b
    Example: workermon resume render-07
    """
    from workermon import fleet

    resumed = cli_session.get(fleet.Resuming).resume(names)
    _collect(cli_session, resumed)
    for worker in resumed:
        click.echo(f"resumed {_label(worker)}")


def _label(worker: models.Worker) -> str:
    """Return a worker's id, and its name if it has another one."""
    return worker.id if worker.name == worker.id else f"{worker.id}, {worker.name}"


STATUSES = ("pending", "running", "stopping", "stopped", "shutting-down", "terminated", "unknown")


@click.command("list")
@click.option("--status", type=click.Choice(STATUSES), help="Only workers of this status.")
@click.option(
    "--label", "labels", type=options.Pair(), multiple=True, metavar="K=V", help="Only workers with this label."
)
@options.as_json
@session.pass_session
def listing(cli_session: session.Session, status: str | None, labels: tuple[str, ...], as_json: bool) -> None:
    """List the fleet.

    \b
    Example: workermon list --status running --label team=vfx
    """
    from workermon import views

    fleet_list = cli_session.get(views.FleetView).list(status=status, labels=options.pairs(labels, "--label"))
    if fleet_list.workers:
        down_warning.warn_if_down(cli_session)
    output.unreadable(cli_session.container.get(ports.Unreadable).load())
    if as_json:
        output.document(fleet_list)
        return
    at = cli_session.now()
    if fleet_list.workers:
        _show(fleet_list.workers, at)
    else:
        click.echo("no worker is monitored" if status is None and not labels else "no worker matches", err=True)


#: An id is never cut, because other commands need it.
_HEAD = (
    tables.Column("NAME", least=8),
    tables.Column("ID"),
    tables.Column("REGION", leaves=3),
    tables.Column("STATUS", leaves=1),
    tables.Column("CPU"),
    tables.Column("MEMORY"),
    tables.Column("DISK"),
    tables.Column("SAMPLE", leaves=2),
    tables.Column("ALERTS", least=8),
)


def _show(workers: Sequence[views.WorkerRow], at: float) -> None:
    tables.show(_HEAD, [_row(worker, at) for worker in workers], [_style(worker) for worker in workers])


def _row(worker: views.WorkerRow, at: float) -> list[str]:
    status = worker.status if worker.monitoring == "active" else f"{worker.status} (paused)"
    alerts = ", ".join(f"{alert.rule} {alert.severity}" for alert in worker.alerts)
    last = worker.last_collected_at
    return [
        worker.name,
        worker.id,
        worker.region,
        status,
        *(output.reading(worker.metrics.get(f"{name}_utilization")) for name in ("cpu", "memory", "disk")),
        "never" if last is None else output.ago(at - last),
        alerts or (f"({worker.last_error.kind})" if worker.last_error else "-"),
    ]


def _style(worker: views.WorkerRow) -> str | None:
    severities = {alert.severity for alert in worker.alerts}
    if "critical" in severities:
        return "red"
    return "yellow" if severities or worker.last_error else None


@click.command()
@click.argument("name", metavar="WORKER", type=options.Text())
@options.as_json
@session.pass_session
def show(cli_session: session.Session, name: str, as_json: bool) -> None:
    """Show everything about one worker.

    \b
    Example: workermon show render-07
    """
    from workermon import fleet, views

    record = cli_session.get(fleet.Lookup).resolve([name])[0]
    worker = cli_session.get(views.WorkerView).show(record)
    down_warning.warn_if_down(cli_session)
    if as_json:
        output.document(worker)
        return
    for key, value in _lines(worker, cli_session.now()):
        click.echo(f"{key:<20} {errors.printable(value)}")


def _lines(worker: views.WorkerDetail, at: float) -> Iterator[tuple[str, str]]:
    yield "name", worker.name
    yield "id", worker.id
    yield "region", worker.region if worker.account == models.DEFAULT_ACCOUNT else f"{worker.region}, {worker.account}"
    yield "status", _status(worker)
    answered = worker.status_checks.answered if worker.status_checks else {}
    yield "status checks", ", ".join(f"{name} {outcome}" for name, outcome in answered.items()) or "-"
    for check in worker.impaired:
        since = "" if check.since is None else f" since {models.rfc3339(check.since)}"
        yield "impaired", f"{check.check}{since}{f': {check.remediation}' if check.remediation else ''}"
    yield "monitoring", f"{worker.monitoring}, every {worker.interval} s"
    yield "labels", ", ".join(f"{key}={value}" for key, value in worker.labels.items()) or "-"
    yield "added", f"{models.rfc3339(worker.added_at)} by {worker.origin}"
    yield "last sample", "never" if worker.last_collected_at is None else _when(worker.last_collected_at, at)
    yield "next run", "not scheduled" if worker.next_run is None else _when(worker.next_run, at)
    if worker.last_error:
        failed = worker.last_error
        yield "last error", f"{failed.kind}: {failed.message}, {output.ago(at - failed.at)}"
    for metric, reading in worker.metrics.items():
        yield metric, "-" if reading is None else f"{output.reading(reading)}, {output.ago(reading.age)}"
    for cadence in worker.cadences:
        yield "asked for", f"{cadence.metric} {cadence}"
    for event in worker.events:
        due = "at a time that EC2 does not give" if event.not_before is None else models.rfc3339(event.not_before)
        yield "scheduled", f"{event.code} {due} {event.description}".rstrip()
    for alert in worker.alerts:
        since = "-" if alert.since is None else models.rfc3339(alert.since)
        yield "alert", f"{alert.severity} since {since}: {alert.summary}"


def _status(worker: views.WorkerDetail) -> str:
    reason = worker.status_reason
    return worker.status if reason is None else f"{worker.status} since {models.rfc3339(reason.since)}: {reason.code}"


def _when(moment: float, at: float) -> str:
    return f"{models.rfc3339(moment)}, {output.ago(at - moment)}"


@click.command(cls=audit_recording.Write)
@options.WORKERS
@session.pass_session
def refresh(cli_session: session.Session, names: tuple[str, ...]) -> None:
    """Collect workers now.

    \b
    Example: workermon refresh render-07
    """
    from workermon import fleet

    records = cli_session.get(fleet.Lookup).resolve(names)
    collected = cli_session.collect([record.worker.id for record in records])
    for record in records:
        worker = record.worker
        if worker.id in collected.paused:
            output.warn(f"{worker.id} is paused, so it was not collected")
        elif worker.id in collected.retired:
            output.warn(f"{worker.id} is terminated, so it is no longer collected")
        elif worker.id not in collected.failed:
            click.echo(f"refreshed {_label(worker)}")
    for worker_id, error in list(collected.failed.items())[1:]:
        output.warn(f"{worker_id}: {error}")
    for error in collected.failed.values():
        raise error


def _fail(failed: Mapping[str, errors.AwsError]) -> None:
    """Raise the last of several errors, after a warning for each of the others."""
    for error in list(failed.values())[:-1]:
        output.warn(str(error))
    for error in list(failed.values())[-1:]:
        raise error


@click.command(cls=audit_recording.Write)
@click.option("--dry-run", is_flag=True, help="Only show what would be repaired.")
@options.as_json
@session.pass_session
def reconcile(cli_session: session.Session, dry_run: bool, as_json: bool) -> None:
    """Repair differences between fleet, schedule and EC2.

    \b
    Example: workermon reconcile --dry-run
    """
    from workermon import fleet

    stage = cli_session.get(fleet.Reconciliation)
    report = stage.reconcile(region=cli_session.default_region, interval=cli_session.settings.interval, dry_run=dry_run)
    if as_json:
        output.document(
            {
                "steps": [
                    {"action": repair.action, "worker": repair.worker_id, "reason": repair.reason}
                    for repair in report.repairs
                ],
                "failed": {scope: str(error) for scope, error in report.failed.items()},
                "dry_run": dry_run,
            }
        )
    else:
        for repair in report.repairs:
            click.echo(
                f"{'would ' if dry_run else ''}{repair.action} {repair.worker_id}: {errors.printable(repair.reason)}"
            )
        if not report.repairs and not report.failed:
            click.echo("nothing to repair", err=True)
    _fail(report.failed)
