"""``workermon demo``: all of ``up`` on a simulated fleet with changing load. It leaves nothing behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from workermon import errors, logs, models, settings
from workermon.local import embedded, endpoint, simulation, supervisor, up
from workermon.settings import simulated_aws

log = logs.get(__name__)

#: Seconds between two datapoints and between two collections.
PERIOD = 2
#: Seconds of datapoints that exist at the start. An hour of them would only delay the first table.
HISTORY = 60
#: Seconds until the channel is tried again after its connection broke.
RETRY_AFTER = 0.5
#: Lines of the children's output to show at the end if one of them died.
LAST_LINES = 20

#: The prefix of a demo's folder, and the file in it that its process keeps locked.
FOLDERS = "workermon-demo-"
OWNER = "owner"

#: Starts an iterator over the present state and later changes. It yields ``None`` if nothing arrived for a while.
Follow = Callable[[], Iterator[models.Event | models.Notification | None]]
#: Shows messages until there are none left.
Show = Callable[[Iterator[models.Event | models.Notification]], None]


def run(
    *,
    prepare: Callable[[], None],
    follow: Follow,
    workers: int = 25,
    seconds: float | None = None,
    show: Show,
    live: bool,
    web_port: int | None = None,
) -> None:
    """Run the demo until a signal, or for ``seconds`` from now.

    ``show`` is called in a thread with the messages as they arrive. If it draws over the terminal (``live``), the
    children's output is held back. The page listens on ``web_port``, if given.

    Meanwhile this process has the demo's own environment: its Redis, its AWS, its config file, nothing of the user's.
    ``prepare`` applies that config file, as ``up`` would; ``follow`` reads the channel.
    """
    logs.configure("warning")
    began = time.monotonic()
    signals = supervisor.Signals()
    with signals.handled(), contextlib.ExitStack() as stack:
        try:
            with signals.interrupting():
                folder = stack.enter_context(_folder())
                server = embedded.Server(folder / "redis", persistent=False)
                stack.callback(server.stop)
                server.start()
                fleet = simulation.Simulation(time.time, workers, period=PERIOD, history=HISTORY)
                aws = endpoint.Endpoint(fleet)
                stack.callback(aws.stop)
                aws.start()
                env = environment(os.environ, folder, server.url, aws.url)
                stack.enter_context(_in_force(env))
                (folder / "demo.toml").write_text(configuration(fleet), "utf-8")
                stack.callback(embedded.withdraw)
                # If another server is advertised, other commands keep using that one.
                embedded.advertise(server.url, _of_aws(env))
                prepare()
        except KeyboardInterrupt:
            return
        output = stack.enter_context((folder / "children.log").open("w+b")) if live else None
        children = up.children(env)
        if web_port is not None:
            children.append(up.page(env, web_port))
        parts = supervisor.Supervisor(children, server=server, output=output)
        if output is not None:
            stack.callback(_show_last_output, parts, output)
        stack.callback(parts.stop, lambda: signals.is_repeated)
        display = stack.enter_context(_display(follow, show, signals))

        def over() -> bool:
            return signals.stop_requested.is_set() or (seconds is not None and time.monotonic() - began >= seconds)

        def tick() -> None:
            if aws.calls["GetMetricData"]:
                fleet.begin()  # not before the first viewer, however slowly this machine starts

        parts.run(over, tick)
    if display.failed is not None:
        raise display.failed


def configuration(fleet: simulation.Simulation) -> str:
    """Return the demo's config file: its workers, and the catalogue's metrics at the demo's period."""
    lines = ["# Made by 'workermon demo'."]
    for machine in fleet.machines.values():
        lines += ["[[workers]]", f'id = "{machine.id}"', f'name = "{machine.name}"', f'region = "{machine.region}"']
        lines += [f'interval = "{PERIOD}s"', f'labels = {{ team = "{machine.tags["Team"].lower()}" }}']
    for name, namespace, metric_name, statistic, unit in _METRICS:
        lines += ["[[metrics]]", f'name = "{name}"', f'namespace = "{namespace}"', f'metric_name = "{metric_name}"']
        lines += [f'statistic = "{statistic}"', f'unit = "{unit}"', f'period = "{PERIOD}s"']
    return "\n".join(lines) + "\n"


_METRICS = (
    ("cpu_utilization", simulation.EC2, "CPUUtilization", "Average", "percent"),
    ("memory_utilization", simulation.AGENT, "mem_used_percent", "Average", "percent"),
    ("disk_utilization", simulation.AGENT, "disk_used_percent", "Average", "percent"),
    ("network_in", simulation.EC2, "NetworkIn", "Sum", "bytes"),
    ("network_out", simulation.EC2, "NetworkOut", "Sum", "bytes"),
)


def environment(outer: Mapping[str, str], folder: Path, redis_url: str, aws_url: str) -> dict[str, str]:
    """Return the demo's environment, without the user's settings for AWS, Celery and workermon.

    Variables to unset are empty, because an empty variable hides the one in a ``.env`` file.
    """
    ours = (*simulated_aws.PREFIXES, "CELERY_", "WORKERMON_")
    inherited = {name: value for name, value in outer.items() if not name.upper().startswith(ours)}
    # No proxy for this machine.
    direct = ",".join(filter(None, (outer.get("NO_PROXY") or outer.get("no_proxy"), "127.0.0.1")))
    return inherited | {
        "AWS_ACCESS_KEY_ID": "simulated",
        "AWS_SECRET_ACCESS_KEY": "simulated",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_CONFIG_FILE": str(folder / "aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "aws-credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": direct,
        "no_proxy": direct,
        "WORKERMON_REDIS_URL": redis_url,
        "WORKERMON_BROKER_URL": "",
        "WORKERMON_CHANNEL": settings.CHANNEL,
        "WORKERMON_CONFIG": str(folder / "demo.toml"),
        "WORKERMON_INTERVAL": f"{PERIOD}s",
        "WORKERMON_MIN_INTERVAL": "1s",
        "WORKERMON_HEARTBEAT_URL": "",
        "WORKERMON_LOG_LEVEL": "warning",
        "WORKERMON_LOG_FORMAT": "",
        "WORKERMON_LOG_FILE": "",
        "WORKERMON_SECRETS": "",
        "WORKERMON_SECRETS_DIR": "",
        "WORKERMON_WEB_HOST": "",
        "WORKERMON_WEB_PORT": "",
        "WORKERMON_WEB_PROXIES": "",
        "WORKERMON_WEB_USER_HEADER": "",
        "WORKERMON_WEB_USER_ROLE": "",
    }


def _of_aws(env: Mapping[str, str]) -> dict[str, str]:
    """Return what other commands need of a demo's environment to talk to its AWS."""
    names = (*simulated_aws.PREFIXES, "NO_PROXY")
    return {name: value for name, value in env.items() if name.upper().startswith(names)}


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Create a folder and remove it at the end. Also remove the folders of demos that were killed."""
    _sweep(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=FOLDERS))
    try:
        with (folder / OWNER).open("w") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX)  # until this process ends, however it ends
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(home: Path) -> None:
    for folder in home.glob(f"{FOLDERS}*"):
        with contextlib.suppress(OSError):  # folders of other users, or not locked yet
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / OWNER).open() as owner:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its demo runs
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _in_force(env: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(env)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _show_last_output(parts: supervisor.Supervisor, output: IO[bytes]) -> None:
    """Show the children's last output, if one of them died."""
    if parts.deaths:
        output.seek(0)
        last = output.read().decode("utf-8", "replace").splitlines()[-LAST_LINES:]
        sys.stderr.write("\n".join([*(errors.printable(text) for text in last), ""]))


class _Display:
    """The thread that shows messages; ``failed`` is the error that ended it early."""

    def __init__(self, follow: Follow, show: Show, signals: supervisor.Signals) -> None:
        self.failed: Exception | None = None
        self.over = threading.Event()
        self._follow, self._show, self._signals = follow, show, signals
        self.thread = threading.Thread(target=self._run, name="demo", daemon=True)

    def _run(self) -> None:
        try:
            self._show(self._coming())
        except BrokenPipeError:
            # The reader closed the pipe. That ends the demo; it is not a failure.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except Exception as error:
            self.failed = error
        finally:
            self._signals.stop_requested.set()

    def _coming(self) -> Iterator[models.Event | models.Notification]:
        while not self.over.is_set():
            try:
                for message in self._follow():
                    if self.over.is_set():
                        return
                    if message is not None:
                        yield message
            except errors.RedisUnavailable as error:
                if not self.over.wait(RETRY_AFTER):
                    log.warning("demo.channel_lost", reason=str(error))


@contextlib.contextmanager
def _display(follow: Follow, show: Show, signals: supervisor.Signals) -> Iterator[_Display]:
    display = _Display(follow, show, signals)
    display.thread.start()
    try:
        yield display
    finally:
        display.over.set()
        display.thread.join(3.0)
