"""Which of a worker's series count, and how several become one: filesystems, drives, and the file's filters."""

from __future__ import annotations

import pytest

from workermon import config, errors, fleet, health, models, testing, views
from workermon.config import catalogue, export

ID = "i-0abc0123456789def"
REGION = models.AccountRegion(region="us-east-1")
#: On a whole hour.
T0 = 1_700_002_800
DISK = "disk_utilization"


class One(testing.Monitor):
    """A monitor of one instance with the config file ``text``."""

    def __init__(self, text: str = "") -> None:
        super().__init__(now=float(T0))
        self.ec2.put(models.Instance(id=ID, region="us-east-1", status="running", name="one"))
        if text:
            self.get(fleet.Application).apply(self.parser.parse(text, "f.toml"), fleet.ApplyOptions(region="us-east-1"))
        self.get(fleet.Adding).add([ID], fleet.AddOptions(scope=REGION, interval=60))

    def publish(self, metric_name: str, value: float, **dimensions: str) -> None:
        """Have the agent publish a value under these dimensions beside the instance's id."""
        self.cloudwatch.put(ID, metric_name, [(T0 - 120, value)], namespace="CWAgent", dimensions=dimensions)

    def value(self, metric: str) -> float | None:
        """Return a metric's value after two collections, because a second name is looked up in the second."""
        for _ in range(2):
            self.collect(ID)
            self.clock.advance(60)
        reading = self.get(views.WorkerView).show(self.workers.get([ID])[ID]).metrics[metric]
        return None if reading is None else reading.value


@pytest.mark.parametrize(
    "fstype",
    ["iso9660", "squashfs", "fuse.snapfuse", "erofs", "devfs", "aufs", "udf", "fuse.squashfuse", "overlay", "SquashFS"],
)
def test_a_filesystem_that_is_always_full_does_not_count(fstype: str) -> None:
    """Read-only and overlay filesystems are excluded, because they are always 100 % full."""
    monitor = One()
    monitor.publish("disk_used_percent", 100.0, path="/media", fstype=fstype)
    monitor.publish("disk_used_percent", 41.0, path="/", fstype="xfs")
    assert monitor.value(DISK) == 41.0


@pytest.mark.parametrize("fstype", ["xfs", "ext4", "btrfs", "zfs", "nfs4", "fuse.s3fs", "ntfs", "vfat", "ufs"])
def test_a_filesystem_that_holds_data_counts(fstype: str) -> None:
    """A filesystem that can be written counts."""
    monitor = One()
    monitor.publish("disk_used_percent", 97.0, path="/data", fstype=fstype)
    monitor.publish("disk_used_percent", 41.0, path="/", fstype="xfs")
    assert monitor.value(DISK) == 97.0


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ('include = { path = ["/data*"] }', 60.0),
        ('exclude = { path = ["/data*"] }', 50.0),
        ('include = { path = ["/data*", "/"] }\nexclude = { path = ["/data2"] }', 55.0),
        ('include = { path = ["/data*"], device = ["nvme1*"] }', 55.0),
        ('include = { fstype = ["tmpfs"] }', 99.0),
        ('include = { nowhere = ["*"] }', None),
        ('merge = "min"', 50.0),
        ('merge = "sum"', 165.0),
    ],
)
def test_a_user_chooses_which_series_count(keys: str, value: float | None) -> None:
    """``include`` has to match in each dimension, ``exclude`` wins, ``merge`` combines the rest."""
    monitor = One(f'[[metrics]]\nname = "disk_utilization"\n{keys}\n')
    monitor.publish("disk_used_percent", 50.0, path="/", fstype="xfs", device="nvme0n1p1")
    monitor.publish("disk_used_percent", 55.0, path="/data1", fstype="xfs", device="nvme1n1")
    monitor.publish("disk_used_percent", 60.0, path="/data2", fstype="xfs", device="nvme2n1")
    monitor.publish("disk_used_percent", 99.0, path="/run", fstype="tmpfs", device="tmpfs")
    assert monitor.value(DISK) == value


def test_the_least_drive_of_windows_counts() -> None:
    """C: with 3 % free counts, whatever D: or the total have. Recovery volumes do not count."""
    monitor = One('[collect]\nmetrics = ["disk_free_percent", "memory_utilization"]\n')
    name = "LogicalDisk % Free Space"
    for drive, free in (("C:", 3.0), ("D:", 85.0), ("_Total", 2.0), ("HarddiskVolume1", 1.0)):
        monitor.publish(name, free, instance=drive, objectname="LogicalDisk")
    monitor.publish("Memory % Committed Bytes In Use", 71.0, objectname="Memory")
    assert monitor.value("disk_free_percent") == 3.0
    assert monitor.value("memory_utilization") == 71.0


def test_what_a_file_says_of_series_is_exported_and_read_again() -> None:
    """The set-up is the same after an export, also without the default exclusions."""
    text = """
[[metrics]]
name = "disk_utilization"
include = { path = ["/data*", "/"] }
exclude = { fstype = ["nfs*"] }
merge = "min"

[[metrics]]
name = "disk_free_percent"
exclude = {}

[[metrics]]
name = "memory_utilization"
period = "300s"

[[metrics]]
name = "swap"
namespace = "CWAgent"
metric_name = "swap_used_percent"
"""
    file = testing.Monitor().parser.parse(text, "f.toml")
    before = config.to_configuration(file, config.DEFAULT)
    exported = export.text(before, ())
    after = config.to_configuration(testing.Monitor().parser.parse(exported, "f.toml"), config.DEFAULT)
    assert after.metrics == before.metrics
    assert after.metrics["memory_utilization"].also == catalogue.CATALOGUE["memory_utilization"].also
    assert after.metrics["disk_free_percent"].exclude == {}


def test_a_metric_of_another_name_has_no_second_one() -> None:
    """A custom name in CloudWatch replaces the second default name too."""
    file = testing.Monitor().parser.parse(
        '[[metrics]]\nname = "memory_utilization"\nmetric_name = "mem_mine"\n', "f.toml"
    )
    assert file.metrics is not None
    assert file.metrics["memory_utilization"].also == ()


@pytest.mark.parametrize("wrong", ['include = { path = "/data" }', 'exclude = ["/data"]', 'merge = "least"'])
def test_what_means_nothing_is_refused(wrong: str) -> None:
    """Invalid filters are refused with their position."""
    with pytest.raises(errors.InvalidInput, match=r"f\.toml: .*metrics\[0\]"):
        testing.Monitor().parser.parse(f'[[metrics]]\nname = "disk_utilization"\n{wrong}\n', "f.toml")


def warned(rule: str, metrics: str = "") -> list[str]:
    """Return the warnings about a file with one rule."""
    text = f'[[rules]]\nname = "r"\n{rule}\n{metrics}'
    return config.warnings(testing.Monitor().parser.parse(text, "f.toml"), lambda _: "")


def test_below_over_the_greatest_of_several_series_is_warned_of() -> None:
    """A ``below`` rule uses the greatest series unless the metric is merged by the least."""
    mine = '[[metrics]]\nname = "free"\nnamespace = "CWAgent"\nmetric_name = "free"\n'
    [text] = warned('metric = "free"\nbelow = { critical = 5 }', mine)
    assert text.startswith("rule r: free below a threshold, but of several series of a worker the maximum counts")
    assert warned('metric = "free"\nbelow = { critical = 5 }', mine + 'merge = "min"\n') == []
    assert warned('metric = "free"\nabove = { critical = 5 }', mine) == []
    assert warned('metric = "disk_free_percent"\nbelow = { critical = 5 }') == []
    assert warned('metric = "cpu_credit_balance"\nbelow = { critical = 5 }') == []


@pytest.mark.parametrize(
    "rule",
    [
        'metric = "cpu_utilization"\nabove = { warning = 80, critical = 100 }',
        'metric = "disk_free_percent"\nbelow = { critical = 0 }',
        'metric = "status_check_failed"\nabove = { critical = 1 }',
    ],
)
def test_a_threshold_that_no_value_can_pass_is_warned_of(rule: str) -> None:
    """The comparison is strict, so no value is above 100 %."""
    [text] = warned(rule)
    assert text.startswith("rule r: it cannot fire as critical: ")


@pytest.mark.parametrize("merge", ["max", "sum"])
def test_thousands_of_series_are_bounded_priced_and_named(merge: str) -> None:
    """Of 10,000 mounts a limited number is requested and billed. plan and status name the worker."""
    text = f'[[metrics]]\nname = "disk_utilization"\nmerge = "{merge}"\n[collect]\nmetrics = ["disk_utilization"]\n'
    monitor = One(text)
    for number in range(10_000):
        monitor.publish("disk_used_percent", 1.0, path=f"/mnt/{number:05}", fstype="xfs")
    monitor.publish("disk_used_percent", 1.0)
    assert monitor.value(DISK) == (1.0 if merge == "max" else 200.0)
    record = monitor.workers.get([ID])[ID]
    assert len(record.dimensions["CWAgent/disk_used_percent"]) <= catalogue.MAX_STORED_SERIES
    [crowded] = monitor.get(health.StatusCheck).status().crowded
    assert (crowded.worker, crowded.metric, crowded.asked) == ("one", DISK, 200)
    assert crowded.series > 1000
    file = monitor.parser.parse(text, "f.toml")
    plan = monitor.get(fleet.Preview).preview(file, fleet.ApplyOptions(region="us-east-1"))
    assert plan.series == {DISK: 200}
    assert any(
        "one has 2,000 series of disk_utilization, but only 200 are requested" in warning for warning in plan.warnings
    )
