"""Events and labels of one table, without SQL: they are what the queries that a person would write give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config.plain_table import mentioned
from pipelines.errors import ConfigError
from pipelines.features.schema import feature_schema
from pipelines.ingest.extract import extract
from pipelines.ingest.look import check_sources
from pipelines.ingest.sources import opened
from pipelines.problem import Problem, load_problem, parse_problem

ROWS = """train,due,order,late_min,arrived,"Track"
a,2024-01-01T08:00:00Z,freight,3,2024-01-01T09:00:00Z,1
b,2024-01-01T09:00:00Z,express,20,2024-01-02T09:00:00Z,2
c,2024-01-02T09:00:00Z,,,,3
"""
SETTINGS: dict[str, Any] = {
    "description": "Is this train late?",
    "owner": "station",
    "key": "train",
    "partitions": {"every": "day", "first": "2024-01-01"},
    "sources": {
        "trains": {
            "path": "trains.csv",
            "columns": {
                "train": "string",
                "due": "timestamp",
                "order": "string",
                "late_min": "integer",
                "arrived": "timestamp",
            },
            "extra_columns": "ignore",
        }
    },
    "time": "due",
    "label": {"value": "late_min >= 15", "known": "arrived"},
    "available": "cutoff",
    "features": {"columns": "all"},
}
EVENTS = 'SELECT train, due AS event_time, "order" FROM trains'
LABELS = """
SELECT train, due AS event_time, arrived AS known_time, late_min >= 15 AS label FROM trains WHERE late_min IS NOT NULL
"""


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a problem, which has no SQL."""
    folder = tmp_path / "station"
    folder.mkdir()
    (folder / "trains.csv").write_text(ROWS)
    (folder / "problem.yaml").write_text(yaml.safe_dump(SETTINGS))
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path))
    return folder


def rows(problem: Problem) -> dict[str, list[dict[str, Any]]]:
    with opened(problem, "2024-01-01", "2024-01-02") as sources:
        return {
            query: [
                row
                for batch in extract(problem, query, sources.database, "2024-01-01", "2024-01-02")
                for row in batch.to_pylist()
            ]
            for query in problem.queries
        }


def test_its_rows_are_those_of_the_queries_that_it_stands_for(station: Path) -> None:
    made = rows(load_problem("station"))
    assert [row["order"] for row in made["events"]] == ["freight", "express", None]
    assert [(row["train"], row["label"], row["partition"]) for row in made["labels"]] == [
        ("a", 0, "2024-01-01"),
        ("b", 1, "2024-01-02"),
    ], "by when they became known; without a value there is none"
    written = {name: value for name, value in SETTINGS.items() if name not in ("time", "label")}
    (station / "events.sql").write_text(EVENTS)
    (station / "labels.sql").write_text(LABELS)
    assert rows(parse_problem(written | {"columns": {"order": {}}}, station)) == made


def test_headers_and_expressions_are_checked_before_rows_are_read(station: Path) -> None:
    assert check_sources(load_problem("station")) == []
    wrong = SETTINGS | {"label": "late_min >= fifteen"}
    (station / "problem.yaml").write_text(yaml.safe_dump(wrong))
    (fault,) = check_sources(load_problem("station"))
    assert fault.where == f"{station / 'problem.yaml'}, label"
    assert "fifteen" in fault.what


def test_a_feature_says_where_it_comes_from(station: Path) -> None:
    (feature,) = feature_schema(load_problem("station"), None)
    assert (feature["definition"], feature["source_columns"]) == ("order of the source trains", ["trains.order"])


@pytest.mark.parametrize(("name", "setting"), [("events", "time"), ("labels", "label")])
def test_a_query_that_is_there_twice_is_told(station: Path, name: str, setting: str) -> None:
    (station / f"{name}.sql").write_text("SELECT 1")
    with pytest.raises(ConfigError, match=rf"{setting}: {name}.sql is there too, and only one can say") as caught:
        load_problem("station")
    assert caught.value.where == str(station / "problem.yaml")
    assert caught.value.cure == f"remove {name}.sql, or `{setting}` from problem.yaml"
    assert parse_problem(json.loads(load_settings(station)), station).sql(name)  # type: ignore[arg-type]


def load_settings(station: Path) -> str:
    """What a version of before keeps, though a file has come since."""
    return parse_problem(SETTINGS, station).model_dump_json()


def test_labels_may_come_by_sql_or_by_hand_though_events_do_not(station: Path) -> None:
    without = {name: value for name, value in SETTINGS.items() if name != "label"}
    (station / "problem.yaml").write_text(yaml.safe_dump(without | {"features": {"columns": ["order"]}}))
    with pytest.raises(ConfigError, match=r"labels\.sql cannot be read") as caught:
        load_problem("station").sql("labels")
    assert "say `label` in problem.yaml" in caught.value.cure
    by_hand = {"labels": {"use": ["hand"], "hand": {"question": "Was it late?"}}}
    assert parse_problem(without | by_hand, station).queries == ("events",)
    (station / "labels.sql").write_text(LABELS)
    assert len(rows(load_problem("station"))["labels"]) == 2


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True)


@given(st.lists(NAMES, min_size=1, max_size=4, unique=True), st.data())
def test_every_column_of_an_expression_is_found_and_none_in_texts_or_comments(names: list[str], data: Any) -> None:
    used = data.draw(st.lists(st.sampled_from(names), unique=True))
    spelt = [data.draw(st.sampled_from([name, name.upper(), f'"{name}"'])) for name in used]
    hidden = [name for name in names if name not in used]
    expression = " + ".join(f"({word})" for word in spelt) + "".join(f" || '{name}''s'" for name in hidden)
    expression += f" /* {' '.join(hidden)} */ -- {' '.join(hidden)}"
    assert set(mentioned(expression, names)) == set(used)
