"""The config file: what is valid, errors with their lines, and the configuration that it gives."""

from __future__ import annotations

import json
import re
from typing import NoReturn

import jsonschema
import pytest

from tests.support.present import present
from workermon import config, errors, models, rules, testing
from workermon.config import grammar
from workermon.rules import threshold

WHOLE = """
[discover]
regions = ["us-east-1"]
tags = { Role = "render" }

[[workers]]
id = "i-0abc0123456789def"
region = "us-east-1"
interval = "60s"
labels = { team = "vfx" }

[[rules]]
name = "cpu-high"
metric = "cpu_utilization"
above = { warning = 80, critical = 90 }
breach = "3 of 5"
clear = { warning = 75, critical = 85 }
recover = "2 of 2"
missing = "keep"
labels = { team = "vfx" }
notify = ["ops"]

[channels.ops]
type = "webhook"
url = "https://example.com/hook"
secret = { env = "OPS_SECRET" }
allow_private = false

[[metrics]]
name = "gpu_utilization"
namespace = "CWAgent"
metric_name = "utilization_gpu"
statistic = "Average"
unit = "percent"
period = "60s"

[collect]
metrics = ["cpu_utilization", "memory_utilization", "gpu_utilization"]
retention = "24h"

[accounts.lab]
role_arn = "arn:aws:iam::123456789012:role/workermon"
external_id = { env = "LAB_EXTERNAL_ID" }
"""

RULE = '[[rules]]\nname = "r"\nmetric = "cpu_utilization"\n'


def configured(text: str, previous: models.Configuration = config.DEFAULT) -> models.Configuration:
    """Return the configuration that a file makes."""
    return config.to_configuration(testing.parse(text, "w.toml"), previous)


def refusal(text: str, previous: models.Configuration = config.DEFAULT) -> str:
    """Return the one-line error of a file."""
    with pytest.raises(errors.InvalidInput) as caught:
        configured(text, previous)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("w.toml")
    return line


def test_the_contract_s_file_is_taken_whole() -> None:
    """Every section of the contract's example is read as written."""
    file = testing.parse(WHOLE, "w.toml")
    configuration = config.to_configuration(file, config.DEFAULT)
    rule = configuration.rules[0]
    options = threshold.KIND.options(rule)
    assert [rule.name for rule in configuration.rules] == ["cpu-high"]
    assert (options.above, present(options.clear).critical) == (models.Levels(warning=80, critical=90), 85)
    assert (options.breach, options.recover) == (models.Count(m=3, n=5), models.Count(m=2, n=2))
    assert rule.notify == ("ops",)
    assert configuration.channels["ops"].secret == models.SecretRef(env="OPS_SECRET")
    assert configuration.metrics["gpu_utilization"].period == 60
    assert configuration.collect == ("cpu_utilization", "memory_utilization", "gpu_utilization")
    assert configuration.retention == models.DAY
    assert configuration.accounts["lab"].external_id == models.SecretRef(env="LAB_EXTERNAL_ID")
    assert present(configuration.discover).tags == {"Role": "render"}
    assert configuration.revision == 1
    assert present(file.workers)[0].interval == 60


def test_with_no_file_the_contract_s_rules_hold() -> None:
    """Without a file the contract's default rules apply and notify the log."""
    by_name = {
        rule.name: (rule.metric or rule.kind, rules.KINDS[rule.kind].export(rule)) for rule in config.DEFAULT.rules
    }
    counts = {"breach": "3 of 3", "recover": "2 of 2", "missing": "keep"}
    assert by_name == {
        "cpu-high": ("cpu_utilization", {"above": {"warning": 80, "critical": 90}, **counts}),
        "memory-high": ("memory_utilization", {"above": {"warning": 80, "critical": 90}, **counts}),
        "disk-high": ("disk_utilization", {"above": {"warning": 90, "critical": 98}, **counts}),
        "status-check-failed": ("status_check_failed", {"above": {"critical": 0}, **counts, "breach": "2 of 2"}),
        "application-check-failed": (
            "application_check_failed",
            {"above": {"critical": 0}, **counts, "breach": "2 of 2"},
        ),
        "performance-check-failed": ("performance_check_failed", {"above": {"warning": 0}, **counts}),
        "no-data": ("no-data", {"intervals": 3, "severity": "critical"}),
    }
    assert all(rule.notify == ("log",) for rule in config.DEFAULT.rules)


def test_an_empty_file_changes_nothing() -> None:
    """A file without any section leaves every part alone."""
    assert configured("").model_copy(update={"revision": 0}) == config.DEFAULT


def test_an_absent_section_leaves_that_part_alone() -> None:
    """A second file that only has channels leaves the rules and metrics of the first."""
    first = configured(WHOLE)
    second = configured('[channels.ops]\ntype = "log"\n', first)
    assert second.rules == first.rules
    assert second.metrics == first.metrics
    assert second.channels["ops"].type == "log"
    assert second.revision == 2


def test_what_an_earlier_file_brought_and_this_one_lacks_is_removed() -> None:
    """Rules, channels, metrics and accounts of an earlier file go when the section no longer names them."""
    first = configured(WHOLE)
    second = configured(RULE + "below = { critical = 1 }\n[channels.other]\ntype = 'log'\n[accounts]\n", first)
    assert [rule.name for rule in second.rules] == ["r"]
    assert set(second.channels) == {"log", "other"}
    assert second.accounts == {}
    third = configured("metrics = []\n[collect]\n", second)
    assert "gpu_utilization" not in third.metrics
    assert third.chosen is None


def test_a_rule_left_alone_keeps_its_channel_or_the_file_is_refused() -> None:
    """Removing the channel of a rule that stays in force is refused by the rule's name."""
    line = refusal('[channels.other]\ntype = "log"\n', configured(WHOLE))
    assert "rule cpu-high (in force).notify[0]: ops is not a known channel" in line


def test_a_metric_that_a_rule_needs_is_collected_where_nothing_is_chosen() -> None:
    """Without [collect] a rule's metric is collected beside the defaults. With it the rule is refused."""
    text = '[[rules]]\nname="r"\nmetric="disk_read_bytes"\nabove={critical=1}\n'
    assert configured(text).collect == (*config.DEFAULT.collect, "disk_read_bytes")
    assert "disk_read_bytes is not collected" in refusal(text + '[collect]\nmetrics=["cpu_utilization"]\n')


def test_a_known_metric_takes_another_period() -> None:
    """A [[metrics]] entry of a known name changes its keys and keeps the rest of the catalogue's."""
    changed = configured('[[metrics]]\nname = "cpu_utilization"\nperiod = "2s"\n')
    assert changed.metrics["cpu_utilization"] == config.DEFAULT.metrics["cpu_utilization"].model_copy(
        update={"period": 2}
    )


def test_no_data_is_a_rule_by_its_metric() -> None:
    """A rule with metric no-data has a number of intervals and a severity."""
    rule = configured('[[rules]]\nname="silent"\nmetric="no-data"\nintervals=5\nseverity="warning"\n').rules[0]
    assert (rule.name, rule.kind, rule.options, rule.severity) == ("silent", "no-data", {"intervals": 5}, "warning")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[[rules]\n", r"line 1, column \d+: is not TOML: "),
        ("a = 1\na = 2\n", r"line 2, column \d+: is not TOML: "),
        ("[budget]\ndollars_per_day = 0\n", r"budget.dollars_per_day: should be greater than or equal to 0.01; see"),
        ("[budget]\ndollars_per_day = nan\n", r"budget.dollars_per_day: must be a finite number; see"),
        ('[budget]\ndollars_per_day = "5"\n', r"budget.dollars_per_day: must be a number; see"),
        ("[budget]\ndollars = 5\n", r"budget.dollars: is not a known key; did you mean dollars_per_day\?"),
        ("[limits]\ndescribe = { bucket = 5 }\n", r"limits.describe.per_second: is missing; add it"),
        ("[limits]\ndescribe = { bucket = 0, per_second = 1 }\n", r"limits.describe.bucket: should be greater than"),
        ("[limits]\nlist_metric = 5\n", r"limits.list_metric: is not a known key; did you mean list_metrics\?"),
        ('[channels.s]\ntype = "slack"\n', r"channels.s.url: is missing; add it"),
        ('[channels.s]\ntype = "webhok"\n', r"channels.s.type: 'webhok' is none of webhook, log"),
        ("[rule]\n", r"\[rule\]: is not a section.*did you mean rules\?"),
        ("rules = 3\n", r"rules: must be a list"),
        ("[rules]\nname = 'x'\n", r"rules: must be a list"),
        ("workers = ['i-0abc0123456789def']\n", r"workers\[0\]: must be a table"),
        (RULE, r"rules\[0\]: needs a threshold"),
        (RULE + "above={critical=1}\nbelow={critical=1}\n", r"rules\[0\]: needs a threshold.*one of the two"),
        (RULE + "above={}\n", r"rules\[0\].above: has no threshold"),
        (RULE + 'above={warning="80"}\n', r"rules\[0\].above.warning: must be a number"),
        (RULE + "above={warning=true}\n", r"rules\[0\].above.warning: must be a number"),
        (RULE + "above={warning=nan}\n", r"rules\[0\].above.warning: must be a finite number"),
        (RULE + "below={critical=-inf}\n", r"rules\[0\].below.critical: must be a finite number"),
        (RULE + "above={warnin=80}\n", r"rules\[0\].above.warnin: is not a known key; did you mean warning\?"),
        (RULE + "above={warning=90,critical=80}\n", r"rules\[0\].above.critical: 80 must be above the warning, 90"),
        (RULE + "below={warning=10,critical=20}\n", r"rules\[0\].below.critical: 20 must be below the warning, 10"),
        (RULE + "above={critical=80}\nclear={critical=85}\n", r"rules\[0\].clear.critical: 85 is above the threshold"),
        (RULE + "below={critical=80}\nclear={critical=75}\n", r"rules\[0\].clear.critical: 75 is below the threshold"),
        (RULE + "above={critical=80}\nclear={warning=70}\n", r"rules\[0\].clear.warning: clears a severity"),
        (RULE + 'above={critical=80}\nbreach="4 of 3"\n', r"rules\[0\].breach: asks for 4 of 3"),
        (RULE + 'above={critical=80}\nbreach="0 of 3"\n', r"rules\[0\].breach: asks for 0 of 3"),
        (RULE + 'above={critical=80}\nbreach="three"\n', r'rules\[0\].breach: must read "M of N"'),
        (RULE + "above={critical=80}\nbreach=3\n", r'rules\[0\].breach: must read "M of N"'),
        (RULE + 'above={critical=80}\nrecover="1 of 9999"\n', r"rules\[0\].recover: looks at 9999"),
        (RULE + 'above={critical=80}\nmissing="skip"\n', r"rules\[0\].missing: 'skip' is none of breach, ok, keep"),
        (
            RULE + 'above={critical=80}\nnotify=["opps"]\n[channels.ops]\ntype="log"\n',
            r"notify\[0\]: opps.*did you mean ops",
        ),
        (RULE + "above={critical=80}\nseverity='warning'\n", r"rules\[0\].severity: is only for metric = 'no-data'"),
        ('[[rules]]\nname="r"\nmetric="cpu_utilisation"\nabove={critical=1}\n', r"did you mean cpu_utilization\?"),
        ('[[rules]]\nname="r"\nmetric="no-data"\nabove={critical=1}\n', r"rules\[0\].above: is not for metric"),
        ('[[rules]]\nname="a/b"\nmetric="cpu_utilization"\n', r"rules\[0\].name: is not a name"),
        ('[[rules]]\nmetric="cpu_utilization"\n', r"rules\[0\].name: is missing"),
        ('[[rules]]\nname="r"\nabove={critical=1}\n', r"rules\[0\].metric: is missing; write metric = "),
        ((RULE + "above={critical=1}\n") * 2, r"rules\[1\].name: r is rules\[0\] already"),
        ('[[workers]]\nid = "i-1"\n', r"workers\[0\].id: is not an instance id"),
        ('[[workers]]\nid = "i-0abc0123456789def"\nregion="mars"\n', r"workers\[0\].region: is not a region"),
        ('[[workers]]\nid = "i-0abc0123456789def"\ninterval="nan"\n', r"workers\[0\].interval: 'nan' is not a dur"),
        ('[[workers]]\nid = "i-0abc0123456789def"\ninterval=nan\n', r"workers\[0\].interval: 'nan' is not a duration"),
        ('[[workers]]\nid = "i-0abc0123456789def"\ninterval=-5\n', r"workers\[0\].interval: '-5' is not a duration"),
        ('[[workers]]\nid = "i-0abc0123456789def"\ninterval="25h"\n', r"workers\[0\].interval: .*at most 1d"),
        ('[[workers]]\nid = "i-0abc0123456789def"\nname="a\\nb"\n', r"workers\[0\].name: has a control character"),
        (
            '[[workers]]\nid = "i-0abc0123456789def"\naccount="lab"\n',
            r"workers\[0\].account: lab is not a known account",
        ),
        ('[[workers]]\nid = "i-0abc0123456789def"\n' * 2, r"workers\[1\].id: i-0abc0123456789def is workers\[0\]"),
        ('[channels.w]\ntype="webhook"\n', r"channels.w.url: is missing"),
        ('[channels.w]\ntype="webhook"\nurl="http://example.com/"\n', r"channels.w.url: is not https"),
        (
            '[channels.w]\ntype="webhook"\nurl="https://u:hunter2@example.com/"\n',
            r"channels.w.url: contains credentials",
        ),
        ('[channels.w]\ntype="webhook"\nurl="https://169.254.169.254/"\n', r"channels.w.url: is a private address"),
        (
            '[channels.w]\ntype="webhook"\nurl="ftp://example.com"\nallow_private=true\n',
            r"channels.w.url: is not an address",
        ),
        ('[channels.w]\ntype="webhook"\nurl="https://[::1"\n', r"channels.w.url: is not an address"),
        (
            '[channels.w]\ntype="webhook"\nurl="https://example.com"\nsecret="hunter2"\n',
            r"secret: must be a secret by name",
        ),
        ('[channels.w]\ntype="webhook"\nurl="https://example.com"\nsecret={env="A",file="b"}\n', r"one of the two"),
        ('[channels.w]\ntype="webhook"\nurl="https://example.com"\nsecret={env="hunter2 x"}\n', r"secret by name"),
        ('[channels.l]\ntype="log"\nurl="https://example.com"\n', r"channels.l.url: is not for type log"),
        ('[channels."a b"]\ntype="log"\n', r"channels.a b: is not a name"),
        ('[[metrics]]\nname="gpu"\n', r"metrics\[0\].namespace: is missing"),
        ('[[metrics]]\nname="status_check_failed"\nperiod="60s"\n', r"metrics\[0\].name: .*not come from CloudWatch"),
        ('[[metrics]]\nname="cpu_utilization"\nperiod="0s"\n', r"metrics\[0\].period: must be at least 1s"),
        ('[[metrics]]\nname="cpu_utilization"\nstatistic="Mean"\n', r"metrics\[0\].statistic: is not a statistic"),
        ('[collect]\nmetrics=["cpu"]\n', r"collect.metrics\[0\]: cpu is not a known metric"),
        ('[collect]\nretention="1s"\n', r"collect.retention: .*at least 1h"),
        ('[collect]\nlateness="1m"\n', r"line 2, column 1: collect.lateness: must be at least 2m"),
        ('[collect]\nlateness="2d"\n', r"line 2, column 1: collect.lateness: must be .* at most 1d"),
        (f'[collect]\nlateness="{"a" * 5000}"\n', "lateness: '" + "a" * 64 + "' is not a duration"),
        ('[collect]\nlateness="soon"\n', r"line 2, column 1: collect.lateness: 'soon' is not a duration"),
        ('[collect]\nlatenes="5m"\n', r"line 2, column 1: collect.latenes: is not a known key; did you mean lateness"),
        (
            '[collect]\nretention="1h"\nlateness="31m"\n',
            r"line 3, column 1: collect.lateness: is more than half of the retention, 1h; choose 30m at most",
        ),
        ('[discover]\nregions=["us-east-1"]\n', r"discover.tags: is missing"),
        ('[accounts.lab]\nrole_arn="arn:aws:iam::1:role/x"\n', r"accounts.lab.role_arn: is not a role"),
        ('[accounts.lab]\nrole_arn="arn:aws:iam::123456789012:role/x"\nexternal_id="hunter2"\n', r"secret by name"),
    ],
)
def test_bad_input_gives_one_line_that_says_where_and_why(text: str, error: str) -> None:
    """Each wrong file is refused with its path and the reason, and a secret in it is not repeated."""
    line = refusal(text)
    assert re.search(error, line), line
    assert "hunter2" not in line


def test_the_lateness_is_in_force_until_a_file_says_otherwise() -> None:
    """The default is a quarter of an hour. A file without [collect] does not change it."""
    assert config.DEFAULT.lateness == models.LATENESS == 900
    longer = configured('[collect]\nlateness = "30m"\n')
    assert longer.lateness == 1800
    assert configured("rules = []\n", longer).lateness == 1800
    assert configured("[collect]\n", longer).lateness == 900
    assert testing.parser().schema()["$defs"]["CollectSection"]["properties"]["lateness"]


def test_the_schema_names_every_section() -> None:
    """The JSON schema has every section of the parser and allows no other."""
    schema = testing.parser().schema()
    assert set(schema["properties"]) == set(grammar.Grammar.model_fields)
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["WorkerSection"]["properties"]["interval"]


@pytest.mark.parametrize(
    ("section", "valid"),
    [
        ({"type": "pagerduty", "routing_key": {"env": "A"}}, True),
        ({"type": "pagerduty"}, False),
        ({"type": "pagerduty", "secret": {"env": "A"}, "topic_arn": "arn"}, False),
        ({"type": "email", "host": "h", "from": "a@b.c", "to": ["a@b.c"]}, True),
        ({"type": "email", "from": "a@b.c", "to": ["a@b.c"]}, False),
        ({"type": "pigeon"}, False),
    ],
)
def test_the_schema_knows_the_keys_of_each_type_of_channel(section: dict[str, object], valid: bool) -> None:
    """A key that a type lacks or needs is right or wrong for the schema as for the parser."""
    validator = jsonschema.Draft202012Validator(testing.parser().schema())
    assert validator.is_valid({"channels": {"c": section}}) == valid


def test_the_schema_takes_durations_as_the_parser_does() -> None:
    """A duration is a text or whole seconds in both. The schema uses only keywords of JSON schema."""
    validator = jsonschema.Draft202012Validator(testing.parser().schema())
    for duration in ("60s", "1m", 60):
        section = {"id": "i-0abc0123456789def", "region": "us-east-1", "interval": duration}
        validator.validate({"workers": [section]})
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"workers": [{**section, "interval": True}]})
    assert not re.search(r'"(le|ge|lt|gt)":', json.dumps(testing.parser().schema()))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('[collect]\nretention = "1m"\n', "collect.retention: must be at least 1h and at most 30d; see"),
        ("[collect]\nlateness = 5\n", "collect.lateness: must be at least 2m and at most 1d; see"),
        (
            '[[silences]]\nrule = "no-data"\nreason = "r"\nschedule = "0 2 * * *"\nduration = "33d"\n',
            "silences[0].duration: must be at least 1m and at most 32d; see",
        ),
        (
            '[channels.a]\ntype = "slack"\nurl = { env = "A" }\ngroup_wait = "11m"\n',
            "channels.a.group_wait: must be at least 0s and at most 10m; see",
        ),
        ("[collect]\nlateness = " + "9" * 5000 + "\n", "a.toml: has a number that is far too long; shorten it"),
    ],
)
def test_the_bounds_of_a_duration_are_shown_in_its_own_units(text: str, error: str) -> None:
    """33d is refused with the limit 32d. A number that Python refuses is invalid input too."""
    with pytest.raises(errors.InvalidInput) as caught:
        testing.parse(text, "a.toml")
    assert error in str(caught.value)


def test_a_budget_and_limits_are_in_force_until_a_file_says_otherwise() -> None:
    """A file without these sections does not change them. An empty section ends them."""
    text = "[budget]\ndollars_per_day = 5\n[limits]\ndescribe = { bucket = 10, per_second = 2.5 }\n"
    first = config.to_configuration(testing.parse(text, "a.toml"), config.DEFAULT)
    assert (config.DEFAULT.budget, config.DEFAULT.limits) == (None, {})
    assert first.budget == 5.0
    assert first.limits == {"Describe": models.Limit(bucket=10, rate=2.5)}
    second = config.to_configuration(testing.parse("", "b.toml"), first)
    assert (second.budget, second.limits) == (first.budget, first.limits)
    third = config.to_configuration(testing.parse("[budget]\n[limits]\n", "c.toml"), second)
    assert (third.budget, third.limits) == (None, {})


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[[rules]]\nname = "a"\n  metrc = "cpu_utilization"\n', "line 3, column 3: rules[0].metrc"),
        (
            '\n[[rules]]\nname = "a"\nmetric = "b"\nabove = { critical = "x" }\n',
            "line 5, column 11: rules[0].above.critical",
        ),
        ('[[rules]]\nname = "a"\nabove = { critical = 9 }\n', "line 1, column 3: rules[0].metric"),
        ("[collect]\n[budgit]\n", "line 2, column 2: [budgit]"),
        ('[collect]\nmetrics = [\n "cpu_utilization",\n "cpu"]\n', "line 4, column 2: collect.metrics[1]"),
        ('[[workers]]\nid = "i-1"\n', "line 2, column 1: workers[0].id"),
    ],
)
def test_an_error_names_line_and_column(text: str, place: str) -> None:
    """An error names line and column of its key, of the table that lacks a key, or of the element."""
    with pytest.raises(errors.InvalidInput) as caught:
        config.to_configuration(testing.parse(text, "fleet.toml"), config.DEFAULT)
    assert str(caught.value).startswith(f"fleet.toml: {place}: ")


@pytest.mark.parametrize(
    "url",
    ["https://exa mple.com/", "https://example.com/\\u00a0x", "https://exa<mple.com/", "https://a..b/", "https://a,b/"],
)
def test_a_host_that_cannot_be_is_refused(url: str) -> None:
    """White space and characters that no host name has are refused."""
    with pytest.raises(errors.InvalidInput, match=r"channels\.w\.url: is not an address"):
        testing.parse(f'[channels.w]\ntype = "webhook"\nurl = "{url}"\n', "f.toml")


@pytest.mark.parametrize(
    "host", ["example.com", "xn--bcher-kva.example", "bücher.example", "[2606:4700::1111]", "a_b.example"]
)
def test_hosts_of_every_kind_are_taken(host: str) -> None:
    """Names in any script and addresses are valid hosts."""
    testing.parse(f'[channels.w]\ntype = "webhook"\nurl = "https://{host}:8443/x"\n', "f.toml")


@pytest.mark.parametrize("key", ["secret", "url"])
def test_a_file_cannot_name_the_credentials_of_the_node(key: str) -> None:
    """A secret that names AWS_* or WORKERMON_* is refused where the file is checked: no node ever gives it away."""
    options = {"url": '"https://example.com"', key: '{ env = "AWS_SECRET_ACCESS_KEY" }'}
    text = '[channels.w]\ntype = "webhook"\n' + "".join(f"{name} = {value}\n" for name, value in options.items())
    with pytest.raises(errors.InvalidInput, match=r"AWS_\* and WORKERMON_\* are never given away"):
        testing.parse(text, "f.toml")


def test_a_secret_that_is_not_allowed_here_is_warned_of() -> None:
    """A check warns that this process may not use the secret, and why."""
    file = testing.parse(
        '[channels.w]\ntype = "webhook"\nurl = "https://example.com"\nsecret = { env = "DATABASE_URL" }\n', "f.toml"
    )

    def refuse(ref: models.SecretRef) -> NoReturn:
        raise errors.SecretNotAllowed("secret", "WORKERMON_SECRETS does not allow this name here", "add it")

    assert config.warnings(file, refuse) == [
        "channels.w.secret: WORKERMON_SECRETS does not allow this name here (asked for here: DATABASE_URL)"
    ]


def test_what_is_valid_and_will_not_work_is_warned_of() -> None:
    """A missing secret and a period that CloudWatch lacks are warnings. Otherwise there is none."""
    file = testing.parse(
        '[channels.ops]\ntype = "webhook"\nurl = "https://example.com/"\nsecret = { env = "OPS_SECRET" }\n'
        '[channels.chat]\ntype = "slack"\nurl = { file = "/run/hook" }\n'
        '[[metrics]]\nname = "odd"\nnamespace = "N"\nmetric_name = "M"\nperiod = "90s"\n'
        '[[metrics]]\nname = "even"\nnamespace = "N"\nmetric_name = "M"\nperiod = "20s"\n',
        "f.toml",
    )

    def unset(ref: models.SecretRef) -> NoReturn:
        raise errors.InvalidInput("secret", "hunter2", "set it")

    assert config.warnings(file, unset) == [
        "channels.ops.secret: OPS_SECRET is not set here; the process that delivers needs it",
        "channels.chat.url: /run/hook cannot be read here; the process that delivers needs it",
        "metrics.odd.period: CloudWatch takes 1, 5, 10, 20, 30 and multiples of 60 s, not 90 s",
    ]
    assert len(config.warnings(file, lambda _: "x")) == 1


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('[[workers]]\nid = "i-0aaaaaaaaaaaaaaaa"\ninterval = "9s"\n', r"workers\[0\]\.interval"),
        ('[discover]\nregions = ["us-east-1"]\ninterval = "9s"\n[discover.tags]\na = "b"\n', "discover.interval"),
    ],
)
def test_an_interval_below_the_least_is_refused_by_its_place(text: str, path: str) -> None:
    """The check refuses what apply would refuse."""
    file = testing.parse(text, "f.toml")
    config.check_intervals(file, 9)
    with pytest.raises(errors.InvalidInput, match=f"{path}.*9 s is below the shortest allowed, 10 s"):
        config.check_intervals(file, 10)
