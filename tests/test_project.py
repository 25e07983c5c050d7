"""The project's files agree: lock files, version, checks, continuous integration."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import workermon

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
RUN, DEV = ROOT / "requirements" / "run.txt", ROOT / "requirements" / "dev.txt"

pytestmark = pytest.mark.skipif(not (ROOT / "Makefile").exists(), reason="only a checkout has the project's files")


def locked(path: Path) -> dict[str, Version]:
    """Return each package of a lock file with its version."""
    pins = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", path.read_text("utf-8"), re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in pins}


def requirements() -> list[tuple[Path, Requirement]]:
    """Return each requirement of pyproject.toml with the lock file that has to hold it."""
    extras = PROJECT["project"]["optional-dependencies"].values()
    groups = [
        (RUN, PROJECT["project"]["dependencies"]),
        (RUN, PROJECT["dependency-groups"]["build"]),
        *((DEV, texts) for texts in extras),
    ]
    return [(path, Requirement(text)) for path, texts in groups for text in texts]


@pytest.mark.parametrize(
    ("path", "requirement"), requirements(), ids=[str(requirement) for _, requirement in requirements()]
)
def test_the_lock_file_has_what_the_project_asks_for(path: Path, requirement: Requirement) -> None:
    """Each requirement is locked at an allowed version. Otherwise run 'make lock'."""
    version = locked(path).get(canonicalize_name(requirement.name))
    assert version is not None, "run make lock"
    assert requirement.specifier.contains(version, prereleases=True), "run make lock"


def test_both_lock_files_agree() -> None:
    """Tests run with the very versions that users get."""
    run, dev = locked(RUN), locked(DEV)
    assert run.items() <= dev.items()


@pytest.mark.parametrize("path", [RUN, DEV], ids=["run", "dev"])
def test_every_locked_version_has_hashes_and_no_index(path: Path) -> None:
    """A lock file names hashes of every file, no address of an index, and markers that can be read."""
    text = path.read_text("utf-8")
    assert "://" not in text
    assert "-index" not in text
    for entry in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]:
        head = entry.splitlines()[0].removesuffix("\\")
        assert "--hash=sha256:" in entry, head
        _, _, marker = head.partition(";")
        assert not marker or Marker(marker)


def test_the_version_is_in_one_place() -> None:
    """pyproject.toml reads the version from the package. The change log has a section for the next release."""
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert Version(workermon.__version__)
    assert f'"{workermon.__version__}"' not in (ROOT / "pyproject.toml").read_text("utf-8")
    assert re.search(r"^## Unreleased$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)


def test_git_hooks_run_what_make_check_runs() -> None:
    """Each command of 'make check' is a hook, and no hook runs anything else."""
    [recipe] = re.findall(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    checks = {
        re.sub(r'"\$\(BIN\)/(?:python" -m )?([a-z]+)"?', r"\1", line.strip().removeprefix("@"))
        for line in recipe.splitlines()
    }
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    entries = {re.sub(r"^\.venv/bin/(?:python -m )?", "", hook["entry"]) for repo in hooks for hook in repo["hooks"]}
    assert entries == checks


@pytest.mark.integration
def test_ci_calls_the_script_on_every_python_that_is_promised() -> None:
    """The workflow is valid, runs .ci/run, and covers each Python from requires-python on that has been released."""
    path = ROOT / ".github" / "workflows" / "ci.yml"
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
    job = yaml.safe_load(path.read_text("utf-8"))["jobs"]["test"]
    assert job["steps"][-1]["run"] == ".ci/run"
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["project"]["requires-python"] == ">=3.11"


@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.run(["true"], check=False),
        lambda: os.system("true"),
        lambda: multiprocessing.get_context("spawn").Process(target=print).start(),
    ],
    ids=["subprocess", "os", "multiprocessing"],
)
def test_without_the_mark_no_process_starts(start: Callable[[], object]) -> None:
    """A test without the mark ``integration`` cannot start a process, so make quick needs none."""
    with pytest.raises(RuntimeError, match="mark the test integration"):
        start()
