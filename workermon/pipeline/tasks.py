"""The tasks, three lines each: plain parameters are identifiers, ``FromDishka[…]`` ones are injected in the node.

None of them retries, because none holds state: a failed collection is repeated at the next interval, and the listener's
sweep finds lost evaluations and deliveries. So a task may fail, be lost or run twice.
"""

from __future__ import annotations

import contextlib

from dishka.integrations.celery import FromDishka

from workermon import failpoints, fleet, health, logs, notify, ports, runtime, settings
from workermon.collect import LostMetrics, RollingUp, StatusListing, collection
from workermon.evaluate import evaluation
from workermon.on_celery.app import app
from workermon.pipeline import shell

log = logs.get(__name__)


@app.task(name="workermon.collect", base=shell.Shell)
def collect(
    worker_ids: list[str],
    stage: FromDishka[collection.Collection],
    rolling_up: FromDishka[RollingUp],
    liveness: FromDishka[ports.Liveness],
    now: FromDishka[ports.Clock],
) -> None:
    """Collect these workers' state and metrics from AWS into the ledger, and roll up hours that are over."""
    report = stage.collect(worker_ids)
    rolling_up.roll_up(len(worker_ids) + 1)
    if report.unknown:
        liveness.count("message.unknown_worker", len(report.unknown))
    liveness.beat("collect", now())


@app.task(name="workermon.list_statuses", base=shell.Shell)
def list_statuses(worker_ids: list[str], stage: FromDishka[StatusListing]) -> None:
    """List the statuses of these workers' account and region, before its workers are collected."""
    stage.list_region(worker_ids)


@app.task(name="workermon.evaluate", base=shell.Shell, is_valid=staticmethod(shell.is_evaluated))
def evaluate(
    worker_ids: list[str],
    stage: FromDishka[evaluation.Evaluation],
    dispatcher: FromDishka[ports.Dispatcher],
    liveness: FromDishka[ports.Liveness],
    now: FromDishka[ports.Clock],
) -> None:
    """Evaluate these workers and groups by the rules over the ledger: the threshold-notification task."""
    liveness.evaluation_started(now())
    alert_ids = stage.evaluate(worker_ids)
    dispatcher.deliver(alert_ids)
    failpoints.reach("evaluate.enqueued")
    liveness.beat("evaluate", now())


@app.task(name="workermon.deliver", base=shell.Shell, is_valid=staticmethod(shell.is_alert_id))
def deliver(
    alert_ids: list[str],
    stage: FromDishka[notify.Delivery],
    liveness: FromDishka[ports.Liveness],
    now: FromDishka[ports.Clock],
) -> None:
    """Send the waiting notifications of these alerts to their channels."""
    stage.deliver(alert_ids)
    liveness.beat("deliver", now())


@app.task(name="workermon.reconcile", base=shell.Shell)
def reconcile(
    stage: FromDishka[fleet.Reconciliation],
    judge: FromDishka[evaluation.Evaluation],
    closing: FromDishka[fleet.AccountClosing],
    orphaned_alerts: FromDishka[fleet.OrphanedChannelAlerts],
    lost_metrics: FromDishka[LostMetrics],
    dispatcher: FromDishka[ports.Dispatcher],
    app_settings: FromDishka[settings.Settings],
    single_run: FromDishka[fleet.SingleRun],
) -> None:
    """Repair differences between repository, schedule and EC2, and find metrics that a fleet has lost.

    One thread of a process does that at a time: a region that hardly answers makes it long, and an event queue may
    request it each ten seconds.
    """
    with contextlib.closing(single_run.turns()) as turns:
        for _ in turns:
            report = stage.reconcile(region=runtime.default_region(), interval=app_settings.interval)
            for scope, error in report.failed.items():
                log.warning("reconcile.scope_failed", scope=scope, reason=str(error))
            lost_metrics.survey()
            closing.close_unused_accounts()
            # Without workers no evaluation is triggered, but AWS may refuse a region of [discover].
            dispatcher.deliver([*judge.evaluate([]), *orphaned_alerts.find()])


@app.task(name="workermon.canary", base=shell.Shell, is_valid=staticmethod(health.is_canary_stage))
def canary(stages: list[str], stage: FromDishka[health.CanaryRelay]) -> None:
    """Pass the canary on from a stage. It shows whether messages complete their round."""
    for name in stages:
        stage.pass_on(name)
