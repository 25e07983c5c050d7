"""Shell completion as the page about installation shows it: by click, without code of workermon."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "install-on-a-server.md"
SHELLS = ("bash", "zsh", "fish")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not PAGE.exists(), reason="only a checkout has the pages"),
    pytest.mark.skipif(shutil.which("bash") is None, reason="click asks bash for its version"),
]


def ask(order: str, **words: str) -> str:
    """Return what ``workermon`` prints for a shell's completion request."""
    program = Path(sys.executable).parent / "workermon"
    env = os.environ | {"_WORKERMON_COMPLETE": order} | words
    return subprocess.run([str(program)], env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_the_line_of_the_page_sets_a_shell_up(shell: str) -> None:
    """The page has a line for each shell, and its output completes 'workermon'."""
    assert re.search(rf"_WORKERMON_COMPLETE={shell}_source workermon", PAGE.read_text("utf-8"))
    script = ask(f"{shell}_source")
    assert f"_WORKERMON_COMPLETE={shell}_complete" in script
    assert re.search(r"\bcomplete\b|compdef", script)


def test_commands_and_options_are_completed() -> None:
    """The first letters of a command give the command, and '--' its options."""
    assert ask("bash_complete", COMP_WORDS="workermon disco", COMP_CWORD="1").split() == ["plain,discover"]
    assert "plain,--role" in ask("bash_complete", COMP_WORDS="workermon token create --", COMP_CWORD="3").split()
