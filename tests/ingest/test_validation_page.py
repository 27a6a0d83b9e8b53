from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser

import pyarrow as pa
import pytest

from pipelines.ingest.batch import batch_rules
from pipelines.ingest.expectations import batch_expectations
from pipelines.ingest.rules import rules
from pipelines.ingest.validation_page import SetAside, Verdict, validation_page
from pipelines.problem import Problem
from tests.ingest.set_aside import bad_rows, expectations, summary
from tests.ingest.staged import DAY, events

ToyProblem = Callable[..., Problem]
NASTY = "<script>alert('x')</script>&\""
SOURCES = {"kettles": {"rows": 1234, "rejected": 2}}


class Page(HTMLParser):
    """The texts, tags and attributes of a page."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture
def problem(toy: ToyProblem) -> Problem:
    return toy(
        **{
            "description": NASTY,
            "validation.rules": {"odd": f"shelf <> '{NASTY.replace(chr(39), chr(39) * 2)}'"},
            "validation.max_quarantined_share": 0.9,
            "columns.litres.max_null_share": 0.5,
        }
    )


def set_aside(problem: Problem, staged: pa.Table) -> SetAside:
    bad = bad_rows(problem, "events", staged)
    return SetAside(bad, bad.num_rows)


def verdict(problem: Problem, staged: pa.Table, keys: list[str]) -> Verdict:
    counted = summary(problem, "events", staged, keys)
    checked = batch_rules(problem, counted, [])
    return Verdict(counted, checked, expected=[*expectations(problem, "events", staged), *batch_expectations(checked)])


def test_the_page_has_every_rule_and_needs_nothing_else(problem: Problem) -> None:
    staged = events(problem, {}, {"shelf": NASTY}, {"litres": 9.0, "kettle_id": NASTY})
    found = verdict(problem, staged, [DAY])
    bad = set_aside(problem, staged)
    page = Page(validation_page(problem, DAY, DAY, SOURCES, [found], bad, {}))
    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    assert not any(name.startswith("on") or name in ("src", "style") for name in page.attributes)
    for rule in rules(problem, "events"):
        assert any(rule.name in text for text in page.texts), rule.name
    for text in (
        "rows set aside",
        "litres: share of missing values",
        "1,234",
        NASTY,
        "Passed.",
        "Rows set aside",
        "shelf: of type string",
    ):
        assert text in page.texts, text
    assert any(NASTY in json.loads(text).values() for text in page.texts if text.startswith("{"))
    assert {*bad.first["id"].to_pylist()} <= set(page.texts)


def test_a_batch_that_failed_has_its_page_too(problem: Problem) -> None:
    staged = events(problem, {"shelf": None})
    counted = summary(problem, "events", staged, [DAY, "2024-01-02"])
    found = Verdict(counted, batch_rules(problem, counted, []))
    sample = set_aside(problem, staged)
    failure, beside = f"too bad {NASTY}", [f"9 rows of another week {NASTY}"]
    page = Page(validation_page(problem, DAY, "2024-01-02", SOURCES, [found], sample, {}, beside, failure))
    wanted = {"Nothing was published.", failure, "failed", "Great Expectations was not asked.", *beside}
    assert wanted <= set(page.texts)
    assert "script" not in page.tags


def test_each_refused_partition_stands_there_with_its_reasons_and_the_cure(problem: Problem) -> None:
    staged = events(problem, {})
    refused = {DAY: [f"no rows {NASTY}"], "2024-01-02": ["too late", "labels: half of them"]}
    found = Verdict(summary(problem, "events", staged, [DAY]), [])
    page = Page(validation_page(problem, DAY, "2024-01-03", SOURCES, [found], set_aside(problem, staged), refused))
    assert "2 partitions refused, and held; the others passed." in page.texts
    assert {DAY, f"no rows {NASTY}", "2024-01-02", "too late", "labels: half of them"} <= set(page.texts)
    assert any("validation.shape.accepted" in text for text in page.texts)
    assert "Rows set aside" not in page.texts, "there are none"


def test_a_long_history_is_cut(problem: Problem) -> None:
    keys = problem.partitions.between(DAY, "2024-12-31")
    staged = events(problem, *[{"litres": -1.0}] * 70)
    found = Verdict(summary(problem, "events", staged, keys), [])
    page = Page(validation_page(problem, DAY, keys[-1], SOURCES, [found], set_aside(problem, staged), {}))
    assert "The newest 60; 306 earlier ones are left out." in page.texts
    assert "50 of 70." in page.texts
    assert Page(validation_page(problem, DAY, DAY, {}, [], set_aside(problem, events(problem)), {})).open == []
