"""Which notifications become one message: those of a rule, an account and region to one channel within seconds."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Mapping

from workermon import failpoints, models, ports
from workermon.notify import channel_type, policy
from workermon.notify.channel_type import ChannelType

#: Maximum notifications in one message. More of them become several messages.
MAX_GROUP_SIZE = 200

#: Seconds for which a claimed notification is held for others of its group. Together with the attempt less than the
#: lease.
HELD_FOR = 2.0

#: Seconds for which more members of a group are searched after the last one was found: other processes release them.
SEARCHED_FOR = 0.5

#: Alerts that are searched for others of a group.
MAX_DUE = 2000

#: Windows that a notification waits for. An older one was released several times, and waits for no other.
MAX_WINDOWS = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Claimed notifications that are sent as one message."""

    name: str
    claims: list[models.ClaimedNotification]
    #: When the first of them was claimed, by the steady clock.
    since: float

    @property
    def is_full(self) -> bool:
        """Return whether it is full."""
        return len(self.claims) >= MAX_GROUP_SIZE


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """Starts the gathering of groups for each delivery."""

    outbox: ports.Outbox
    configurations: ports.Configurations
    channel_types: Mapping[str, ChannelType]
    throttle: ports.Throttle
    leases: ports.Leases
    now: ports.Clock
    steady: ports.SteadyClock

    def start(self) -> Gathering:
        """Return the object that gathers groups for one delivery."""
        return Gathering(self)


class Gathering:
    """The groups that one delivery gathers: what is grouped, and when.

    One process gathers a group; the others leave their members to it.
    """

    def __init__(self, grouping: Grouping) -> None:
        self._grouping, self._owner = grouping, secrets.token_hex(8)
        self._groups: dict[str, Group] = {}
        self._given_back: set[str] = set()

    @property
    def is_open(self) -> bool:
        """Return whether a group is being gathered."""
        return bool(self._groups)

    def group_of(self, claimed: models.ClaimedNotification) -> str | None:
        """Return the name of a notification's group; ``None`` if it is sent alone."""
        # The present state that is sent again after a lost lease has a negative fence, and waits for nobody.
        # Somebody waits for the result of a test message.
        if not self._wait(claimed) or claimed.fence < 0 or models.is_test(claimed.alert_id):
            return None
        notification = claimed.notification
        scope = notification.scope or {}
        if notification.worker is not None:
            about = (notification.worker.account, notification.worker.region)
        else:
            about = (scope.get("account", ""), scope.get("region", ""))
        return json.dumps([claimed.channel, notification.rule, *about], ensure_ascii=False)

    def add(self, claimed: models.ClaimedNotification, name: str) -> None:
        """Hold a notification until its group is sent, or release it until its window closes."""
        closes_at = self._closes_at(claimed, name)
        at = self._grouping.now()
        if at >= closes_at and (name in self._groups or self._leads(name)):
            self._groups.setdefault(name, Group(name, [], self._grouping.steady())).claims.append(claimed)
            return
        # If another process gathers the group, it is due at once, so that this process finds it.
        self._grouping.outbox.postpone(claimed, at, max(at, closes_at))
        failpoints.reach("group.postponed")
        self._given_back.add(claimed.alert_id)

    def due(self) -> list[str]:
        """Return due alerts that may belong to one of the groups, without those that were released."""
        rules = tuple({f"/{group.claims[0].notification.rule}" for group in self._groups.values()})
        due = self._grouping.outbox.due(self._grouping.now(), MAX_DUE)
        return [alert_id for alert_id in due if alert_id.endswith(rules) and alert_id not in self._given_back]

    def pop_complete(self, *, all_claimed: bool) -> list[Group]:
        """Return the groups to send now. ``all_claimed``: no further members are known."""
        at = self._grouping.steady()
        complete = [
            group
            for group in self._groups.values()
            if group.is_full or at - group.since > HELD_FOR or (all_claimed and at - group.since >= SEARCHED_FOR)
        ]
        for group in complete:
            del self._groups[group.name]
        return complete

    def release(self, group: Group) -> None:
        """Let another process gather the next group of that name."""
        self._grouping.leases.release(_lease(group.name), self._owner)

    def abandon(self) -> None:
        """Drop what is held. It is due again when its lease ends."""
        self._groups.clear()

    def _closes_at(self, claimed: models.ClaimedNotification, group: str) -> float:
        """Return when the window of a notification's group closes; a past time if it waits for none."""
        notification, at, wait = claimed.notification, self._grouping.now(), self._wait(claimed)
        created = models.moment(notification.created_at or notification.at)
        if claimed.attempt > 1 or at - created > MAX_WINDOWS * wait:
            return at
        return self._grouping.throttle.window(group, created=created, wait=wait, now=at)

    def _wait(self, claimed: models.ClaimedNotification) -> int:
        channel = self._grouping.configurations.load().channels.get(claimed.channel)
        if channel is None:
            return 0
        return policy.group_wait(channel, channel_type.of(channel, self._grouping.channel_types))

    def _leads(self, name: str) -> bool:
        return self._grouping.leases.hold(_lease(name), self._owner, policy.LEASE)


def _lease(group: str) -> str:
    return f"group:{group}"
