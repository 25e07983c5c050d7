"""``workermon up``: beat, nodes, listener and page on this machine, with an embedded Redis if necessary."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from workermon import errors, logs, settings
from workermon.local import embedded, supervisor

log = logs.get(__name__)

#: Threads that collect: AWS answers in 50–300 ms, so most of them wait.
CONCURRENCY = 8
#: Threads that evaluate and deliver. A slow channel blocks one of them; the others continue.
ALERTS = 6
#: How many consecutive ports are tried.
PORTS = 100


class Parts(NamedTuple):
    """What runs here: threads that collect, beat, worker processes with the listener, and the page."""

    concurrency: int = CONCURRENCY
    beat: bool = True
    worker: bool = True
    web: bool = True


def run(
    app_settings: settings.Settings, *, prepare: Callable[[], None], reconcile: Callable[[], None], chosen: Parts
) -> None:
    """Run it all until a signal, and stop it cleanly within 10 s.

    ``prepare`` is called once Redis is there and before anything else runs: it applies the config file. ``reconcile``
    is called in a thread while the parts start, for it waits for EC2, and a region may not answer.
    Raises what ``prepare`` raises, and ``errors.RedisUnavailable`` where the embedded server cannot run.
    """
    signals = supervisor.Signals()
    with signals.handled(), contextlib.ExitStack() as stack:
        try:
            with signals.interrupting():
                server = stack.enter_context(_embedded()) if app_settings.embedded else None
                named = {"WORKERMON_REDIS_URL": server.url} if server else {}
                env = {**os.environ, **named}
                processes = children(env, concurrency=chosen.concurrency, beat=chosen.beat, worker=chosen.worker)
                if not (processes or chosen.web or server):
                    raise errors.InvalidInput("up", "nothing is left to run", "leave out --no-beat or --no-worker")
                prepare()
                if chosen.web and _page_can_listen(app_settings):
                    processes.append(page(env))
        except KeyboardInterrupt:
            return
        parts = supervisor.Supervisor(processes, server=server)
        stack.callback(parts.stop, lambda: signals.twice)
        threading.Thread(target=reconcile, name="reconcile", daemon=True).start()
        log.info("up.running", children=[child.name for child in processes], embedded=server is not None)
        parts.run(signals.asked.is_set)
        log.info("up.stopping")


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
    env: Mapping[str, str], *, concurrency: int = CONCURRENCY, beat: bool = True, worker: bool = True
) -> list[supervisor.Child]:
    """Return Celery's parts: beat, a node that collects, and one that evaluates and delivers, so that neither waits.

    The second node also runs the listener. All use this Python executable, so that no path has to be searched.
    """
    # -P, and PYTHONSAFEPATH for their children: no module is imported from the working directory.
    celery = [sys.executable, "-P", "-m", "workermon.on_celery", "--quiet"]
    # Seconds between two heartbeats, which Flower shows. Each is a message. At Celery's default of 2 s they cause a
    # good part of an idle node's CPU.
    beats = ["--heartbeat-interval", "10"]
    node = ["--pool", "threads", "--without-mingle", "--without-gossip", *beats]
    # Celery warns root of messages that contain code; ours are JSON.
    warnings = ",".join(filter(None, (env.get("PYTHONWARNINGS"), "ignore:You're running the worker with superuser")))
    env = {**env, "PYTHONWARNINGS": warnings, "PYTHONSAFEPATH": "1"}
    mine = os.getpid()  # so that two of these on one machine have different nodes

    def consuming(name: str, queues: str, threads: int, variables: Mapping[str, str]) -> supervisor.Child:
        where = ["--hostname", f"{name}-{mine}@%h", "--queues", queues, "--concurrency", str(threads)]
        return supervisor.Child(name, [*celery, "worker", *node, *where], variables)

    needed = without_secrets(env)
    processes: list[supervisor.Child] = []
    if worker:
        # Only this process delivers, so only this one needs the channels' secrets.
        processes.append(consuming("alerts", "workermon.evaluate,workermon.deliver", ALERTS, env))
        processes.append(consuming("collect", "workermon.collect", concurrency, needed))
    if beat:
        processes.append(supervisor.Child("beat", [*celery, "beat"], needed))
    return processes


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
    except OSError as why:
        return why.errno != errno.EADDRINUSE  # the page itself reports any other error


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
