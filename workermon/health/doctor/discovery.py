"""Doctor: where ``[discover]`` searches."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping

from workermon import errors, models, ports
from workermon.health.doctor.check import Check


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryExamination:
    """Tests the search for instances."""

    configurations: ports.Configurations
    secrets: ports.Secrets
    ec2: ports.Ec2

    def examine(self, members: Collection[models.AccountRegion], default_region: str | None) -> Iterator[Check]:
        """Test the search where ``[discover]`` searches, except where workers are: there everything is tested."""
        configuration = self.configurations.load()
        discover = configuration.discover
        if discover is None:
            return
        regions = discover.regions or ((default_region,) if default_region else ())
        scopes = [configuration.account_region(region, discover.account, self.secrets) for region in regions]
        scope_keys = {scope.key for scope in members}
        answers = {scope.key: self._search_error(scope, discover.tags) for scope in scopes}
        serving = [scope.region for scope in scopes if answers[scope.key] is None]
        for key, error in answers.items():
            if key in scope_keys:
                continue
            name = f"ec2:DescribeInstances of [discover] in {key}"
            if error is None:
                yield Check(name=name, ok=True, reason="answered")
                continue
            refusal = errors.region_not_enabled(error, serving[0]) if serving else error
            reason = errors.printable(f"{refusal.kind}: {refusal.reason}")
            yield Check(name=name, ok=False, reason=reason, todo=refusal.todo)

    def _search_error(self, scope: models.AccountRegion, tags: Mapping[str, str]) -> errors.AwsError | None:
        try:
            self.ec2.find(scope, tags)
        except errors.AwsError as error:
            return error
        return None
