"""The configuration in force: rules, channels, metrics, accounts and limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from pydantic import Field, JsonValue

from workermon import errors
from workermon.models.base import DAY, Frozen, Text
from workermon.models.checks import CHECK_METRICS
from workermon.models.event_queue import EventQueue, queue_of
from workermon.models.maintenance import Maintenance
from workermon.models.rule import Rule
from workermon.models.search import searched_of
from workermon.models.worker import DEFAULT_ACCOUNT, AccountRegion, MonitoringAccount, account_and_region

#: Seconds. How late a datapoint may come or be revised and still count, by default.
LATENESS = 900

#: Seconds. How long the history of alerts is kept by default, and hourly roll-ups: a year and a month.
ALERT_HISTORY = 400 * DAY
ROLLUPS = 400 * DAY

#: Variables that configure AWS and workermon itself. No config file may have them sent anywhere.
PROTECTED_VARIABLES = ("AWS_", "WORKERMON_")


def is_protected_variable(name: str) -> bool:
    """Return whether an environment variable may never be given away as a secret.

    >>> is_protected_variable("AWS_SECRET_ACCESS_KEY"), is_protected_variable("OPS_SECRET")
    (True, False)
    """
    return name.upper().startswith(PROTECTED_VARIABLES)


class SecretRef(Frozen):
    """A secret by name: an environment variable, or a file that holds it (a final newline is dropped)."""

    env: str | None = None
    file: str | None = None


class Channel(Frozen):
    """Where notifications go (docs/reference/channels.md).

    ``url`` and ``secret`` may be by name only. ``template`` replaces the text for people, ``per_minute`` is the most
    that is sent in any minute, ``group_wait`` for how many seconds a group is gathered (0: nothing is grouped),
    ``repeat`` after how many seconds a notification that still fires is sent again; ``None`` is what suits the type.
    ``alert_after`` is for how many seconds it accepts nothing until other channels are notified of that.
    ``options`` are the keys that only its type knows, as the config file has them.
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
    """A catalogue entry: what CloudWatch calls the metric that we call ``name``.

    ``period`` in seconds, ``None``: as EC2 publishes it (60 with detailed monitoring, else 300). ``merge`` is how
    several series of one worker, such as those of its filesystems, become one. Only series count whose dimensions match
    one glob of each dimension in ``include``, and none in ``exclude``. ``also`` are names under which other agents
    publish the same; they are looked for where the first is not published.
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
        """Return CloudWatch's name of it, under which dimensions are kept and requests are counted."""
        return f"{self.namespace}/{self.metric_name}"

    @property
    def variants(self) -> tuple[Metric, ...]:
        """Return the metric under each of its names, itself first."""
        return (self, *(self.model_copy(update={"metric_name": name, "also": ()}) for name in self.also))

    def period_for(self, *, detailed: bool) -> int:
        """Return the period in seconds at which CloudWatch has it for a worker with or without detailed monitoring."""
        return self.period or (60 if detailed else 300)


class Account(Frozen):
    """How to become another AWS account: the role, and its external id by the name of the secret.

    ``monitoring`` is the id of the account through which its CloudWatch is read, ``None``: of none.
    """

    role_arn: str
    external_id: SecretRef | None = None
    monitoring: str | None = None

    @property
    def id(self) -> str:
        """Return the account's id, from its role."""
        return self.role_arn.split(":")[4]


#: Characters of a tag's value that a label keeps: as many as EC2 allows.
MAX_LABEL_LENGTH = 256


class Discover(Frozen):
    """The instances with these tags belong to the fleet; no region: the one that boto3 is configured for.

    ``labels_from_tags`` says, by label, which tag it takes its value from.
    """

    regions: tuple[str, ...] = ()
    tags: dict[str, str] = {}
    account: str | None = None
    interval: int | None = None
    labels: dict[str, str] = {}
    labels_from_tags: dict[str, str] = {}

    def labels_of(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Return the labels of an instance with these tags. ``labels`` win; a tag without a value gives none.

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
        """Return whether a worker that it brings may have all these labels; a tag can have any value."""
        return all(
            self.labels[label] == value if label in self.labels else label in self.labels_from_tags
            for label, value in labels.items()
        )

    def may_group(self, label: str) -> bool:
        """Return whether a worker that it brings may have a label, whatever its value."""
        return label in self.labels or label in self.labels_from_tags

    def searches(self, key: str) -> bool:
        """Return whether instances are searched in an account and region (its key); any region if it names none."""
        account, region = account_and_region(key)
        return account == (self.account or DEFAULT_ACCOUNT) and (not self.regions or region in self.regions)


class Limit(Frozen):
    """How fast an API of an account and region may be asked: ``bucket`` requests at once, ``rate`` per second."""

    bucket: float = Field(ge=1, le=100_000)
    rate: float = Field(gt=0, le=100_000)


class Configuration(Frozen):
    """What is in force; ``revision`` grows with each change.

    ``collect`` are the metrics to collect, ``chosen`` those that the file named (``None``: none, so the defaults and
    what the rules need). ``budget`` is in dollars a day (UTC), ``None``: no limit. ``limits`` is by API, by default
    ``costs.LIMITS``. ``lateness`` is how many seconds late a datapoint may come or be revised and still count,
    ``retention`` for how many seconds it is kept, ``rollups`` for how many hourly roll-ups are (0: none are made), and
    ``alert_history`` for how many the history of alerts is. ``cadence``: a metric is asked for each period, or less
    often while it is far from every threshold.
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
    #: Whether all of what was saved could be read. Alerts of rules that could not are left as they are.
    complete: bool = Field(default=True, exclude=True)

    def covers(self, key: str) -> bool:
        """Return whether ``[discover]`` or an event queue is asked for in an account and region, by its key."""
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
        """Return how to become the monitoring account of another: by a role there, else by boto3's own credentials."""
        if source.monitoring is None:
            return None
        named = next(((name, role) for name, role in self.accounts.items() if role.id == source.monitoring), None)
        if named is None:
            return MonitoringAccount(source=source.id)
        name, role = named
        external_id = None if role.external_id is None else secrets(role.external_id)
        return MonitoringAccount(source=source.id, account=name, role_arn=role.role_arn, external_id=external_id)

    def unit_of(self, metric: str) -> str:
        """Return the unit of a metric's values: ``count`` for the status checks, as CloudWatch's StatusCheckFailed."""
        return "count" if metric in CHECK_METRICS else self.metrics[metric].unit

    def statistic_of(self, metric: str) -> str:
        """Return the statistic of a metric's values: one failed status check makes a slot fail."""
        return "Maximum" if metric in CHECK_METRICS else self.metrics[metric].statistic
