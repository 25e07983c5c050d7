"""The keys of ``[channels.NAME]``: what each type accepts and refuses."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from workermon import config, errors, testing
from workermon.notify.channels import CHANNEL_TYPES

TOPIC = "arn:aws:sns:eu-west-1:123456789012:alerts"


DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "reference" / "channels.md"


def _examples() -> list[str]:
    blocks = DOCUMENT.read_text("utf-8").split("```toml\n")[1:]
    return [block.partition("```")[0] for block in blocks]


def test_every_type_has_an_example_that_is_valid() -> None:
    """docs/reference/channels.md has an example for each type, and each is a valid config file."""
    types = set()
    for example in _examples():
        if "entry-points" in example:
            continue
        config.to_configuration(testing.parse(example, "example"), config.DEFAULT)
        types |= {channel["type"] for channel in tomllib.loads(example).get("channels", {}).values()}
    assert types == set(CHANNEL_TYPES)


PAGER = '[channels.c]\ntype = "pagerduty"\n'
MAIL = '[channels.c]\ntype = "email"\nhost = "mail.example.com"\nfrom = "a@example.com"\nto = ["b@example.com"]\n'
SNS = '[channels.c]\ntype = "sns"\n'
SLACK = '[channels.c]\ntype = "slack"\n'


@pytest.mark.parametrize(
    ("text_", "error"),
    [
        (PAGER, r"channels\.c\.secret: is missing"),
        (PAGER + 'routing_key = "hunter2"', r"channels\.c\.routing_key: must be a secret by name"),
        (PAGER + 'secret = "hunter2"', r"channels\.c\.secret: must be a secret by name"),
        (PAGER + 'routing_key = {env = "A"}\nsecret = {env = "B"}', "another name of secret"),
        (PAGER + 'secret = {env = "A"}\nurl = "http://example.com/"', r"channels\.c\.url: is not https"),
        (PAGER + 'secret = {env = "A"}\nurl = 7', r"channels\.c\.url: must be a text"),
        (PAGER + 'secret = {env = "A"}\nto = ["a@example.com"]', r"channels\.c\.to: is not for type pagerduty"),
        (PAGER + 'secret = {env = "A"}\ntemplate = "x"', r"channels\.c\.template: is not for type pagerduty"),
        (PAGER + 'secret = {env = "A"}\nper_minute = 0', r"channels\.c\.per_minute: should be greater"),
        (SLACK, r"channels\.c\.url: is missing"),
        (SLACK + 'url = "https://hooks.slack.com/services/T/B/hunter2"', "is itself a secret"),
        (SLACK + "url = {env = 1}", "by name"),
        (SLACK + "url = {}", "one of the two"),
        (SNS, r"channels\.c\.topic_arn: is missing"),
        (SNS + 'topic_arn = "arn:aws:sqs:us-east-1:123456789012:x"', r"channels\.c\.topic_arn: is not a topic"),
        (SNS + 'topic_arn = "arn:aws:sns:nowhere:123456789012:x"', r"channels\.c\.topic_arn: is not a topic"),
        (SNS + 'topic_arn = "arn:aws:sns:us-east-1:12345:x"', r"channels\.c\.topic_arn: is not a topic"),
        (MAIL + 'user = "u"', r"channels\.c\.secret: is missing beside user"),
        (MAIL + 'password = {env = "A"}', r"channels\.c\.user: is missing"),
        (MAIL + 'user = "u"\npassword = "hunter2"', r"channels\.c\.password: must be a secret by name"),
        (MAIL + 'security = "ssl"', "none of starttls, tls, none"),
        (MAIL + 'security = "none"', "in the clear"),
        (MAIL + "port = 70000", r"channels\.c\.port"),
        (MAIL.replace("mail.example.com", "10.0.0.1"), r"channels\.c\.host: is a private address"),
        (MAIL.replace("mail.example.com", "mail example"), r"channels\.c\.host: is not a host"),
        (
            MAIL.replace("b@example.com", "b@example.com\\nBcc: c@example.com"),
            r"channels\.c\.to\[0\]: is not an address",
        ),
        (MAIL.replace("a@example.com", "nobody"), r"channels\.c\.from: is not an address"),
        (MAIL.replace('["b@example.com"]', "[]"), r"channels\.c\.to: is empty"),
        ('[channels.c]\ntype = "apprise"\nurl = "discord://hunter2/x"', "secret by name"),
        ('[channels.c]\ntype = "alertmanager"\n', r"channels\.c\.url: is missing"),
        ('[channels.c]\ntype = "pagerdutty"\n', "did you mean pagerduty"),
        ('[channels.c]\ntype = "log"\ntopic_arn = "' + TOPIC + '"', "is not for type log"),
    ],
)  # fmt: skip
def test_bad_channel(text_: str, error: str) -> None:
    """A channel that cannot work is refused by its path, and no secret is repeated."""
    with pytest.raises(errors.InvalidInput, match=error) as caught:
        testing.parse(text_, "f.toml")
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_example_survives_an_export() -> None:
    """The channels of each example are the same after an export."""
    from workermon.config import export

    for example in _examples():
        if "entry-points" in example:
            continue
        configuration = config.to_configuration(testing.parse(example, "example"), config.DEFAULT)
        reparsed = config.to_configuration(testing.parse(export.text(configuration, []), "export"), config.DEFAULT)
        assert reparsed.channels == configuration.channels
    extra = (
        'group_wait = "0s"\nrepeat = "4h"\nper_minute = 30\nalert_after = "2m"\ntemplate = "a $$ \\"$summary\\"\\nb"\n'
    )
    configuration = config.to_configuration(testing.parse(MAIL + extra, "example"), config.DEFAULT)
    reparsed = config.to_configuration(testing.parse(export.text(configuration, []), "export"), config.DEFAULT)
    assert reparsed.channels == configuration.channels
    assert (configuration.channels["c"].group_wait, configuration.channels["c"].repeat) == (0, 14_400)


@pytest.mark.parametrize(("written", "seconds"), [('"0s"', 0), ('"30s"', 30), ("0", 0), ('"10m"', 600)])
def test_group_wait(written: str, seconds: int) -> None:
    """group_wait is a duration, and 0 is allowed."""
    file = testing.parse(f'[channels.c]\ntype = "slack"\nurl = {{env = "A"}}\ngroup_wait = {written}\n', "f.toml")
    assert file.channels is not None
    assert file.channels["c"].group_wait == seconds


@pytest.mark.parametrize(
    "line", ['type = "webhook"\nurl = "https://example.com"', 'type = "pagerduty"\nsecret = {env = "A"}']
)
def test_never_grouped(line: str) -> None:
    """Webhook and PagerDuty cannot be grouped."""
    with pytest.raises(errors.InvalidInput, match="group_wait: is not for type"):
        testing.parse(f'[channels.c]\n{line}\ngroup_wait = "10s"\n', "f.toml")


@pytest.mark.parametrize("written", ['"11m"', '"-1s"', "true", '"soon"', "[]"])
def test_bad_group_wait(written: str) -> None:
    """An invalid or too long duration is refused by its path."""
    with pytest.raises(errors.InvalidInput, match=r"channels\.c\.group_wait"):
        testing.parse(f'[channels.c]\ntype = "slack"\nurl = {{env = "A"}}\ngroup_wait = {written}\n', "f.toml")
