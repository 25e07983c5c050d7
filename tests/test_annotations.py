"""Description, runbook and owner: from the config file to notifications and ``why``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from tests.support.commands import A, B, Ports
from tests.support.evaluating import CPU, Site
from workermon import config, errors, fleet, models, testing
from workermon.config import difference, export
from workermon.rules import KINDS

SAID = {"description": "Nodes stall.", "runbook": "https://wiki.example.com/cpu?view=1#steps", "owner": "team vfx"}

FILE = """
[[rules]]
name = "cpu-high"
metric = "cpu_utilization"
above = { critical = 90 }
description = "Nodes stall."
runbook = "https://wiki.example.com/cpu?view=1#steps"
owner = "team vfx"

[[rules]]
name = "down"
metric = "state"
owner = "team vfx"
"""


def test_every_kind_of_rule_takes_them() -> None:
    """A [[rules]] of any kind may have them, and export writes them as they were."""
    file = testing.parse(FILE, "file")
    assert file.rules is not None
    cpu, down = file.rules
    assert models.annotations_of(cpu) == SAID
    assert models.annotations_of(down) == {"owner": "team vfx"}
    assert {name: export.rule_table(cpu, KINDS)[name] for name in SAID} == SAID
    assert "runbook" not in export.rule_table(down, KINDS)
    jsonschema.validate({"rules": [{"name": "down", "metric": "state", **SAID}]}, testing.parser().schema())


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('runbook = "wiki.example.com/a"', "is not an address that begins with https:// or http://"),
        ('runbook = "javascript:alert(1)"', "is not an address that begins with https:// or http://"),
        ('runbook = "https://"', "has a character that no address has"),
        ('runbook = "https:///path"', "is not an address with a host"),
        ('runbook = "https://wiki.example.com:99999/"', "is not an address with a host"),
        ('runbook = "https://wiki.example.com/a b"', "has a character that no address has"),
        ('runbook = "https://wiki.example.com/a|b>"', "has a character that no address has"),
        ('runbook = "https://u:hunter2@wiki.example.com/"', "has a user or password in it"),
        ('runbook = "https://wiki.example.com/?access_token=hunter2"', "has a credential among its parameters"),
        ('description = "two\\nlines"', "has a control character"),
        ('owner = ""', "is empty or has spaces at an end"),
    ],
)
def test_what_no_receiver_can_use_is_refused(line: str, reason: str) -> None:
    """An invalid annotation is refused at its line and column. A possible secret is not repeated."""
    text = f'[[rules]]\nname = "down"\nmetric = "state"\n{line}\n'
    with pytest.raises(errors.InvalidInput) as caught:
        testing.parse(text, "fleet.toml")
    assert caught.value.subject == f"fleet.toml: line 4, column 1: rules[0].{line.partition(' ')[0]}"
    assert caught.value.reason.startswith(reason)
    assert "hunter2" not in str(caught.value)


def test_a_plan_shows_what_changes_of_them() -> None:
    """A changed runbook is a change of the rule like any other."""
    before = config.DEFAULT.model_copy(update={"rules": (CPU.model_copy(update=SAID),)})
    after = config.DEFAULT.model_copy(
        update={"rules": (CPU.model_copy(update=SAID | {"runbook": "https://wiki.example.com/new"}),)}
    )
    [rule_difference] = difference.changes(before, after).differences
    assert [(change.key, change.after) for change in rule_difference.changes] == [
        ("runbook", '"https://wiki.example.com/new"')
    ]


def test_a_notification_carries_them_to_its_end() -> None:
    """Firing and resolved notifications have them, even if the alert resolves without a datapoint."""
    site = Site(CPU.model_copy(update=SAID))
    site.minutes([95, 95, 95, 50, 50])
    fired, resolved = (entry.notification for entry in reversed(site.alerts.history()))
    assert fired is not None
    assert resolved is not None
    assert models.annotations_of(fired) == models.annotations_of(resolved) == SAID
    site.minutes([95, 95, 95], 5)
    site.change(rules=())
    site.evaluate()
    [last, *_] = (entry.notification for entry in site.alerts.history())
    assert last is not None
    assert (last.status, models.annotations_of(last)) == ("resolved", SAID)


def test_a_rule_that_says_nothing_has_null() -> None:
    """A notification's JSON has the three fields, null if the rule lacks them."""
    site = Site()
    site.minutes([95, 95, 95])
    [entry] = site.alerts.history()
    assert entry.notification is not None
    document = models.to_json(entry.notification)
    assert [document[name] for name in models.ANNOTATIONS] == [None, None, None]


def test_commands_show_them(world: Ports, ok: Callable[..., str], tmp_path: Path) -> None:
    """``why`` shows them in text and JSON, ``alerts --json`` in each alert."""
    scope = models.AccountRegion(region="us-east-1")
    world.get(fleet.Adding).add([A, B], fleet.AddOptions(scope=scope))
    (tmp_path / "fleet.toml").write_text(FILE)
    ok("apply", str(tmp_path / "fleet.toml"))
    output = ok("why", A, "cpu_utilization")
    assert "  about     Nodes stall.\n" in output
    assert f"  runbook   {SAID['runbook']}\n" in output
    assert "  owner     team vfx\n" in output
    [rule] = json.loads(ok("why", A, "cpu_utilization", "--json"))["rules"]
    assert {name: rule[name] for name in SAID} == SAID
    assert FILE.splitlines()[6] in ok("export")
