"""What is wrong in a config file: the line that says so."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workermon import errors, testing
from workermon.config import problems

TEXT = '[[rules]]\nname = "cpu"\nabove = { warning = 80, critical = 90 }\n\n[channels.ops]\ntype = "webhook"\n'


@pytest.mark.parametrize(
    ("path", "says"),
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
def test_a_place_is_named_by_line_and_column(path: str, says: str) -> None:
    """A place is named by its line and column; what is missing by those of what lacks it, if there is any."""
    assert problems.where("f.toml", path, TEXT) == f"f.toml: {says}"


def test_without_a_text_there_is_the_path_alone() -> None:
    """Without the text there is the path alone, without a path the source."""
    assert problems.where("f.toml", "rules[0].name", "") == "f.toml: rules[0].name"
    assert problems.where("f.toml", "", TEXT) == "f.toml"


@pytest.mark.parametrize(("known", "meant"), [(["us-west-1", "us-east-1"], "us-east-1"), (["us-west-1"], "us-west-1")])
def test_letters_that_changed_places_are_the_likelier_slip(known: list[str], meant: str) -> None:
    """Of two names as near as each other the one with the same letters is what was meant."""
    assert errors.nearest("us-esat-1", known) == f"did you mean {meant}?"


@given(st.text(max_size=200))
def test_what_is_shown_fits_a_line(text: str) -> None:
    """Whatever a file says is shown on one line, at most 64 characters of it."""
    assert len(problems.shown(text)) <= 64
    assert problems.shown(text) == errors.printable(problems.shown(text))


SECTIONS = {
    "external_id": '[accounts.c]\nrole_arn = "arn:aws:iam::123456789012:role/workermon"\n',
    "secret": '[channels.c]\ntype = "webhook"\nurl = "https://example.com/"\n',
    "routing_key": '[channels.c]\ntype = "pagerduty"\n',
    "password": '[channels.c]\ntype = "email"\nhost = "mail.example.com"\nfrom = "a@b.c"\nto = ["a@b.c"]\nuser = "u"\n',
}


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40), st.sampled_from(sorted(SECTIONS)))
def test_a_secret_is_never_repeated(secret: str, key: str) -> None:
    """What stands where a secret's name belongs is not repeated by the error."""
    section = f"{SECTIONS[key]}{key} = {json.dumps(f'hunter2{secret}', ensure_ascii=False)}\n"
    with pytest.raises(errors.InvalidInput, match="must be a secret by name") as caught:
        testing.parse(section)
    assert "hunter2" not in str(caught.value)
