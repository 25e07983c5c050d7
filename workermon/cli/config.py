"""``config schema``: the JSON schema of the config file."""

from __future__ import annotations

import click

from workermon.cli import files, output


@click.group()
def config() -> None:
    """Describe the config file.

    \b
    Example: workermon config schema > workermon.schema.json
    """


@config.command()
def schema() -> None:
    """Print the JSON schema of the config file.

    \b
    Example: workermon config schema > workermon.schema.json
    """
    output.document(files.parser().schema())
