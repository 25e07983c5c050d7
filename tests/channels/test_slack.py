"""The channel ``slack``: one message, without foreign text as markup."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.notifications import many, notification, notifiers, of
from tests.support.receiver import Receiver, answer
from workermon import errors
from workermon.models import SecretRef
from workermon.notify import text
from workermon.notify.channels import slack


def test_slack_message(receiver: Receiver) -> None:
    """Slack gets a text for notices and a block with the facts. The address is a secret."""
    notifiers(URL=receiver.url + "\n")["slack"].send(of("slack", url=SecretRef(env="URL")), [notification()])
    (request,) = receiver.requests
    document = json.loads(request.body)
    assert document["text"].startswith("[FIRING critical] rénder-07")
    (attachment,) = document["attachments"]
    body = attachment["blocks"][0]["text"]["text"]
    assert "*where:* rénder-07 (i-0abc0123456789def) in us-east-1" in body
    assert "*silence:* `workermon silence --worker" in body
    assert "&gt; 90 %" in body


def test_slack_escapes() -> None:
    """Text of others becomes neither a mention nor a link. The template's own markup works."""
    bad = notification(summary="<!channel> & <https://evil|here>")
    assert "<!" not in json.dumps(slack.message(of("slack"), [bad]))
    assert "<https" not in json.dumps(slack.message(of("slack"), [bad]))
    own_message = slack.message(of("slack", template="<https://runbook|run book> $summary"), [bad])
    body = own_message["attachments"][0]["blocks"][0]["text"]["text"]
    assert body == "<https://runbook|run book> &lt;!channel&gt; &amp; &lt;https[:]//evil|here&gt;"


def test_receivers_that_speak_the_same_make_nothing_of_names() -> None:
    """Mattermost and Discord support mentions and Markdown. Tags cause none there or in Slack."""
    worker = {"id": "i-1", "name": "@channel", "region": "us-east-1", "labels": {"a": "[x](https://evil.example)"}}
    for notifications in ([notification(worker=worker, summary="@here: www.evil.example")], many(2, reason="@all")):
        document = slack.message(of("slack"), notifications)
        serialized = json.dumps(document)
        assert not re.search(r"@(channel|here|all)|evil\.example/|https://|www\.|\]\(", serialized), serialized
        assert (document["parse"], document["link_names"]) == ("none", False)
        assert all(block["text"]["verbatim"] for block in document["attachments"][0]["blocks"])


def test_slack_address_stays_secret(receiver: Receiver) -> None:
    """A failure shows nothing of Slack's address but its host."""
    receiver.plan = [answer(404)]
    with pytest.raises(errors.DeliveryFailed) as caught:
        notifiers(URL=receiver.url)["slack"].send(of("slack", url=SecretRef(env="URL")), [notification()])
    assert "T0KEN" not in str(caught.value)


def test_slack_list(receiver: Receiver) -> None:
    """Slack gets one message in blocks within its limits, without foreign text as markup."""
    notifiers(URL=receiver.url)["slack"].send(of("slack", url=SecretRef(env="URL")), many(150))
    (request,) = receiver.requests
    document = json.loads(request.body)
    blocks = document["attachments"][0]["blocks"]
    assert 1 < len(blocks) <= slack.MAX_BLOCKS
    assert all(0 < len(block["text"]["text"]) <= 3000 for block in blocks)
    assert "<b>" not in request.body.decode()
    assert document["text"].startswith(text.subject(many(150)))


def test_slack_list_by_template() -> None:
    """A template is rendered once for each alert of a group."""
    document = slack.message(of("slack", template="*$worker* $value"), many(3))
    body = document["attachments"][0]["blocks"][0]["text"]["text"]
    assert body.splitlines()[1:] == ["*render-000* 97.5 %", "*render-001* 97.5 %", "*render-002* 97.5 %"]
