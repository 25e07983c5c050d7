"""Deliver: what waits in the outbox goes to its channels, each alert in order, until it is accepted."""

from __future__ import annotations

import concurrent.futures
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence

from workermon import errors, logs, models, ports
from workermon.notify import alertmanager, apprise, email, pagerduty, slack, sns, webhook
from workermon.notify import log as log_channel

log = logs.get(__name__)

#: Seconds. Longer than a send may take (``guarded.DEADLINE``), so that a lease ends only with its holder.
LEASE = 15.0

#: Seconds. Waits grow from the first to the last, each drawn evenly from 0 on (full jitter: receivers that come back
#: are not met by all at once).
FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0

#: Seconds. A receiver may ask for a longer wait by Retry-After, up to this.
LONGEST_ASKED = 3600.0

#: Seconds. After a day nobody waits for a notification any more; it is given up, and recorded as such.
GIVE_UP = models.DAY

#: Tries (about a minute) after which a channel that the configuration no longer has is taken for removed.
ORPHAN_TRIES = 6

#: How often the present state is sent once more, at most, because a lease ended while it was sent.
AGAIN = 3

#: Notifications under way at once; a send waits for its receiver most of the time.
PARALLEL = 16

#: Seconds. After that nothing more is claimed, so that a task ends within its time; the sweep finds the rest.
BUDGET = 60.0


def notifiers(
    secrets: ports.Secrets, now: ports.Clock = time.time, publisher: ports.Publisher | None = None
) -> dict[str, ports.Notifier]:
    """Return a notifier for each type of channel; without a publisher there is none for ``sns``."""
    return {
        "log": log_channel.Log(),
        "webhook": webhook.Webhook(secrets, now),
        "slack": slack.Slack(secrets, now),
        "pagerduty": pagerduty.PagerDuty(secrets, now),
        "email": email.Email(secrets, now),
        "alertmanager": alertmanager.Alertmanager(secrets, now),
        "apprise": apprise.Apprise(secrets),
        **({"sns": sns.Sns(publisher)} if publisher else {}),
    }


def deliver(
    alert_ids: Sequence[str],
    *,
    outbox: ports.Outbox,
    configurations: ports.Configurations,
    notifiers: Mapping[str, ports.Notifier],
    now: ports.Clock,
) -> None:
    """Send what waits for these alerts; what fails stays in the outbox with the time of its next try.

    A claimed notification is sent at once, for its lease runs. Where one was accepted, the next of its lane follows.
    """
    courier = _Courier(outbox, configurations, notifiers, now)
    waiting = deque(dict.fromkeys(alert_ids))
    begun = now()
    under_way: dict[concurrent.futures.Future[bool], str] = {}
    trouble: BaseException | None = None
    with concurrent.futures.ThreadPoolExecutor(max_workers=4 * PARALLEL, thread_name_prefix="deliver") as pool:
        while waiting or under_way:
            while waiting and len(under_way) < PARALLEL and trouble is None:
                if now() - begun > BUDGET:
                    log.info("deliver.left", alerts=len(waiting))
                    waiting.clear()
                    break
                alert_id = waiting.popleft()
                for parcel in outbox.claim(alert_id, now(), LEASE):
                    under_way[pool.submit(courier.send, parcel)] = alert_id
            if trouble is not None:
                waiting.clear()
            if not under_way:
                continue
            done, _ = concurrent.futures.wait(under_way, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                alert_id = under_way.pop(future)
                trouble = trouble or future.exception()
                if future.exception() is None and future.result():
                    waiting.appendleft(alert_id)
    if trouble is not None:
        raise trouble


class _Courier:
    """Takes one parcel at a time to its channel and tells the outbox how it went. Safe between threads."""

    def __init__(
        self,
        outbox: ports.Outbox,
        configurations: ports.Configurations,
        notifiers: Mapping[str, ports.Notifier],
        now: ports.Clock,
    ) -> None:
        self._outbox, self._configurations, self._notifiers, self._now = outbox, configurations, notifiers, now

    def send(self, parcel: models.Parcel) -> bool:
        """Send a parcel; ``True`` where its lane may go on with the next."""
        following: models.Parcel | None = parcel
        for _ in range(1 + AGAIN):
            if following is None:
                break
            parcel = following
            channel = self._configurations.load().channels.get(parcel.channel)
            try:
                self._hand_over(parcel, channel)
            except errors.WorkermonError as why:
                return self._failed(parcel, why, orphan=channel is None)
            log.info(
                "deliver.accepted",
                alert_id=parcel.alert_id,
                channel=parcel.channel,
                notification_id=parcel.notification.id,
                attempt=parcel.attempt,
            )
            # Who comes back after its lease has ended may have spoken after the truth: then the truth goes again.
            following = self._outbox.delivered(parcel, self._now())
        return True

    def _hand_over(self, parcel: models.Parcel, channel: models.Channel | None) -> None:
        what = f"channel {parcel.channel}"
        if channel is None:
            raise errors.DeliveryFailed(what, "it is not in the configuration", "apply one that has it")
        notifier = self._notifiers.get(channel.type)
        if notifier is None:
            raise errors.DeliveryFailed(what, f"nothing here sends to {channel.type}", "use another type")
        try:
            notifier.send(channel, parcel.notification)
        except errors.WorkermonError:
            raise
        except Exception as why:
            # Its text may hold what nobody should see, so only its kind is told.
            log.exception("deliver.broken", alert_id=parcel.alert_id, channel=parcel.channel)
            raise errors.DeliveryFailed(what, f"sending failed ({type(why).__name__})", "see the log") from None

    def _failed(self, parcel: models.Parcel, why: errors.WorkermonError, *, orphan: bool) -> bool:
        at = self._now()
        told = parcel.notification.created_at or parcel.notification.at
        fields = {
            "alert_id": parcel.alert_id,
            "channel": parcel.channel,
            "notification_id": parcel.notification.id,
            "attempt": parcel.attempt,
            "reason": str(why),
        }
        if at - models.moment(told) > GIVE_UP or (orphan and parcel.attempt >= ORPHAN_TRIES):
            log.error("deliver.given_up", **fields)
            return self._outbox.give_up(parcel, at, f"given up: {why}")
        wait = random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(parcel.attempt - 1, 16)))
        asked = getattr(why, "retry_after", None)
        if asked is not None:
            wait = max(wait, min(asked, LONGEST_ASKED))
        log.warning("deliver.failed", **fields, retry_in=round(wait, 3))
        self._outbox.failed(parcel, at, str(why), at + wait)
        return False
