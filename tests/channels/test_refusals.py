"""How channels over HTTP treat an answer, and which addresses they reach."""

from __future__ import annotations

import pickle
from email import utils as mail_utils

import pytest

from tests.support.notifications import NOW, notification, notifiers, of
from tests.support.receiver import Receiver, answer
from workermon import errors
from workermon.models import SecretRef
from workermon.notify import policy


@pytest.mark.parametrize("kind", ["slack", "pagerduty", "alertmanager"])
def test_http_channels_are_guarded(receiver: Receiver, kind: str) -> None:
    """No channel that speaks HTTP reaches a private address, or follows a redirect, unless it may."""
    channel = of(kind, url=f"https://127.0.0.1:{receiver.port}/", secret=SecretRef(env="KEY"), allow_private=False)
    with pytest.raises(errors.DeliveryFailed, match="refused"):
        notifiers()[kind].send(channel, [notification()])
    assert receiver.connections == 0
    receiver.plan = [answer(307, Location=f"http://127.0.0.1:{receiver.port}/elsewhere")]
    with pytest.raises(errors.DeliveryFailed, match="not followed"):
        notifiers()[kind].send(of(kind, url=receiver.url, secret=SecretRef(env="KEY")), [notification()])
    assert receiver.connections == 1


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
    """A service's own refusal is final at once. One of a proxy or a deployment is final after some minutes."""
    later = {408, 409, 425, 429, 500, 503}
    for status in sorted(at_once | patiently | later):
        receiver.plan = [answer(status)]
        with pytest.raises(errors.DeliveryFailed) as caught:
            notifiers()[kind].send(of(kind, url=receiver.url, secret=SecretRef(env="KEY")), [notification()])
        tries = 1 if status in at_once else policy.PATIENT_ATTEMPTS if status in patiently else None
        assert getattr(caught.value, "tries", None) == tries, status
        assert caught.value.retryable == (status in later), status
        assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args


@pytest.mark.parametrize("status", [408, 425, 429, 503])
def test_a_wait_that_is_asked_for_is_read(receiver: Receiver, status: int) -> None:
    """A temporary refusal may name its wait, in seconds or as a date."""
    date = mail_utils.formatdate(NOW + 40, usegmt=True)
    for written, seconds in (("25", 25), (date, 40)):
        receiver.plan = [answer(status, Retry_After=written, Date=mail_utils.formatdate(NOW, usegmt=True))]
        with pytest.raises(errors.DeliveryFailed) as caught:
            notifiers()["pagerduty"].send(
                of("pagerduty", url=receiver.url, secret=SecretRef(env="KEY")), [notification()]
            )
        assert caught.value.retry_after == seconds
