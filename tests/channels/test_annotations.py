"""Description, runbook and owner of a rule, in the usual place of each type of channel."""

from __future__ import annotations

import json
from typing import Any

import structlog.testing

from tests.support.mailbox import post
from tests.support.notifications import KEY, NOW, many, notification, of
from workermon import models, testing
from workermon.notify import text
from workermon.notify.channels import alertmanager, log, pagerduty, slack, sns
from workermon.notify.channels import email as mail_channel

SAID: dict[str, Any] = {
    "description": "Render nodes stall. <!channel> see [this](https://evil.example)",
    "runbook": "https://wiki.example.com/a?page=cpu&view=1#steps",
    "owner": "team @vfx",
}

LINES = [
    "description: Render nodes stall. <!channel> see [this] (https[:]//evil[.]example)",
    "runbook: https://wiki.example.com/a?page=cpu&view=1#steps",
    "owner: team [@]vfx",
]


def test_a_text_says_them_a_line_each() -> None:
    """The text of a notification has a line for each. Only the runbook is a link."""
    lines = text.plain(notification(**SAID)).splitlines()
    at = lines.index(LINES[1])
    assert lines[at - 1].startswith("description: Render nodes stall. <!channel> see [this] (https[:]//")
    assert lines[at + 1] == LINES[2]


def test_what_a_rule_does_not_say_is_left_out() -> None:
    """Without annotations no channel has a line for them."""
    bare = notification()
    assert not any(name in text.plain(bare) for name in models.ANNOTATIONS)
    assert "links" not in pagerduty.event(KEY, bare)
    assert not pagerduty.event(KEY, bare)["payload"]["custom_details"].keys() & set(models.ANNOTATIONS)
    (alert,) = alertmanager.alerts(bare, (), NOW)
    assert not {"runbook_url", "owner"} & alert["annotations"].keys()


def test_a_group_says_what_all_share_once() -> None:
    """A message about many alerts of a rule shows its annotations once. Differing ones are below their alert."""
    shared = "\n".join(text.group_lines(many(3, **SAID)))
    assert [shared.count(name) for name in ("description: ", "runbook: ", "owner: ")] == [1, 1, 1]
    first, *rest_of_group = many(3, **SAID)
    lines = text.group_lines([first.model_copy(update={"owner": "somebody else"}), *rest_of_group])
    assert sum("runbook: " in line for line in lines) == 3
    assert sum(line == "  owner: somebody else" for line in lines) == 1


def test_a_template_may_name_them() -> None:
    """``$description``, ``$runbook`` and ``$owner`` are replaced, or by "" if missing."""
    channel = of("slack", template="$owner: $runbook")
    assert (
        text.rendered(channel, notification(**SAID)) == "team [@]vfx: https://wiki.example.com/a?page=cpu&view=1#steps"
    )
    assert text.rendered(channel, notification()) == ": "


def test_slack_links_the_runbook_and_nothing_else() -> None:
    """The runbook is a link in Slack's markup, escaped. No other text becomes one."""
    message = json.dumps(slack.message(of("slack"), [notification(**SAID)]))
    assert "*runbook:* <https://wiki.example.com/a?page=cpu&amp;view=1#steps>" in message
    assert message.count("<") == 1
    assert "*owner:* team [@]vfx" in message


def test_pagerduty_has_a_link_and_details() -> None:
    """PagerDuty gets the runbook as a link of the incident, and all three among the details."""
    event = pagerduty.event(KEY, notification(**SAID))
    assert event["links"] == [{"href": SAID["runbook"], "text": "Runbook"}]
    details = event["payload"]["custom_details"]
    assert (details["runbook"], details["owner"]) == (SAID["runbook"], "team [@]vfx")
    assert details["description"].startswith("Render nodes stall.")


def test_alertmanager_has_the_usual_annotations() -> None:
    """Alertmanager gets ``description``, ``runbook_url`` and ``owner``."""
    (alert,) = alertmanager.alerts(notification(**SAID), (), NOW)
    annotations = alert["annotations"]
    assert annotations["description"].startswith("Render nodes stall.")
    assert (annotations["runbook_url"], annotations["owner"]) == (SAID["runbook"], "team [@]vfx")


def test_mail_sns_and_log_say_them() -> None:
    """Mail and SNS texts have the lines, programs and the log have the fields, and SNS filters have the owner."""
    annotated = notification(**SAID)
    assert LINES[1] in mail_channel.message(post(25), [annotated], NOW).get_content()
    publisher = testing.MemoryPublisher()
    sns.Sns(publisher).send(of("sns", topic_arn="arn:aws:sns:eu-west-1:123456789012:alerts"), [annotated])
    ((_, message),) = publisher.published
    assert LINES[1] in message.texts["default"]
    assert json.loads(message.texts["sqs"])["runbook"] == SAID["runbook"]
    assert message.attributes["owner"] == SAID["owner"]
    with structlog.testing.capture_logs() as logged:
        log.Log().send(of("log"), [annotated])
    assert {name: logged[0][name] for name in models.ANNOTATIONS} == SAID
