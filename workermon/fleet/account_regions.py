"""Turns the names of a config file into accounts and regions."""

from __future__ import annotations

import dataclasses

from workermon import errors, models, ports
from workermon.fleet.regions import Regions


def discover_scopes(
    configuration: models.Configuration, secrets: ports.Secrets, region: str | None
) -> list[models.AccountRegion]:
    """Return where ``[discover]`` searches; ``region`` is the default. Without ``[discover]`` it searches nowhere.

    Raises ``errors.InvalidInput`` if there is no region at all.
    """
    discover = configuration.discover
    if discover is None:
        return []
    regions = discover.regions or ((region,) if region else ())
    if not regions:
        raise errors.InvalidInput("discover.regions", "no region is given or configured", "write it, or set AWS_REGION")
    return [configuration.account_region(name, discover.account, secrets) for name in regions]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ScopeLookup:
    """Finds the account and region that a user names."""

    regions: Regions
    configurations: ports.Configurations
    secrets: ports.Secrets

    def find(self, region: str | None, account: str | None) -> models.AccountRegion:
        """Return where calls go for an account of the configuration; ``None`` is boto3's own region or credentials.

        Raises ``errors.InvalidInput`` for a region that AWS does not have, ``errors.NotFound`` for an unknown account.
        """
        configuration = self.configurations.load()
        accounts = configuration.accounts
        if account not in (None, models.DEFAULT_ACCOUNT, *accounts):
            reason, todo = "it is not in the configuration", errors.nearest(account or "", accounts)
            raise errors.NotFound(f"account {account}", reason, todo)
        return configuration.account_region(self.regions.choose(region), account, self.secrets)
