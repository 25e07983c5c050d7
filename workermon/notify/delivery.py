"""Deliver: what waits in the outbox goes to its channels, each alert in order, until it is accepted."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import math
import random
import secrets as tokens
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from workermon import errors, failpoints, logs, models, ports
from workermon.alerts import silences as silencing
from workermon.health import canary as landing
from workermon.notify import channel_alert, channels, http
from workermon.notify.channel_type import ChannelType

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

#: Notifications in one message at most; of more there are several.
LARGEST_GROUP = 200

#: Seconds for which a claimed parcel is held for others of its group; with the send itself less than the lease.
HELD = 2.0

#: Seconds that a group is looked for once more after the last of it was found, where others deliver too.
SETTLE = 0.5

#: Alerts that are looked at for others of a group.
FOUND = 2000

#: Seconds. A receiver that asks for a wait gets nothing else for that long either, up to this.
LONGEST_PAUSE = 300.0

#: Tries (about a minute) after which a channel that the configuration no longer has is taken for removed.
ORPHAN_TRIES = 6

#: How often the present state is sent once more, at most, because a lease ended while it was sent.
AGAIN = 3

#: Notifications under way at once; a send waits for its receiver most of the time.
PARALLEL = 16

#: Seconds. After that nothing more is claimed, so that a task ends within its time; the sweep finds the rest.
BUDGET = 60.0


def deliver(
    alert_ids: Sequence[str],
    *,
    outbox: ports.Outbox,
    configurations: ports.Configurations,
    notifiers: Mapping[str, ports.Notifier],
    now: ports.Clock,
    throttle: ports.Throttle | None = None,
    silences: ports.Silences | None = None,
    leases: ports.Leases | None = None,
    canary: ports.Canary | None = None,
) -> None:
    """Send what waits for these alerts; what fails stays in the outbox with the time of its next try.

    A claimed notification is sent at once, for its lease runs. Where one was accepted, the next of its lane follows.
    What belongs to a group is held until all that is due of it is claimed, and sent together. With ``leases`` one
    delivery gathers a group, and others give to it what they come by of that.
    """
    courier = _Sender(outbox, configurations, notifiers, now, throttle, silences, leases, canary)
    settle = SETTLE if leases is not None else 0.0
    waiting = deque(dict.fromkeys(alert_ids))
    for alert_id in filter(models.is_delivery_alert, alert_ids):
        courier.review(models.channel_of(alert_id))
    begun = now()
    under_way: dict[concurrent.futures.Future[bool], tuple[str, ...]] = {}
    held: dict[str, list[models.ClaimedNotification]] = {}
    since: dict[str, float] = {}
    given_back: set[str] = set()
    last_error: BaseException | None = None
    with concurrent.futures.ThreadPoolExecutor(max_workers=4 * PARALLEL, thread_name_prefix="deliver") as pool:
        while waiting or under_way or held:
            while waiting and len(under_way) < PARALLEL and last_error is None:
                if now() - begun > BUDGET:
                    log.info("deliver.left", alerts=len(waiting))
                    waiting.clear()
                    break
                alert_id = waiting.popleft()
                parcels = outbox.claim(alert_id, now(), LEASE)
                failpoints.reach("deliver.claimed")
                for parcel in parcels:
                    group = courier.group_of(parcel)
                    if group is None:
                        under_way[pool.submit(courier.send, parcel)] = (alert_id,)
                    elif courier.gathered(parcel, group, mine=group in held):
                        held.setdefault(group, []).append(parcel)
                        since.setdefault(group, time.monotonic())
                    else:
                        given_back.add(alert_id)
            if last_error is not None:
                waiting.clear()
                held.clear()
            elif held and not waiting:
                waiting.extend(_alike(held, outbox.due(now(), FOUND), given_back))
            at = time.monotonic()
            ages = {group: at - since[group] for group in held}
            for group in [
                name for name, age in ages.items() if age > HELD or _full(held[name]) or (not waiting and age >= settle)
            ]:
                together = held.pop(group)
                del since[group]
                alerts = tuple(parcel.alert_id for parcel in together)
                under_way[pool.submit(courier.send_group, together, group)] = alerts
            if not under_way:
                if held and not waiting:
                    time.sleep(settle / 5)
                continue
            done, _ = concurrent.futures.wait(
                under_way, timeout=SETTLE / 5 if held else None, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in done:
                of_it = under_way.pop(future)
                last_error = last_error or future.exception()
                if future.exception() is None and future.result():
                    waiting.extendleft(of_it)
    if last_error is not None:
        raise last_error


def _full(parcels: Sequence[models.ClaimedNotification]) -> bool:
    return len(parcels) >= LARGEST_GROUP


def _alike(
    held: Mapping[str, Sequence[models.ClaimedNotification]], due: Sequence[str], given_back: Collection[str]
) -> list[str]:
    """Return the alerts of the rules of these groups that are due too; not those that had to wait before."""
    ends = tuple({f"/{parcels[0].notification.rule}" for parcels in held.values()})
    return [alert_id for alert_id in due if alert_id.endswith(ends) and alert_id not in given_back]


class _Sender:
    """Takes one parcel at a time to its channel and tells the outbox how it went. Safe between threads."""

    def __init__(
        self,
        outbox: ports.Outbox,
        configurations: ports.Configurations,
        notifiers: Mapping[str, ports.Notifier],
        now: ports.Clock,
        throttle: ports.Throttle | None,
        silences: ports.Silences | None,
        leases: ports.Leases | None,
        canary: ports.Canary | None,
    ) -> None:
        self._canary = canary
        self._leases, self._owner = leases, tokens.token_hex(8)
        self._outbox, self._configurations, self._notifiers, self._now = outbox, configurations, notifiers, now
        self._throttle, self._silences = throttle, silences
        #: Channels that are known to be in no trouble, so that Redis is asked once a delivery.
        self._well: set[str] = set()

    def send(self, parcel: models.ClaimedNotification) -> bool:
        """Send a parcel; ``True`` where its lane may go on with the next."""
        if parcel.alert_id == models.CANARY:
            return self._land(parcel)
        following: models.ClaimedNotification | None = parcel
        for _ in range(1 + AGAIN):
            if following is None:
                break
            parcel = following
            channel = self._configurations.load().channels.get(parcel.channel)
            if parcel.notification.reminder and self._seen(parcel):
                return self._outbox.skip(parcel, self._now(), self._remind_at(parcel))
            # A parcel sent once more for a stale fence has no lane to wait in.
            wait = self._wait(parcel, channel) if parcel.fence > 0 else 0.0
            if wait:
                self._outbox.postpone(parcel, self._now() + wait)
                return False
            try:
                self._hand_over(parcel, channel)
            except errors.WorkermonError as why:
                return self._failed(parcel, why, orphan=channel is None)
            failpoints.reach("deliver.sent")
            log.info(
                "deliver.accepted",
                alert_id=parcel.alert_id,
                channel=parcel.channel,
                notification_id=parcel.notification.id,
                attempt=parcel.attempt,
            )
            # Before it is taken off: who ends in between is told the same again, and says this again.
            self._recovered(parcel.channel)
            # Who comes back after its lease has ended may have spoken after the truth: then the truth goes again.
            following = self._outbox.delivered(parcel, self._now(), self._remind_at(parcel))
            failpoints.reach("deliver.delivered")
        return True

    def _land(self, parcel: models.ClaimedNotification) -> bool:
        """Take the canary's parcel, which no channel gets, and record no attempt."""
        if self._outbox.skip(parcel, self._now(), None) and self._canary is not None:
            landing.accept(parcel.notification, canary=self._canary, now=self._now)
        return True

    def group_of(self, parcel: models.ClaimedNotification) -> str | None:
        """Name the group that a parcel belongs to; ``None`` where it goes out by itself."""
        channel = self._configurations.load().channels.get(parcel.channel)
        if channel is None or self._throttle is None or not wait_of(channel) or parcel.fence < 0:
            return None
        told = parcel.notification
        if not hasattr(self._notifiers.get(channel.type), "send_group"):
            return None
        scope = told.scope or {}
        about = (
            (told.worker.account, told.worker.region) if told.worker else (scope.get("account"), scope.get("region"))
        )
        return json.dumps([parcel.channel, told.rule, *about], ensure_ascii=False)

    def gathered(self, parcel: models.ClaimedNotification, group: str, *, mine: bool) -> bool:
        """Tell whether a parcel's group is complete, and ours to send; else the parcel is given back.

        ``mine``: the group is in our hands already.
        """
        channel = self._configurations.load().channels[parcel.channel]
        at, wait = self._now(), wait_of(channel)
        created = models.moment(parcel.notification.created_at or parcel.notification.at)
        assert self._throttle is not None
        closes = at
        # What failed before, or has waited for several groups, waits for no other.
        if parcel.attempt == 1 and at - created <= 3 * wait:
            closes = self._throttle.window(group, created=created, wait=wait, now=at)
        if at >= closes and (mine or self._leads(group)):
            return True
        # Where another gathers the group it is due at once, for that one to find.
        self._outbox.postpone(parcel, max(at, closes))
        failpoints.reach("group.postponed")
        return False

    def _leads(self, group: str) -> bool:
        return self._leases is None or self._leases.hold(f"group:{group}", self._owner, LEASE)

    def send_group(self, parcels: Sequence[models.ClaimedNotification], group: str) -> bool:
        """Send parcels of one channel as one message; ``True`` where their lanes may go on."""
        try:
            return self._send_together(parcels)
        finally:
            if self._leases is not None:
                self._leases.release(f"group:{group}", self._owner)

    def _send_together(self, parcels: Sequence[models.ClaimedNotification]) -> bool:
        kept = []
        for parcel in parcels:
            if parcel.notification.reminder and self._seen(parcel):
                self._outbox.skip(parcel, self._now(), self._remind_at(parcel))
            else:
                kept.append(parcel)
        if not kept:
            return True
        parcels = kept
        first, *others = parcels
        if not others:
            return self.send(first)
        channel = self._configurations.load().channels.get(first.channel)
        worst = next((one for one in parcels if one.notification.severity == "critical"), first)
        wait = self._wait(worst, channel)
        if wait or channel is None:
            for parcel in parcels:
                self._outbox.postpone(parcel, self._now() + (wait or FIRST_WAIT))
            return False
        notifications = [_worded(parcel, channel) for parcel in parcels]
        try:
            self._guarded(first, channel, lambda notifier: notifier.send_group(channel, notifications))
        except errors.WorkermonError as why:
            # All wait for the same time, so that they stay together.
            wait = _backoff(first.attempt)
            given_up = [self._failed(parcel, why, orphan=False, wait=wait) for parcel in parcels]
            return any(given_up)
        failpoints.reach("group.sent")
        log.info("deliver.accepted_group", channel=first.channel, rule=first.notification.rule, alerts=len(parcels))
        self._recovered(first.channel)
        for parcel in parcels:
            following = self._outbox.delivered(parcel, self._now(), self._remind_at(parcel))
            failpoints.reach("group.delivered")
            if following is not None:
                self.send(following)
        return True

    def _hand_over(self, parcel: models.ClaimedNotification, channel: models.Channel | None) -> None:
        what = f"channel {parcel.channel}"
        if channel is None:
            raise errors.DeliveryFailed(what, "it is not in the configuration", "apply one that has it")
        self._guarded(parcel, channel, lambda notifier: notifier.send(channel, _worded(parcel, channel)))

    def _guarded(
        self, parcel: models.ClaimedNotification, channel: models.Channel, send: Callable[[Any], None]
    ) -> None:
        what = f"channel {parcel.channel}"
        notifier = self._notifiers.get(channel.type)
        if notifier is None:
            raise errors.DeliveryFailed(what, f"nothing here sends to {channel.type}", "use another type")
        try:
            send(notifier)
        except errors.WorkermonError:
            raise
        except Exception as why:
            # Its text may hold what nobody should see, so only its kind is told.
            log.exception("deliver.broken", alert_id=parcel.alert_id, channel=parcel.channel)
            raise errors.DeliveryFailed(what, f"sending failed ({type(why).__name__})", "see the log") from None

    def _failed(
        self, parcel: models.ClaimedNotification, why: errors.WorkermonError, *, orphan: bool, wait: float | None = None
    ) -> bool:
        at = self._now()
        told = parcel.notification.created_at or parcel.notification.at
        fields = {
            "alert_id": parcel.alert_id,
            "channel": parcel.channel,
            "notification_id": parcel.notification.id,
            "attempt": parcel.attempt,
            "reason": str(why),
        }
        if parcel.notification.reminder:
            # There is another one later; what was told first has its day, and was accepted.
            log.warning("deliver.reminder_failed", **fields)
            return self._outbox.give_up(parcel, at, f"reminder: {why}", self._remind_at(parcel))
        if at - models.moment(told) > GIVE_UP or (orphan and parcel.attempt >= ORPHAN_TRIES):
            return self._given_up(parcel, why, at, fields, orphan=orphan)
        # What goes once more because its fence was stale has no lane to be taken off.
        if parcel.attempt >= _tries(why) and parcel.fence > 0:
            return self._given_up(parcel, why, at, fields, orphan=False)
        wait = _backoff(parcel.attempt) if wait is None else wait
        asked = getattr(why, "retry_after", None)
        if asked is not None:
            wait = max(wait, min(asked, LONGEST_ASKED))
            if self._throttle is not None:
                self._throttle.pause(parcel.channel, min(asked, LONGEST_PAUSE), at)
        log.warning("deliver.failed", **fields, retry_in=round(wait, 3))
        self._outbox.failed(parcel, at, str(why), at + wait)
        failpoints.reach("deliver.failed")
        return False

    def _given_up(
        self,
        parcel: models.ClaimedNotification,
        why: errors.WorkermonError,
        at: float,
        fields: dict[str, Any],
        *,
        orphan: bool,
    ) -> bool:
        log.error("deliver.given_up", **fields)
        if not orphan:
            self._complain(parcel, why, at)
        done = self._outbox.give_up(parcel, at, f"given up: {why}")
        failpoints.reach("deliver.given_up")
        return done

    def _remind_at(self, parcel: models.ClaimedNotification) -> float | None:
        """Return when what a parcel tells is to be told again; ``None`` where it is not."""
        channel = self._configurations.load().channels.get(parcel.channel)
        if channel is None or parcel.notification.status != "firing":
            return None
        repeat = channel.repeat or type_of(channel).repeat
        return self._now() + repeat if repeat else None

    def _seen(self, parcel: models.ClaimedNotification) -> bool:
        """Tell whether somebody has seen or silenced what a reminder is about, or the channel wants none any more."""
        if self._remind_at(parcel) is None:
            return True
        if self._silences is None:
            return False
        told = parcel.notification
        by = self._silences.acknowledged([parcel.alert_id]).get(parcel.alert_id)
        if by is not None and by.since == models.moment(told.since):
            return True
        return self._silence_of(told.rule, told.worker, self._now()) is not None

    def _wait(self, parcel: models.ClaimedNotification, channel: models.Channel | None) -> float:
        """Return for how many seconds the channel has had enough."""
        limit = limit_of(channel) if channel is not None else None
        if limit is None or self._throttle is None:
            return 0.0
        critical = parcel.notification.severity == "critical"
        return self._throttle.take(parcel.channel, limit, critical=critical, now=self._now())

    def _complain(self, parcel: models.ClaimedNotification, why: errors.WorkermonError, at: float) -> None:
        """Tell on other channels that a notification was given up; once, until the channel takes one again."""
        if parcel.notification.rule == models.DELIVERY and parcel.notification.worker is None:
            return
        before = self._outbox.last_error(parcel.channel)
        if before is not None and before.status == "firing":
            self.unsilenced(parcel.channel)
            return
        told = channel_alert.failing(parcel, why, before, at)
        silence = self._silence_of(models.DELIVERY, None, at)
        to = self._others(parcel.channel)
        if silence is not None:
            told, to = channel_alert.unheard(told, silence), []
        self._outbox.tell(parcel.channel, told, before.id if before else None, to, at)
        failpoints.reach("trouble.told")
        self._well.discard(parcel.channel)

    def _recovered(self, channel: str) -> None:
        if channel in self._well:
            return
        before = self._outbox.last_error(channel)
        if before is not None and before.status == "firing":
            at = self._now()
            told, to = channel_alert.well(channel, before, at), self._others(channel)
            if isinstance(
                before, models.SilencedNotification
            ):  # who did not hear of the trouble needs not hear of its end
                told, to = told.model_copy(update={"reason": f"nobody was told: silence {before.silenced_by}"}), []
            self._outbox.tell(channel, told, before.id, to, at)
            failpoints.reach("trouble.over")
        self._well.add(channel)

    def review(self, channel: str) -> None:
        """Look at the alert about a channel again: its silence may be over, and the channel removed."""
        before = self._outbox.last_error(channel)
        if channel in self._configurations.load().channels or before is None or before.status != "firing":
            self.unsilenced(channel)
            return
        at, to = self._now(), [] if isinstance(before, models.SilencedNotification) else self._others(channel)
        self._outbox.tell(channel, channel_alert.abandoned(channel, before, at), before.id, to, at)
        failpoints.reach("trouble.abandoned")

    def unsilenced(self, channel: str) -> None:
        """Tell the trouble of a channel that nobody heard of, where the silence is over and it is still there."""
        before, at = self._outbox.last_error(channel), self._now()
        if not isinstance(before, models.SilencedNotification) or before.status != "firing":
            return
        if self._silence_of(models.DELIVERY, None, at) is None:
            self._outbox.tell(channel, channel_alert.belated(channel, before, at), before.id, self._others(channel), at)

    def _silence_of(self, rule: str, subject: models.Subject | None, at: float) -> models.Silence | None:
        """Return what mutes a rule's alert of a worker, or of none, now."""
        kept = self._silences.every() if self._silences is not None else []
        active_silences = silencing.in_force(kept, self._configurations.load().silences, at)
        return silencing.muting(active_silences, subject, rule, at)

    def _others(self, channel: str) -> list[str]:
        """Return the channels that rules use beside this one, else the log."""
        configuration = self._configurations.load()
        used = dict.fromkeys(name for rule in configuration.rules for name in rule.notify)
        return [name for name in used if name != channel and name in configuration.channels] or ["log"]


def _worded(parcel: models.ClaimedNotification, channel: models.Channel) -> models.Notification:
    """Return what is sent: where nothing is merged a repetition says so, for the first may have been shown."""
    told = parcel.notification
    if not type_of(channel).shows_repetitions or parcel.attempt < 2:
        return told
    return told.model_copy(update={"summary": f"{told.summary} (retry)"})


def _backoff(attempt: int) -> float:
    return random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(attempt - 1, 16)))


def _tries(why: errors.WorkermonError) -> float:
    """Return after how many tries a failure counts as final; most never do before a day is over."""
    if isinstance(why, errors.DeliveryRefused):
        return why.tries
    return http.PATIENT if isinstance(why, errors.AwsError) and not why.retryable else math.inf


#: A type that nothing is known of: a type of your own that is not installed here.
_UNKNOWN = dataclasses.replace(channels.CHANNEL_TYPES["log"], options=channels.own.Options)


def type_of(channel: models.Channel) -> ChannelType:
    """Return what is known of a channel's type."""
    return channels.CHANNEL_TYPES.get(channel.type, _UNKNOWN)


def wait_of(channel: models.Channel) -> int:
    """Return for how many seconds a channel gathers a group; 0 where it gathers none."""
    of_type = type_of(channel).group_wait
    return of_type if not of_type or channel.group_wait is None else channel.group_wait


def limit_of(channel: models.Channel) -> models.Limit | None:
    """Return how much a channel takes: half of what may go out in a minute at once, the other half over the minute."""
    most = channel.per_minute or type_of(channel).per_minute
    return models.Limit(bucket=max(1.0, most / 2), rate=most / 120) if most else None


def _trial(channel: models.Channel, at: float, identity: str) -> list[models.Notification]:
    """Return what is sent to try a channel; where a message opens something, the one that closes it follows."""
    return channel_alert.trial(channel, at, identity, closing=type_of(channel).opens)


def try_out(
    name: str,
    *,
    configurations: ports.Configurations,
    notifiers: Mapping[str, ports.Notifier],
    now: ports.Clock,
) -> int:
    """Send a test message through a channel, at once and past the outbox; return how many messages it took.

    Raises ``errors.NotFound`` for a channel that is not there, else what sending raises.
    """
    channels = configurations.load().channels
    channel = channels.get(name)
    if channel is None:
        raise errors.NotFound(
            f"channel {errors.printable(name)[:64]}", "it is not in the configuration", errors.nearest(name, channels)
        )
    notifier = notifiers.get(channel.type)
    if notifier is None:
        raise errors.InvalidInput(f"channel {name}", f"nothing here sends to {channel.type}", "install what does")
    messages = _trial(channel, now(), tokens.token_hex(8))
    for each in messages:
        notifier.send(channel, each)
    return len(messages)
