"""Finds what is wrong with a task message before Celery processes it.

Celery's consumer parses a message bit by bit. On an unexpected value it raises, with the message neither acknowledged
nor rejected, and the node loses one place of its prefetch for good. Other values are first used after the task ran. So
this module checks everything that Celery uses, at once. A malformed message never counts as received.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from celery.app import task
from kombu.utils import json

from workermon import errors

#: The queues of our tasks (celeryconfig.py). Nodes talk to each other over other queues, whose messages are not tasks.
QUEUES: Final = frozenset({"workermon.collect", "workermon.evaluate", "workermon.deliver"})

#: Characters. A task's name and the ids are shorter; so are our own.
MAX_NAME_LENGTH: Final = 512
#: Characters of a body. A hundred of the longest identifiers take a tenth of it.
MAX_BODY_LENGTH: Final = 1024 * 1024
#: Characters of all headers. Celery's own take a few hundred, and a trace's a few hundred more.
MAX_HEADERS: Final = 16 * 1024
#: Levels of objects and lists. Our messages have three. Hundreds of them overflow the stack of code that walks them,
#: and block a prefork node for good.
MAX_DEPTH: Final = 10
#: Seconds. We send no message ahead of time; the node would hold it for all that time.
MAX_ETA: Final = 3600


class UnusableMessage(ValueError):
    """A message cannot be used; its text is the reason."""


def _text(value: object) -> bool:
    return isinstance(value, str) and _encodable(value)


def _encodable(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _identifier(value: object) -> bool:
    return _text(value) and 0 < len(str(value)) <= MAX_NAME_LENGTH and errors.printable(str(value)) == value


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _limits(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(limit is None or _number(limit) for limit in value)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(_text(text) for text in value)


def _mapping(value: object) -> bool:
    return isinstance(value, dict)


def _time(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(_moment(value))
    except (ValueError, OverflowError):
        return False


def _moment(text: str) -> float:
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


#: What Celery writes into a message's headers; null counts as no value.
HEADERS: Final[Mapping[str, Callable[[object], bool]]] = {
    **dict.fromkeys(("task", "id"), _identifier),
    **dict.fromkeys(("root_id", "parent_id", "group", "shadow", "taskset"), _identifier),
    **dict.fromkeys(("lang", "meth", "origin", "argsrepr", "kwargsrepr"), _text),
    **dict.fromkeys(("retries", "group_index", "replaced_task_nesting"), _count),
    **dict.fromkeys(("eta", "expires"), _time),
    "ignore_result": lambda value: isinstance(value, bool),
    "timelimit": _limits,
    "stamped_headers": _texts,
    **dict.fromkeys(("stamps", "headers"), _mapping),
    # Our senders do not compress.
    "compression": lambda _: False,
}
#: What follows the arguments in a body: other tasks to be run. Our messages have none.
EMBEDDED_TASKS: Final = frozenset({"callbacks", "errbacks", "chain", "chord"})
#: Other names for these, which protocol 1 and other senders write into the headers.
EMBEDDING_HEADERS: Final = EMBEDDED_TASKS | {"link", "link_error", "on_error", "subtask", "subtasks"}


def check(raw: object, now: float) -> None:
    """Check a message from the queue. Raises ``UnusableMessage`` with the reason."""
    if not isinstance(raw, dict):
        raise UnusableMessage("it is not an object")
    if not is_shallow(raw):
        raise UnusableMessage(f"it is nested more than {MAX_DEPTH} levels deep")
    _check_properties(raw.get("properties"))
    _check_headers(raw.get("headers"), now)
    if raw.get("content-type") != "application/json" or raw.get("content-encoding") != "utf-8":
        raise UnusableMessage("its content is not JSON in UTF-8")
    _check_body(raw.get("body"), raw["properties"].get("body_encoding"))


def _check_properties(properties: object) -> None:
    if not isinstance(properties, dict):
        raise UnusableMessage("properties are not an object")
    if not _identifier(properties.get("delivery_tag")):
        raise UnusableMessage("delivery_tag is not text")
    delivery = properties.get("delivery_info")
    if not isinstance(delivery, dict) or not all(_text(delivery.get(name)) for name in ("exchange", "routing_key")):
        raise UnusableMessage("delivery_info does not say where it was sent")
    # The tag of a consumer without acknowledgements would mean that it is never acknowledged.
    if "consumer_tag" in delivery:
        raise UnusableMessage("delivery_info names a consumer")
    for name in ("reply_to", "correlation_id"):
        if properties.get(name) is not None and not _text(properties[name]):
            raise UnusableMessage(f"{name} is not text")
    if properties.get("priority") is not None and not _count(properties["priority"]):
        raise UnusableMessage("priority is not a number")
    if properties.get("body_encoding") not in (None, "base64"):
        raise UnusableMessage("body_encoding is unknown")


def _check_headers(headers: object, now: float) -> None:
    if not isinstance(headers, dict):
        raise UnusableMessage("headers are not an object")
    _check_size(headers)
    for name in ("task", "id"):
        if headers.get(name) is None:
            raise UnusableMessage(f"header {name} is missing")
    for name, value in headers.items():
        _check_header(name, value)
    if headers["task"].startswith("celery."):
        raise UnusableMessage("it names a task of Celery's own")
    if headers.get("eta") and _moment(headers["eta"]) > now + MAX_ETA:
        raise UnusableMessage(f"eta is more than {MAX_ETA} s ahead")


def _check_header(name: str, value: object) -> None:
    if name in HEADERS:
        if value is not None and not HEADERS[name](value):
            raise UnusableMessage(f"header {name} is wrong")
    elif name in EMBEDDING_HEADERS:
        raise UnusableMessage(f"header {name} names what follows the task")
    elif hasattr(task.Context, name):
        # It would replace what the node itself writes there.
        raise UnusableMessage(f"header {name} is the node's own")


def _check_size(headers: dict[str, Any]) -> None:
    if len(json.dumps(headers)) > MAX_HEADERS:
        raise UnusableMessage(f"headers are longer than {MAX_HEADERS} characters")


def is_shallow(value: object) -> bool:
    """Return whether objects and lists are nested at most ``MAX_DEPTH`` levels deep; walks level by level.

    >>> is_shallow([{"a": []}])
    True
    """
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [item for items in inner for item in items]
        if not level:
            return True
    return False


def _check_body(body: object, encoding: object) -> None:
    if not isinstance(body, str) or len(body) > MAX_BODY_LENGTH:
        raise UnusableMessage("body is not text, or too long")
    try:
        content: Any = json.loads((base64.b64decode(body) if encoding else body.encode()).decode("utf-8"))
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise UnusableMessage("body is not JSON") from None
    if not is_shallow(content):
        raise UnusableMessage(f"body is nested more than {MAX_DEPTH} levels deep")
    if not isinstance(content, list) or len(content) != 3:
        raise UnusableMessage("body is not arguments, named arguments and what follows")
    args, kwargs, embedded = content
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise UnusableMessage("arguments are neither a list nor an object")
    if embedded is not None and not isinstance(embedded, dict):
        raise UnusableMessage("what follows the arguments is not an object")
    for name, value in (embedded or {}).items():
        if name not in EMBEDDED_TASKS or value is not None:
            raise UnusableMessage(f"{errors.printable(name)[:40]} follows the arguments")
