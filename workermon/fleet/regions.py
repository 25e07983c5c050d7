"""Determines the region, and whether AWS has it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from workermon import config, errors


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Regions:
    """The region that boto3 is configured for, if any, and AWS' regions."""

    default: str | None
    known_regions: Collection[str]

    def choose(self, name: str | None) -> str:
        """Return the given region, or the default one.

        Raises ``errors.InvalidInput`` if there is none, or AWS has none of that name.
        """
        region = name or self.default
        if region is None:
            raise errors.InvalidInput("region", "none is given or configured", "add --region, or set AWS_REGION")
        if region not in self.known_regions:
            todo = errors.did_you_mean(region, self.known_regions) or "use one such as us-east-1"
            raise errors.InvalidInput(f"region {region[:64]}", "AWS has no region of that name", todo)
        return region

    def check(self, file: config.File) -> None:
        """Refuse a config file that names a region that AWS does not have."""
        region_by_path = [(f"workers[{place}]", worker.region) for place, worker in enumerate(file.workers or ())]
        region_by_path += [("discover.regions", region) for region in (file.discover.regions if file.discover else ())]
        for path, region in region_by_path:
            try:
                region is None or self.choose(region)
            except errors.InvalidInput as error:
                raise errors.InvalidInput(f"{file.location(path)}: {error.subject}", error.reason, error.todo) from None
