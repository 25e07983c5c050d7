"""``workermon up``: beat, nodes, listener and page on this machine, with an embedded Redis if necessary."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from workermon import errors, logs, settings
from workermon.local import embedded, supervisor

log = logs.get(__name__)

#: Threads that collect: AWS answers in 50–300 ms, so most of them wait.
CONCURRENCY = 8
#: Threads that evaluate and deliver. A slow channel blocks one of them; the others continue.
ALERTS = 6
#: Workers that one process collects within about 20 s: each takes some 0.6 ms of CPU, Python uses one core only, and
#: cohorts take two thirds of it (``collect.placement.USED``). A larger fleet gets another process.
COLLECTED_BY_ONE = 20_000
#: Seconds between two looks at the fleet's size.
SIZED_EVERY = 60.0
#: How many consecutive ports are tried.
PORTS = 100


class Parts(NamedTuple):
    """What runs here: threads that collect, beat, worker processes with the listener, and the page."""

    concurrency: int = CONCURRENCY
    beat: bool = True
    worker: bool = True
    web: bool = True


class Hooks(NamedTuple):
    """What ``run`` calls.

    ``prepare`` is called once Redis answers and before anything else runs. It applies the config file. ``reconcile`` is
    called in a thread while the parts start: it waits for EC2, and a region may not answer. ``fleet_size`` returns how
    many workers are monitored.
    """

    prepare: Callable[[], None]
    reconcile: Callable[[], None]
    fleet_size: Callable[[], int]


def run(app_settings: settings.Settings, *, hooks: Hooks, chosen: Parts) -> None:
    """Run everything until a signal, and stop it cleanly within 10 s.

    Raises what ``hooks.prepare`` raises, and ``errors.RedisUnavailable`` if the embedded server cannot run.
    """
    signals = supervisor.Signals()
    with signals.handled(), contextlib.ExitStack() as stack:
        try:
            with signals.interrupting():
                server = stack.enter_context(_embedded()) if app_settings.embedded else None
                environment = {"WORKERMON_REDIS_URL": server.url} if server else {}
                env = {**os.environ, **environment}
                processes = children(env, concurrency=chosen.concurrency, beat=chosen.beat, worker=chosen.worker)
                if not (processes or chosen.web or server):
                    raise errors.InvalidInput("up", "nothing is left to run", "leave out --no-beat or --no-worker")
                hooks.prepare()
                if chosen.web and _page_can_listen(app_settings):
                    processes.append(page(env))
        except KeyboardInterrupt:
            return
        parts = supervisor.Supervisor(processes, server=server)
        stack.callback(parts.stop, lambda: signals.is_repeated)
        threading.Thread(target=hooks.reconcile, name="reconcile", daemon=True).start()
        log.info("up.running", children=[child.name for child in processes], embedded=server is not None)
        collectors = Collectors(lambda number: collecting(env, chosen.concurrency, number), hooks.fleet_size)
        if chosen.worker:
            threading.Thread(
                target=collectors.watch, args=[signals.stop_requested.wait], name="size", daemon=True
            ).start()
        parts.run(signals.stop_requested.is_set, lambda: parts.add(*collectors.missing()))
        log.info("up.stopping")


class Collectors:
    """Decides how many processes collect, while a fleet grows. One runs from the start."""

    def __init__(
        self, make: Callable[[int], supervisor.Child], fleet_size: Callable[[], int], cores: int | None = None
    ) -> None:
        self._make, self._fleet_size, self._cores = make, fleet_size, cores
        self._started = self._needed = 1

    def watch(self, stopped: Callable[[float], bool]) -> None:
        """Look at the fleet's size each minute, until ``stopped``, which waits so many seconds, returns true."""
        while True:
            try:
                self._needed = collectors_for(self._fleet_size(), self._cores)
            except errors.WorkermonError as error:
                log.debug("up.fleet_size_unknown", reason=str(error))  # the parts report it better
            if stopped(SIZED_EVERY):
                return

    def missing(self) -> list[supervisor.Child]:
        """Return the processes that have to be started now; each is returned once."""
        numbers = range(self._started + 1, self._needed + 1)
        self._started = max(self._started, self._needed)
        return [self._make(number) for number in numbers]


def collectors_for(workers: int, cores: int | None = None) -> int:
    """Return how many processes should collect so many workers, on as many cores as this machine has if it is None.

    >>> [collectors_for(workers, 2) for workers in (0, 20_000, 20_001, 50_000)], collectors_for(50_000, 8)
    ([1, 1, 2, 2], 3)
    """
    return max(1, min(_cores() if cores is None else cores, math.ceil(workers / COLLECTED_BY_ONE)))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _embedded() -> Iterator[embedded.Server]:
    """Run an embedded server for this user. Other commands find it while it runs."""
    server = embedded.Server(settings.state_home() / "data", persistent=True)
    try:
        server.start()
        if not embedded.advertise(server.url):
            raise errors.RedisUnavailable(
                "embedded Redis", "another one is in use, perhaps by a demo", "stop it, or set WORKERMON_REDIS_URL"
            )
        yield server
    finally:
        embedded.withdraw()
        server.stop()


def children(
    env: Mapping[str, str],
    *,
    concurrency: int = CONCURRENCY,
    beat: bool = True,
    worker: bool = True,
    collectors: int = 1,
) -> list[supervisor.Child]:
    """Return Celery's parts: beat, a node that collects, and one that evaluates and delivers, so that neither waits.

    The second node also runs the listener. All use this Python executable, so that no path has to be searched.
    """
    processes: list[supervisor.Child] = []
    if worker:
        # Only this process delivers, so only this one needs the channels' secrets.
        processes.append(_node("alerts", "workermon.evaluate,workermon.deliver", ALERTS, env))
        processes += [collecting(env, concurrency, number) for number in range(1, collectors + 1)]
    if beat:
        processes.append(_celery("beat", ["beat"], without_secrets(env)))
    return processes


def collecting(env: Mapping[str, str], concurrency: int, number: int = 1) -> supervisor.Child:
    """Return a node that collects, with so many threads: the first one, or another one for a large fleet."""
    name = "collect" if number == 1 else f"collect-{number}"
    return _node(name, "workermon.collect", concurrency, without_secrets(env))


def _node(name: str, queues: str, threads: int, env: Mapping[str, str]) -> supervisor.Child:
    # Seconds between two heartbeats, which Flower shows. Each is a message. At Celery's default of 2 s they cause a
    # good part of an idle node's CPU.
    options = ["--pool", "threads", "--without-mingle", "--without-gossip", "--heartbeat-interval", "10"]
    hostname = f"{name}-{os.getpid()}@%h"  # so that two of these on one machine have different nodes
    node_options = ["--hostname", hostname, "--queues", queues, "--concurrency", str(threads)]
    return _celery(name, ["worker", *options, *node_options], env)


def _celery(name: str, arguments: Sequence[str], env: Mapping[str, str]) -> supervisor.Child:
    # -P, and PYTHONSAFEPATH for their children: no module is imported from the working directory.
    argv = [sys.executable, "-P", "-m", "workermon.on_celery", "--quiet", *arguments]
    # Celery warns root of messages that contain code; ours are JSON.
    warnings = ",".join(filter(None, (env.get("PYTHONWARNINGS"), "ignore:You're running the worker with superuser")))
    return supervisor.Child(name, argv, {**env, "PYTHONWARNINGS": warnings, "PYTHONSAFEPATH": "1"})


def page(env: Mapping[str, str], port: int | None = None) -> supervisor.Child:
    """Return the page, the API and ``/metrics``: a process of its own, so that no alert waits for it."""
    chosen = [] if port is None else ["--port", str(port)]
    command = [sys.executable, "-P", "-m", "workermon", "web", *chosen]
    return supervisor.Child("web", command, without_secrets({**env, "PYTHONSAFEPATH": "1"}))


def is_free(host: str, port: int) -> bool:
    """Return whether nothing listens on a port of this machine."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return True
    except OSError as error:
        return error.errno != errno.EADDRINUSE  # the page itself reports any other error


def free_port(host: str, first: int) -> int:
    """Return the first port from ``first`` on that is free; ``first`` if none near it is."""
    return next((port for port in range(first, min(first + PORTS, 65536)) if is_free(host, port)), first)


def _page_can_listen(app_settings: settings.Settings) -> bool:
    """Return whether the page's port is free. If it is not, the monitor runs without the page and logs one line."""
    if is_free(app_settings.web_host, app_settings.web_port):
        return True
    todo = "stop what listens there, or set WORKERMON_WEB_PORT; --no-web runs without the page"
    log.warning(
        "up.no_page", port=app_settings.web_port, host=app_settings.web_host, reason="the port is taken", todo=todo
    )
    return False


#: The environment of processes that deliver nothing: the system's own variables, and by prefix those of Python, TLS,
#: proxies, AWS, Celery and workermon. A profile's ``credential_process`` runs with them too.
_NEEDED = frozenset(
    [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "TZ",
        "TMPDIR",
        "TERM",
        "NO_COLOR",
        "VIRTUAL_ENV",
        "LD_LIBRARY_PATH",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "C_FORCE_ROOT",
        "COVERAGE_PROCESS_START",
        "COVERAGE_FILE",
    ]
)
_NEEDED_FAMILIES = (
    "LC_",
    "PYTHON",
    "SSL_CERT_",
    "REQUESTS_CA_",
    "XDG_",
    "AWS_",
    "BOTO_",
    "CELERY_",
    "WORKERMON_",
    "SSH_",
)


def without_secrets(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for a process that delivers nothing.

    >>> without_secrets({"PATH": "/bin", "AWS_PROFILE": "lab", "OPS_SECRET": "hunter2"})
    {'PATH': '/bin', 'AWS_PROFILE': 'lab'}
    """
    return {
        name: value
        for name, value in env.items()
        if name.upper() in _NEEDED or name.upper().startswith(_NEEDED_FAMILIES)
    }
