"""Shared by all commands: the settings, and the container with its stages."""

from __future__ import annotations

import getpass
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import click

from workermon import errors, logs, ports, settings
from workermon.settings import simulated_aws

if TYPE_CHECKING:
    from workermon import config, fleet

T = TypeVar("T")


class Container(Protocol):
    """Returns a port by its type, as dishka's containers do."""

    def get(self, dependency_type: Any, /) -> Any:
        """Return the one of this container."""

    def close(self) -> None:
        """Close what was made."""


class Collected(NamedTuple):
    """The workers whose collection failed and why, and those that were not collected: paused or terminated."""

    failed: Mapping[str, errors.AwsError]
    paused: tuple[str, ...]
    retired: tuple[str, ...]


class Session:
    """One command line. It reads, imports and connects to nothing before it is needed."""

    def __init__(self, app_settings: settings.Settings | None = None, container: Container | None = None) -> None:
        self._app_settings, self._opened = app_settings, container
        self._serves = False

    @cached_property
    def settings(self) -> settings.Settings:
        """Return the settings, validated; logging is set up by them.

        A command that prints its own errors logs none beside them, unless its user asked for a level.
        """
        app_settings = self._app_settings or settings.load()
        if app_settings.embedded and not self._serves:
            simulated_aws.adopt(settings.address_file())
        logs.configure(
            app_settings.log_level if "log_level" in app_settings.model_fields_set else "error", app_settings.log_format
        )
        return app_settings

    def serve(self) -> None:
        """Log at the settings' level: this command runs until it is stopped, and its log is its output.

        It uses the AWS of its user, even if a demo left its address behind.
        """
        self._serves = True
        logs.configure(self.settings.log_level, self.settings.log_format)

    @cached_property
    def container(self) -> Container:
        """Return the container, opened now."""
        app_settings = self.settings
        if self._opened is not None:
            return self._opened
        app_settings.state_url  # noqa: B018 - if no server can be found, this says so in one line
        from workermon import runtime

        return typing.cast(Container, runtime.open(app_settings))

    def get(self, kind: Callable[..., T]) -> T:
        """Return a stage, a view or a port of the container."""
        instance: T = self.container.get(kind)
        return instance

    def now(self) -> float:
        """Return the time now."""
        return float(self.container.get(ports.Clock)())

    def region(self, name: str | None) -> str:
        """Return the given region, or the one that boto3 is configured for.

        Raises ``errors.InvalidInput`` if there is none, or AWS has none of that name.
        """
        return self._regions.choose(name)

    def check_regions(self, file: config.File) -> None:
        """Refuse a config file that names a region that AWS does not have."""
        self._regions.check(file)

    @cached_property
    def _regions(self) -> fleet.Regions:
        from workermon import fleet

        return fleet.Regions(default=self.default_region, known_regions=self.known_regions)

    @cached_property
    def default_region(self) -> str | None:
        """Return the region that boto3 is configured for."""
        from workermon import runtime

        return runtime.default_region()

    @cached_property
    def known_regions(self) -> Collection[str]:
        """Return the regions that AWS has."""
        from workermon import runtime

        return runtime.known_regions()

    def collect(self, worker_ids: Sequence[str]) -> Collected:
        """Collect workers here and now, and return the result of each."""
        if not worker_ids:
            return Collected({}, (), ())
        from workermon import collect

        report = self.get(collect.Collection).collect(list(worker_ids), force=True)
        return Collected(report.failed, report.paused, report.retired)

    def close(self) -> None:
        """Close what was opened."""
        if "container" in self.__dict__ and self._opened is None:
            self.container.close()


def user() -> str:
    """Return the user's name."""
    try:
        return errors.printable(getpass.getuser()).strip()[:64] or "unknown"
    except (OSError, KeyError):
        return "unknown"


pass_session = click.make_pass_decorator(Session)
