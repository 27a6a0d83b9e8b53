"""The site: every page has its place, and nothing in it asks another host."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.problem import ROOT

CONFIG = (ROOT / "zensical.toml").read_text()
PAGES = sorted((ROOT / "docs").rglob("*.md"))
MARKDOWN = re.compile(r"^(?: *\| .*|- .*|\d+\. .*|.*```.*|.*\]\(.*|.*\*\*\w.*)$", re.MULTILINE)
# What the theme fetches from elsewhere for itself, each by the mark in a page that makes it do so.
FETCHED_FOR = ['class="mermaid"', "glightbox", "pyodide", 'class="giscus', "data-md-source"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` does: a link that leads nowhere fails."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs")
    (folder / "zensical.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(folder / "zensical.toml")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "site"


def places(nav: Any) -> Iterator[str]:
    """The pages that the navigation leads to."""
    if isinstance(nav, str):
        yield nav
        return
    for entry in nav.values() if isinstance(nav, dict) else nav:
        yield from places(entry)


def test_each_page_has_one_place_in_the_navigation() -> None:
    listed = list(places(tomllib.loads(CONFIG)["project"]["nav"]))
    assert sorted(listed) == sorted(str(page.relative_to(ROOT / "docs")) for page in PAGES)


def test_each_page_is_built_and_nothing_else_is(site: Path) -> None:
    built = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")} - {Path("404")}
    assert {path.as_posix().replace("adr/index", "adr/README") for path in built} == {
        page.relative_to(ROOT / "docs").with_suffix("").as_posix() for page in PAGES
    }
    assert list(site.rglob("*.py")) == []


def test_no_page_asks_another_host(site: Path) -> None:
    loaded = re.compile(r"""<(?:script|img|link|iframe|source)\b[^>]*?(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)""")
    texts = {path: path.read_text() for path in site.rglob("*.html")}
    assert {address for text in texts.values() for address in loaded.findall(text)} == set()
    assert {mark for text in texts.values() for mark in FETCHED_FOR if mark in text} == set()
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", styles) == []


def test_no_markdown_is_left_over(site: Path) -> None:
    """GitHub takes some that the site does not, such as a list without an empty line before it."""
    left: dict[str, list[str]] = {}
    for path in site.rglob("*.html"):
        page = re.search(r"<article.*?</article>", path.read_text(), re.DOTALL)
        if page:
            prose = re.sub(r"<(pre|code|svg|h[1-6])\b.*?</\1>", "", page[0], flags=re.DOTALL)
            found = MARKDOWN.findall(html.unescape(re.sub(r"<[^>]+>", "", prose)))
            left |= {str(path.relative_to(site)): found} if found else {}
    assert left == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_lists_within_lists_are_indented_by_four_spaces(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"^ {1,3}(?:- |\* |\d+\. ).*", prose, re.MULTILINE) == []


def test_diagrams_are_drawn_and_the_search_knows_the_settings(site: Path) -> None:
    assert all('<div class="diagram"><svg' in (site / page).read_text() for page in ("index.html", "architecture.html"))
    assert "max_repeated_share" in (site / "search.json").read_text()
