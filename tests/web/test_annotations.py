"""Description, runbook and owner on the page."""

from __future__ import annotations

import html

import pytest
from fastapi.testclient import TestClient

from tests.support import commands
from tests.support.commands import A, Ports
from workermon import fleet, models

SAID = {"description": "<b>Nodes</b> stall.", "runbook": "https://wiki.example.com/cpu?a=1&b=2", "owner": "<i>vfx</i>"}


@pytest.mark.parametrize("address", ["/rules", f"/alerts/{A}/cpu-high"])
def test_the_page_links_the_runbook(web: TestClient, world: Ports, address: str) -> None:
    """Rules and an alert's history show them as text. The runbook is a link without a referrer."""
    world.get(fleet.Adding).add([A], fleet.AddOptions(scope=models.AccountRegion(region=commands.REGION)))
    rules = world.configurations.load().rules
    world.configure(rules=tuple(rule.model_copy(update=SAID) for rule in rules if rule.name == "cpu-high"))
    commands.fires(world, A)
    text = web.get(address, headers={"Accept": "text/html"}).text
    assert f'<a href="{html.escape(SAID["runbook"])}" rel="noreferrer noopener">' in text
    assert html.escape(SAID["description"]) in text
    assert f"Owner: {html.escape(SAID['owner'])}" in text
    assert "<b>Nodes" not in text


def test_what_is_no_address_of_the_web_becomes_no_link(web: TestClient, world: Ports) -> None:
    """Only http and https addresses become links, whatever Redis contains."""
    rules = world.configurations.load().rules
    world.configure(rules=(rules[0].model_copy(update={"runbook": "javascript:alert(1)"}),))
    text = web.get("/rules", headers={"Accept": "text/html"}).text
    assert "javascript:alert(1)" in text
    assert 'href="javascript' not in text
