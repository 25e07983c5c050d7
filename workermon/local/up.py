"""``workermon up``: beat, worker processes and listener on this machine, with an embedded Redis if none is named."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping

from workermon import errors, logs, settings
from workermon.local import embedded, supervisor

log = logs.get(__name__)

#: Threads that collect: AWS answers in 50–300 ms, so most of them wait.
CONCURRENCY = 8
#: Threads that evaluate and deliver. A slow channel holds one of them; the others go on.
ALERTS = 6


def run(
    own: settings.Settings,
    *,
    prepare: Callable[[], None],
    concurrency: int = CONCURRENCY,
    beat: bool = True,
    worker: bool = True,
) -> None:
    """Run it all until a signal, and stop it cleanly within 10 s.

    ``prepare`` is called once Redis is there and before anything else runs: it applies the config file and
    reconciles. Raises what ``prepare`` raises, and ``errors.RedisUnavailable`` where the embedded server cannot run.
    """
    asked = supervisor.Signals()
    with asked.heard(), contextlib.ExitStack() as stack:
        try:
            with asked.interrupting():
                server = stack.enter_context(_embedded()) if own.embedded else None
                named = {"WORKERMON_REDIS_URL": server.url} if server else {}
                kept = children({**os.environ, **named}, concurrency=concurrency, beat=beat, worker=worker)
                if not kept and server is None:
                    raise errors.InvalidInput("up", "nothing is left to run", "leave --no-beat or --no-worker out")
                prepare()
        except KeyboardInterrupt:
            return
        parts = supervisor.Supervisor(kept, server=server)
        stack.callback(parts.stop, lambda: asked.twice)
        log.info("up.running", children=[child.name for child in kept], embedded=server is not None)
        parts.run(asked.asked.is_set)
        log.info("up.stopping")


@contextlib.contextmanager
def _embedded() -> Iterator[embedded.Server]:
    """Run this user's own server; the other commands find it meanwhile."""
    server = embedded.Server(settings.state_home() / "data", persistent=True)
    try:
        server.start()
        if not embedded.advertise(server.url):
            raise errors.RedisUnavailable(
                "embedded Redis", "another one is in use, of a demo perhaps", "stop that, or set WORKERMON_REDIS_URL"
            )
        yield server
    finally:
        embedded.withdraw()
        server.stop()


def children(
    env: Mapping[str, str], *, concurrency: int = CONCURRENCY, beat: bool = True, worker: bool = True
) -> list[supervisor.Child]:
    """Return Celery's parts: beat, a node that collects, and one that evaluates and delivers, so that neither waits.

    The latter has the listener too. All run this very Python, so that no path has to be searched.
    """
    # -P, and PYTHONSAFEPATH for what they start: no module is imported from the working directory.
    celery = [sys.executable, "-P", "-m", "workermon.on_celery", "--quiet"]
    # Seconds between two signs of life, which Flower shows; each is a message, and with Celery's own 2 s they are
    # a good part of what an idle node costs.
    beats = ["--heartbeat-interval", "10"]
    node = ["--pool", "threads", "--without-mingle", "--without-gossip", *beats]
    # Celery warns root of messages that contain code; ours are JSON.
    warnings = ",".join(filter(None, (env.get("PYTHONWARNINGS"), "ignore:You're running the worker with superuser")))
    env = {**env, "PYTHONWARNINGS": warnings, "PYTHONSAFEPATH": "1"}
    mine = os.getpid()  # two of these on one machine are two sets of nodes

    def consuming(name: str, queues: str, threads: int, given: Mapping[str, str]) -> supervisor.Child:
        where = ["--hostname", f"{name}-{mine}@%h", "--queues", queues, "--concurrency", str(threads)]
        return supervisor.Child(name, [*celery, "worker", *node, *where], given)

    needed = without_secrets(env)
    kept: list[supervisor.Child] = []
    if worker:
        # Only this one delivers, so only this one needs the secrets of channels.
        kept.append(consuming("alerts", "workermon.evaluate,workermon.deliver", ALERTS, env))
        kept.append(consuming("collect", "workermon.collect", concurrency, needed))
    if beat:
        kept.append(supervisor.Child("beat", [*celery, "beat"], needed))
    return kept


#: What processes get that deliver nothing: the system's own variables, and by their beginnings those of Python, TLS,
#: proxies, AWS, Celery and workermon. ``credential_process`` of an AWS profile runs with them too.
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
