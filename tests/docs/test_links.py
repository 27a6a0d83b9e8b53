"""Links between pages lead somewhere: to a file that is there, and to a heading that it has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipelines.problem import ROOT

LINK = re.compile(r"\]\(([^()\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
PAGES = sorted(path for folder in (ROOT, ROOT / "docs", ROOT / ".github") for path in folder.glob("*.md"))
PAGES += sorted((ROOT / "docs").glob("*/*.md"))


def anchor(heading: str) -> str:
    """A heading's address within its page, as GitHub makes it.

    >>> anchor("What `make check` runs, and why")
    'what-make-check-runs-and-why'
    """
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return {anchor(heading) for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)}


def broken(page: Path) -> list[str]:
    """The page's links that lead nowhere; those to other sites are not followed."""
    wrong = []
    for link in LINK.findall(CODE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        is_sound = target.exists() and (not heading or heading in anchors(target))
        if not is_sound:
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_link_to_nothing_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n[a](#a-page) [b](#another) [c](page.md#a-page) [d](gone.md) `[e](code)` [f](https://x.y)"
    )
    assert broken(page) == ["#another", "gone.md"]


def test_each_file_that_a_page_names_is_there() -> None:
    """Such as `pipelines/sql.py`; a module that has moved is to be found where the pages say."""
    named = re.compile(r"`((?:benchmarks|dags|docs|include|pipelines|plugins|tests)/[\w/]+\.py)`")
    files = {(page.name, path) for page in PAGES for path in named.findall(page.read_text())}
    assert len(files) > 40
    assert sorted((page, path) for page, path in files if not (ROOT / path).is_file()) == []


def test_each_page_of_docs_is_linked_from_another() -> None:
    linked = set()
    for page in PAGES:
        files = (link.partition("#")[0] for link in LINK.findall(page.read_text()))
        linked |= {(page.parent / file).resolve() for file in files if file}
    alone = [page for page in PAGES if page.is_relative_to(ROOT / "docs") and page not in linked]
    assert alone == []
