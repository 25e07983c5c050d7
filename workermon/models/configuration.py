"""The configuration in force: rules, channels, metrics, accounts and limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from pydantic import Field, JsonValue

from workermon import errors
from workermon.models.base import DAY, Frozen, Text
from workermon.models.checks import CHECK_METRICS
from workermon.models.discovery_key import searched_of
from workermon.models.event_queue import EventQueue, queue_of
from workermon.models.maintenance import Maintenance
from workermon.models.rule import Rule
from workermon.models.worker import DEFAULT_ACCOUNT, AccountRegion, MonitoringAccount, account_and_region

#: Seconds. The default for how late a datapoint may arrive or be revised and still count.
LATENESS = 900

#: Seconds. The defaults for how long alerts' history and hourly roll-ups are kept: a year and a month.
ALERT_HISTORY = 400 * DAY
ROLLUPS = 400 * DAY

#: Variables that configure AWS and workermon itself. No config file may make workermon send them anywhere.
PROTECTED_VARIABLES = ("AWS_", "WORKERMON_")


def is_protected_variable(name: str) -> bool:
    """Return whether an environment variable may never be used as a secret.

    >>> is_protected_variable("AWS_SECRET_ACCESS_KEY"), is_protected_variable("OPS_SECRET")
    (True, False)
    """
    return name.upper().startswith(PROTECTED_VARIABLES)


class SecretRef(Frozen):
    """A secret by name: an environment variable, or a file that contains it (a final newline is dropped)."""

    env: str | None = None
    file: str | None = None


class Channel(Frozen):
    """Where notifications go (docs/reference/channels.md).

    ``url`` and ``secret`` may be given by name only. ``template`` replaces the text for people. ``per_minute`` limits
    the messages sent in any minute. ``group_wait`` is how many seconds a group is gathered (0: no grouping), ``repeat``
    after how many seconds a notification that still fires is sent again; ``None`` uses the type's default.
    ``alert_after`` is how many seconds it may accept nothing before other channels are notified. ``options`` are the
    keys that only its type knows, as in the config file.
    """

    name: str
    type: str
    url: str | SecretRef | None = None
    secret: SecretRef | None = None
    allow_private: bool = False
    template: str | None = None
    per_minute: float | None = None
    group_wait: int | None = None
    repeat: int | None = None
    alert_after: int | None = None
    options: dict[str, JsonValue] = {}


class Metric(Frozen):
    """A catalogue entry: CloudWatch's name for the metric that we call ``name``.

    ``period`` is in seconds; ``None``: as EC2 publishes it (60 with detailed monitoring, else 300). ``merge`` is how
    several series of one worker, such as those of its filesystems, become one. A series counts only if its dimensions
    match one glob of each dimension in ``include``, and none in ``exclude``. ``also`` are names that other agents use
    for the same metric. They are searched if the first name is not published.
    """

    name: Text
    namespace: str
    metric_name: str
    statistic: str = "Average"
    unit: str = "percent"
    period: int | None = None
    merge: Literal["max", "min", "sum"] = "max"
    include: dict[str, tuple[str, ...]] = {}
    exclude: dict[str, tuple[str, ...]] = {}
    also: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Return CloudWatch's name of it. Dimensions are stored and requests counted under this name."""
        return f"{self.namespace}/{self.metric_name}"

    @property
    def variants(self) -> tuple[Metric, ...]:
        """Return the metric under each of its names, itself first."""
        return (self, *(self.model_copy(update={"metric_name": name, "also": ()}) for name in self.also))

    def period_for(self, *, detailed: bool) -> int:
        """Return CloudWatch's period in seconds for a worker with or without detailed monitoring."""
        return self.period or (60 if detailed else 300)


class Account(Frozen):
    """How to assume a role in another AWS account: the role, and the name of the secret with its external id.

    ``monitoring`` is the id of the account through which its CloudWatch is read, if any.
    """

    role_arn: str
    external_id: SecretRef | None = None
    monitoring: str | None = None

    @property
    def id(self) -> str:
        """Return the account's id, from its role."""
        return self.role_arn.split(":")[4]


#: Characters of a tag's value that a label keeps: EC2's limit.
MAX_LABEL_LENGTH = 256


class Discover(Frozen):
    """The instances with these tags belong to the fleet. Without a region, boto3's configured region applies.

    ``labels_from_tags`` has, by label, the tag that its value comes from.
    """

    regions: tuple[str, ...] = ()
    tags: dict[str, str] = {}
    account: str | None = None
    interval: int | None = None
    labels: dict[str, str] = {}
    labels_from_tags: dict[str, str] = {}

    def labels_of(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Return the labels of an instance with these tags. ``labels`` win. A tag without a value gives none.

        >>> Discover(labels={"team": "vfx"}, labels_from_tags={"pool": "Pool", "team": "Team"}).labels_of({"Pool": "a"})
        {'pool': 'a', 'team': 'vfx'}
        """
        labels = {
            label: value
            for label, tag in self.labels_from_tags.items()
            if (value := errors.printable(tags.get(tag, "")).strip()[:MAX_LABEL_LENGTH].strip())
        }
        return {**labels, **self.labels}

    def may_give(self, labels: Mapping[str, str]) -> bool:
        """Return whether a worker that it adds may have all these labels. A tag can have any value."""
        return all(
            self.labels[label] == value if label in self.labels else label in self.labels_from_tags
            for label, value in labels.items()
        )

    def may_group(self, label: str) -> bool:
        """Return whether a worker that it adds may have a label, whatever its value."""
        return label in self.labels or label in self.labels_from_tags

    def searches(self, key: str) -> bool:
        """Return whether it searches in an account and region (its key). It searches any region if it names none."""
        account, region = account_and_region(key)
        return account == (self.account or DEFAULT_ACCOUNT) and (not self.regions or region in self.regions)


class Limit(Frozen):
    """The rate limit of an API in an account and region: ``bucket`` requests at once, ``rate`` per second."""

    bucket: float = Field(ge=1, le=100_000)
    rate: float = Field(gt=0, le=100_000)


class Configuration(Frozen):
    """The configuration in force; ``revision`` grows with each change.

    ``collect`` are the metrics to collect, ``chosen`` those that the file named (``None``: none, so the defaults and
    those of the rules). ``budget`` is in dollars a day (UTC), ``None``: no limit. ``limits`` is by API;
    ``costs.LIMITS`` has the defaults. ``lateness`` is how many seconds late a datapoint may arrive or be revised and
    still count. ``retention`` is how many seconds datapoints are kept, ``rollups`` the same for hourly roll-ups (0:
    none are made), ``alert_history`` for the history of alerts. ``cadence`` says whether a metric is always requested
    each period, or less often while it is far from every threshold.
    """

    revision: int = 0
    rules: tuple[Rule, ...]
    channels: dict[str, Channel]
    metrics: dict[str, Metric]
    collect: tuple[str, ...]
    retention: int = DAY
    rollups: int = ROLLUPS
    alert_history: int = ALERT_HISTORY
    lateness: int = LATENESS
    cadence: Literal["fixed", "adaptive"] = "fixed"
    chosen: tuple[str, ...] | None = None
    accounts: dict[str, Account] = {}
    event_queues: dict[str, EventQueue] = {}
    discover: Discover | None = None
    budget: float | None = None
    limits: dict[str, Limit] = {}
    silences: tuple[Maintenance, ...] = ()
    #: Whether all of the saved configuration could be read. Alerts of unreadable rules stay unchanged.
    complete: bool = Field(default=True, exclude=True)

    def covers(self, key: str) -> bool:
        """Return whether ``[discover]`` or an event queue uses an account and region, by its key."""
        queue = queue_of(key)
        if queue is not None:
            return queue in self.event_queues
        return self.discover is not None and self.discover.searches(searched_of(key) or key)

    def account_region(self, region: str, account: str | None, secrets: Callable[[SecretRef], str]) -> AccountRegion:
        """Return where calls go for an account by its name; ``None`` is boto3's own credentials."""
        if account is None or account == DEFAULT_ACCOUNT:
            return AccountRegion(region=region)
        role = self.accounts[account]
        external_id = None if role.external_id is None else secrets(role.external_id)
        return AccountRegion(
            region=region,
            account=account,
            role_arn=role.role_arn,
            external_id=external_id,
            monitored_by=self._monitoring_account(role, secrets),
        )

    def _monitoring_account(self, source: Account, secrets: Callable[[SecretRef], str]) -> MonitoringAccount | None:
        """Return how to access an account's monitoring account: by a role there, or with boto3's own credentials."""
        if source.monitoring is None:
            return None
        candidate = next(((name, role) for name, role in self.accounts.items() if role.id == source.monitoring), None)
        if candidate is None:
            return MonitoringAccount(source=source.id)
        name, role = candidate
        external_id = None if role.external_id is None else secrets(role.external_id)
        return MonitoringAccount(source=source.id, account=name, role_arn=role.role_arn, external_id=external_id)

    def unit_of(self, metric: str) -> str:
        """Return the unit of a metric's values: ``count`` for the status checks, as in CloudWatch."""
        return "count" if metric in CHECK_METRICS else self.metrics[metric].unit

    def statistic_of(self, metric: str) -> str:
        """Return the statistic of a metric's values: one failed status check makes a slot fail."""
        return "Maximum" if metric in CHECK_METRICS else self.metrics[metric].statistic
