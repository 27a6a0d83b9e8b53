"""What holds for every page: its frame, its policy, its escaping, and that a template names only what its data have."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest

import pipelines.html
from pipelines.html import render as rendering
from pipelines.html.columns import Column

EVIL = "<script>alert('x')</script>&\""
TEMPLATES = Path(pipelines.html.__file__).parent / "templates"
PAGE = """{% extends "base.html" %}
{% from "macros.html" import section, table, pairs, figures, folded with context %}
{% block content %}
{% call section(page.evil) %}
{{ table([text(page.evil), number("n"), share("s"), interval("i"), verdict("v"), code("c")], page.rows) }}
{{ pairs([(page.evil, page.evil)]) }}
{{ figures(page.pictures) }}
{{ figures([none]) }}
{% call folded(page.evil) %}{{ page.evil }}{% endcall %}
{% endcall %}
{% call section("Next") %}{{ page.number }}{% endcall %}
{% endblock %}
"""
FOLDED = """{% extends "base.html" %}
{% from "macros.html" import folded_section with context %}
{% block content %}{% call folded_section("More") %}{{ page.number }}{% endcall %}{% endblock %}
"""


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> jinja2.Environment:
    """The environment of the pages, with one page more."""
    environment = rendering._environment().overlay(
        loader=jinja2.ChoiceLoader(
            [jinja2.DictLoader({"page.html": PAGE, "folded.html": FOLDED}), jinja2.FileSystemLoader(TEMPLATES)]
        )
    )
    monkeypatch.setattr(rendering, "_environment", lambda: environment)
    return environment


def page_data(**changes: object) -> SimpleNamespace:
    row = [EVIL, 1234, 0.5, {"value": 1.0, "low": 0.5, "high": 2.0}, False, EVIL]
    return SimpleNamespace(**{"evil": EVIL, "rows": [row], "pictures": [None, EVIL], "number": 5} | changes)


@pytest.mark.usefixtures("draw")
def test_every_text_is_escaped_and_every_cell_is_shown_by_its_kind() -> None:
    html = rendering.render("page.html", EVIL, page_data()).decode()
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 14
    for part in (
        '<td class="number">1,234</td>',
        '<td class="number">50.0 %</td>',
        "1 (0.5 to 2)</td>",
        '<td class="failed">failed</td>',
        "<td><code>&lt;script",
        "<figure>&lt;script",
    ):
        assert part in html
    assert html.count('<div class="pictures">') == 1, "no frame of no picture"


@pytest.mark.usefixtures("draw")
def test_the_links_at_the_top_lead_to_the_sections() -> None:
    html = rendering.render("page.html", "t", page_data(evil="What, then?")).decode()
    places = ["at-what-then", "at-next"]
    assert re.findall(r'<a href="#(.*?)">', html) == re.findall(r'<section id="(.*?)">', html) == places
    assert html.endswith("</html>\n")
    assert html.index('<nav class="contents" aria-label="On this page">') < html.index('<main id="content"')
    assert html.index('<a class="skip" href="#content">') < html.index("<nav")


@pytest.mark.usefixtures("draw")
def test_a_link_opens_a_folded_section_and_a_single_section_needs_no_links() -> None:
    html = rendering.render("folded.html", "t", page_data()).decode()
    opened = re.search(r'<details><summary><h2>More</h2></summary>\s*<div id="at-more">', html)
    assert opened, "a target inside opens it"
    assert "<nav" not in html


@pytest.mark.usefixtures("draw")
def test_what_the_data_lack_is_an_error_and_so_is_a_row_of_another_length() -> None:
    with pytest.raises(jinja2.UndefinedError, match="number"):
        data = page_data()
        del data.number
        rendering.render("page.html", "t", data)
    with pytest.raises(ValueError, match="shorter"):
        rendering.render("page.html", "t", page_data(rows=[["too few"]]))


def test_nothing_is_fetched_no_script_is_of_a_page_and_one_template_alone_is_a_frame() -> None:
    sources = {path.name: path.read_text() for path in TEMPLATES.iterdir()}
    assert [name for name, source in sources.items() if "<html" in source] == ["base.html"]
    assert [name for name, source in sources.items() if "<style" in source] == ["base.html"]
    assert [name for name in sources if name.endswith(".css")] == ["style.css"]
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'{% block policy %}" in sources["base.html"]
    scripts = [name for name, source in sources.items() if "<script" in source]
    assert sorted(scripts) == ["health.html", "health_problem.html"], "a script of ours, which the policy names by hash"
    for name, source in sources.items():
        if name in scripts:
            assert "script-src '{{ page.script.allowed }}'" in source
            source = source.replace("<script>{{ page.script.text }}</script>", "")
        assert not re.search(r"<script|<link|<img|@import|url\(|\son\w+=|autoescape", source), name
        if source.startswith("{% extends"):
            assert source.startswith('{% extends "base.html" %}\n'), name


def test_a_cell_that_is_missing_is_called_so() -> None:
    cells = [Column("", kind).shown(None) for kind in ("text", "code", "number", "share", "interval")]
    assert cells == ["", "", "not measured", "not measured", "not measured"]
