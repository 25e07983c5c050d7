"""``backup`` and ``restore``: the whole installation as one file, and back."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import click

from workermon import errors
from workermon.cli import audit_recording, files, output, session

#: Maximum bytes of a backup. Roll-ups take 17 for each series and hour: 5,000 workers over a month need half of this.
MAX_BACKUP = 8_000_000_000


@click.command()
@click.argument("file")
@session.pass_session
def backup(cli_session: session.Session, file: str) -> None:
    """Write configuration, fleet, silences, acks, alerts and their history to FILE; '-' is standard output.

    It has no datapoints, tokens and secrets. Only its owner can read FILE.

    \b
    Example: workermon backup workermon.backup.json
    """
    from workermon import fleet

    document = cli_session.get(fleet.BackingUp).back_up()
    if file == "-":
        click.echo(document)
        return
    _write(file, document + "\n")
    click.echo(f"backed up to {errors.printable(file)}", err=True)


@click.command(cls=audit_recording.Write)
@click.argument("file")
@click.option("--force", is_flag=True, help="Replace what is set up on this server.")
@session.pass_session
def restore(cli_session: session.Session, file: str, force: bool) -> None:
    """Restore the backup FILE on an empty server; '-' is standard input.

    All or nothing. Alerts that were notified before the backup are not notified again.

    \b
    Example: workermon restore workermon.backup.json
    """
    from workermon import fleet

    text = files.text(file, MAX_BACKUP)
    restored = cli_session.get(fleet.Restoring).restore(text, files.source(file), force=force)
    if restored.without_external_id:
        names = ", ".join(restored.without_external_id[:5])
        output.warn(f"no external id is known of {len(restored.without_external_id)} workers ({names}); add them again")
    click.echo(f"restored: workers: {restored.workers}, open alerts: {restored.open_alerts}")


def _write(file: str, text: str) -> None:
    """Write a file completely or not at all, for its owner only; a device or pipe is written to, and stays."""
    try:
        place = Path(os.path.realpath(file))  # a link stays, too
        if place.exists() and not place.is_file():
            with place.open("w", encoding="utf-8") as opened:
                opened.write(text)
        else:
            _replace(place, text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is not a path"
        raise errors.WorkermonError(
            errors.printable(file) or "FILE", reason, "name a file that can be written"
        ) from None


def _replace(place: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=".backup.", dir=place.parent)  # with mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(place)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
