"""The page of recipes: every rule is valid and does what its test cases say."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.support.evaluating import ID
from workermon import config, models, rules, testing, views
from workermon.views import rule_cases

PAGE = (Path(__file__).parents[1] / "docs/how-to/recipes.md").read_text("utf-8")
#: Title and config file of each recipe.
RECIPES = re.findall(r"^## (.+?)$.*?```toml\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
HOUR = 3600
#: Midnight (UTC) of the day of the example.
DAY = 1_699_920_000
#: Recipes without values of one worker to try: what they look at is no series, or weeks of history.
UNTRIED = {
    "No data",
    "A worker that stopped by itself",
    "Retirement and Spot interruptions",
    "Unusual load",
}


def configured(text: str) -> tuple[config.File, models.Configuration]:
    """Return a recipe as a file and as the configuration that it makes."""
    channel_names = set(re.findall(r'"([\w-]+)"', " ".join(re.findall(r"notify = (.+)", text))))
    channels = "".join(f'\n[channels.{name}]\ntype = "log"\n' for name in sorted(channel_names))
    file = testing.parse(text + channels, "recipes.md")
    return file, config.to_configuration(file, config.DEFAULT)


def test_there_are_twenty() -> None:
    """The page has the number of recipes that it promises, each with its own title."""
    assert len(dict(RECIPES)) == len(RECIPES) >= 20
    assert PAGE.count("```toml") == len(RECIPES)


@pytest.mark.parametrize(("title", "text"), RECIPES, ids=[title for title, _ in RECIPES])
def test_each_recipe_does_what_its_cases_say(title: str, text: str) -> None:
    """A recipe is valid by itself and ``rules test`` passes its cases. Only some kinds can have none."""
    file, configuration = configured(text)
    results = rule_cases.test(file, configuration, rules.KINDS)
    assert [case for case in results.cases if not case.passed] == []
    assert bool(results.cases) == (title not in UNTRIED)
    assert len({rule["name"] for rule in tomllib.loads(text)["rules"]}) == len(configuration.rules)


def day() -> models.Series:
    """Return a day of a worker that renders from 08:00 to 18:00, and is backed up from 02:00 to 03:00."""
    hours = [(at, (at - DAY) / HOUR) for at in range(DAY, DAY + 24 * HOUR, 300)]
    return models.Series(
        300,
        tuple(models.Datapoint(at, 70.0 if 8 <= hour < 18 else 9.0 if 2 <= hour < 3 else 1.5) for at, hour in hours),
    )


def test_the_idle_worker_is_found_where_the_page_says() -> None:
    """The backtest over the ledger finds the page's result. A label excludes the worker."""
    _, configuration = configured(dict(RECIPES)["Idle workers"])
    end = DAY + 24 * HOUR
    monitor = testing.Monitor(configuration.model_copy(update={"retention": 48 * HOUR}), end)
    series_of = {}
    for number, labels in enumerate(({}, {"idle_below": "0"})):
        worker_id = f"{ID[:-1]}{number}"
        worker = models.Worker(
            id=worker_id, name="render-07", region="us-east-1", added_at=DAY, incarnation="first", labels=labels
        )
        monitor.workers.add([worker])
        series = {"cpu_utilization": day()}
        requested = {"cpu_utilization": float(end)}
        condition = models.Condition(
            status="running",
            running_since=DAY,
            collected_at=end,
            requested_at=requested,
            periods={"cpu_utilization": 300},
        )
        sample = models.Sample(worker=worker, collected_at=end, status="running", series=series, requested_at=requested)
        monitor.samples.write(sample, condition, "{}", force=True)
        records = list(monitor.workers.get([worker_id]).values())
        [rule] = configuration.rules
        [replay] = monitor.get(views.LedgerBacktest).replay(records, rule, configuration)
        series_of[bool(labels)] = [
            (models.rfc3339(episode.begin), None if episode.end is None else models.rfc3339(episode.end))
            for episode in replay.episodes
        ]
    assert series_of[True] == []
    rows = [f"| {begin[11:16]} | {end[11:16] if end else 'still open'} |" for begin, end in series_of[False]]
    assert "\n".join(rows) in PAGE, rows
