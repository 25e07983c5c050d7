"""The live feed: samples and alerts as they arrive."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Collection, Generator, Iterator

import pydantic

from workermon import logs, models, ports

log = logs.get(__name__)

#: Characters. Our messages have about one KiB. A longer one is not ours.
MAX_MESSAGE_LENGTH = 65_536

#: The types of message on the channel.
Message = models.Event | models.Notification


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Reads the channel.

    It subscribes first, then takes a snapshot, then drops every message that is not newer than the snapshot. So no
    message is missed, and none is shown twice.
    """

    feed: ports.Feed
    workers: ports.Workers
    alerts: ports.Alerts
    configurations: ports.Configurations
    now: ports.Clock

    def watch(self, worker_ids: Collection[str] | None = None, *, timeout: float = 1.0) -> Iterator[Message | None]:
        """Yield the newest sample of each worker and the firing alerts, then each message as it arrives.

        Yields ``None`` at the end of the snapshot, and whenever nothing arrived for ``timeout`` seconds.
        ``worker_ids``: only these workers. Messages that are not ours are logged and dropped. Raises
        ``errors.RedisUnavailable`` if the connection breaks.
        """
        messages = self.feed.listen(alerts=True, timeout=timeout)
        next(messages)  # the subscription is active, so nothing is lost before the snapshot
        collected: dict[str, float] = {}
        for event in self._snapshot(worker_ids):
            collected[event.worker_id] = models.moment(event.collected_at)
            yield event
        versions: dict[str, int] = {}
        for alert in self.alerts.open():
            if alert.last is not None and _is_selected(alert.last, worker_ids):
                versions[alert.last.dedup_key] = alert.last.version
                yield alert.last
        yield None
        for text in messages:
            message = None if text is None else read(text)
            if isinstance(message, models.Event):
                at = models.moment(message.collected_at)
                if not _is_selected(message, worker_ids) or at <= collected.get(message.worker_id, 0):
                    continue
                collected[message.worker_id] = at
            elif isinstance(message, models.Notification):
                if not _is_selected(message, worker_ids) or message.version <= versions.get(message.dedup_key, 0):
                    continue
                versions[message.dedup_key] = message.version
            elif text is not None:
                continue
            yield message

    def _snapshot(self, worker_ids: Collection[str] | None) -> Iterator[models.Event]:
        configuration = self.configurations.load()
        records = self.workers.every() if worker_ids is None else iter(self.workers.get(sorted(worker_ids)).values())
        for record in records:
            worker, condition = record.worker, record.condition
            if condition.collected_at is None:
                continue
            yield models.Event.of(worker, condition, configuration, self.now())


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LiveMessages:
    """Reads the channel without a snapshot."""

    feed: ports.Feed

    def follow(self, *, timeout: float = 1.0) -> Generator[Message | None, None, None]:
        """Yield each message from now on.

        Yields ``None`` once the subscription is active, and whenever nothing arrived for ``timeout`` seconds. Messages
        that are not ours are logged and dropped. Raises ``errors.RedisUnavailable`` if the connection breaks.
        """
        with contextlib.closing(self.feed.listen(alerts=True, timeout=timeout)) as texts:
            for text in texts:
                message = None if text is None else read(text)
                if text is None or message is not None:
                    yield message


def read(text: str) -> Message | None:
    """Parse a message of the channel; ``None`` if it is not ours: not JSON, too long, or of another schema."""
    if len(text) > MAX_MESSAGE_LENGTH:
        log.warning("watch.dropped", reason="longer than 64 KiB")
        return None
    try:
        document = json.loads(text)
        kind = models.Notification if isinstance(document, dict) and "dedup_key" in document else models.Event
        message = kind.model_validate(document)
        if isinstance(message, models.Event):
            models.moment(message.collected_at)
        return message
    except (ValueError, RecursionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, pydantic.ValidationError) else type(error).__name__
        log.warning("watch.dropped", reason=reason)
        return None


def _is_selected(message: Message, worker_ids: Collection[str] | None) -> bool:
    if worker_ids is None:
        return True
    if isinstance(message, models.Event):
        return message.worker_id in worker_ids
    return message.worker is not None and message.worker.id in worker_ids
