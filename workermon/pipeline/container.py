"""The container of a worker process: one in each process, opened before its first task and closed at its end."""

from __future__ import annotations

import sys
from typing import Any

from celery import signals
from dishka import Container
from dishka.integrations.celery import CONTAINER_NAME, setup_dishka

from workermon import collect, errors, logs, ports, runtime
from workermon.on_celery import held_messages
from workermon.on_celery.app import app, running

log = logs.get(__name__)


def current() -> Container:
    """Return the container of this process."""
    container: Container | None = app.conf.get(CONTAINER_NAME)
    if container is None:
        use(container := runtime.open())
    return container


def use(opened: Container, *other_apps: Any) -> None:
    """Make the tasks of this process get their dependencies from this container.

    ``other_apps`` are a team's applications that include our tasks.
    """
    for celery_app in (app, *other_apps):
        setup_dishka(opened, celery_app)


def _open(sender: Any = None, **_: Any) -> None:
    runtime.import_aws()
    # Before the pool starts, and again in each forked child, which must not share its parent's. Nothing is created
    # before a task needs it, so a parent that only forks has no client.
    use(opened := runtime.open(), running(sender))
    threads = getattr(sender, "concurrency", None)  # of a node; a forked child does one thing at a time
    opened.get(collect.Bulkhead).threads = threads if isinstance(threads, int) else 1


def close(**_: Any) -> None:
    """Close the container of this process."""
    if container := app.conf.pop(CONTAINER_NAME, None):
        container.close()


def _prepare(**_: Any) -> None:
    """Migrate the stored data to this version before anything runs. Refuse a server that cannot be used."""
    opened = runtime.open()  # not shared: a node that forks must have no client
    try:
        opened.get(ports.Schema).prepare()
    except errors.UnfitServer as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except errors.WorkermonError as error:
        log.warning("schema.unknown", reason=str(error))  # Celery waits for Redis, or reports it
    finally:
        opened.close()


signals.worker_init.connect(held_messages.register, weak=False)
signals.worker_init.connect(_prepare, weak=False)
signals.beat_init.connect(_prepare, weak=False)
signals.worker_init.connect(_open, weak=False)
signals.worker_process_init.connect(_open, weak=False)
signals.worker_process_shutdown.connect(close, weak=False)
signals.worker_shutdown.connect(close, weak=False)
