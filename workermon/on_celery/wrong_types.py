"""Keys of the schedule with the wrong Redis type: they are renamed and kept, so that they block nothing.

Redis refuses every command on such a key. The next reconciliation creates its entries and cohorts again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from redbeat import schedulers

from workermon import logs, settings

log = logs.get(__name__)

P = ParamSpec("P")
R = TypeVar("R")

#: Seconds for which such a key is kept.
SET_ASIDE_FOR: Final = 30 * 86_400

_FIXED: Final = {
    settings.SCHEDULE_COHORTS: "hash",
    settings.SCHEDULE_QUARANTINE: "hash",
    settings.SCHEDULE_PHASES: "hash",
    settings.SCHEDULE_CANARY: "hash",
    settings.SCHEDULE_TICK: "string",
}


def mended(app: Any, action: Callable[[], R]) -> R:
    """Run an action. If it fails because of a key with the wrong type, set such keys aside and run it once more."""
    try:
        return action()
    except schedulers.redis.exceptions.ResponseError as error:
        if not set_aside(app, error):
            raise
        return action()


def set_aside(app: Any, error: Exception) -> bool:
    """Rename keys of the schedule with the wrong type if the error reports one; return whether there were any.

    Raises ``redis.RedisError`` if Redis refuses.
    """
    if "WRONGTYPE" not in str(error):
        return False
    client = schedulers.get_redis(app)
    schedulers.ensure_conf(app)
    expected = {**_FIXED, str(app.redbeat_conf.schedule_key): "zset"}
    expected |= dict.fromkeys(_matching(client, f"{settings.SCHEDULE_COHORT}*"), "zset")
    entries = f"{app.redbeat_conf.key_prefix}{settings.ENTRY_PREFIX}*"
    expected |= dict.fromkeys(_matching(client, entries), "hash")
    pipe = client.pipeline(transaction=False)
    for name in expected:
        pipe.type(name)
    types = pipe.execute()
    wrong = [
        name for name, kind in zip(expected, map(_text, types), strict=True) if kind not in ("none", expected[name])
    ]
    for name in wrong:
        client.rename(name, f"{settings.SET_ASIDE}{name}")
        client.expire(f"{settings.SET_ASIDE}{name}", SET_ASIDE_FOR)
        log.error("schedule.set_aside", key=name, kept_as=f"{settings.SET_ASIDE}{name}")
    return bool(wrong)


def _matching(client: Any, pattern: str) -> list[str]:
    return [_text(name) for name in client.scan_iter(match=pattern, count=1000)]


def _text(raw: Any) -> str:
    return raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else str(raw)


def mending(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """Make a method of an object with an ``_app`` run its body as ``mended`` runs an action."""

    @functools.wraps(method)
    def run(self: Any, /, *arguments: P.args, **options: P.kwargs) -> R:
        return mended(self._app, lambda: method(self, *arguments, **options))

    return run
