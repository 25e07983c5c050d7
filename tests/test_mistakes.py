"""Errors in a config file: the line that reports them."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from workermon import cli, errors, testing
from workermon.cli import files
from workermon.config import problems

TEXT = '[[rules]]\nname = "cpu"\nabove = { warning = 80, critical = 90 }\n\n[channels.ops]\ntype = "webhook"\n'


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("rules[0].name", "line 2, column 1: rules[0].name"),
        ("rules[0].above.critical", "line 3, column 25: rules[0].above.critical"),
        ("rules[0].metric", "line 1, column 3: rules[0].metric"),
        ("channels.ops.url", "line 5, column 11: channels.ops.url"),
        ("[channels]", "line 5, column 2: [channels]"),
        ("rules[7].name", "line 1, column 3: rules[7].name"),
        ("silences[0]", "silences[0]"),
    ],
)
def test_a_place_is_named_by_line_and_column(path: str, error: str) -> None:
    """An error has line and column. A missing key has those of its table, if there is one."""
    assert problems.location("f.toml", path, TEXT) == f"f.toml: {error}"


def test_without_a_text_there_is_the_path_alone() -> None:
    """Without the text there is the path alone, without a path the source."""
    assert problems.location("f.toml", "rules[0].name", "") == "f.toml: rules[0].name"
    assert problems.location("f.toml", "", TEXT) == "f.toml"


@pytest.mark.parametrize(
    ("names", "expected"), [(["us-west-1", "us-east-1"], "us-east-1"), (["us-west-1"], "us-west-1")]
)
def test_letters_that_changed_places_are_the_likelier_slip(names: list[str], expected: str) -> None:
    """Of two equally near names the one with the same letters is suggested."""
    assert errors.nearest("us-esat-1", names) == f"did you mean {expected}?"


@given(st.text(max_size=200))
def test_what_is_shown_fits_a_line(text: str) -> None:
    """Any text of a file is shown on one line, at most 64 characters of it."""
    assert len(problems.excerpt(text)) <= 64
    assert problems.excerpt(text) == errors.printable(problems.excerpt(text))


SECTIONS = {
    "external_id": '[accounts.c]\nrole_arn = "arn:aws:iam::123456789012:role/workermon"\n',
    "secret": '[channels.c]\ntype = "webhook"\nurl = "https://example.com/"\n',
    "routing_key": '[channels.c]\ntype = "pagerduty"\n',
    "password": '[channels.c]\ntype = "email"\nhost = "mail.example.com"\nfrom = "a@b.c"\nto = ["a@b.c"]\nuser = "u"\n',
}


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40), st.sampled_from(sorted(SECTIONS)))
def test_a_secret_is_never_repeated(secret: str, key: str) -> None:
    """A text in place of a secret's name is not repeated by the error."""
    section = f"{SECTIONS[key]}{key} = {json.dumps(f'hunter2{secret}', ensure_ascii=False)}\n"
    with pytest.raises(errors.InvalidInput, match="must be a secret by name") as caught:
        testing.parse(section)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        ".".join(["a"] * 200_000) + " = 1",
        "[" + ".".join(["a"] * 200_000) + "]",
        'x = { "y" = 1, ' + " . ".join(['"a"'] * 50_000) + " = 1 }",
        "\n".join(".".join(["a"] * 1000 + [f"k{number}"]) + " = 1" for number in range(1000)),
    ],
    ids=["key", "section", "inline", "many"],
)
def test_keys_of_very_many_parts_are_refused_at_once(text: str) -> None:
    """Such a file would take the parser minutes. It is refused by its line before parsing."""
    with pytest.raises(errors.InvalidInput, match=r"line 1: has a key of more than 100 parts"):
        testing.parse(text, "file")
    assert testing.parse("# a.b\n[budget]\ndollars_per_day = 5 # " + "... " * 100, "file").budget is not None


def test_a_file_without_an_end_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a device or a pipe that never ends no more is read than a file may have."""
    monkeypatch.setattr(files, "MAX_BYTES", 1_000_000)
    with pytest.raises(errors.InvalidInput, match="/dev/zero: is longer than 1,000,000 bytes"):
        files.text("/dev/zero")
    with Path("/dev/zero").open("rb") as endless:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(endless))
        with pytest.raises(errors.InvalidInput, match="standard input: is longer"):
            files.text("-")


@pytest.mark.parametrize("arguments", [("list", "--label", "\udcff=a"), ("\udcff",), ("rules", "check", "/tmp/\udce9")])
def test_an_argument_that_is_no_utf8_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    """It is refused in one line before any action, and shown as given."""
    result = CliRunner().invoke(cli.cli, list(arguments))
    assert result.exit_code == 2
    assert re.fullmatch(r"error: argument .*\\x(ff|e9).*: is not UTF-8 text; write it in UTF-8\n", result.stderr)
