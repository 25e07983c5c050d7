"""The tasks, three lines each: plain parameters are identifiers, ``FromDishka[…]`` ones are made where the task runs.

None of them retries, for none of them holds the truth: a collection that failed comes again at the next interval, and
judgements and deliveries that were lost are found by the listener's sweep. So a task may fail, be lost or run twice.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from celery import signals
from dishka import Container
from dishka.integrations.celery import CONTAINER_NAME, DishkaTask, FromDishka, setup_dishka

from workermon import errors, failpoints, fleet, health, logs, models, notify, ports, runtime, settings
from workermon.collect import bulkhead, collection
from workermon.evaluate import evaluation
from workermon.health import canary as canaries
from workermon.on_celery import broker
from workermon.on_celery.app import app

log = logs.get(__name__)

#: Characters. An alert's id is a worker's id, a slash and a rule's name.
LONGEST_ALERT_ID = 600


def is_worker_id(identifier: object) -> bool:
    """Tell whether that is an instance id."""
    return isinstance(identifier, str) and models.INSTANCE_ID.fullmatch(identifier) is not None


def is_alert_id(identifier: object) -> bool:
    """Tell whether that can be an alert's id."""
    return (
        isinstance(identifier, str)
        and "/" in identifier.strip("/")
        and len(identifier) <= LONGEST_ALERT_ID
        and errors.printable(identifier) == identifier
    )


class Shell(DishkaTask):
    """What every task does before its own work: what is not an identifier is counted, logged and dropped."""

    abstract = True
    #: What an identifier of this task looks like.
    sound: ClassVar[Callable[[object], bool] | None] = None
    #: Celery reports these in one line, not with a traceback.
    throws = (errors.WorkermonError,)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it with the sound identifiers of a message; other messages are acknowledged and that is all."""
        try:
            bound = inspect.signature(self.run).bind(*args, **kwargs).arguments
        except TypeError as why:
            self._refuse(str(why))
            return None
        for parameter, given in bound.items():
            if not isinstance(given, list):
                self._refuse(f"{parameter} is not a list of identifiers but {type(given).__name__}")
                return None
            sound = type(self).sound or is_worker_id
            bound[parameter] = list(dict.fromkeys(identifier for identifier in given if sound(identifier)))
            if wrong := [identifier for identifier in given if not sound(identifier)]:
                self._refuse(f"{parameter} holds what is not an identifier: {str(wrong[0])[:80]!r}", len(wrong))
            if not bound[parameter]:
                return None
        try:
            return self.run(**bound)
        except errors.WorkermonError as why:
            log.error("task.failed", task=self.name, reason=str(why), retryable=why.retryable)
            raise

    def _refuse(self, reason: str, number: int = 1) -> None:
        log.warning("task.refused", task=self.name, reason=reason, number=number)
        _count_invalid(number)


def _count_invalid(number: int = 1, **_: Any) -> None:
    try:
        container().get(ports.Pulse).count("message.invalid", number)
    except errors.WorkermonError as why:
        log.warning("task.not_counted", reason=str(why))


broker.refused.connect(_count_invalid, weak=False)


@app.task(name="workermon.collect", base=Shell, sound=staticmethod(is_worker_id))
def collect(
    worker_ids: list[str],
    stage: FromDishka[collection.Collection],
    pulse: FromDishka[ports.Pulse],
    now: FromDishka[ports.Clock],
) -> None:
    """Collect these workers' state and metrics from AWS into the ledger."""
    report = stage.collect(worker_ids)
    _unknown("workermon.collect", report.unknown, pulse)
    pulse.mark("collect", now())


@app.task(name="workermon.evaluate", base=Shell, sound=staticmethod(is_worker_id))
def evaluate(
    worker_ids: list[str],
    stage: FromDishka[evaluation.Evaluation],
    workers: FromDishka[ports.Workers],
    dispatcher: FromDishka[ports.Dispatcher],
    pulse: FromDishka[ports.Pulse],
    now: FromDishka[ports.Clock],
) -> None:
    """Evaluate these workers by the rules over the ledger: the threshold-notification task."""
    pulse.judges(now())
    alert_ids = stage.evaluate(worker_ids)
    dispatcher.deliver(alert_ids)
    failpoints.reach("evaluate.rung")
    known = workers.known(worker_ids)
    _unknown("workermon.evaluate", [each for each in worker_ids if each not in known], pulse)
    pulse.mark("evaluate", now())


@app.task(name="workermon.deliver", base=Shell, sound=staticmethod(is_alert_id))
def deliver(
    alert_ids: list[str],
    stage: FromDishka[notify.Delivery],
    pulse: FromDishka[ports.Pulse],
    now: FromDishka[ports.Clock],
) -> None:
    """Send the waiting notifications of these alerts to their channels."""
    stage.deliver(alert_ids)
    pulse.mark("deliver", now())


@app.task(name="workermon.reconcile", base=Shell)
def reconcile(
    stage: FromDishka[fleet.Reconciliation],
    cleanup: FromDishka[fleet.Cleanup],
    dispatcher: FromDishka[ports.Dispatcher],
    own: FromDishka[settings.Settings],
) -> None:
    """Repair what repository, schedule and EC2 disagree about."""
    done = stage.reconcile(region=runtime.default_region(), interval=own.interval)
    for scope, why in done.failed.items():
        log.warning("reconcile.scope_failed", scope=scope, reason=str(why))
    cleanup.close_unused_accounts()
    dispatcher.deliver(cleanup.orphaned_channel_alerts())


@app.task(name="workermon.canary", base=Shell, sound=staticmethod(canaries.is_stage))
def canary(stages: list[str], stage: FromDishka[health.Canary]) -> None:
    """Pass the canary on from a stage: it shows whether messages go all the way round."""
    for name in stages:
        stage.pass_on(name)


def _unknown(task: str, worker_ids: Sequence[str], pulse: ports.Pulse) -> None:
    if worker_ids:
        log.warning("task.unknown_workers", task=task, worker_ids=list(worker_ids)[:10], number=len(worker_ids))
        pulse.count("message.unknown_worker", len(worker_ids))


# --- the container of a worker process ---------------------------------------------------------------------------


def container() -> Container:
    """Return the container of this process."""
    held: Container | None = app.conf.get(CONTAINER_NAME)
    if held is None:
        use(held := runtime.open())
    return held


def use(opened: Container) -> None:
    """Have the tasks of this process take what they need from this container."""
    setup_dishka(opened, app)


def _open(sender: Any = None, **_: Any) -> None:
    # Before the pool starts, and again in each child that was forked: it must not share its parent's. Nothing is made
    # before a task asks for it, so a parent that only forks has no client.
    use(opened := runtime.open())
    threads = getattr(sender, "concurrency", None)  # of a node; a child that was forked does one thing at a time
    opened.get(bulkhead.Bulkhead).threads = threads if isinstance(threads, int) else 1


def close(**_: Any) -> None:
    """Close the container of this process."""
    if held := app.conf.pop(CONTAINER_NAME, None):
        held.close()


signals.worker_init.connect(_open, weak=False)
signals.worker_process_init.connect(_open, weak=False)
signals.worker_process_shutdown.connect(close, weak=False)
signals.worker_shutdown.connect(close, weak=False)
