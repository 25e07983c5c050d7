"""Deliver: sends the notifications in the outbox to their channels, each alert in order, until they are accepted."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from workermon import failpoints, logs, models, ports
from workermon.notify import groups, policy
from workermon.notify.channel_health import ChannelReview
from workermon.notify.sender import Sender

log = logs.get(__name__)

#: Notifications or groups in progress at once. An attempt waits for its receiver most of the time.
PARALLEL = 16

#: Seconds after which nothing more is claimed, so that a task ends within its time limit; the sweep finds the rest.
BUDGET = 60.0

#: Seconds between two checks for due notifications while groups are gathered.
GATHER_INTERVAL = 0.1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Sends the notifications that wait in the outbox."""

    outbox: ports.Outbox
    sender: Sender
    grouping: groups.Grouping
    channel_review: ChannelReview
    configurations: ports.Configurations
    now: ports.Clock

    def deliver(self, alert_ids: Sequence[str]) -> None:
        """Send the waiting notifications of these alerts. A failed one stays in the outbox for its next attempt.

        A claimed notification is sent at once, because its lease is running. Once it is accepted, the next one of its
        queue follows. A notification that belongs to a group is held until the others of the group are claimed.
        """
        alert_ids = list(dict.fromkeys(alert_ids))
        for alert_id in filter(models.is_delivery_alert, alert_ids):
            self._review(models.channel_of(alert_id))
        with concurrent.futures.ThreadPoolExecutor(4 * PARALLEL, thread_name_prefix="deliver") as pool:
            _Run(self, pool, alert_ids).finish()

    def _review(self, channel: str) -> None:
        """Look at the alert about a channel; what waits for one that was removed is looked at now, not hours later."""
        self.channel_review.review(channel)
        if channel not in self.configurations.load().channels:
            self.outbox.make_due(channel, self.now())


class _Run:
    """One delivery: claims, gathers and sends until nothing is left or its time is up."""

    def __init__(self, stage: Delivery, pool: concurrent.futures.Executor, alert_ids: Iterable[str]) -> None:
        self._stage, self._pool = stage, pool
        self._waiting = deque(alert_ids)
        self._gathering = stage.grouping.start()
        #: The alerts of each attempt in progress.
        self._sending: dict[concurrent.futures.Future[bool], list[str]] = {}
        self._error: BaseException | None = None
        self._ends_at = stage.now() + BUDGET

    def finish(self) -> None:
        """Run until all is done; raises what a send raised first."""
        while self._waiting or self._sending or self._gathering.is_open:
            self._claim_waiting()
            self._look_for_more()
            self._send_groups()
            self._wait()
        if self._error is not None:
            raise self._error

    def _claim_waiting(self) -> None:
        while self._waiting and len(self._sending) < PARALLEL and self._error is None:
            if self._stage.now() > self._ends_at:
                log.info("deliver.postponed", alerts=len(self._waiting))
                self._waiting.clear()
                return
            self._claim(self._waiting.popleft())

    def _claim(self, alert_id: str) -> None:
        claims = self._stage.outbox.claim(alert_id, self._stage.now(), policy.LEASE)
        failpoints.reach("deliver.claimed")
        for claimed in claims:
            group = self._gathering.group_of(claimed)
            if group is None:
                self._submit([claimed], functools.partial(self._stage.sender.send, [claimed]))
            else:
                self._gathering.add(claimed, group)

    def _look_for_more(self) -> None:
        """Claim the rest of the groups that are being gathered."""
        if self._error is not None:
            self._waiting.clear()
            self._gathering.abandon()
        elif self._gathering.is_open and not self._waiting:
            self._waiting.extend(self._gathering.due())

    def _send_groups(self) -> None:
        for group in self._gathering.pop_complete(all_claimed=not self._waiting):
            self._submit(group.claims, functools.partial(self._send_group, group))

    def _send_group(self, group: groups.Group) -> bool:
        try:
            return self._stage.sender.send(group.claims)
        finally:
            self._gathering.release(group)

    def _submit(self, claims: Sequence[models.ClaimedNotification], send: Callable[[], bool]) -> None:
        self._sending[self._pool.submit(send)] = [claimed.alert_id for claimed in claims]

    def _wait(self) -> None:
        """Wait until an attempt ends, or for a moment while a group is gathered."""
        gathers = self._gathering.is_open
        if not self._sending:
            if gathers and not self._waiting:
                time.sleep(min(GATHER_INTERVAL, groups.SEARCHED_FOR))
            return
        finished, _ = concurrent.futures.wait(
            self._sending,
            timeout=GATHER_INTERVAL if gathers else None,
            return_when=concurrent.futures.FIRST_COMPLETED,
        )
        for future in finished:
            self._finished(future)

    def _finished(self, future: concurrent.futures.Future[bool]) -> None:
        alert_ids = self._sending.pop(future)
        error = future.exception()
        if error is not None:
            self._error = self._error or error
        elif future.result():
            # Their queues continue with the next notification.
            self._waiting.extendleft(alert_ids)
