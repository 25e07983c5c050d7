"""The Celery application: ``celery -A workermon worker | beat | flower | inspect …``. It connects at first use."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import logging
import os
import sys
from pathlib import Path
from typing import Any

import celery
from celery import signals
from celery.app.log import Logging as Base
from celery.bin import base
from celery.loaders.app import AppLoader
from celery.utils.collections import DictAttribute
from dishka.integrations.celery import DishkaTask

from workermon import errors, logs, settings

log = logs.get(__name__)

#: Where our configuration is: inside the package if installed, beside it in a checkout.
PLACES = tuple(Path(__file__).resolve().parents[above] / "celeryconfig.py" for above in (1, 2))


def configuration() -> Any:
    """Return ``celeryconfig.py`` as a module, executed now, from its path: users may have a module of that name.

    Raises ``errors.InvalidInput`` or ``errors.RedisUnavailable`` if the settings are wrong or missing.
    """
    place = next(place for place in PLACES if place.is_file())
    spec = importlib.util.spec_from_file_location("workermon.celeryconfig", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Loader(AppLoader):
    """Reads our configuration when the application's ``conf`` is first used."""

    def import_from_cwd(self, module: str, imp: Any = None, package: str | None = None) -> Any:
        """Import one of our modules, never one from the working directory with its name or a dependency's name."""
        return (imp or importlib.import_module)(module, package)

    def read_configuration(self, env: str = "") -> Any:  # noqa: ARG002  (Celery's variable that names a module)
        """Return the configuration; under Celery's own command an error is one line and an exit code."""
        context = base.click.get_current_context(silent=True)
        celery_command = context is not None and context.find_root().command.name == "celery"
        try:
            if celery_command:
                _check_options(context.find_root())
            read = DictAttribute(configuration())
        except errors.WorkermonError as error:
            if not celery_command:
                raise
            print(f"error: {error}", file=sys.stderr)  # noqa: T201
            sys.exit(error.exit_code)
        # Celery reads '-P prefork' as its default, and would use the pool of the configuration instead.
        if context is not None and context.command.name == "worker":
            source = context.get_parameter_source("pool")
            if source is not None and source.name == "COMMANDLINE":
                read["worker_pool"] = "prefork"
        return read


class Logging(Base):
    """Sets up logging from our settings, for our application only: a team's own application may import this one too."""

    def setup_logging_subsystem(self, *args: Any, **kwargs: Any) -> Any:
        """Set up logging once for this process."""
        signals.setup_logging.connect(_log, weak=False)
        try:
            return super().setup_logging_subsystem(*args, **kwargs)
        finally:
            signals.setup_logging.disconnect(_log)


app = celery.Celery(
    "workermon",
    loader=Loader,
    log=Logging,
    amqp="workermon.on_celery.broker:AMQP",
    task_cls=DishkaTask,
    include=["workermon.pipeline.tasks"],
)
app.steps["worker"].add("workermon.pipeline.bootstep:ListenerStep")


def _check_options(context: Any) -> None:
    """Refuse command line options that we cannot honour, and ignore environment variables of other applications.

    ``celery`` reads ``BROKER_URL``, ``RESULT_BACKEND`` and ``CONFIG_MODULE`` from the environment. Any other
    application may use these names. An option on the command line is meant for us.
    """

    def is_given(option: str) -> bool:
        source = context.get_parameter_source(option)
        return source is not None and source.name == "COMMANDLINE"

    if is_given("config"):
        raise errors.InvalidInput(
            "--config", "workermon has its own Celery configuration", "set WORKERMON_… variables, or import its app"
        )
    for option, variable in (("broker", "CELERY_BROKER_URL"), ("result_backend", "CELERY_RESULT_BACKEND")):
        if not is_given(option) and os.environ.pop(variable, None) is not None:
            log.warning("environment.ignored", variable=variable, instead="WORKERMON_BROKER_URL")


def _log(loglevel: int | str | None = None, logfile: str | None = None, **_: Any) -> None:
    app_settings = settings.load()
    file = logfile or app_settings.log_file
    context = base.click.get_current_context(silent=True)
    source = context.get_parameter_source("loglevel") if context is not None else None
    level: str = app_settings.log_level
    if source is not None and source.name == "COMMANDLINE" and isinstance(loglevel, int):
        level = logging.getLevelName(loglevel).lower()
    try:
        logs.configure(level, app_settings.log_format, file)
    except OSError as error:
        print(f"error: log file {file}: {error.strerror}; name one that can be written", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    if file:
        settings.pass_on_log_file(file)  # the listener's process writes there too


def _refuse_broker(**_: Any) -> None:
    """End this process with a one-line error if the broker is a Redis that workermon cannot use."""
    from workermon.on_celery import broker

    connection = app.connection_for_read()
    if not broker.is_redis(connection):
        return
    try:
        client = connection.channel().client  # opens no connection before a command
    except Exception as error:
        # It is unreachable, or not Redis. Celery waits for it or reports it.
        log.debug("broker.unreachable", reason=type(error).__name__)
        return
    broker.refuse(client, "broker")


signals.worker_init.connect(_refuse_broker, weak=False)
signals.beat_init.connect(_refuse_broker, weak=False)


#: Python's thresholds for its garbage collection. A batch of datapoints makes tens of thousands of objects that are
#: freed without it. At Python's default of 700 the search for cycles took two fifths of a collection's CPU.
GARBAGE = (50_000, 10, 10)


def running(sender: Any) -> celery.Celery:
    """Return the application that runs in this process: ours, or a team's application that has imported ours.

    ``sender`` comes from a Celery signal: the node or beat, or nothing in a forked child.
    """
    return getattr(sender, "app", None) or celery.current_app._get_current_object()


def _collect_garbage_seldom(sender: Any = None, **_: Any) -> None:
    if running(sender) is not app:
        return
    # What is imported by now stays for good, so later collections can skip it.
    gc.freeze()
    gc.set_threshold(*GARBAGE)


signals.worker_init.connect(_collect_garbage_seldom, weak=False)
signals.worker_process_init.connect(_collect_garbage_seldom, weak=False)
signals.beat_init.connect(_collect_garbage_seldom, weak=False)
