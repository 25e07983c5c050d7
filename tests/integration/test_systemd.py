"""deploy/systemd: systemd itself accepts the units, and they run the commands of docker-compose.yml."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
#: Where the units expect workermon.
HOME = "/opt/workermon"
#: Of 100, by systemd's own scale; the network that workermon needs is 10 of it.
MOST_EXPOSED = 15
#: The first version of systemd that rates units without starting them.
OLDEST_SYSTEMD = 250

pytestmark = pytest.mark.skipif(not UNITS.exists(), reason="only a checkout has deploy/systemd")


def systemd() -> int:
    """Return the version of systemd here, or 0 without one."""
    if shutil.which("systemd-analyze") is None:
        return 0
    output = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=False).stdout
    match = re.match(r"systemd (\d+)", output)
    return int(match[1]) if match else 0


@pytest.fixture
def needs_systemd() -> None:
    """Skip the test unless there is a systemd here that knows our units."""
    if systemd() < OLDEST_SYSTEMD:
        pytest.skip(f"needs systemd-analyze of systemd {OLDEST_SYSTEMD} or newer")


def values(unit: Path, name: str) -> list[str]:
    """Return a unit file's values of a name, in order."""
    return re.findall(rf"^{name}=(.*)$", unit.read_text("utf-8"), re.MULTILINE)


def analyze(*arguments: str, folder: Path) -> None:
    """Run ``systemd-analyze`` on the units in a folder. Fail on any complaint."""
    completed = subprocess.run(["systemd-analyze", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "Unknown" not in completed.stderr, completed.stderr


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return a folder with the units, as if workermon were installed where they expect it."""
    folder, home = tmp_path / "units", tmp_path / "workermon"
    shutil.copytree(UNITS, folder)
    home.symlink_to(Path(sys.executable).parent.parent)  # whose own path may have spaces
    for unit in folder.glob("*.service"):
        unit.write_text(unit.read_text("utf-8").replace(HOME, str(home)), "utf-8")
    return folder


@pytest.mark.integration
@pytest.mark.usefixtures("needs_systemd")
def test_systemd_finds_no_fault(installed: Path) -> None:
    """``systemd-analyze verify`` accepts every unit: no unknown line and no missing program."""
    names = [f"./{unit.name}" for unit in sorted(installed.iterdir()) if unit.is_file()]
    assert len(names) == 6
    analyze("verify", *names, folder=installed)


@pytest.mark.integration
@pytest.mark.usefixtures("needs_systemd")
def test_the_services_are_hardened(installed: Path) -> None:
    """systemd rates no service's exposure above what its network needs."""
    for unit in SERVICES:
        analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", f"./{unit.name}", folder=installed)


def test_units_run_what_compose_runs() -> None:
    """Each part has its container's command, except for node name, listening address and file."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    for unit, service in {
        "beat": "beat", "collect@": "worker", "listener": "listener", "web": "web", "apply": "config",
    }.items():  # fmt: skip
        [command] = values(UNITS / f"workermon-{unit}.service", "ExecStart")
        program, *words = shlex.split(command)
        expected, *words_of_compose = compose[service]["command"]
        assert program == f"{HOME}/bin/{expected}"
        if unit == "web":
            words_of_compose = words_of_compose[:1]  # a container listens for others
        assert [word.replace("%%h", "%h").replace("collect-%i@", "collect@") for word in words] == words_of_compose, (
            unit
        )


def test_everything_comes_back_and_starts_with_the_target() -> None:
    """A part that ends is always restarted. The target has a unit for each part."""
    units = " ".join(values(UNITS / "workermon.target", "Wants")).replace("@1.", "@.").split()
    assert sorted(units) == [unit.name for unit in SERVICES]
    for unit in SERVICES:
        expected = "on-failure" if values(unit, "Type") == ["oneshot"] else "always"
        assert values(unit, "Restart") == [expected], unit.name
    [common] = UNITS.glob("workermon-.service.d/*.conf")
    assert values(common, "StartLimitIntervalSec") == ["0"]
    assert values(common, "PartOf") == ["workermon.target"]


def test_a_service_has_only_the_secrets_that_it_needs() -> None:
    """Units that call AWS have its credentials. The unit that delivers has the channels' secrets."""
    files = {unit.stem.removeprefix("workermon-"): values(unit, "EnvironmentFile") for unit in SERVICES}
    aws = ["-/etc/workermon/aws.env"]
    assert files == {
        "apply": aws, "beat": [], "collect@": aws, "listener": ["-/etc/workermon/channels.env"], "web": aws,
    }  # fmt: skip
