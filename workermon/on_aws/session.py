"""Accounts and regions: one set of boto3 clients for each, and boto3's errors as ours.

Credentials and endpoints come from boto3's own chain and nowhere else; for one with a role they come
from AssumeRole and are renewed before they expire.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import boto3
import botocore.config
import botocore.configprovider
import botocore.credentials
import botocore.exceptions
import botocore.parsers
import botocore.session
import botocore.utils

from workermon import errors, logs, models
from workermon.on_aws import direct

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_ec2 import EC2Client

log = logs.get(__name__)

#: Seconds. A silent endpoint is given up after attempts x read timeout, twice in one collection at most, which has to
#: stay below the task's soft time limit (100 s).
CONNECT_TIMEOUT = 5
READ_TIMEOUT = 15
ATTEMPTS = 3

#: Threads of one process that may use a client at once without opening connections anew.
CONNECTIONS = 32

_CONFIG = botocore.config.Config(
    connect_timeout=CONNECT_TIMEOUT,
    read_timeout=READ_TIMEOUT,
    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    max_pool_connections=CONNECTIONS,
    # What is sent is built from validated models; walking 500 queries again costs a sixth of a call's CPU.
    parameter_validation=False,
    tcp_keepalive=True,
    user_agent_extra="workermon",
)


@functools.cache
def known_regions() -> frozenset[str]:
    """Return every region that botocore knows EC2 in, over all partitions. Asks nobody."""
    session = botocore.session.Session()
    return frozenset(
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("ec2", partition_name=partition)
    )


def default_region() -> str | None:
    """Return the region that boto3 is configured for, or ``AWS_REGION``, as the other SDKs read it. Asks nobody.

    Raises ``errors.AwsDenied`` if boto3's configuration cannot be read.
    """
    try:
        given = botocore.configprovider.EnvironmentProvider("AWS_REGION", os.environ).provide()
        region: str | None = given or botocore.session.get_session().get_config_variable("region")
        return region
    except botocore.exceptions.BotoCoreError as why:
        raise errors.AwsDenied("AWS configuration", str(why), "check AWS_PROFILE and ~/.aws/config") from why


def parse_timestamp(value: Any) -> datetime:
    """Read a timestamp as AWS writes it: epoch seconds or ISO 8601; anything else goes to botocore's parser.

    botocore tries ``dateutil`` with the local zone for each one, which is a third of a collection's CPU.
    """
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        if value[4:5] == "-":
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is not None:
                return moment
    except (TypeError, ValueError, OverflowError, OSError):
        pass
    return botocore.utils.parse_timestamp(value)


class Sessions:
    """The boto3 clients of each account and region: made at first use, shared by threads, made anew after a fork."""

    _lock: threading.RLock
    _clients: dict[tuple[str, models.AccountRegion], Any]
    _roles: dict[models.AccountRegion, boto3.Session]
    #: With boto3's own credentials; it also assumes the roles.
    _own: botocore.session.Session | None

    def __init__(self, watch: Callable[[Any, models.AccountRegion], None] | None = None) -> None:
        """``watch`` is shown each client when it is made (``limited.Limited``)."""
        self._watch = watch
        self._forget_all()
        _LIVING.add(self)

    def ec2(self, scope: models.AccountRegion) -> EC2Client:
        """Return the client of EC2; raises ``errors.InvalidInput`` for a region that is not known."""
        client: EC2Client = self._client("ec2", scope)
        return client

    def cloudwatch(self, scope: models.AccountRegion) -> CloudWatchClient:
        """Return the client of CloudWatch; raises ``errors.InvalidInput`` for a region that is not known."""
        client: CloudWatchClient = self._client("cloudwatch", scope)
        return client

    @contextlib.contextmanager
    def asking(self, what: str, scope: models.AccountRegion) -> Iterator[None]:
        """Turn botocore's errors into ours; ``what`` names the service and the operation.

        After a refusal the clients are made anew, so that corrected credentials take effect.
        """
        try:
            yield
        except _FOREIGN as why:
            known = translated(why, what, scope, time.time())
            if isinstance(known, errors.AwsDenied):
                self.forget(scope)
            raise known from why

    def forget(self, scope: models.AccountRegion) -> None:
        """Drop the clients and credentials; calls under way go on with theirs."""
        with self._lock:
            for key in [key for key in self._clients if key[1] == scope]:
                del self._clients[key]
            self._roles.pop(scope, None)
            self._own = None

    def close(self) -> None:
        """Close every connection. A later use opens anew."""
        with self._lock:
            clients = list(self._clients.values())
            self._forget_all()
        for client in clients:
            client.close()

    def _forget_all(self) -> None:
        self._lock = threading.RLock()
        self._clients = {}
        self._roles = {}
        self._own = None

    def _client(self, service: str, scope: models.AccountRegion) -> Any:
        found = self._clients.get((service, scope))
        if found is not None:
            return found
        with self._lock:
            found = self._clients.get((service, scope))
            if found is None:
                # Behind the lock, because all of AWS's regions are read here, and threads would each read them.
                check_region(scope.region)
                session = self._session(scope)
                found = session.client(service, region_name=scope.region, config=_CONFIG)  # type: ignore[call-overload]
                direct.shorten(found)
                if self._watch is not None:
                    self._watch(found, scope)
                self._clients[service, scope] = found
            return found

    def _session(self, scope: models.AccountRegion) -> boto3.Session:
        if self._own is None:
            self._own = _fresh()
        if scope.role_arn is None:
            return boto3.Session(botocore_session=self._own)
        if scope not in self._roles:
            inner = _fresh()
            inner._credentials = _assumed(self._own, scope)  # type: ignore[attr-defined]
            self._roles[scope] = boto3.Session(botocore_session=inner)
        return self._roles[scope]


def check_region(region: str) -> None:
    """Raise ``errors.InvalidInput``, naming the nearest, for a region that botocore does not know."""
    known = known_regions()
    if region in known:
        return
    near = difflib.get_close_matches(region, known, 5)
    # Swapped letters are the most likely mistake, and count as two in difflib.
    near.sort(key=lambda each: sorted(each) != sorted(region))
    raise errors.InvalidInput(
        f"region {region}",
        "AWS has no such region",
        f"did you mean {near[0]}?" if near else "give one such as us-east-1",
    )


#: A client inherited over a fork shares its socket with the parent, and fails.
_LIVING: weakref.WeakSet[Sessions] = weakref.WeakSet()


def _forked() -> None:
    for sessions in list(_LIVING):
        sessions._forget_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@functools.cache
def _loader() -> Any:
    # EC2's model is 65 MB and half a second; every session of the process shares it.
    return botocore.session.Session().get_component("data_loader")


def _fresh() -> botocore.session.Session:
    session = botocore.session.get_session()
    session.register_component("data_loader", _loader())
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_timestamp)
    return session


def _assumed(base: Any, scope: models.AccountRegion) -> botocore.credentials.DeferredRefreshableCredentials:
    source = base.get_credentials()
    if source is None:
        raise botocore.exceptions.NoCredentialsError
    arguments = {"RoleSessionName": "workermon"}
    if scope.external_id is not None:
        arguments["ExternalId"] = scope.external_id
    fetcher = botocore.credentials.AssumeRoleCredentialFetcher(
        functools.partial(base.create_client, region_name=scope.region, config=_CONFIG),
        source,
        str(scope.role_arn),
        extra_args=arguments,
    )
    return botocore.credentials.DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")


# --- errors ------------------------------------------------------------------------------------------------------

#: What botocore raises, and what its parsers do on an answer that makes no sense. A signal's exception (a task's time
#: limit, say) is none of these and goes through.
_FOREIGN = (
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
#: What AWS answers if the clock of this machine is wrong, and for other reasons (the list of the AWS SDK for .NET;
#: EC2 says AuthFailure).
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
#: Seconds. A request has to reach AWS within five minutes of its signature's time (Signature Version 4); less what its
#: Date, of whole seconds, and the way may make of it.
SKEWED = 280
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
#: Nothing answers, so the next request would only cost the same time again.
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
#: Characters of an AWS message that are shown; policies and stack traces may follow.
_LONGEST = 300


def silent(error: BaseException) -> bool:
    """Tell whether an error of ours says that nothing answered."""
    return isinstance(error.__cause__, _SILENT)


def is_throttle(code: str, status: int | None) -> bool:
    """Tell whether an AWS error code, or an HTTP status, asks to slow down."""
    return code in _THROTTLED or status == 429


def invalid(error: BaseException) -> bool:
    """Tell whether an error of ours says that AWS understood the request and rejects its content."""
    why = error.__cause__
    return (
        type(error) is errors.AwsError
        and isinstance(why, botocore.exceptions.ClientError)
        and _code(why).startswith(("Validation", "Invalid", "Missing", "Serialization", "Malformed"))
    )


def aws_time(response: Mapping[str, Any]) -> float | None:
    """Return the time of AWS's own clock when it answered, in whole seconds; an error is an answer too."""
    headers = (response.get("ResponseMetadata") or {}).get("HTTPHeaders") or {}
    try:
        return parsedate_to_datetime(str(headers.get("date") or "")).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def translated(error: Exception, what: str, scope: models.AccountRegion, at: float | None = None) -> errors.AwsError:
    """Return our error for one of botocore's; ``what`` was asked of that account and region. No secret or key is in it.

    ``at`` is our own time: it shows whether the clock is the reason of a refusal.
    """
    where = f"{what} in {scope.region}"
    if scope.role_arn is not None:
        where += f" as {scope.role_arn}"
    if isinstance(error, botocore.exceptions.ClientError):
        return _refused(error, where, scope, at)
    why = _shown(str(error) or type(error).__name__, scope)
    if isinstance(error, _NO_CREDENTIALS):
        return errors.AwsDenied(where, why, _CHAIN)
    if isinstance(error, botocore.exceptions.SSLError):
        return errors.AwsUnreachable(where, why, "check the endpoint's certificate and AWS_CA_BUNDLE")
    if isinstance(error, botocore.exceptions.ConnectionError | botocore.exceptions.HTTPClientError | OSError):
        return errors.AwsUnreachable(where, why, _LATER)
    if isinstance(error, botocore.exceptions.BotoCoreError):
        return errors.AwsError(where, why, "check boto3's configuration (AWS_PROFILE, AWS_ENDPOINT_URL …)")
    if "endpoint" in why.lower():
        return errors.AwsUnreachable(where, why, "check AWS_ENDPOINT_URL")
    kind = type(error).__name__
    return errors.AwsUnreachable(where, f"its answer makes no sense ({kind}: {why})", _LATER)


def _refused(
    error: botocore.exceptions.ClientError, where: str, scope: models.AccountRegion, at: float | None
) -> errors.AwsError:
    code = _code(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    service = where.partition(" ")[0].lower()
    message = _shown(str(error.response.get("Error", {}).get("Message") or ""), scope)
    why = f"{error.operation_name}: {code}{': ' if message else ''}{message}"
    if is_throttle(code, status):
        todo = "collect less often, or have the quota raised"
        return errors.AwsThrottled(where, why, todo)
    if clock := _clock(error, at):
        todo = "set the clock (chrony, ntpd): AWS takes no signature that is five minutes off"
        return errors.AwsDenied(where, f"{error.operation_name}: {code}: {clock}", todo)
    if code in _EXPIRED:
        return errors.AwsDenied(where, f"{error.operation_name}: {code}: the credentials have expired", "renew them")
    if code in _WRONG:
        # AWS may quote the whole signed request here.
        return errors.AwsDenied(where, f"{error.operation_name}: {code}", f"{_CHAIN}, and check this machine's clock")
    if error.operation_name == "AssumeRole" and (code in _FORBIDDEN or status == 403):
        return errors.AwsDenied(where, why, "check the role's trust policy and the external id")
    if code in ("OptInRequired", "RegionDisabledException"):
        return errors.AwsDenied(where, why, "enable the region for the account, or choose another")
    if code in _FORBIDDEN or (status in (401, 403) and not code.startswith("Invalid")):
        return errors.AwsDenied(where, why, f"allow {service}:{error.operation_name} in the IAM policy")
    if status >= 500 or code in ("InternalError", "InternalFailure", "InternalServiceFault", "ServiceUnavailable"):
        return errors.AwsUnreachable(where, why, _LATER)
    return errors.AwsError(where, why, "see what AWS says of this code")


def _clock(error: botocore.exceptions.ClientError, at: float | None) -> str | None:
    """Say how far off this machine's clock is, if that is why AWS refused."""
    code, theirs = _code(error), aws_time(error.response)
    if code not in _BY_CLOCK:
        return None
    if at is not None and theirs is not None:
        ahead = round(at - theirs)
        if abs(ahead) > SKEWED:
            return f"this machine's clock is {abs(ahead)} s {'ahead of' if ahead > 0 else 'behind'} that of AWS"
    message = str(error.response.get("Error", {}).get("Message") or "")
    if code in ("RequestInTheFuture", "RequestTimeTooSkewed") or _STALE.match(message):
        return "this machine's clock is wrong"
    return None


def _code(error: botocore.exceptions.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code") or "unknown")


def _shown(text: str, scope: models.AccountRegion) -> str:
    text = _ENCODED.sub("", text)
    text = _USERINFO.sub("//***@", _KEY_ID.sub("***", text))
    if scope.external_id:
        text = text.replace(scope.external_id, "***")
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
