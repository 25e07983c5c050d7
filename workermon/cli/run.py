"""``up`` and ``demo``: the whole pipeline on this machine."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from workermon import errors, logs, models, ports, settings
from workermon.cli import audit_recording, files, options, session

if TYPE_CHECKING:
    from workermon import config

log = logs.get(__name__)


@click.command()
@click.option("--concurrency", type=options.Whole(1, 256), help="Threads of each process that collects; 8 by default.")
@click.option("--no-beat", is_flag=True, help="Do not run beat here: another machine does.")
@click.option("--no-worker", is_flag=True, help="Do not run worker processes and the listener here.")
@click.option("--no-web", is_flag=True, help="Do not run the page, the API and /metrics here.")
@session.pass_session
def up(cli_session: session.Session, concurrency: int | None, no_beat: bool, no_worker: bool, no_web: bool) -> None:
    """Run the whole pipeline on this machine, until Ctrl-C.

    That is beat, worker processes, listener and page. A process that dies is restarted. If WORKERMON_REDIS_URL is
    unset, an embedded Redis runs too. The file of WORKERMON_CONFIG is applied first.

    \b
    Example: WORKERMON_CONFIG=fleet.toml workermon up --concurrency 16
    """
    from workermon.local.up import CONCURRENCY, Hooks, Parts, run

    cli_session.serve()
    file = None if cli_session.settings.config is None else files.read(cli_session.settings.config)
    if file is not None:
        cli_session.check_regions(file)
    run(
        cli_session.settings,
        hooks=Hooks(
            prepare=lambda: _prepare(cli_session, file),
            reconcile=lambda: _reconcile(cli_session),
            fleet_size=lambda: len(cli_session.container.get(ports.Workers).ids()),
        ),
        chosen=Parts(concurrency or CONCURRENCY, not no_beat, not no_worker, not no_web),
    )


def _prepare(cli_session: session.Session, file: config.File | None) -> None:
    """Apply the config file. If AWS is unreachable this continues, because it may be back in a minute."""
    cli_session.container.get(ports.Schema).prepare()  # if Redis is out of reach, this reports it best
    if file is not None:
        _apply(cli_session, file, _region(cli_session))


def _reconcile(cli_session: session.Session) -> None:
    """Reconcile. What fails now is tried again by the listener, every few minutes."""
    from workermon import fleet

    stage = cli_session.get(fleet.Reconciliation)
    try:
        report = stage.reconcile(region=_region(cli_session), interval=cli_session.settings.interval)
    except errors.WorkermonError as error:
        log.warning("up.not_reconciled", reason=str(error))
        return
    for scope, failure in report.failed.items():
        log.warning("up.not_reconciled", scope=scope, reason=str(failure))


def _apply(cli_session: session.Session, file: config.File, region: str | None) -> None:
    from workermon import config, fleet

    stage = cli_session.get(fleet.Application)
    options = fleet.ApplyOptions(
        region=region,
        interval=cli_session.settings.interval,
        min_interval=cli_session.settings.min_interval,
        missing="skip",
        past_silences="keep",
        count_series=False,
    )
    try:
        config.check_silences(file, cli_session.now())
    except errors.InvalidInput as error:
        # A past window must not keep the monitor from starting.
        log.warning("up.silence_over", reason=str(error))
    try:
        report = stage.apply(file, options)
        failed = cli_session.collect(report.added).failed
    except errors.AwsError as error:
        log.warning("up.not_verified", reason=str(error))
        report, failed = stage.apply(file, dataclasses.replace(options, verify=False)), {}
    audit_recording.record(cli_session, "up", f"apply {file.source}", "ok")
    for worker_id in report.skipped:
        log.warning("up.not_in_ec2", worker_id=worker_id, source=file.source)
    for worker_id, failure in failed.items():
        log.warning("up.not_collected", worker_id=worker_id, reason=str(failure))


def _region(cli_session: session.Session) -> str | None:
    try:
        return cli_session.default_region
    except errors.AwsError as error:
        log.warning("up.no_region", reason=str(error))
        return None


@click.command()
@click.option("--workers", type=options.Whole(1, 1000), default=25, show_default=True, help="Size of the fleet.")
@click.option("--seconds", type=options.Whole(min=1), help="End after that many seconds.")
@click.option("--no-web", is_flag=True, help="Do not run the page, the API and /metrics here.")
def demo(workers: int, seconds: int | None, no_web: bool) -> None:
    """Run the whole pipeline on a simulated fleet.

    It needs nothing else and leaves nothing behind. A terminal shows a live table, a pipe gets a line for each alert.
    Both say where the page is.

    \b
    Example: workermon demo --seconds 60
    """
    import time

    from rich.console import Console

    from workermon import fleet, views
    from workermon.cli import live_table
    from workermon.local.demo import run
    from workermon.local.up import free_port

    logs.configure("warning")  # as the demo's own settings will
    sessions: list[session.Session] = []

    def prepare() -> None:
        cli_session = session.Session()  # not before now: the environment has become the demo's
        sessions.append(cli_session)
        cli_session.container.get(ports.Schema).prepare()
        assert cli_session.settings.config is not None
        file = files.read(cli_session.settings.config)
        options = fleet.ApplyOptions(
            region=cli_session.default_region,
            interval=cli_session.settings.interval,
            min_interval=cli_session.settings.min_interval,
            count_series=False,
        )
        cli_session.get(fleet.Application).apply(file, options)

    def follow() -> Iterator[models.Event | models.Notification | None]:
        return sessions[0].get(views.Watch).watch()

    console = Console()
    port = None if no_web else free_port("127.0.0.1", settings.web_port())

    title = "workermon demo" if port is None else f"workermon demo: http://127.0.0.1:{port}"

    def show(messages: Iterator[models.Event | models.Notification]) -> None:
        if console.is_terminal:
            live_table.show(messages, console, live_table.Board(time.time, title=title))
            return
        for message in messages:
            if isinstance(message, models.Notification):
                click.echo(live_table.line(message))
                sys.stdout.flush()

    try:
        run(
            prepare=prepare,
            follow=follow,
            show=show,
            live=console.is_terminal,
            workers=workers,
            seconds=seconds,
            web_port=port,
        )
    finally:
        for cli_session in sessions:
            cli_session.close()
