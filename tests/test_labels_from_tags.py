"""Labels from tags of instances that ``[discover]`` finds."""

from __future__ import annotations

from typing import Any

import pytest

from workermon import config, errors, fleet, models, testing
from workermon.config import export

A, B = "i-0aaaaaaaaaaaaaaaa", "i-0bbbbbbbbbbbbbbbb"
REGION = "us-east-1"
GROUP = "aws:autoscaling:groupName"
FILE = f"""
[discover]
regions = ["{REGION}"]
tags = {{ Role = "render" }}
labels = {{ team = "vfx" }}
labels_from_tags = {{ pool = "{GROUP}", team = "Team", tier = "Tier" }}
"""


@pytest.fixture
def monitor() -> testing.Monitor:
    """Give a monitor without workers."""
    return testing.Monitor()


def put(monitor: testing.Monitor, instance_id: str = A, status: models.Status = "running", **tags: str) -> None:
    """Add an instance with these tags to EC2, besides the tag by which it is found."""
    instance_tags = {"Role": "render", **{GROUP if name == "group" else name: value for name, value in tags.items()}}
    monitor.ec2.put(models.Instance(id=instance_id, region=REGION, status=status, tags=instance_tags))


def apply(monitor: testing.Monitor, text: str) -> Any:
    """Apply a config file."""
    return monitor.get(fleet.Application).apply(monitor.parser.parse(text, "x.toml"), fleet.ApplyOptions(region=REGION))


def reconcile(monitor: testing.Monitor, **options: Any) -> Any:
    """Have the fleet follow EC2."""
    return monitor.get(fleet.Reconciliation).reconcile(region=REGION, **options)


def labels(monitor: testing.Monitor, worker_id: str = A) -> dict[str, str]:
    """Return a worker's labels."""
    return monitor.workers.get([worker_id])[worker_id].worker.labels


def test_labels_come_from_tags_and_those_of_the_file_win(monitor: testing.Monitor) -> None:
    """A tag sets its label, also under another name. A missing or empty tag sets none. The file's labels win."""
    put(monitor, group="a", Team="sim", Tier="")
    assert apply(monitor, FILE).added == (A,)
    assert labels(monitor) == {"team": "vfx", "pool": "a"}


def test_labels_follow_tags_that_change_and_go(monitor: testing.Monitor) -> None:
    """A reconciliation applies the current tags and reports the changes. The next one finds none."""
    put(monitor, group="a", Tier="1")
    apply(monitor, FILE)
    put(monitor, group="b")
    planned = reconcile(monitor, dry_run=True).repairs
    assert [(repair.action, repair.reason) for repair in planned] == [
        ("update", "its tags or [discover] have changed its labels: pool=a, team=vfx, tier=1 → pool=b, team=vfx")
    ]
    assert labels(monitor)["pool"] == "a"
    assert reconcile(monitor).repairs == planned
    assert labels(monitor) == {"team": "vfx", "pool": "b"}
    assert reconcile(monitor).repairs == ()
    put(monitor)
    reconcile(monitor)
    assert labels(monitor) == {"team": "vfx"}


def test_a_replaced_instance_of_a_group_has_the_same_labels_at_once(monitor: testing.Monitor) -> None:
    """One reconciliation adds an Auto Scaling group's new instance with the labels of the old one."""
    put(monitor, group="a", Tier="1")
    apply(monitor, FILE)
    before = labels(monitor)
    put(monitor, status="terminated", group="a", Tier="1")
    put(monitor, B, group="a", Tier="1")
    assert {("retire", A), ("add", B)} <= {(repair.action, repair.worker_id) for repair in reconcile(monitor).repairs}
    assert labels(monitor, B) == before
    assert monitor.workers.get([A]) == {}


def test_a_list_names_labels_like_tags(monitor: testing.Monitor) -> None:
    """A list means labels named like their tags. Applying an export again changes nothing."""
    put(monitor, Team="sim", pool="a", group="c")
    file_with_list = FILE.replace(
        f'{{ pool = "{GROUP}", team = "Team", tier = "Tier" }}', f'["Team", "pool", "{GROUP}"]'
    )
    apply(monitor, file_with_list)
    assert labels(monitor) == {"team": "vfx", "Team": "sim", "pool": "a", GROUP: "c"}
    configuration = monitor.configurations.load()
    text = export.text(configuration, [record.worker for record in monitor.workers.every()])
    assert f'"{GROUP}" = "{GROUP}"' in text
    reapplied = apply(monitor, text)
    assert (reapplied.updated, reapplied.settings.changed) == ((), ())


def test_a_changed_file_changes_labels_and_plan_says_so(monitor: testing.Monitor) -> None:
    """Labels that labels_from_tags no longer names are removed when the file is applied."""
    put(monitor, group="a")
    apply(monitor, FILE)
    less = FILE.replace(f'pool = "{GROUP}", ', "")
    planned = monitor.get(fleet.Preview).preview(
        monitor.parser.parse(less, "x.toml"), fleet.ApplyOptions(region=REGION)
    )
    assert planned.updated == (A,)
    assert [str(change) for difference in planned.differences for change in difference.changes] == [
        f'labels_from_tags.pool "{GROUP}" → absent'
    ]
    apply(monitor, less)
    assert labels(monitor) == {"team": "vfx"}


def test_listed_workers_keep_their_own_labels(monitor: testing.Monitor) -> None:
    """Tags do not change the labels of workers that the file lists or that were added by id."""
    put(monitor, group="a")
    apply(monitor, f'[[workers]]\nid = "{A}"\nregion = "{REGION}"\nlabels = {{ team = "own" }}\n{FILE}')
    reconcile(monitor)
    assert labels(monitor) == {"team": "own"}


def test_what_a_tag_says_is_one_line_of_text(monitor: testing.Monitor) -> None:
    """Control characters are replaced. A value of only spaces counts as empty."""
    put(monitor, group="a\nb\x1b[31m", Tier="  ")
    apply(monitor, FILE)
    assert labels(monitor)["pool"] == errors.printable("a\nb\x1b[31m")
    assert "tier" not in labels(monitor)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('["a=b"]', 'has "=", which the name of a label cannot have'),
        ('{ "a=b" = "Team" }', 'has "=", which the name of a label cannot have'),
        ("[1]", "must be a list of tags' names"),
        ('"Team"', "labels_from_tags"),
        ('{ pool = "" }', "is empty"),
        (f'{{ pool = "{"x" * 129}" }}', "longer than the name of a tag"),
    ],
)
def test_what_can_be_no_label_is_refused(monitor: testing.Monitor, value: str, expected: str) -> None:
    """An invalid label name or tag is refused with line and column."""
    with pytest.raises(errors.InvalidInput, match="line 4, column") as caught:
        monitor.parser.parse(f"\n[discover]\ntags = {{ a = 'b' }}\nlabels_from_tags = {value}\n", "x.toml")
    assert expected in str(caught.value)


def test_a_rule_for_a_label_of_a_tag_is_not_said_to_apply_to_nobody(monitor: testing.Monitor) -> None:
    """``plan`` counts the workers whose tags set the label."""
    put(monitor, group="a")
    rule = '[[rules]]\nname = "r"\nmetric = "cpu_utilization"\nabove = { critical = 9 }\nlabels = { pool = "a" }\n'
    planned = monitor.get(fleet.Preview).preview(
        monitor.parser.parse(f"{rule}{FILE}", "x.toml"), fleet.ApplyOptions(region=REGION)
    )
    assert [(rule.name, rule.workers) for rule in planned.rules] == [("r", 1)]


@pytest.mark.parametrize(("value", "warned"), [({"pool": "z", "team": "vfx"}, False), ({"team": "sim"}, True)])
def test_a_rule_for_what_a_tag_may_say_is_not_warned_of(
    monitor: testing.Monitor, value: dict[str, str], warned: bool
) -> None:
    """``rules check`` accepts any value of a tag's label. A label of the file has one value."""
    label_text = ", ".join(f'{key} = "{label_value}"' for key, label_value in value.items())
    rule = (
        f'[[rules]]\nname = "r"\nmetric = "cpu_utilization"\nabove = {{ critical = 9 }}\nlabels = {{ {label_text} }}\n'
    )
    file = monitor.parser.parse(f'{rule}{FILE}[[workers]]\nid = "{B}"\n', "x.toml")
    configuration = config.to_configuration(file, config.DEFAULT)
    assert bool(fleet.check_coverage(file, configuration, []).warnings) is warned
