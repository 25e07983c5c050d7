"""The project's pages as programs: their config files and commands, in the order in which a reader meets them."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from tests.integration.celery_house import ROOT, STOP, House, Process
from tests.support.free_ports import free_port
from tests.support.waiting import eventually

#: The instance that pages name; an instance of the simulation takes its place.
INSTANCE = "i-0abc0123456789def"

#: Commands that run until Ctrl-C, with what they show once they are up; Flower takes connections instead.
LASTING = {
    "workermon up": "supervisor",
    "workermon watch": "cpu_utilization",
    "workermon web": "page: http",
    "celery -A workermon beat": "is starting",
    "celery -A workermon worker": "workermon.collect",
    "celery -A workermon flower": "",
}
#: Programs that are not ours, the address of the page as pages have it, and what a command has that ends with Ctrl-C.
FOREIGN, PAGE, ENDLESS = {"curl", "amtool"}, "http://127.0.0.1:8650", "--no-buffer"
#: Commands that fail while a part does not answer.
REPEATED = {"workermon status", "workermon doctor"}
#: Set-up of this very environment, which is there already.
PREPARED = {". .venv/bin/activate"}


class Block(NamedTuple):
    """A fenced block of a page: its language, and its lines without the page's indentation."""

    kind: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Return the commands of a ``console`` block. A backslash continues on the next line."""
        commands = re.findall(r"^\$ ((?:.*\\\n)*.+)$", self.text, re.MULTILINE) if self.kind == "console" else []
        return [re.sub(r"\s*\\\n\s*", " ", command) for command in commands]

    @property
    def file(self) -> str | None:
        """Return the name of the file that a ``toml`` block shows, or ``None`` for other blocks."""
        if self.kind != "toml":
            return None
        file_name = re.match(r"# ([\w.-]+\.toml)\n", self.text)
        return file_name[1] if file_name else "fleet.toml"


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    matches = re.finditer(
        r"^(?P<indent> *)```(?P<kind>\w*)\n(?P<text>.*?)^(?P=indent)```$",
        page.read_text("utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    return [
        Block(match["kind"], re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)) for match in matches
    ]


def pages() -> list[Path]:
    """Return every page of the project."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def check_make(command: str) -> None:
    """Fail unless each target of a ``make`` command exists."""
    recipes = (ROOT / "Makefile").read_text("utf-8")
    for word in shlex.split(command)[1:]:
        assert "=" in word or re.search(rf"^{re.escape(word)}:", recipes, re.MULTILINE), f"{command}: no target {word}"


def check_compose(command: str) -> str:
    """Fail unless a ``docker compose`` command names services of the compose file, and options of Compose.

    Returns the command that runs in the container, if ``docker compose run`` names one.
    """
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    _, _, verb, *words = shlex.split(command)
    if verb == "run":
        option, service, *inside = words
        assert option == "--rm", command
        assert service in services, command
        return shlex.join(inside)
    assert verb == "up", command
    for word in words:
        if not word.startswith("-"):
            assert word.partition("=")[0] in services, f"{command}: no service {word}"
        else:
            assert word in {"--build", "--detach", "--scale"}, command
    return ""


def _listens(port: int) -> bool:
    """Return whether a program takes connections at a port of this machine."""
    with contextlib.suppress(OSError), contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=1)):
        return True
    return False


class Reader:
    """Follows pages in an installation. Its processes end with it."""

    def __init__(self, house: House) -> None:
        self.house = house
        #: Commands that were run, as the pages show them.
        self.ran: list[str] = []
        self._lasting: list[Process] = []
        #: Where Flower listens: not at its own port, for another test may run it at the same time.
        self._flower = free_port()
        house.env["FLOWER_PORT"] = str(self._flower)

    def follow(self, page: Path) -> None:
        """Write each config file of a page and run each of its commands. Fail with the first failure."""
        for block in blocks(page):
            if block.file is not None:
                (self.house.folder / block.file).write_text(block.text, "utf-8")
            for command in block.commands:
                self.run(command)

    def run(self, command: str) -> None:
        """Run a command as written. A long-running one stays, except ``watch``."""
        self.ran.append(command)
        if command in PREPARED:
            return
        if command.startswith("make "):
            check_make(command)
            return
        if command.startswith("docker compose "):
            command = check_compose(command)
            if not command:
                return
        command, _, target = command.partition(" > ")
        name = next((command_start for command_start in LASTING if command.startswith(command_start)), None)
        program, *words = shlex.split(command.replace(INSTANCE, self.house.ids[0]))
        if program in FOREIGN:
            self._ask(command, program, words)
            return
        if name == "workermon web":
            words += ["--port", str(free_port())]  # 'up' has the usual one
        assert program in {"workermon", "celery"}, command
        if name is None:
            self._finish(command, program, words, target)
            return
        process = self.house.start(program, *words)
        self._lasting.append(process)
        eventually(
            lambda: LASTING[name] in process.output if LASTING[name] else _listens(self._flower),
            within=60, description=f"what {command} shows when it is up",
        )  # fmt: skip
        if name == "workermon watch":
            self._interrupt(process)

    def close(self) -> None:
        """Press Ctrl-C in each command that still runs, the last first, and see that it ends well."""
        for process in reversed(self._lasting):
            if process.alive():
                process.popen.send_signal(signal.SIGINT)
        for process in self._lasting:
            if process.alive():
                process.stop()

    def _finish(self, command: str, program: str, words: list[str], target: str) -> None:
        def succeeded() -> subprocess.CompletedProcess[str]:
            completed = self.house.run(program, *words, within=60)
            assert completed.returncode == 0, f"{command}\n{completed.stdout}\n{completed.stderr}"
            return completed

        # While a node starts, or is busy, it does not answer in time. A reader runs such a command again.
        completed = eventually(succeeded, within=60, description=command) if command in REPEATED else succeeded()
        if target:
            (self.house.folder / target).write_text(completed.stdout, "utf-8")

    def _ask(self, command: str, program: str, words: list[str]) -> None:
        """Run a client of this installation's page, if it is installed here."""
        if shutil.which(program) is None:
            return
        port = int(self.house.env["WORKERMON_WEB_PORT"])
        eventually(lambda: _listens(port), within=60, description="the page of 'workermon up'")
        page = f"http://127.0.0.1:{port}"
        call = [program, *(word.replace(PAGE, page) for word in words)]
        if ENDLESS in words:
            with subprocess.Popen(call, cwd=self.house.cwd, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                assert process.stdout.readline().startswith(b"retry: "), command
                process.terminate()
            return
        completed = subprocess.run(call, cwd=self.house.cwd, capture_output=True, text=True, timeout=60, check=False)
        assert completed.returncode == 0, f"{command}\n{completed.stdout}\n{completed.stderr}"

    def _interrupt(self, process: Process) -> None:
        process.popen.send_signal(signal.SIGINT)
        assert process.popen.wait(STOP) == 0


@contextlib.contextmanager
def reader(house: House) -> Iterator[Reader]:
    """Give a reader, and end its processes."""
    new_reader = Reader(house)
    try:
        yield new_reader
    finally:
        new_reader.close()
