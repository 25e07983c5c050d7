"""``rules check``: a config file validated without Redis or AWS."""

from __future__ import annotations

import click

from workermon.cli import files, options, output


@click.group()
def rules() -> None:
    """Work on config files and their rules."""


@rules.command()
@click.argument("file", metavar="FILE")
@options.as_json
def check(file: str, as_json: bool) -> None:
    """Validate a config file, without Redis or AWS.

    \b
    Example: workermon rules check fleet.toml
    """
    from workermon import config

    found = files.read(file)
    made = config.to_configuration(found, config.DEFAULT)
    if as_json:
        output.document(
            {
                "valid": True,
                "file": found.source,
                "rules": [rule.name for rule in made.rules],
                "channels": list(made.channels),
                "workers": [worker.id for worker in found.workers or ()],
                "collect": list(made.collect),
            }
        )
        return
    click.echo(
        f"{found.source}: valid; rules: {', '.join(rule.name for rule in made.rules) or 'none'};"
        f" channels: {', '.join(made.channels)}; workers: {len(found.workers or ())}"
    )
