"""A rule's annotations for the people notified: what it means, a runbook's address, and the owner."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field

from workermon.models.base import one_line

if TYPE_CHECKING:
    from workermon.models.notification import Notification
    from workermon.models.rule import Rule

#: The keys, in display order.
ANNOTATIONS = ("description", "runbook", "owner")

#: Maximum characters of a description: a few sentences.
MAX_DESCRIPTION_LENGTH = 1000

#: Maximum characters of a runbook's address.
MAX_RUNBOOK_LENGTH = 1000

#: The characters of RFC 3986. None of them ends a link in any receiver's markup.
_ADDRESS = re.compile(r"https?://[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+", re.IGNORECASE)

#: Parameters of an address that are credentials.
_CREDENTIALS = re.compile(
    r"(?:access_?|auth_?|id_?|private_?)?token|pass(?:word|wd)?|(?:client_?)?secret|api_?key|sig(?:nature)?"
    r"|x-amz-(?:signature|credential|security-token)",
    re.IGNORECASE,
)


def _runbook(text: str) -> str:
    """Check the address of a runbook. No message repeats it, because it may contain a credential."""
    if not text.lower().startswith(("http://", "https://")):
        raise ValueError("is not an address that begins with https:// or http://")
    if not _ADDRESS.fullmatch(text):
        raise ValueError("has a character that no address has, such as a space; write it as %20")
    try:
        parts = urlsplit(text)
        host = parts.hostname if parts.port != 0 else None
    except ValueError:
        host = None
    if not host:
        raise ValueError("is not an address with a host such as https://wiki.example.com/cpu-high")
    if "@" in parts.netloc:
        raise ValueError("has a user or password in it, and everybody who is notified could read it")
    for part in (parts.query, parts.fragment):
        if any(_CREDENTIALS.fullmatch(name) for name, _ in parse_qsl(part, keep_blank_values=True)):
            raise ValueError("has a credential among its parameters, and everybody who is notified could read it")
    return text


#: A few sentences on one line, no control characters.
Description = Annotated[str, Field(max_length=MAX_DESCRIPTION_LENGTH), AfterValidator(one_line)]

#: The address of a page: http or https, in ASCII, without credentials.
Runbook = Annotated[str, Field(max_length=MAX_RUNBOOK_LENGTH), AfterValidator(_runbook)]


def annotations_of(source: Rule | Notification) -> dict[str, str]:
    """Return the annotations of a rule or notification, without absent ones."""
    return {name: value for name in ANNOTATIONS if (value := getattr(source, name)) is not None}
