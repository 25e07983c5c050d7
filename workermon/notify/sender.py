"""Sends one claimed notification, or one group, to its channel, and records the result in the outbox."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from workermon import errors, failpoints, logs, models, ports
from workermon.alerts import silences
from workermon.notify import channel_type, policy
from workermon.notify.channel_health import ChannelFailing, ChannelGivenUp, ChannelRecovery
from workermon.notify.channel_type import ChannelType

log = logs.get(__name__)

#: How often, at most, the present state is sent again because a lease ended during the attempt.
MAX_RESENDS = 3

#: Seconds after which nobody waits for a test message any more.
MAX_TEST_AGE = 60.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Sends claimed notifications to their channels. Thread-safe."""

    outbox: ports.Outbox
    configurations: ports.Configurations
    channel_types: Mapping[str, ChannelType]
    notifiers: Mapping[str, ports.Notifier]
    throttle: ports.Throttle
    silences: ports.Silences
    canary: ports.Canary
    channel_failing: ChannelFailing
    channel_given_up: ChannelGivenUp
    channel_recovery: ChannelRecovery
    now: ports.Clock

    def send(self, claims: Sequence[models.ClaimedNotification]) -> bool:
        """Send one notification, or several of one channel as one message; ``True`` if their queues may continue."""
        return self._send_one(claims[0]) if len(claims) == 1 else self._send_group(claims)

    def _send_one(self, claimed: models.ClaimedNotification, resends: int = MAX_RESENDS) -> bool:
        if claimed.alert_id == models.CANARY:
            return self._accept_canary(claimed)
        if self._is_unneeded(claimed):
            return self.outbox.skip(claimed, self.now(), self._remind_at(claimed))
        channel = self._channel(claimed)
        # The present state that is sent again after a lost lease (negative fence) has no queue to wait in.
        wait = self._wait(channel, [claimed]) if claimed.fence > 0 else 0.0
        if wait:
            at = self.now()
            self.outbox.postpone(claimed, at, at + wait)
            return False
        try:
            self._attempt([claimed], channel)
        except errors.WorkermonError as error:
            return self._failed(policy.Failure(claimed, self.now(), error, channel_removed=channel is None))
        failpoints.reach("deliver.sent")
        log.info(
            "deliver.accepted",
            alert_id=claimed.alert_id,
            channel=claimed.channel,
            notification_id=claimed.notification.id,
            attempt=claimed.attempt,
        )
        # Before it is removed: if this process ends in between, another one sends it again and repeats this.
        self.channel_recovery.resolve(claimed.channel)
        present = self.outbox.delivered(claimed, self.now(), self._remind_at(claimed))
        failpoints.reach("deliver.delivered")
        # After its lease ended, this attempt may have overtaken a newer state. Then the newer state is sent again.
        return present is None or not resends or self._send_one(present, resends - 1)

    def _send_group(self, claims: Sequence[models.ClaimedNotification]) -> bool:
        needed = self._without_unneeded(claims)
        if len(needed) < 2:
            return all(self._send_one(claimed) for claimed in needed)
        first, channel = needed[0], self._channel(needed[0])
        wait = self._wait(channel, needed)
        if wait or channel is None:
            at = self.now()
            for claimed in needed:
                self.outbox.postpone(claimed, at, at + (wait or policy.FIRST_WAIT))
            return False
        try:
            self._attempt(needed, channel)
        except errors.WorkermonError as error:
            return self._group_failed(needed, error)
        failpoints.reach("group.sent")
        log.info("deliver.accepted_group", channel=first.channel, rule=first.notification.rule, alerts=len(needed))
        self.channel_recovery.resolve(first.channel)
        for claimed in needed:
            present = self.outbox.delivered(claimed, self.now(), self._remind_at(claimed))
            failpoints.reach("group.delivered")
            if present is not None:
                self._send_one(present)
        return True

    def _accept_canary(self, claimed: models.ClaimedNotification) -> bool:
        """Remove the canary, which no channel gets, and record that it completed its round."""
        if self.outbox.skip(claimed, self.now(), None):
            self.canary.reach("accepted", models.moment(claimed.notification.since), self.now())
        return True

    # --- sending -------------------------------------------------------------------------------------------------

    def _channel(self, claimed: models.ClaimedNotification) -> models.Channel | None:
        return self.configurations.load().channels.get(claimed.channel)

    def _wait(self, channel: models.Channel | None, claims: Sequence[models.ClaimedNotification]) -> float:
        """Return for how many seconds the channel gets nothing more, because of its rate limit."""
        if channel is None:
            return 0.0
        limit = policy.rate(channel, channel_type.of(channel, self.channel_types))
        if limit is None:
            return 0.0
        critical = any(claimed.notification.severity == "critical" for claimed in claims)
        return self.throttle.take(channel.name, limit, critical=critical, now=self.now())

    def _attempt(self, claims: Sequence[models.ClaimedNotification], channel: models.Channel | None) -> None:
        """Send one message. If that fails, record since when the channel accepts nothing."""
        try:
            self._hand_over(claims, channel)
        except errors.WorkermonError as error:
            if channel is not None:
                self.channel_failing.note(channel.name, error, retried=any(map(_is_retried, claims)))
            raise

    def _hand_over(self, claims: Sequence[models.ClaimedNotification], channel: models.Channel | None) -> None:
        subject = f"channel {claims[0].channel}"
        if channel is None:
            raise errors.DeliveryFailed(subject, "it is not in the configuration", "apply a config file that has it")
        notifier = self.notifiers.get(channel.type, channel_type.Missing())
        kind = channel_type.of(channel, self.channel_types)
        try:
            notifier.send(channel, [_as_sent(claimed, kind) for claimed in claims])
        except errors.WorkermonError:
            raise
        except Exception as error:
            # Its text may contain a secret, so only its type is recorded.
            log.exception("deliver.broken", alert_id=claims[0].alert_id, channel=channel.name)
            raise errors.DeliveryFailed(subject, f"sending failed ({type(error).__name__})", "see the log") from None

    # --- failures ------------------------------------------------------------------------------------------------

    def _group_failed(self, claims: Sequence[models.ClaimedNotification], error: errors.WorkermonError) -> bool:
        # All wait for the same time, so that they stay together.
        backoff = policy.backoff(claims[0].attempt)
        given_up = [self._failed(policy.Failure(claim, self.now(), error, backoff=backoff)) for claim in claims]
        return any(given_up)

    def _failed(self, failure: policy.Failure) -> bool:
        """Record a failed attempt; ``True`` if the notification is given up, so that its queue may continue."""
        claimed = failure.claimed
        if models.is_test(claimed.alert_id):
            # The user waits for the answer, and will try again.
            log.warning("deliver.test_failed", **_fields(failure))
            return self.outbox.give_up(claimed, failure.at, str(failure.error))
        if claimed.notification.reminder:
            # There will be another one. The first one was accepted.
            log.warning("deliver.reminder_failed", **_fields(failure))
            return self.outbox.give_up(claimed, failure.at, f"reminder: {failure.error}", self._remind_at(claimed))
        if failure.is_final:
            return self._give_up(failure)
        wait = failure.wait
        if failure.asked_wait is not None:
            self.throttle.pause(claimed.channel, min(failure.asked_wait, policy.MAX_PAUSE), failure.at)
        log.warning("deliver.failed", **_fields(failure), retry_in=round(wait, 3))
        self.outbox.failed(claimed, failure.at, str(failure.error), failure.at + wait)
        failpoints.reach("deliver.failed")
        return False

    def _give_up(self, failure: policy.Failure) -> bool:
        log.error("deliver.given_up", **_fields(failure))
        if not failure.channel_removed:
            self.channel_given_up.fire(failure.claimed, failure.error)
        recorded = self.outbox.give_up(failure.claimed, failure.at, f"given up: {failure.error}")
        failpoints.reach("deliver.given_up")
        return recorded

    # --- reminders -----------------------------------------------------------------------------------------------

    def _remind_at(self, claimed: models.ClaimedNotification) -> float | None:
        """Return when the notification is sent again; ``None``: never."""
        channel = self._channel(claimed)
        if channel is None or claimed.notification.status != "firing" or models.is_test(claimed.alert_id):
            return None
        repeat = policy.repeat(channel, channel_type.of(channel, self.channel_types))
        return None if repeat is None else self.now() + repeat

    def _without_unneeded(self, claims: Sequence[models.ClaimedNotification]) -> list[models.ClaimedNotification]:
        """Remove the reminders and escalations that nobody needs, and return the others."""
        needed = []
        for claimed in claims:
            if self._is_unneeded(claimed):
                self.outbox.skip(claimed, self.now(), self._remind_at(claimed))
            else:
                needed.append(claimed)
        return needed

    def _is_unneeded(self, claimed: models.ClaimedNotification) -> bool:
        """Return whether it is a reminder, an escalation or a test message that nobody needs.

        An escalation is obsolete if its alert was acknowledged meanwhile. A reminder is obsolete if its alert was
        acknowledged or silenced, or if the channel wants none.
        """
        notification = claimed.notification
        if models.is_test(claimed.alert_id):
            return self.now() - models.moment(notification.created_at or notification.at) > MAX_TEST_AGE
        if notification.reminder and self._remind_at(claimed) is None:
            return True
        if not notification.reminder and notification.escalation is None:
            return False
        acknowledged = self.silences.acknowledged([claimed.alert_id]).get(claimed.alert_id)
        if acknowledged is not None and acknowledged.applies_to(models.moment(notification.since)):
            return True
        if not notification.reminder:
            return False
        at = self.now()
        active_silences = silences.in_force(self.silences.every(), self.configurations.load().silences, at)
        return silences.muting(active_silences, notification.dedup_key, notification.worker, at) is not None


def _as_sent(claimed: models.ClaimedNotification, kind: ChannelType) -> models.Notification:
    """Return what to send. If the receiver shows each message, a repetition is marked, as the first may be there."""
    notification = claimed.notification
    if not kind.shows_repetitions or claimed.attempt < 2:
        return notification
    return notification.model_copy(update={"summary": f"{notification.summary} (retry)"})


def _is_retried(claimed: models.ClaimedNotification) -> bool:
    return not claimed.notification.reminder and not models.is_test(claimed.alert_id)


def _fields(failure: policy.Failure) -> dict[str, object]:
    """Return a log event's description of a failure."""
    return {
        "alert_id": failure.claimed.alert_id,
        "channel": failure.claimed.channel,
        "notification_id": failure.claimed.notification.id,
        "attempt": failure.claimed.attempt,
        "reason": str(failure.error),
    }
