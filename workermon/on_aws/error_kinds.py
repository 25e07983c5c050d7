"""Which kind of ``errors.AwsError`` an error of AWS or botocore is, and what the user can do about it.

``translate`` turns botocore's errors into ours. Its result contains no secret and no key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import botocore.exceptions
import botocore.parsers

from workermon import errors, models

#: What botocore raises, and what its parsers raise for an answer that makes no sense. Exceptions from signals (such as
#: a task's time limit) are not among them and pass through.
FOREIGN = (
    botocore.exceptions.BotoCoreError,
    botocore.exceptions.ClientError,
    botocore.exceptions.UndefinedModelAttributeError,
    botocore.parsers.ResponseParserError,
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)

_THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceeded",
        "LimitExceededException",
        "LimitExceededFault",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttled",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
    }
)
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
_WRONG = frozenset(
    {
        "AuthFailure",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidSignatureException",
        "InvalidToken",
        "InvalidTokenId",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "RequestInTheFuture",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
#: What AWS answers, among other reasons, if this machine's clock is wrong (from the AWS SDK for .NET; EC2 answers
#: AuthFailure).
_BY_CLOCK = frozenset(
    {
        "AuthFailure",
        "InvalidSignatureException",
        "RequestExpired",
        "RequestInTheFuture",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
_STALE = re.compile("Signature (expired|not yet current)")
#: Seconds. A request must reach AWS within five minutes of its signature's time (Signature Version 4). The rest is
#: for the network, and for AWS' time, which is in whole seconds.
MAX_CLOCK_SKEW = 280
_FORBIDDEN = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "Blocked",
        "Client.UnauthorizedOperation",
        "Forbidden",
        "OptInRequired",
        "PendingVerification",
        "RegionDisabledException",
        "UnauthorizedAccess",
        "UnauthorizedOperation",
    }
)

_NO_CREDENTIALS = (
    botocore.exceptions.NoCredentialsError,
    botocore.exceptions.PartialCredentialsError,
    botocore.exceptions.CredentialRetrievalError,
    botocore.exceptions.UnknownCredentialError,
    botocore.exceptions.ProfileNotFound,
    botocore.exceptions.ConfigNotFound,
    botocore.exceptions.ConfigParseError,
    botocore.exceptions.InvalidConfigError,
    botocore.exceptions.MetadataRetrievalError,
    botocore.exceptions.RefreshWithMFAUnsupportedError,
    botocore.exceptions.TokenRetrievalError,
    botocore.exceptions.NoAuthTokenError,
    botocore.exceptions.SSOError,
    botocore.exceptions.LoginError,
)
#: Nobody answers, so the next request would only take as long again.
_SILENT = (
    botocore.exceptions.ConnectTimeoutError,
    botocore.exceptions.ReadTimeoutError,
    botocore.exceptions.EndpointConnectionError,
    botocore.exceptions.ProxyConnectionError,
    botocore.exceptions.ConnectionError,
)

_CHAIN = "give boto3 valid credentials (AWS_PROFILE, AWS_ACCESS_KEY_ID …, or the machine's role)"
_LATER = "check AWS_ENDPOINT_URL, the network and the AWS health page"

_KEY_ID = re.compile(r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{8,}\b")
_USERINFO = re.compile(r"//[^/@\s]+@")
_ENCODED = re.compile(r"\s*Encoded authorization failure message:.*", re.DOTALL)
#: Characters shown of an AWS message; policies and stack traces may follow.
_MAX_MESSAGE_LENGTH = 300

#: The prefixes of IAM's actions for services with another name.
_IAM_PREFIXES = {"eventbridge": "events"}


def is_silent(error: BaseException) -> bool:
    """Return whether a translated error means that AWS did not answer at all."""
    return isinstance(error.__cause__, _SILENT)


def is_throttle(code: str, status: int | None) -> bool:
    """Return whether an AWS error code or an HTTP status asks us to slow down."""
    return code in _THROTTLED or status == 429


def is_invalid(error: BaseException) -> bool:
    """Return whether a translated error means that AWS understood the request and rejects its content."""
    cause = error.__cause__
    return (
        type(error) is errors.AwsError
        and isinstance(cause, botocore.exceptions.ClientError)
        and _code(cause).startswith(("Validation", "Invalid", "Missing", "Serialization", "Malformed"))
    )


def aws_time(response: Mapping[str, Any]) -> float | None:
    """Return the time of AWS' own clock from an answer, in whole seconds. An error has a time, too."""
    headers = (response.get("ResponseMetadata") or {}).get("HTTPHeaders") or {}
    try:
        return parsedate_to_datetime(str(headers.get("date") or "")).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def translate(error: Exception, service: str, scope: models.AccountRegion, at: float | None = None) -> errors.AwsError:
    """Translate one of botocore's errors; ``service`` names what was asked in that account and region.

    ``at`` is this machine's time. It shows whether AWS refused because the clock is wrong.
    """
    subject = f"{service} in {scope.region}"
    if scope.role_arn is not None:
        subject += f" as {scope.role_arn}"
    if isinstance(error, botocore.exceptions.ClientError):
        return _refused(error, subject, scope, at)
    reason = _excerpt(str(error) or type(error).__name__, scope)
    if isinstance(error, _NO_CREDENTIALS):
        return errors.AwsDenied(subject, reason, _CHAIN)
    if isinstance(error, botocore.exceptions.SSLError):
        return errors.AwsUnreachable(subject, reason, "check the endpoint's certificate and AWS_CA_BUNDLE")
    if isinstance(error, botocore.exceptions.ConnectionError | botocore.exceptions.HTTPClientError | OSError):
        return errors.AwsUnreachable(subject, reason, _LATER)
    if isinstance(error, botocore.exceptions.BotoCoreError):
        return errors.AwsError(subject, reason, "check boto3's configuration (AWS_PROFILE, AWS_ENDPOINT_URL …)")
    if "endpoint" in reason.lower():
        return errors.AwsUnreachable(subject, reason, "check AWS_ENDPOINT_URL")
    kind = type(error).__name__
    return errors.AwsUnreachable(subject, f"its answer cannot be read ({kind}: {reason})", _LATER)


def _refused(
    error: botocore.exceptions.ClientError, subject: str, scope: models.AccountRegion, at: float | None
) -> errors.AwsError:
    code = _code(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    name = subject.partition(" ")[0].lower()
    service = _IAM_PREFIXES.get(name, name)
    message = _excerpt(str(error.response.get("Error", {}).get("Message") or ""), scope)
    reason = f"{error.operation_name}: {code}{': ' if message else ''}{message}"
    if is_throttle(code, status):
        todo = "collect less often, or ask AWS for a higher quota"
        return errors.AwsThrottled(subject, reason, todo)
    if clock := _clock(error, at):
        todo = "set the clock (chrony, ntpd): AWS refuses signatures that are five minutes off"
        return errors.AwsDenied(subject, f"{error.operation_name}: {code}: {clock}", todo)
    if code in _EXPIRED:
        return errors.AwsDenied(subject, f"{error.operation_name}: {code}: the credentials have expired", "renew them")
    if code in _WRONG:
        # AWS may quote the whole signed request here.
        todo = f"{_CHAIN}, and check this machine's clock; if they serve other regions, enable this one"
        return errors.CredentialsRejected(subject, f"{error.operation_name}: {code}", todo)
    if error.operation_name == "AssumeRole" and (code in _FORBIDDEN or status == 403):
        return errors.AwsDenied(subject, reason, "check the role's trust policy and the external id")
    if code in ("OptInRequired", "RegionDisabledException"):
        return errors.AwsDenied(subject, reason, "enable the region for the account, or choose another")
    if code in _FORBIDDEN or (status in (401, 403) and not code.startswith("Invalid")):
        return errors.AwsDenied(subject, reason, f"allow {service}:{error.operation_name} in the IAM policy")
    if status >= 500 or code in ("InternalError", "InternalFailure", "InternalServiceFault", "ServiceUnavailable"):
        return errors.AwsUnreachable(subject, reason, _LATER)
    return errors.AwsError(subject, reason, "look up this code in AWS's documentation")


def _clock(error: botocore.exceptions.ClientError, at: float | None) -> str | None:
    """Return how far this machine's clock is off if AWS refused because of that."""
    code, theirs = _code(error), aws_time(error.response)
    if code not in _BY_CLOCK:
        return None
    if at is not None and theirs is not None:
        ahead = round(at - theirs)
        if abs(ahead) > MAX_CLOCK_SKEW:
            return f"this machine's clock is {abs(ahead)} s {'ahead of' if ahead > 0 else 'behind'} that of AWS"
    message = str(error.response.get("Error", {}).get("Message") or "")
    if code in ("RequestInTheFuture", "RequestTimeTooSkewed") or _STALE.match(message):
        return "this machine's clock is wrong"
    return None


def _code(error: botocore.exceptions.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code") or "unknown")


def _excerpt(text: str, scope: models.AccountRegion) -> str:
    text = _ENCODED.sub("", text)
    text = _USERINFO.sub("//***@", _KEY_ID.sub("***", text))
    if scope.external_id:
        text = text.replace(scope.external_id, "***")
    text = " ".join(text.split())
    return text if len(text) <= _MAX_MESSAGE_LENGTH else f"{text[:_MAX_MESSAGE_LENGTH]}…"
