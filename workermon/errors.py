"""One tree of errors. Each has what, why and what to do; each is retryable or final; all survive pickling."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

#: Invisible characters never reach a terminal, a message or a log line unchanged: control characters (newlines and the
#: start of an escape sequence among them), changes of text direction, characters without width or ink, tags, and lone
#: surrogates, which cannot be written in UTF-8.
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ud800-\udfff\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def printable(text: str) -> str:
    """Return ``text`` on one line, with invisible characters as escapes.

    >>> print(printable("web\\u200b-1"))
    web\\u200b-1
    """
    return _INVISIBLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def did_you_mean(name: str, known_names: Iterable[str]) -> str | None:
    """Suggest the nearest known name, ``None`` if none is close.

    >>> did_you_mean("cpu_utilisation", ["cpu_utilization", "network_in"])
    'did you mean cpu_utilization?'
    """
    close = difflib.get_close_matches(name, sorted(known_names), n=5)
    # Swapped letters are a more likely typo than a different letter.
    close.sort(key=lambda candidate: sorted(candidate) != sorted(name))
    return f"did you mean {close[0]}?" if close else None


def nearest(name: str, known_names: Iterable[str]) -> str:
    """Suggest the nearest name; if none is close, list the known names.

    >>> nearest("x", ["a", "b"])
    'use one of: a, b'
    """
    names = sorted(known_names)
    return did_you_mean(name, names) or (f"use one of: {', '.join(names)}" if names else "none exists yet")


def validation_reason(message: str) -> str:
    """Return a message of pydantic's without what it puts before the text of a ``ValueError``.

    >>> validation_reason("Value error, is empty"), validation_reason("Field required")
    ('is empty', 'Field required')
    """
    return message.removeprefix("Value error, ")


class WorkermonError(Exception):
    """Something failed."""

    #: Whether the same call may succeed later without any change.
    retryable = False
    #: The exit code of the command (docs/reference/exit-codes.md).
    exit_code = 1

    def __init__(self, subject: str, reason: str, todo: str) -> None:
        super().__init__(subject, reason, todo)
        self.subject, self.reason, self.todo = subject, reason, todo

    def __str__(self) -> str:
        return printable(f"{self.subject}: {self.reason}; {self.todo}")


class InvalidInput(WorkermonError):
    """The caller's input is invalid."""

    exit_code = 2


class SecretNotAllowed(InvalidInput):
    """This process does not disclose that secret to a config file."""


class NotFound(WorkermonError):
    """No such worker, metric, alert, rule or channel."""

    exit_code = 3


class RevisionChanged(WorkermonError):
    """The current revision of the configuration is not the one that the caller expected."""

    def __init__(self, subject: str, expected: int, present: int) -> None:
        reason = f"the current revision of the set-up is {present}, not {expected}"
        super().__init__(subject, reason, "look at what changed, and apply it again")
        self.args = (subject, expected, present)


class UnknownWorker(NotFound):
    """No worker with that id or name is monitored."""


def unknown_worker(names: Sequence[str], known_names: Iterable[str]) -> UnknownWorker:
    """Return the error for names that no worker has; ``known`` are the existing names."""
    plural = f"workers {', '.join(names)}" if len(names) > 1 else f"worker {names[0]}"
    return UnknownWorker(plural, "not monitored", did_you_mean(names[0], known_names) or "see 'workermon list'")


class RedisUnavailable(WorkermonError):
    """Redis or the broker is unreachable, or refuses us."""

    retryable = True
    exit_code = 4


class UnfitServer(RedisUnavailable):
    """The server can never be used: it is too old, or in cluster mode."""

    retryable = False


class SchemaMismatch(UnfitServer):
    """The stored data has another version: a newer one, or an older one that nobody has migrated in time."""


class AwsError(WorkermonError):
    """AWS refused or is unreachable; ``kind`` is the reason in one word, for logs and ``status``."""

    kind = "failed"
    exit_code = 5


class AwsThrottled(AwsError):
    """AWS asks to slow down."""

    kind = "throttled"
    retryable = True


class AwsUnreachable(AwsError):
    """No answer: the endpoint is down, slower than the time limit, or answers nonsense or 5xx."""

    kind = "unreachable"
    retryable = True


class AwsDenied(AwsError):
    """The credentials lack a permission, are missing, wrong or expired, or the role cannot be assumed."""

    kind = "denied"


class CredentialsRejected(AwsDenied):
    """AWS does not recognise the credentials.

    If they work in another region, then this region is not enabled for the account.
    """


def region_not_enabled(refused: AwsError, serving: str) -> AwsError:
    """Return a refusal of credentials that work in another region (``serving``), with its meaning."""
    if not isinstance(refused, CredentialsRejected):
        return refused
    reason = (
        f"{refused.reason}; the region may not be enabled for the account, because the same credentials serve {serving}"
    )
    return CredentialsRejected(refused.subject, reason, "enable the region for the account, or leave it out")


class InstanceGone(AwsError):
    """EC2 does not know the instance, or no longer."""

    kind = "gone"


class DeliveryFailed(WorkermonError):
    """A channel did not accept a notification; ``retry_after`` is the requested wait in seconds, if any."""

    retryable = True

    def __init__(self, subject: str, reason: str, todo: str, retry_after: float | None = None) -> None:
        super().__init__(subject, reason, todo)
        self.args = (subject, reason, todo, retry_after)
        self.retry_after = retry_after


class DeliveryRefused(DeliveryFailed):
    """A receiver will never accept this notification. After ``tries`` such answers there are no more retries."""

    retryable = False

    def __init__(self, subject: str, reason: str, todo: str, tries: int = 1) -> None:
        super().__init__(subject, reason, todo)
        self.args = (subject, reason, todo, tries)
        self.tries = tries


def of_aws(error: Exception) -> AwsError:
    """Return any error as an AWS error. Only ``RedisUnavailable`` is raised."""
    if isinstance(error, AwsError):
        return error
    if isinstance(error, RedisUnavailable):
        raise error
    if isinstance(error, WorkermonError):
        return AwsError(error.subject, error.reason, error.todo)
    return AwsError("AWS", str(error) or type(error).__name__, "see the log")
