"""The regions of AWS, and the one that boto3 is configured for."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator

import botocore.configprovider
import botocore.exceptions
import botocore.session

from workermon import errors, models


@functools.cache
def known_regions() -> models.RegionNames:
    """Return every region that botocore knows, over all partitions, and the patterns of their names.

    botocore's EC2 endpoints lack regions that its list of partitions has. Asks no server.

    Raises ``errors.AwsDenied`` if boto3's configuration cannot be read.
    """
    with _reading_configuration():
        return _regions(botocore.session.Session())


def _regions(session: botocore.session.Session) -> models.RegionNames:
    names: set[str] = set()
    for partition in session.get_available_partitions():
        names.update(session.get_available_regions("ec2", partition_name=partition))
    partitions = session.get_component("data_loader").load_data("partitions")["partitions"]
    for partition in partitions:
        # Beside regions the list has names such as aws-global, for services without regions.
        names.update(region for region in partition["regions"] if not region.endswith("-global"))
    return models.RegionNames(frozenset(names), tuple(partition["regionRegex"] for partition in partitions))


def default_region() -> str | None:
    """Return the region that boto3 is configured for, or ``AWS_REGION``, as the other SDKs read it. Asks no server.

    Raises ``errors.AwsDenied`` if boto3's configuration cannot be read.
    """
    with _reading_configuration():
        from_environment = botocore.configprovider.EnvironmentProvider("AWS_REGION", os.environ).provide()
        region: str | None = from_environment or botocore.session.get_session().get_config_variable("region")
        return region


@contextlib.contextmanager
def _reading_configuration() -> Iterator[None]:
    try:
        yield
    except botocore.exceptions.BotoCoreError as error:
        raise errors.AwsDenied("AWS configuration", str(error), "check AWS_PROFILE and ~/.aws/config") from error


def check_region(region: str) -> None:
    """Raise ``errors.InvalidInput``, with the nearest name, for a region that botocore does not know."""
    names = known_regions()
    if region in names:
        return
    todo = errors.did_you_mean(region, names) or "give one such as us-east-1"
    raise errors.InvalidInput(f"region {region}", "AWS has no such region", todo)
