"""``rules check`` shows every error of a file at once, and none that follows from another one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests.support.commands import Ports, Session
from workermon import cli, config, errors, settings, testing

MANY = """
[[workers]]
id = "i-0abc"
region = "us-east-1"
[[workers]]
id = "i-0abc0123456789def"
region = "us-east-1"
interval = "2s"
[[workers]]
id = "i-0abc0123456789de0"
intervals = "60s"
region = "mars-1"

[[rules]]
name = "cpu-high"
metric = "cpu_utilisation"
above = { warning = 95, critical = 90 }
breach = "3 off 3"
notify = ["opss"]

[[rules]]
name = "disk-high"
metric = "disk_utilization"
abvoe = { warning = 80 }
notify = ["ops", "pager"]

[[rules]]
name = "gpu-high"
metric = "gpu"
above = { critical = 80 }

[channels.ops]
type = "webhook"
url = "http://example.com"

[channels.pager]
type = "pagerdutty"

[[metrics]]
name = "gpu"
namespace = "X"
metric_name = "y"
statistic = "Avg"

[nonsense]
a = 1
"""

#: Where the mistakes of ``MANY`` are, in the order of the file.
PLACES = [
    "workers[0].id", "workers[1].interval", "workers[2].intervals", "workers[2].region",
    "rules[0].metric", "rules[0].above.critical", "rules[0].breach", "rules[0].notify[0]", "rules[1].abvoe",
    "channels.ops.url", "channels.pager.type", "metrics[0].statistic", "[nonsense]",
]  # fmt: skip


def places(text: str) -> list[str]:
    """Return where the mistakes of a file are."""
    checks = (
        lambda file: config.to_configuration(file, config.DEFAULT),
        lambda file: config.check_intervals(file, 10),
    )
    return [str(wrong.subject).rpartition(": ")[2] for wrong in testing.parser().mistakes(text, "f.toml", checks)]


def test_every_mistake_is_shown_in_the_order_of_the_file() -> None:
    """Errors of sections, rules and keys are all shown, each once."""
    assert places(MANY) == PLACES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ('[[rules]]\nname = "a"\n', ["rules[0].metric"]),
        ('[[rules]]\nname = "a"\nmetric = "cpu_utilization"\n', ["rules[0]"]),
        ('[channels."a.b"]\ntype = "webhook"\nurl = "x"\nnonsense = 1\n',
         ["channels.a.b.url", "channels.a.b.nonsense"]),
        ('[collect]\nmetrics = ["cpu_utilisation"]\n[[rules]]\nname = "a"\nmetric = "cpu_utilization"\n'
         'above = { critical = 1 }\n', ["collect.metrics[0]"]),
        ('[[silences]]\nrule = "nope"\nreason = "x"\n', ["silences[0]"]),
        ("a = [", ["is not TOML"]),
    ],
)  # fmt: skip
def test_what_follows_from_another_mistake_is_not_one(text: str, expected: list[str]) -> None:
    """A misspelt key is not also missing, and a misspelt section does not make its names unknown."""
    if expected == ["is not TOML"]:
        [wrong] = testing.parser().mistakes(text, "f.toml")
        assert wrong.reason.startswith("is not TOML")
    else:
        assert sorted(places(text)) == sorted(expected)


_VALUES = st.one_of(st.none(), st.sampled_from(["x", 5, True, [], {}, ["cpu_utilization"], {"critical": 90}]))
_SECTIONS = ["rules", "channels", "workers", "metrics", "collect", "silences", "accounts", "budget", "nonsense"]
_KEYS = [
    "name",
    "metric",
    "above",
    "id",
    "region",
    "type",
    "url",
    "notify",
    "metrics",
    "rule",
    "reason",
    "dollars_per_day",
]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(_SECTIONS), st.booleans(), st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=4)
        ),
        max_size=5,
    )
)
def test_a_file_has_no_mistake_exactly_if_it_can_be_read(sections: list[tuple[str, bool, dict[str, object]]]) -> None:
    """For any file the list has an error if and only if reading it raises one, and contains that one."""
    lines = []
    for section, is_list, keys in sections:
        lines.append(f"[[{section}]]" if is_list else f"[{section}]")
        lines += [f"{key} = {_toml(value)}" for key, value in keys.items() if value is not None]
    text = "\n".join(lines)
    reasons = {wrong.reason for wrong in testing.parser().mistakes(text, "f.toml")}
    raised: set[str] = set()
    try:
        testing.parser().parse(text, "f.toml")
    except errors.InvalidInput as first:
        raised = {first.reason}
    assert raised <= reasons
    assert bool(raised) == bool(reasons)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(item)}' for key, item in value.items())} }}"
    return json.dumps(value)


def test_the_command_prints_each_mistake_on_a_line_of_its_own(tmp_path: Path) -> None:
    """Each line is an error with what to do. The exit code is 2, and JSON lists the errors too."""
    file = tmp_path / "f.toml"
    file.write_text(MANY, "utf-8")

    def run(*more: str) -> tuple[int, str, str]:
        cli_session = Session(settings.Settings(_env_file=None), Ports())
        result = CliRunner().invoke(cli.cli, ["rules", "check", str(file), *more], obj=cli_session)
        return result.exit_code, result.stdout, result.stderr

    code, out, err = run()
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == len(PLACES)
    assert all(line.startswith(f"error: {file}: line ") for line in err.splitlines())
    assert "opss is not a known channel; did you mean ops?" in err
    code, out, err = run("--json")
    document = json.loads(out)
    assert (code, document["valid"], len(document["mistakes"])) == (2, False, len(PLACES))
    assert set(document["mistakes"][0]) == {"where", "why", "todo"}
