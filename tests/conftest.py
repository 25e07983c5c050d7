"""Fixtures for every test, and rules that apply to all of them."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import itertools
import logging
import multiprocessing.process
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import fakeredis
import hypothesis
import pytest
import redis
import structlog

from tests.support.repositories import Repository, repository_in_memory, repository_on_redis
from workermon.local import embedded
from workermon.on_redis import client, keys

#: Fixtures of more than one module.
pytest_plugins = ["tests.support.beat", "tests.support.commands", "tests.support.refused"]

# Property tests draw the same examples in each run: if one turns red, a change did it. `make explore` draws others.
# `make quick` draws a third of them.
# None has a deadline: how long an example takes on a busy machine says nothing.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.register_profile("quick", derandomize=True, deadline=None, max_examples=34)
hypothesis.settings.register_profile("explore", print_blob=True, deadline=None)
hypothesis.settings.load_profile("same")

# A script that runs the tests in the background has SIGINT ignored, and nohup SIGHUP. Their processes inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A traceback with colours and local names takes 200 ms, and nobody reads it unless a test fails.
structlog.get_config()["processors"][-1].exception_formatter = structlog.dev.plain_traceback

# By default structlog prints to standard output. What a server's thread logs would be part of a command's data there.
TO_STDERR = structlog.PrintLoggerFactory(sys.stderr)
structlog.configure(logger_factory=TO_STDERR)

#: Folders whose every test is an integration test.
INTEGRATION = {"faults", "integration"}
#: How Python starts a process. An audit hook would see all of them, but would cost each test more than these do.
STARTS = (
    (subprocess.Popen, "__init__"),
    (multiprocessing.process.BaseProcess, "start"),
    (os, "fork"),
    (os, "forkpty"),
    (os, "posix_spawn"),
    (os, "posix_spawnp"),
    (os, "system"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that need processes or the real server. ``make quick`` and ``make cover`` leave them out."""
    tests_folder = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(tests_folder).parts[0] if item.path.is_relative_to(tests_folder) else ""
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        real = "redis_server" in getattr(item, "fixturenames", ()) or "redis" in parameters
        if real or folder in INTEGRATION:
            item.add_marker("integration")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import modules without a selected test."""
    left_out = collection_path.parent == Path(__file__).parent and collection_path.name in INTEGRATION
    return True if left_out and config.option.markexpr == "not integration" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Let no test module start a process when it is imported: each process that runs tests would."""
    _Processes.allowed = False
    try:
        if hasattr(session.config, "workerinput"):
            _import_in_turn(session.config)
        return (yield)
    finally:
        _Processes.allowed = True


def _import_in_turn(config: pytest.Config) -> None:
    """Import the test modules, in each process of pytest-xdist from another one on.

    pytest rewrites the assertions of a module that is new, and keeps the result in ``__pycache__``. All of them take
    six seconds of CPU. If the processes began with the same module, each would do all of it.
    """
    root, folder = Path(__file__).parents[1], Path(__file__).parent
    paths = {
        path.resolve()
        for argument in map(Path, config.args)
        for path in (argument.rglob("test_*.py") if argument.is_dir() else [argument])
        if path.is_file() and not pytest_ignore_collect(path.parent, config)
    }
    names = [".".join(path.relative_to(root).with_suffix("").parts) for path in sorted(paths) if folder in path.parents]
    worker = config.workerinput  # type: ignore[attr-defined]  # pytest-xdist adds it
    start = len(names) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
    for name in names[start:] + names[:start]:
        with contextlib.suppress(Exception, pytest.skip.Exception):  # it is reported when it is collected
            importlib.import_module(name)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin with the long tests, and exclude what lives to the end from garbage collection.

    A full collection over modules and tests takes half a second.
    """
    if hasattr(session.config, "workerinput"):
        session.items[:] = long_ones_first(session.items, session.config.workerinput["workercount"])
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Exclude what is left from garbage collection: pytest has just collected, and would do so again for nothing."""
    gc.freeze()


def long_ones_first(items: Sequence[pytest.Item], processes: int) -> list[pytest.Item]:
    """Spread the long tests over the processes and put them first, so that none of them ends the run alone.

    Each process of pytest-xdist gets an equal part of the list, in order. The long tests of a module stay in one
    process. So do all tests of ``faults``, because two of those at once are too much for two cores.
    """
    groups: dict[Path, list[pytest.Item]] = {}
    others = []
    for item in items:
        if item.path.parent.name == "faults":
            groups.setdefault(item.path.parent, []).append(item)
        elif item.get_closest_marker("long"):
            groups.setdefault(item.path, []).append(item)
        else:
            others.append(item)
    parts: list[list[pytest.Item]] = [[] for _ in range(processes)]
    for group in sorted(groups.values(), key=len, reverse=True):
        min(parts, key=len).extend(group)
    remaining, left = iter(others), len(items)
    for place, part in enumerate(parts):
        size = left // (processes - place)
        part.extend(itertools.islice(remaining, max(0, size - len(part))))
        left -= size
    return [*itertools.chain(*parts), *remaining]


class _Processes:
    """Whether the test that runs may start processes."""

    allowed = True

    @classmethod
    def guard(cls, owner: Any, name: str) -> None:
        """Have a function that starts a process refuse to, while none is allowed."""
        start = getattr(owner, name)

        @functools.wraps(start)
        def guarded(*arguments: Any, **keywords: Any) -> Any:
            if not cls.allowed:
                message = f"{owner.__name__}.{name}: this starts a process"
                raise RuntimeError(f"{message}; mark the test integration, and start none while its module is imported")
            return start(*arguments, **keywords)

        setattr(owner, name, guarded)


for _owner, _name in STARTS:
    _Processes.guard(_owner, _name)


@pytest.fixture(autouse=True)
def _no_process(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let a test start a process only if it is marked, so that ``make quick`` stays quick."""
    _Processes.allowed = request.node.get_closest_marker("integration") is not None
    yield
    _Processes.allowed = True


@pytest.fixture(autouse=True)
def _logging_is_put_back() -> Iterator[None]:
    """Restore the logging configuration after each test, because the whole process shares it."""
    root = logging.getLogger()
    handlers, level, botocore = list(root.handlers), root.level, logging.getLogger("botocore").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("botocore").setLevel(botocore)
    if structlog.get_config()["logger_factory"] is not TO_STDERR:
        structlog.reset_defaults()
        structlog.configure(logger_factory=TO_STDERR)
        # A logger keeps the configuration of its first use. By its very type: Celery's proxies act when looked at.
        lazy = type(structlog.get_logger())
        for name, module in list(sys.modules.items()):
            if name.startswith("workermon"):
                for logger in vars(module).values():
                    if type(logger) is lazy:
                        vars(logger).pop("bind", None)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.Server]:
    """Run one real server without persistence for the whole session. Its ``url`` names database 1."""
    server = embedded.Server(tmp_path_factory.mktemp("valkey"), persistent=False, tcp=True)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def redis_url(redis_server: embedded.Server) -> Iterator[str]:
    """Give the URL of an empty server.

    The test fails if it leaves a key without a lifetime that keys.py does not list.
    """
    with contextlib.closing(redis.Redis.from_url(redis_server.url)) as client:
        client.flushall()
        yield redis_server.url
        eternal = sorted(
            key.decode() for key in client.scan_iter(count=1000) if client.ttl(key) == -1 and not keys.permanent(key)
        )
        assert not eternal, f"keys without a lifetime that on_redis/keys.py does not list as permanent: {eternal}"


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """Give a plain redis-py client that knows nothing of workermon."""
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        yield client


@pytest.fixture(params=["memory", "fakeredis", "redis"])
def repository(request: pytest.FixtureRequest) -> Iterator[Repository]:
    """Give the ports, once for each implementation."""
    if request.param == "memory":
        yield repository_in_memory()
    elif request.param == "fakeredis":
        yield repository_on_redis(fakeredis.FakeRedis())
    else:
        with contextlib.closing(client.connect(request.getfixturevalue("redis_url"))) as connection:
            yield repository_on_redis(connection)


@pytest.fixture
def retries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have boto3 retry without its pause, which is seconds long and random."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)


#: The names that the tests' certificate is for: this machine, and services whose address a library knows.
CERTIFIED = ("localhost", "discord.com", "hooks.slack.com", "api.telegram.org")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a self-signed certificate for ``CERTIFIED``, and give the folder of ``c.pem`` and ``key.pem``."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, so there is no certificate to try")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", f"subjectAltName={','.join(f'DNS:{name}' for name in CERTIFIED)}",
         "-keyout", str(folder / "key.pem"), "-out", str(folder / "c.pem")],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    return folder
