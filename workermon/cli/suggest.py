"""``rules suggest``: changes of a config file that would have notified less and kept what mattered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from workermon import errors, models, ports
from workermon.cli import files, options, output, session

if TYPE_CHECKING:
    from workermon.views import rule_suggest


@click.command()
@click.argument("file", metavar="[FILE]", required=False)
@options.as_json
@session.pass_session
def suggest(cli_session: session.Session, file: str | None, as_json: bool) -> None:
    """Suggest changes to a config file as a diff, with their effect on the ledger.

    Without FILE it takes the applied set-up, as export prints it. Nothing is applied: pass the diff to patch, or edit
    the file by hand.

    \b
    Example: workermon rules suggest fleet.toml
    """
    from workermon import config, views
    from workermon.config import export
    from workermon.views import rule_suggest

    kinds = cli_session.get(config.Parser).kinds
    in_force = cli_session.container.get(ports.Configurations).load()
    if file is None:
        text, source = export.text(in_force, [], cli_session.now(), kinds), "set-up.toml"
    else:
        text, source = files.text(file), files.source(file)
    parser = files.parser()

    def rules_of(changed: str) -> Sequence[models.Rule]:
        return config.to_configuration(parser.parse(changed, source), in_force, kinds).rules

    configuration = config.to_configuration(parser.parse(text, source), in_force, kinds)
    suggestions_found = cli_session.get(views.RuleSuggestion).suggest(
        configuration.model_copy(update={"retention": in_force.retention})
    )
    after, suggestions = rule_suggest.edited(text, suggestions_found, rules_of, kinds)
    diff = rule_suggest.unified_diff(text, after, source)
    if as_json:
        output.document(rule_suggest.SuggestionList(file=source, suggestions=suggestions, diff=diff))
        return
    for suggestion in suggestions:
        click.echo(errors.printable(f"# {_line(suggestion)}"))
    click.echo(diff, nl=False)
    for suggestion in suggestions_found:
        if suggestion not in suggestions:
            output.warn(f"write it by hand: {_line(suggestion)}")
    if not suggestions_found:
        click.echo("no change would have saved enough notifications", err=True)


def _line(suggestion: rule_suggest.Suggestion) -> str:
    """Describe a change and its effect."""
    instead = f" instead of {suggestion.before}" if suggestion.before is not None else ""
    kept_alerts = [
        text
        for number, text in (
            (suggestion.acknowledged, f"the {suggestion.acknowledged} that somebody acknowledged"),
            (suggestion.lasting, f"the {suggestion.lasting} that lasted half an hour or longer"),
        )
        if number
    ]
    among = f", {' and '.join(kept_alerts)} still among them" if kept_alerts else ""
    later = f", {output.span(suggestion.delay)} later at most" if kept_alerts and suggestion.delay else ""
    return (
        f"{suggestion.rule}: {suggestion.key} = {suggestion.after}{instead}:"
        f" {suggestion.notifications} notifications become {suggestion.notifications_after}{among}{later}"
    )
