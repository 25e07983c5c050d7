"""``web``: the page, the API and ``/metrics``."""

from __future__ import annotations

from typing import Any, cast

import click

from workermon import errors, settings
from workermon.cli import options, session


@click.command()
@click.option("--host", type=options.Text(), help="Where to listen; 127.0.0.1 by default (WORKERMON_WEB_HOST).")
@click.option("--port", type=options.Whole(1, 65535), help="The port; 8650 by default (WORKERMON_WEB_PORT).")
@session.pass_session
def web(cli_session: session.Session, host: str | None, port: int | None) -> None:
    """Serve the page, the API and /metrics, until Ctrl-C.

    On any address but loopback a login is needed: create a token with 'workermon token create' first.

    \b
    Example: workermon web --port 8650
    """
    from workermon.web import server

    if host is not None and not settings.is_host(host):
        raise errors.InvalidInput("--host", "is not a host name or address", "use one such as 127.0.0.1")
    cli_session.serve()
    chosen = {name: value for name, value in (("web_host", host), ("web_port", port)) if value is not None}
    serving = session.Session(cli_session.settings.model_copy(update=chosen))
    try:
        server.serve(cast("Any", serving.container), lambda url: click.echo(f"page: {url}", err=True))
    finally:
        serving.close()
