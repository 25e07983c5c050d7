"""``token``: access to the page and the API from other machines."""

from __future__ import annotations

import re
from typing import cast

import click

from workermon import errors, models, ports
from workermon.cli import audit_recording, options, output, session, tables


class _Name(options.Text):
    """A token's name."""

    name = "name"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it, or refuse."""
        text = super().convert(value, param, ctx)
        if not re.fullmatch(models.ACCESS_NAME, text):
            self.fail(f"{text[:64]!r} is not a name of letters, digits, '.' and '-', 64 at most", param, ctx)
        return text


@click.group()
def token() -> None:
    """Create, list and revoke tokens for the page and the API."""


@token.command(cls=audit_recording.Write)
@click.argument("name", type=_Name())
@click.option("--role", type=click.Choice(models.ROLES), required=True, help="What the token allows.")
@options.as_json
@session.pass_session
def create(cli_session: session.Session, name: str, role: str, as_json: bool) -> None:
    """Create a token and print it. It is shown only once; only its hash is kept.

    A viewer reads. An operator also acknowledges, silences, pauses, resumes and refreshes. An admin also adds, removes
    and applies.

    \b
    Example: workermon token create grafana --role viewer
    """
    text, token_record = models.make_token(name, cast("models.Role", role), cli_session.now())
    if not cli_session.container.get(ports.Access).add(token_record):
        raise errors.InvalidInput(f"token {name}", "already exists", "revoke it first, or choose another")
    if as_json:
        output.document({"token": text, "name": name, "role": role, "created": models.rfc3339(token_record.created)})
    else:
        click.echo(text)
        click.echo("keep it safe: it is not shown again", err=True)


@token.command("list")
@options.as_json
@session.pass_session
def listing(cli_session: session.Session, as_json: bool) -> None:
    """List tokens by name, with their roles.

    \b
    Example: workermon token list
    """
    tokens = cli_session.container.get(ports.Access).tokens()
    if as_json:
        rows = [
            {"name": record.name, "role": record.role, "created": models.rfc3339(record.created)} for record in tokens
        ]
        output.document({"tokens": rows})
    elif tokens:
        table_rows = [(record.name, record.role, models.rfc3339(record.created)) for record in tokens]
        tables.show(("NAME", "ROLE", "CREATED"), table_rows)
    else:
        click.echo("no token", err=True)


@token.command(cls=audit_recording.Write)
@click.argument("name", type=_Name())
@session.pass_session
def revoke(cli_session: session.Session, name: str) -> None:
    """Revoke a token. The token and every session that began with it end immediately.

    \b
    Example: workermon token revoke grafana
    """
    access = cli_session.container.get(ports.Access)
    if not access.remove(name):
        names = [record.name for record in access.tokens()]
        raise errors.NotFound(f"token {name}", "does not exist", errors.nearest(name, names))
    click.echo(f"token {name} revoked")
