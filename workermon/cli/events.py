"""``events``: the event queue in AWS."""

from __future__ import annotations

from importlib import resources

import click

from workermon.cli import options, session


@click.group()
def events() -> None:
    """Set up the event queue, to see changes of instances within seconds."""


@events.command()
@click.option(
    "--region", "regions", multiple=True, type=options.Text(), help="A region with instances; may be repeated."
)
@click.option("--print", "only_template", is_flag=True, help="Print only the template, without the steps.")
@session.pass_session
def setup(cli_session: session.Session, regions: tuple[str, ...], only_template: bool) -> None:
    """Print the CloudFormation template of the event queue: queue, rules, and the least policy.

    The template goes to standard output and is the same for every region. The steps go to standard error: EventBridge
    reports the instances of its own region, so each region needs a stack, and an [events.NAME] in the config file.

    \b
    Example: workermon events setup --region us-east-1 > workermon-events.yaml
    """
    # The steps are for a shell: nothing but the names of regions may get into them.
    regions = tuple(dict.fromkeys(cli_session.region(region) for region in regions))
    click.echo(resources.files("workermon").joinpath("on_aws/events.yaml").read_text("utf-8"), nl=False)
    if only_template:
        return
    for region in regions or ("REGION",):
        name = "main" if len(regions) < 2 else region
        domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        click.echo(
            f"\n# {region}: save the template as workermon-events.yaml, then\n"
            f"aws cloudformation deploy --region {region} --stack-name workermon-events \\\n"
            "  --template-file workermon-events.yaml --capabilities CAPABILITY_IAM \\\n"
            "  --parameter-overrides ReaderRole=workermon\n"
            f"aws cloudformation describe-stacks --region {region} --stack-name workermon-events \\\n"
            "  --query 'Stacks[0].Outputs[0].OutputValue' --output text\n"
            "# and put that address into the config file:\n"
            f"[events.{name}]\n"
            f'queue_url = "https://sqs.{region}.{domain}/ACCOUNT/workermon"',
            err=True,
        )
    click.echo(
        "\n# 'workermon apply' starts to read it; 'workermon doctor' tries it with an event of its own.", err=True
    )
