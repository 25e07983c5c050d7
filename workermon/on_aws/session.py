"""One set of boto3 clients for each account and region.

Credentials and endpoints come from boto3's own chain and nowhere else. For an account with a role, AssumeRole gives
credentials, which are renewed before they expire.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
import botocore.config
import botocore.credentials
import botocore.exceptions
import botocore.session
import botocore.utils

from workermon import errors, logs, models
from workermon.on_aws import bounded_answers, direct_parsing, error_kinds, json_answers, regions

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_ec2 import EC2Client

log = logs.get(__name__)

#: Seconds. A silent endpoint is given up after attempts x read timeout, and so is one whose answer does not end. A
#: collection meets that twice at most, and must stay below its task's soft time limit (100 s).
CONNECT_TIMEOUT = 5
READ_TIMEOUT = 15
ATTEMPTS = 3

#: Seconds between two renewals of the clients that AWS refuses. A right that is missing refuses every request, and each
#: renewal costs the whole account and region its connections and an AssumeRole.
RENEWED_EVERY = 30.0

#: Threads of one process that can use a client at the same time without opening new connections.
CONNECTIONS = 32

_CONFIG = botocore.config.Config(
    connect_timeout=CONNECT_TIMEOUT,
    read_timeout=READ_TIMEOUT,
    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    max_pool_connections=CONNECTIONS,
    # Requests are built from validated models. Validating 500 queries again takes a sixth of a call's CPU.
    parameter_validation=False,
    tcp_keepalive=True,
    user_agent_extra="workermon",
)


#: For SQS, which holds a request open for up to 20 s. The next poll asks again anyway.
_POLLING = _CONFIG.merge(botocore.config.Config(read_timeout=30, retries={"mode": "standard", "total_max_attempts": 1}))


def parse_timestamp(value: Any) -> datetime:
    """Parse a timestamp as AWS writes it: epoch seconds or ISO 8601. botocore's parser reads any other format.

    botocore tries ``dateutil`` with the local zone for each one, which takes a third of a collection's CPU.
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
    """The boto3 clients of each account and region.

    They are created at first use, shared by a process's threads, and created again after a fork.
    """

    _lock: threading.RLock
    _clients: dict[tuple[str, models.AccountRegion], Any]
    _roles: dict[models.AccountRegion, boto3.Session]
    #: When the clients of each account and region were last renewed because of a refusal, by the clock.
    _renewed_at: dict[models.AccountRegion, float]
    #: The session with boto3's own credentials, which also assumes the roles.
    _base_session: botocore.session.Session | None

    def __init__(
        self,
        watch: Callable[[Any, models.AccountRegion], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        machine: Callable[[], float] = time.time,
    ) -> None:
        """``watch`` is called with each client when it is made (``limited.Limited``); ``clock`` is steady.

        ``machine`` is the clock that signs requests. Both are in seconds.
        """
        self._watch, self._clock, self._machine = watch, clock, machine
        self._forget_all()
        _LIVING.add(self)

    def ec2(self, scope: models.AccountRegion) -> EC2Client:
        """Return the client of EC2; raises ``errors.InvalidInput`` for an unknown region."""
        client: EC2Client = self._client("ec2", scope)
        return client

    def cloudwatch(self, scope: models.AccountRegion) -> CloudWatchClient:
        """Return the client of CloudWatch; raises ``errors.InvalidInput`` for an unknown region."""
        client: CloudWatchClient = self._client("cloudwatch", scope)
        return client

    def sqs(self, scope: models.AccountRegion) -> Any:
        """Return the client of SQS; raises ``errors.InvalidInput`` for an unknown region."""
        return self._client("sqs", scope)

    def events(self, scope: models.AccountRegion) -> Any:
        """Return the client of EventBridge; raises ``errors.InvalidInput`` for an unknown region."""
        return self._client("events", scope)

    @contextlib.contextmanager
    def asking(self, service: str, scope: models.AccountRegion) -> Iterator[None]:
        """Translate what botocore raises inside; ``service`` names the service that is asked.

        After a refusal the clients of the account and region are created again, so that corrected credentials take
        effect: at once if there were none, otherwise within ``RENEWED_EVERY`` seconds.
        """
        try:
            yield
        except error_kinds.FOREIGN as error:
            translated = error_kinds.translate(error, service, scope, self._machine())
            if isinstance(translated, errors.AwsDenied) and self._may_renew(scope, error):
                self.forget(scope)
            raise translated from error

    def _may_renew(self, scope: models.AccountRegion, refusal: Exception) -> bool:
        if not isinstance(refusal, botocore.exceptions.ClientError):
            return True  # without credentials nothing was sent, so there is nothing to lose
        now = self._clock()
        with self._lock:
            if now - self._renewed_at.get(scope, float("-inf")) < RENEWED_EVERY:
                return False
            self._renewed_at[scope] = now
            return True

    def forget(self, scope: models.AccountRegion) -> None:
        """Drop the clients and credentials of an account and region. Calls in progress keep theirs."""
        with self._lock:
            for key in [key for key in self._clients if key[1] == scope]:
                del self._clients[key]
            self._roles.pop(scope, None)
            self._base_session = None

    def close(self) -> None:
        """Close every connection. A later use opens new ones."""
        with self._lock:
            clients = list(self._clients.values())
            self._forget_all()
        for client in clients:
            client.close()

    def _forget_all(self) -> None:
        self._lock = threading.RLock()
        self._clients = {}
        self._roles = {}
        self._renewed_at = {}
        self._base_session = None

    def _client(self, service: str, scope: models.AccountRegion) -> Any:
        client = self._clients.get((service, scope))
        if client is not None:
            return client
        with self._lock:
            client = self._clients.get((service, scope))
            if client is None:
                # Under the lock: this reads all of AWS' regions, and without it several threads would do so at once.
                regions.check_region(scope.region)
                session: Any = self._session(scope)  # its stubs know services by literal names alone
                config = _POLLING if service == "sqs" else _CONFIG
                client = session.client(service, region_name=scope.region, config=config)
                direct_parsing.shorten(client)
                bounded_answers.bound(client, READ_TIMEOUT)
                json_answers.require_json(client)  # after the short cut, which leaves it little to parse
                if self._watch is not None:
                    self._watch(client, scope)
                self._clients[service, scope] = client
            return client

    def _session(self, scope: models.AccountRegion) -> boto3.Session:
        if self._base_session is None:
            self._base_session = _fresh()
        if scope.role_arn is None:
            return boto3.Session(botocore_session=self._base_session)
        if scope not in self._roles:
            inner = _fresh()
            inner._credentials = _assumed(self._base_session, scope)  # type: ignore[attr-defined]  # botocore has no public way
            self._roles[scope] = boto3.Session(botocore_session=inner)
        return self._roles[scope]


#: All sessions created. A client inherited over a fork shares its socket with the parent, and fails.
_LIVING: weakref.WeakSet[Sessions] = weakref.WeakSet()


def _forked() -> None:
    for sessions in list(_LIVING):
        sessions._forget_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@functools.cache
def _loader() -> Any:
    # EC2's model takes 65 MB and half a second, so every session of the process shares it.
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
