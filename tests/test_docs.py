"""The pages: links lead to existing targets, config files are valid, and lines fit a narrow screen."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from workermon import settings, testing
from workermon.config import catalogue

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
WIDEST = 120
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.skipif(not (ROOT / "Makefile").exists(), reason="only a checkout has all pages")


def prose(page: Path) -> str:
    """Return a page without its fenced blocks and code."""
    return re.sub(r"`[^`\n]*`", "", FENCED.sub("", page.read_text("utf-8")))


def anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings have on the usual hosts."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    """Each link to a file names an existing one, and each anchor a heading of that page."""
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text("utf-8"))):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def test_every_page_is_reachable() -> None:
    """From the README a reader gets to every page by links."""
    reached, due = set(), [ROOT / "README.md"]
    while due:
        page = due.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        due += [
            (page.parent / target.partition("#")[0]).resolve()
            for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if "://" not in target and target[0] != "#"
        ]  # fmt: skip
    assert set(PAGES) <= reached


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_no_line_is_too_long(page: Path) -> None:
    """Outside tables no line has more than 120 characters."""
    long = [
        line for line in page.read_text("utf-8").splitlines() if len(line) > WIDEST and not line.startswith(("|", "!["))
    ]
    assert not long


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_config_files_are_valid(page: Path) -> None:
    """Each config file on a page is valid, together with what its rules need."""
    for _, kind, text in FENCED.findall(page.read_text("utf-8")):
        if kind != "toml" or text.lstrip().startswith("# pyproject.toml"):
            continue
        assert tomllib.loads(text)
        channel_names = set(re.findall(r'"([\w-]+)"', " ".join(re.findall(r"notify = (.+)", text))))
        missing = channel_names - set(tomllib.loads(text).get("channels", {})) - {"log"}
        channels = "".join(f'\n[channels.{name}]\ntype = "log"\n' for name in sorted(missing))
        assert testing.parse(re.sub(r"^ +", "", text, flags=re.MULTILINE) + channels, page.name)


def test_every_metric_is_on_its_page() -> None:
    """docs/reference/metrics.md names each metric of the catalogue."""
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text("utf-8")
    assert {name for name in catalogue.CATALOGUE if f"`{name}`" not in page} == set()


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_that_pages_name_exist(page: Path) -> None:
    """A path in backticks below a folder of this project exists."""
    paths = re.findall(
        r"`((?:workermon|tests|docs|deploy|benchmarks|requirements)/(?:[\w/-]*\.\w+|[\w/-]*/))`",
        page.read_text("utf-8"),
    )
    assert [path for path in paths if "NAME" not in path and not (ROOT / path).exists()] == []


def test_every_setting_is_on_its_page() -> None:
    """docs/reference/settings.md has a row for each variable that is read, and no other row."""
    page = (ROOT / "docs" / "reference" / "settings.md").read_text("utf-8")
    rows = re.findall(r"^\| `(WORKERMON_\w+)`", page, re.MULTILINE)
    assert sorted(rows) == sorted(f"WORKERMON_{name.upper()}" for name in settings.Settings.model_fields)


#: Turns of phrase of an English that has to be read twice; each with what to write.
AVOIDED = {
    r"(?<!there )(?<!There )\bis no (?!longer|more)\w+": "is not a …",
    r"\b(?:is|are|be|been|was|were) told\b": "notified, shown, reported",
    r"\bwho is\b(?! on call)": "name them: workers, people",
    r"\bwhoever\b(?! (?:has|was notified|can|loses))": "name them",
    r"\b(?:judge[ds]?|judgement)\b": "evaluate",
    r"\bfares?\b": "state",
    r"\bbells?\b": "message",
    r"\blest\b": "so that … not",
    r"\bas ever\b": "as always",
}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_the_english_is_plain(page: Path) -> None:
    """No page uses a phrase that has to be read twice."""
    text = prose(page)
    problems = [
        f"{match[0]!r}: write {instead!r}"
        for pattern, instead in AVOIDED.items()
        for match in re.finditer(pattern, text)
    ]
    assert not problems
