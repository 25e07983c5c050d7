"""Numbers in what users write have the digits 0 to 9. Python's own parsers would take those of any script."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from workermon import cli, errors, models, testing
from workermon.views import trace

A = "i-0abc0123456789def"

#: The digits of Arabic, and those of full width.
SCRIPTS = [str.maketrans("0123456789", digits) for digits in ("٠١٢٣٤٥٦٧٨٩", "０１２３４５６７８９")]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("args", "number"),
    [
        (["add", A, "--interval"], "60s"),
        (["history", A, "--since"], "1.5h"),
        (["watch", "--seconds"], "5"),
        (["web", "--port"], "8650"),
        (["up", "--concurrency"], "8"),
        (["demo", "--workers"], "25"),
        (["demo", "--seconds"], "5"),
    ],
)
def test_options_take_plain_digits_only(args: list[str], number: str, script: dict[int, int]) -> None:
    """A command refuses other digits in one line."""
    text = number.translate(script)
    result = CliRunner().invoke(cli.cli, [*args, text])
    assert result.exit_code == 2
    [line] = [line for line in result.stderr.splitlines() if "is not a" in line]
    assert f"'{text}' is not a " in line


RULE = '[[rules]]\nname = "r"\nmetric = "cpu_utilization"\nnotify = ["log"]\n'


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("text", "number", "path"),
    [
        (f'[[workers]]\nid = "{A}"\nregion = "us-east-1"\ninterval = "60s"\n', '"60s"', "workers[0].interval"),
        ('[discover]\nregions = ["us-east-1"]\ntags = { a = "b" }\n', "east-1", "discover.regions"),
        (RULE + 'above = { critical = 90 }\nbreach = "3 of 5"\n', "3 of 5", "rules[0].breach"),
        (RULE + 'above = { critical = 90 }\nflapping = "6 in 1h"\n', "6 in", "rules[0].flapping"),
        (RULE + 'above = { critical = "label:limit or 90" }\n', "or 90", "rules[0].above.critical"),
    ],
)
def test_files_have_plain_digits_only(text: str, number: str, path: str, script: dict[int, int]) -> None:
    """A config file with other digits is refused at the place of the key."""
    testing.parse(text, "f.toml")
    with pytest.raises(errors.InvalidInput, match=re.escape(path)):
        testing.parse(text.replace(number, number.translate(script)), "f.toml")


@pytest.mark.parametrize("script", SCRIPTS)
def test_traces_and_settings_have_plain_digits_only(script: dict[int, int]) -> None:
    """A trace names the line with other digits. A duration in the settings is refused as everywhere."""
    for row in ("0," + "5".translate(script), "60".translate(script) + ",5"):
        with pytest.raises(errors.InvalidInput, match="line 2"):
            trace.read(["timestamp,value", row], "t")
    with pytest.raises(ValueError, match="is not a duration"):
        models.seconds("60s".translate(script))
