"""The channels against servers of their kind: what is sent, to whom, and what never is."""

from __future__ import annotations

import base64
import email
import email.policy
import importlib.metadata
import json
import pickle
import shutil
import socket
import ssl
import subprocess
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from email import utils as mail_utils
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.support.waiting import eventually
from tests.test_notify_webhook import Receiver, answer, told
from workermon import config, errors, models, ports, testing
from workermon.models import Channel, SecretRef
from workermon.notify import channel_type, http, policy, text
from workermon.notify.channels import CHANNEL_TYPES, alertmanager, installed, own, pagerduty, slack, sns
from workermon.notify.channels import email as mail_channel

NOW = 1_700_000_100.0
KEY = "R0UTINGKEY0123456789abcdefghijkl"
USUAL = {"KEY": KEY, "PASSWORD": "hunter2hunter2", "BAD": "no key\nat all"}
SECRETS = testing.MemorySecrets(USUAL)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver on a free port."""
    server = Receiver()
    yield server
    server.stop()


def notifiers(**secrets: str) -> dict[str, ports.Notifier]:
    """Return the notifiers, with these secrets beside the usual ones."""
    return testing.notifiers(lambda: NOW, **{**USUAL, **secrets})


def of(kind: str, **given: Any) -> Channel:
    """Return a channel ``ops`` of a type, which may reach this machine."""
    shared = {key: given.pop(key) for key in config.channels.SHARED & given.keys()}
    return Channel(name="ops", type=kind, options=given, **{"allow_private": True, **shared})


def scoped() -> models.Notification:
    """Return a notification about an account."""
    return told(
        dedup_key="lab/us-east-1/collector", kind="collector", rule="collector", metric=None, value=None,
        threshold=None,
        worker=None, scope={"account": "lab", "region": "us-east-1"}, summary="account lab in us-east-1: denied",
        reason="denied: <not> allowed",
    )  # fmt: skip


# --- text --------------------------------------------------------------------------------------------------------


def test_text_says_what_people_ask() -> None:
    """The text says what, where, since when, the value with its course, the threshold, and how to silence it."""
    points = [models.Datapoint(1_700_000_000 + 60 * at, value) for at, value in enumerate((85.0, 91.0, 97.5))]
    said = text.plain(told(points=points))
    assert said.splitlines() == [
        "[FIRING critical] rénder-07: cpu_utilization 97.5 % > 90 % for 3 of 3 datapoints",
        "where: rénder-07 (i-0abc0123456789def) in us-east-1",
        "labels: a=b",
        "since: 2023-11-14T22:13:20Z",
        "value: cpu_utilization 97.5 % ▁▄█",
        "threshold: 90 %",
        "silence: workermon silence --worker i-0abc0123456789def --rule cpu-high --for 2h --reason '…'",
        "acknowledge: workermon ack i-0abc0123456789def/cpu-high",
    ]


def test_text_of_what_is_over() -> None:
    """What is over is not silenced any more, and says its reason."""
    said = text.plain(told(status="resolved", reason="the worker was removed"))
    assert said.startswith("[RESOLVED] ")
    assert "reason: the worker was removed" in said
    assert "silence" not in said


def test_text_of_an_account() -> None:
    """An alert of an account names account and region, and is silenced by its rule."""
    said = text.plain(scoped())
    assert "where: account lab in us-east-1" in said
    assert "workermon silence --rule collector --for 2h" in said


def test_text_cannot_be_forged() -> None:
    """Control characters of what others wrote begin no line of their own."""
    said = text.plain(told(summary="x\nwhere: elsewhere\x1b[31m"))
    assert "\x1b" not in said
    assert len([line for line in said.splitlines() if line.startswith("where:")]) == 1


def test_template_fields_are_those_that_are_checked() -> None:
    """Every field that the grammar allows in a template is there, and no other."""
    assert sorted(text.fields(told())) == sorted(text.fields(scoped())) == sorted(config.channels.TEMPLATE_FIELDS)


def test_template_replaces_the_text() -> None:
    """A template's names become the message's, and a dollar sign stays one."""
    channel = of("email", template="$$5 says ${worker}: $value of $threshold in $region")
    assert text.body(channel, [told()]) == "$5 says rénder-07: 97.5 % of 90 % in us-east-1"


@pytest.mark.parametrize("template", ["$nothing", "100 $", "${}", "${summary.__class__}"])
def test_template_that_does_not_render_falls_back(template: str) -> None:
    """A template that came into force all the same and does not render gives the plain text."""
    assert text.body(of("email", template=template), [told()]) == text.plain(told())


@pytest.mark.parametrize("template", ["$nothing", "100 $", "${}", "${summary.__class__}", ""])
def test_template_that_does_not_render_is_refused(template: str) -> None:
    """The config file's check refuses a template that cannot render."""
    with pytest.raises(errors.InvalidInput, match=r"channels\.ops\.template"):
        testing.parse(
            f'[channels.ops]\ntype = "sns"\ntopic_arn = "{TOPIC}"\ntemplate = {json.dumps(template)}\n', "f.toml"
        )


# --- PagerDuty ---------------------------------------------------------------------------------------------------


def test_pagerduty_triggers_and_resolves(receiver: Receiver) -> None:
    """An alert triggers, changes and resolves one incident, under its own dedup_key."""
    receiver.plan = [answer(202), answer(202), answer(202)]
    channel = of("pagerduty", url=receiver.url, secret=SecretRef(env="KEY"))
    sender = notifiers()["pagerduty"]
    sender.send(channel, [told(1, severity="warning")])
    sender.send(channel, [told(2)])
    sender.send(channel, [told(3, status="resolved")])
    events = [json.loads(got.body) for got in receiver.got]
    assert [event["event_action"] for event in events] == ["trigger", "trigger", "resolve"]
    assert {event["dedup_key"] for event in events} == {"i-0abc0123456789def/cpu-high"}
    assert {event["routing_key"] for event in events} == {KEY}
    assert [event["payload"]["severity"] for event in events] == ["warning", "critical", "critical"]
    payload = events[1]["payload"]
    assert payload["summary"] == told().summary
    assert payload["source"] == "rénder-07 (i-0abc0123456789def) in us-east-1"
    assert payload["timestamp"] == "2023-11-14T22:13:20Z"
    assert (payload["custom_details"]["value"], payload["custom_details"]["labels"]) == (97.5, {"a": "b"})


def test_pagerduty_long_summary() -> None:
    """A summary is cut to what PagerDuty takes."""
    assert len(pagerduty.event("k", told(summary="x" * 5000))["payload"]["summary"]) == 1024


def test_pagerduty_slows_down(receiver: Receiver) -> None:
    """What PagerDuty refuses as too much carries the wait that it asks for, and no key."""
    receiver.plan = [answer(429, Retry_After="17")]
    with pytest.raises(errors.DeliveryFailed) as caught:
        notifiers()["pagerduty"].send(of("pagerduty", url=receiver.url, secret=SecretRef(env="KEY")), [told()])
    assert caught.value.retry_after == 17
    assert KEY not in str(caught.value)


def test_pagerduty_bad_key(receiver: Receiver) -> None:
    """A secret that can be no routing key is refused without showing it, and nothing is sent."""
    with pytest.raises(errors.InvalidInput, match="not a routing key") as caught:
        notifiers()["pagerduty"].send(of("pagerduty", url=receiver.url, secret=SecretRef(env="BAD")), [told()])
    assert "at all" not in str(caught.value)
    assert receiver.connections == 0


# --- Slack -------------------------------------------------------------------------------------------------------


def test_slack_message(receiver: Receiver) -> None:
    """Slack gets a text for notices and a block with the facts, the address being a secret."""
    notifiers(URL=receiver.url + "\n")["slack"].send(of("slack", url=SecretRef(env="URL")), [told()])
    (got,) = receiver.got
    document = json.loads(got.body)
    assert document["text"].startswith("[FIRING critical] rénder-07")
    (attachment,) = document["attachments"]
    said = attachment["blocks"][0]["text"]["text"]
    assert "*where:* rénder-07 (i-0abc0123456789def) in us-east-1" in said
    assert "*silence:* `workermon silence --worker" in said
    assert "&gt; 90 %" in said


def test_slack_escapes() -> None:
    """Nothing that others wrote becomes a mention or a link; what the template's author wrote does."""
    bad = told(summary="<!channel> & <https://evil|here>")
    assert "<!" not in json.dumps(slack.message(of("slack"), [bad]))
    assert "<https" not in json.dumps(slack.message(of("slack"), [bad]))
    own = slack.message(of("slack", template="<https://runbook|run book> $summary"), [bad])
    said = own["attachments"][0]["blocks"][0]["text"]["text"]
    assert said == "<https://runbook|run book> &lt;!channel&gt; &amp; &lt;https://evil|here&gt;"


def test_slack_address_stays_secret(receiver: Receiver) -> None:
    """A failure shows nothing of Slack's address but its host."""
    receiver.plan = [answer(404)]
    with pytest.raises(errors.DeliveryFailed) as caught:
        notifiers(URL=receiver.url)["slack"].send(of("slack", url=SecretRef(env="URL")), [told()])
    assert "T0KEN" not in str(caught.value)


@pytest.mark.parametrize("kind", ["slack", "pagerduty", "alertmanager"])
def test_http_channels_are_guarded(receiver: Receiver, kind: str) -> None:
    """No channel that speaks HTTP reaches a private address, or follows a redirect, unless it may."""
    channel = of(kind, url=f"https://127.0.0.1:{receiver.port}/", secret=SecretRef(env="KEY"), allow_private=False)
    with pytest.raises(errors.DeliveryFailed, match="refused"):
        notifiers()[kind].send(channel, [told()])
    assert receiver.connections == 0
    receiver.plan = [answer(307, Location=f"http://127.0.0.1:{receiver.port}/elsewhere")]
    with pytest.raises(errors.DeliveryFailed, match="not followed"):
        notifiers()[kind].send(of(kind, url=receiver.url, secret=SecretRef(env="KEY")), [told()])
    assert receiver.connections == 1


# --- Alertmanager ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "at_once", "patiently"),
    [
        ("pagerduty", {400, 401, 403, 404, 410, 413, 422}, {405, 451}),
        ("slack", {400, 403, 404, 410, 413}, {401, 422}),
        ("alertmanager", {400, 413, 422}, {401, 403, 404, 410}),
        ("webhook", set(), {400, 401, 403, 404, 410, 413, 422}),
    ],
)
def test_what_a_refusal_is_worth(receiver: Receiver, kind: str, at_once: set[int], patiently: set[int]) -> None:
    """A service's own refusal is final at once, one that may be a proxy's or a deployment's after some minutes."""
    later = {408, 409, 425, 429, 500, 503}
    for status in sorted(at_once | patiently | later):
        receiver.plan = [answer(status)]
        with pytest.raises(errors.DeliveryFailed) as caught:
            notifiers()[kind].send(of(kind, url=receiver.url, secret=SecretRef(env="KEY")), [told()])
        tries = 1 if status in at_once else policy.PATIENT_ATTEMPTS if status in patiently else None
        assert getattr(caught.value, "tries", None) == tries, status
        assert caught.value.retryable == (status in later), status
        assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args


@pytest.mark.parametrize("status", [408, 425, 429, 503])
def test_a_wait_that_is_asked_for_is_read(receiver: Receiver, status: int) -> None:
    """Whatever says 'later' may say how much later, in seconds or as a date."""
    date = mail_utils.formatdate(NOW + 40, usegmt=True)
    for written, asked in (("25", 25), (date, 40)):
        receiver.plan = [answer(status, Retry_After=written, Date=mail_utils.formatdate(NOW, usegmt=True))]
        with pytest.raises(errors.DeliveryFailed) as caught:
            notifiers()["pagerduty"].send(of("pagerduty", url=receiver.url, secret=SecretRef(env="KEY")), [told()])
        assert caught.value.retry_after == asked


def test_alertmanager_posts_both_severities(receiver: Receiver) -> None:
    """Each turn is sent as the severity at hand and the other one as over, so that no old one stays."""
    channel = of(
        "alertmanager", url=f"http://127.0.0.1:{receiver.port}/am/", user="u", secret=SecretRef(env="PASSWORD")
    )
    notifiers()["alertmanager"].send(channel, [told()])
    (got,) = receiver.got
    assert got.line == "POST /am/api/v2/alerts HTTP/1.1"
    assert got.headers["authorization"] == "Basic " + base64.b64encode(b"u:hunter2hunter2").decode()
    warning, critical = json.loads(got.body)
    assert (warning["labels"]["severity"], critical["labels"]["severity"]) == ("warning", "critical")
    assert models.moment(warning["endsAt"]) <= NOW < models.moment(critical["endsAt"])
    assert critical["labels"] == {
        "alertname": "cpu-high", "instance": "i-0abc0123456789def", "worker": "rénder-07", "region": "us-east-1",
        "account": "default", "kind": "threshold", "metric": "cpu_utilization", "label_a": "b", "severity": "critical",
    }  # fmt: skip
    assert critical["annotations"]["summary"] == told().summary


def test_alertmanager_bearer(receiver: Receiver) -> None:
    """A secret without a user is a bearer token."""
    channel = of("alertmanager", url=f"http://127.0.0.1:{receiver.port}", secret=SecretRef(env="KEY"))
    notifiers()["alertmanager"].send(channel, [told()])
    assert receiver.got[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.fixture
def real_alertmanager(tmp_path: Path) -> Iterator[str]:
    """Run Debian's Alertmanager; give its address."""
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        pytest.skip("prometheus-alertmanager is not installed (apt install prometheus-alertmanager)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = tmp_path / "alertmanager.yml"
    settings.write_text("route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n")
    process = subprocess.Popen(
        [program, f"--config.file={settings}", f"--storage.path={tmp_path / 'data'}",
         f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _ready(address), within=20, what="Alertmanager")
        yield address
    finally:
        process.terminate()
        process.wait(10)


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/-/ready", timeout=1) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _firing(address: str) -> list[tuple[str, str]]:
    with urllib.request.urlopen(f"{address}/api/v2/alerts", timeout=5) as reply:
        return sorted((found["labels"]["alertname"], found["labels"]["severity"]) for found in json.load(reply))


@pytest.mark.integration
def test_real_alertmanager(real_alertmanager: str) -> None:
    """A real Alertmanager shows an alert, its change of severity as one alert, and its end."""
    now = time.time()
    since = models.rfc3339(int(now) - 300)
    sender = alertmanager.Alertmanager(SECRETS, http.Client(time.time))
    channel = of("alertmanager", url=real_alertmanager)

    def send(minutes: int, **changes: object) -> None:
        sender.send(channel, [told(since=since, at=models.rfc3339(int(now) - 60 * minutes), **changes)])

    send(5, severity="warning")
    eventually(lambda: _firing(real_alertmanager) == [("cpu-high", "warning")], what="the warning")
    send(4)
    eventually(lambda: _firing(real_alertmanager) == [("cpu-high", "critical")], what="the critical")
    send(3, severity="warning")
    eventually(lambda: _firing(real_alertmanager) == [("cpu-high", "warning")], what="the warning again")
    send(2, status="resolved")
    eventually(lambda: _firing(real_alertmanager) == [], what="the end")
    send(1)
    eventually(lambda: _firing(real_alertmanager) == [("cpu-high", "critical")], what="a new episode")


# --- SNS ---------------------------------------------------------------------------------------------------------

TOPIC = "arn:aws:sns:eu-west-1:123456789012:alerts"


def test_sns_message() -> None:
    """People get the text, programs the notification, and the subject is what SNS takes."""
    publisher = testing.MemoryPublisher()
    sns.Sns(publisher).send(of("sns", topic_arn=TOPIC), [told(summary="ü" * 300)])
    ((topic, message),) = publisher.published
    assert topic == TOPIC
    assert message.subject.isascii()
    assert len(message.subject) == 100
    assert message.texts["default"].startswith("[FIRING critical]")
    assert json.loads(message.texts["sqs"])["version"] == 7
    assert message.attributes["status"] == "firing"


@pytest.mark.integration
def test_sns_on_moto(monkeypatch: pytest.MonkeyPatch) -> None:
    """A topic of a foreign SNS gets the message, and one that is not there is AWS' refusal."""
    from moto.server import ThreadedMotoServer

    from workermon.on_aws import sns as on_sns

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        topics, queues = (boto3.client(name, region_name="eu-west-1") for name in ("sns", "sqs"))
        arn = topics.create_topic(Name="alerts")["TopicArn"]
        queue = queues.create_queue(QueueName="alerts")["QueueUrl"]
        name = queues.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        topics.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=name)
        sender = sns.Sns(on_sns.AwsPublisher())
        sender.send(of("sns", topic_arn=arn), [told()])
        (message,) = queues.receive_message(QueueUrl=queue)["Messages"]
        envelope = json.loads(message["Body"])
        assert envelope["Subject"].startswith("[FIRING critical]")
        assert "cpu-high" in envelope["Message"]
        with pytest.raises(errors.AwsError, match="gone"):
            sender.send(of("sns", topic_arn=arn.replace("alerts", "gone")), [told()])
    finally:
        server.stop()


def test_sns_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that nobody serves is an error of AWS' within the lease, for the outbox to try again."""
    from workermon.on_aws import sns as on_sns

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with pytest.raises(errors.AwsUnreachable):
        sns.Sns(on_sns.AwsPublisher()).send(of("sns", topic_arn=TOPIC), [told()])


# --- e-mail ------------------------------------------------------------------------------------------------------


class Mailbox:
    """What an SMTP server got: envelopes, and who logged in. ``refuse`` is its answer to a mail."""

    def __init__(self) -> None:
        self.envelopes: list[Any] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self.refuse = ""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.refuse:
            return self.refuse
        self.envelopes.append(envelope)
        return "250 accepted"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
        from aiosmtpd.smtp import AuthResult

        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"hunter2hunter2", handled=False)


@pytest.fixture
def mail(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Mailbox, int]]]:
    """Start SMTP servers whose certificate is trusted; each gives its mailbox and port."""
    controller = pytest.importorskip("aiosmtpd.controller")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "c.pem"))
    running = []

    def start(security: str = "starttls", auth: bool = False) -> tuple[Mailbox, int]:
        box = Mailbox()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate / "c.pem", certificate / "key.pem")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        options: dict[str, Any] = {"hostname": "127.0.0.1", "port": port, "server_hostname": "localhost"}
        if auth:
            options |= {"authenticator": box.authenticate, "auth_required": True}
        if security == "starttls":
            options |= {"tls_context": context, "require_starttls": True}
        elif security == "tls":
            options |= {"ssl_context": context, "auth_require_tls": False}
        server = controller.Controller(box, **options)
        server.start()
        running.append(server)
        return box, port

    yield start
    for server in running:
        server.stop()


def post(port: int, **given: Any) -> Channel:
    """Return a channel of e-mail to that port."""
    return of("email", **{"host": "localhost", "port": port, "from": "monitor@example.com",
                          "to": ["ops@example.com", "chief@example.com"], **given})  # fmt: skip


@pytest.mark.parametrize("security", ["starttls", "tls", "none"])
def test_email(mail: Callable[..., tuple[Mailbox, int]], security: str) -> None:
    """A mail reaches every recipient, whichever way it is secured."""
    box, port = mail(security)
    notifiers()["email"].send(post(port, security=security), [told()])
    (envelope,) = box.envelopes
    assert envelope.rcpt_tos == ["ops@example.com", "chief@example.com"]
    got = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert got["Subject"] == "[FIRING critical] rénder-07: cpu_utilization 97.5 % > 90 % for 3 of 3 datapoints"
    assert (got["From"], got["To"]) == ("monitor@example.com", "ops@example.com, chief@example.com")
    assert got["Message-ID"] == f"<{told().id}@example.com>"
    body = got.get_content()
    assert "where: rénder-07 (i-0abc0123456789def) in us-east-1" in body
    assert "silence: workermon silence" in body


def test_email_logs_in(mail: Callable[..., tuple[Mailbox, int]]) -> None:
    """User and password are used over TLS only, and a wrong one is refused without being shown."""
    box, port = mail(auth=True)
    channel = post(port, user="monitor", secret=SecretRef(env="PASSWORD"))
    notifiers()["email"].send(channel, [told()])
    assert box.logins == [(b"monitor", b"hunter2hunter2")]
    assert len(box.envelopes) == 1
    with pytest.raises(errors.DeliveryFailed, match="refuses user or password") as caught:
        notifiers(PASSWORD="wr0ng-wr0ng")["email"].send(channel, [told()])
    assert "wr0ng" not in str(caught.value)


def test_email_refused(mail: Callable[..., tuple[Mailbox, int]]) -> None:
    """A mail that the server does not take is a failure that says its code."""
    box, port = mail()
    box.refuse = "451 later, hunter2hunter2"
    with pytest.raises(errors.DeliveryFailed, match="answered 451") as caught:
        notifiers()["email"].send(post(port), [told()])
    assert "hunter2" not in str(caught.value)
    box.refuse = ""
    notifiers()["email"].send(post(port), [told()])
    assert len(box.envelopes) == 1
    box.refuse = "554 no, hunter2hunter2"
    with pytest.raises(errors.DeliveryRefused, match="answered 554") as final:
        notifiers()["email"].send(post(port), [told()])
    assert final.value.tries == policy.PATIENT_ATTEMPTS


def test_email_without_starttls(mail: Callable[..., tuple[Mailbox, int]]) -> None:
    """A server that offers no TLS gets nothing, unless the channel says so."""
    box, port = mail("none")
    with pytest.raises(errors.DeliveryFailed, match="no STARTTLS"):
        notifiers()["email"].send(post(port), [told()])
    assert box.envelopes == []


def test_email_certificate(mail: Callable[..., tuple[Mailbox, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with an unknown certificate gets nothing."""
    box, port = mail()
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(errors.DeliveryFailed, match="certificate of localhost is not valid"):
        notifiers()["email"].send(post(port), [told()])
    assert box.envelopes == []


def test_email_private_address(mail: Callable[..., tuple[Mailbox, int]]) -> None:
    """Without allow_private no server of a private network is connected to."""
    box, port = mail()
    with pytest.raises(errors.DeliveryFailed, match="refused"):
        notifiers()["email"].send(post(port, allow_private=False), [told()])
    assert box.envelopes == []


def test_email_deadline() -> None:
    """A server that says nothing is left at the deadline."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = mail_channel.Email(SECRETS, lambda: NOW, deadline=0.4)
        began = time.monotonic()
        with pytest.raises(errors.DeliveryFailed, match="answer"):
            sender.send(post(server.getsockname()[1]), [told()])
        assert time.monotonic() - began < 3


def test_email_no_header_of_others(mail: Callable[..., tuple[Mailbox, int]]) -> None:
    """What others wrote adds no header and no recipient."""
    box, port = mail()
    bad = told(summary="x\r\nBcc: thief@example.com\r\n\r\nbody")
    notifiers()["email"].send(post(port), [bad])
    (envelope,) = box.envelopes
    got = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert got["Bcc"] is None
    assert envelope.rcpt_tos == ["ops@example.com", "chief@example.com"]


# --- apprise -----------------------------------------------------------------------------------------------------


def test_apprise(receiver: Receiver) -> None:
    """A service of apprise's gets title and text, redirects are not followed, and its address is not shown."""
    pytest.importorskip("apprise")
    url = f"json://127.0.0.1:{receiver.port}/T0KEN?redirect=yes"
    sender = notifiers(URL=url)["apprise"]
    channel = of("apprise", url=SecretRef(env="URL"))
    sender.send(channel, [told()])
    document = json.loads(receiver.got[0].body)
    assert document["title"].startswith("[FIRING critical]")
    assert "silence: workermon silence" in document["message"]
    assert document["type"] == "failure"
    receiver.plan = [answer(302, Location=f"http://127.0.0.1:{receiver.port}/elsewhere")]
    with pytest.raises(errors.DeliveryFailed, match="did not take it") as caught:
        sender.send(channel, [told()])
    assert "T0KEN" not in str(caught.value)
    assert receiver.connections == 2


def test_apprise_is_guarded(receiver: Receiver) -> None:
    """Without allow_private apprise reaches neither an unencrypted nor a private service of one's own."""
    pytest.importorskip("apprise")
    channel = of("apprise", url=SecretRef(env="URL"), allow_private=False)
    for scheme, why in (("json", "not encrypted"), ("jsons", "private")):
        with pytest.raises(errors.DeliveryFailed, match=why):
            notifiers(URL=f"{scheme}://127.0.0.1:{receiver.port}/")["apprise"].send(channel, [told()])
    assert receiver.connections == 0


def test_apprise_unknown_service() -> None:
    """An address that apprise does not know is refused without being shown."""
    pytest.importorskip("apprise")
    with pytest.raises(errors.InvalidInput, match="does not know the service") as caught:
        notifiers(URL="nonsense://T0KEN")["apprise"].send(of("apprise", url=SecretRef(env="URL")), [told()])
    assert "T0KEN" not in str(caught.value)


def test_apprise_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library is not installed one line says how to install it."""
    import sys

    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(errors.InvalidInput, match=r"pip install 'workermon\[apprise\]'"):
        notifiers(URL="json://localhost")["apprise"].send(of("apprise", url=SecretRef(env="URL")), [told()])


# --- the config file ---------------------------------------------------------------------------------------------

DOCUMENT = Path(__file__).parent.parent / "docs" / "reference" / "channels.md"


def _examples() -> list[str]:
    blocks = DOCUMENT.read_text("utf-8").split("```toml\n")[1:]
    return [block.partition("```")[0] for block in blocks]


def test_every_type_has_an_example_that_is_valid() -> None:
    """docs/reference/channels.md has an example for each type, and each is a valid config file."""
    seen = set()
    for example in _examples():
        if "entry-points" in example:
            continue
        config.to_configuration(testing.parse(example, "example"), config.DEFAULT)
        seen |= {channel["type"] for channel in tomllib.loads(example).get("channels", {}).values()}
    assert seen == set(CHANNEL_TYPES)


PAGER = '[channels.c]\ntype = "pagerduty"\n'
MAIL = '[channels.c]\ntype = "email"\nhost = "mail.example.com"\nfrom = "a@example.com"\nto = ["b@example.com"]\n'
SNS = '[channels.c]\ntype = "sns"\n'
SLACK = '[channels.c]\ntype = "slack"\n'


@pytest.mark.parametrize(
    ("text_", "says"),
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
        (SLACK + 'url = "https://hooks.slack.com/services/T/B/hunter2"', "of Slack is a secret itself"),
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
        (MAIL.replace('["b@example.com"]', "[]"), r"channels\.c\.to: names nobody"),
        ('[channels.c]\ntype = "apprise"\nurl = "discord://hunter2/x"', "secret by name"),
        ('[channels.c]\ntype = "alertmanager"\n', r"channels\.c\.url: is missing"),
        ('[channels.c]\ntype = "pagerdutty"\n', "did you mean pagerduty"),
        ('[channels.c]\ntype = "log"\ntopic_arn = "' + TOPIC + '"', "is not for type log"),
    ],
)  # fmt: skip
def test_bad_channel(text_: str, says: str) -> None:
    """A channel that cannot work is refused by its path, and no secret is repeated."""
    with pytest.raises(errors.InvalidInput, match=says) as caught:
        testing.parse(text_, "f.toml")
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_own_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """A type of a user's own, named by an entry point, is taken by the config file and sent to."""
    points = [
        importlib.metadata.EntryPoint(name, f"{__name__}:{what}", own.GROUP)
        for name, what in (("pigeon", "Pigeon"), ("dodo", "Dodo"), ("heron", "HERON"))
    ]
    monkeypatch.setattr(own, "entry_points", lambda *, group: points if group == own.GROUP else [])
    types = installed()
    assert set(types) - set(CHANNEL_TYPES) == {"pigeon", "heron"}, "what cannot be loaded is left out"
    text_ = '[channels.p]\ntype = "pigeon"\noptions = { loft = "north" }\n[channels.h]\ntype = "heron"\nreed = "tall"\n'
    file = config.Parser(channel_types=types).parse(text_, "f.toml")
    assert file.channels is not None
    made = channel_type.notifiers(
        types,
        channel_type.Dependencies(secrets=SECRETS, publisher=testing.MemoryPublisher(), now=lambda: NOW),
    )
    for channel in file.channels.values():
        made[channel.type].send(channel, [told()])
    assert [("north", told().id), ("tall", told().id)] == FLOWN
    FLOWN.clear()


#: What was sent by the types below, as (where from, notification's id).
FLOWN: list[tuple[str, str]] = []


class Pigeon:
    """A channel of a user's own: a notifier, whose options are texts."""

    def __init__(self, secrets: ports.Secrets) -> None:
        pass

    def send(self, channel: Channel, notification: models.Notification) -> None:
        FLOWN.append((str(channel.options["loft"]), notification.id))


class Reeds(config.channels.Options):
    reed: str


class Heron:
    """A channel of a user's own: a whole type, with keys of its own."""

    def send(self, channel: Channel, notifications: Sequence[models.Notification]) -> None:
        FLOWN.extend((Reeds.of(channel).reed, each.id) for each in notifications)


HERON = channel_type.ChannelType(options=Reeds, notifier=lambda _: Heron())


def test_every_example_survives_an_export() -> None:
    """What an example makes of the channels is the same after it was exported and read again."""
    from workermon.config import export

    for example in _examples():
        if "entry-points" in example:
            continue
        made = config.to_configuration(testing.parse(example, "example"), config.DEFAULT)
        again = config.to_configuration(testing.parse(export.text(made, []), "export"), config.DEFAULT)
        assert again.channels == made.channels
    extra = 'group_wait = "0s"\nrepeat = "4h"\nper_minute = 30\ntemplate = "a $$ \\"$summary\\"\\nb"\n'
    made = config.to_configuration(testing.parse(MAIL + extra, "example"), config.DEFAULT)
    again = config.to_configuration(testing.parse(export.text(made, []), "export"), config.DEFAULT)
    assert again.channels == made.channels
    assert (made.channels["c"].group_wait, made.channels["c"].repeat) == (0, 14_400)
