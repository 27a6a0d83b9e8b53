"""Partitions that are deliveries: keys sort as they came and parse back; what asks for a time is refused."""

from __future__ import annotations

import copy
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import sql
from pipelines.config import Partitions, is_key
from pipelines.config.partitions import KEY, MOST_DELIVERIES
from pipelines.errors import ConfigError
from pipelines.problem import Problem, parse_problem
from tests.conftest import ToyProblem

DELIVERIES = Partitions.model_validate({"every": "delivery"})
NUMBER = st.integers(1, MOST_DELIVERIES)
SHORT: dict[str, Any] = {
    "description": "Which customers leave?",
    "owner": "shop",
    "key": "customer",
    "label": "left",
    "available": "cutoff",
    "partitions": {"every": "delivery"},
    "sources": {
        "customers": {
            "path": "customers/*.csv",
            "columns": {"customer": "string", "age": "integer", "seen": "timestamp", "left": "integer"},
        }
    },
    "features": {"columns": "all"},
}


def read(**changes: Any) -> Problem:
    return parse_problem(copy.deepcopy(SHORT) | changes, Path("/problems/churn"))


@given(numbers=st.lists(NUMBER, min_size=2, max_size=20))
def test_keys_sort_as_they_came_and_parse_back(numbers: list[int]) -> None:
    keys = [DELIVERIES.shift("d00001", number - 1) for number in numbers]
    assert [int(key[1:]) for key in sorted(keys)] == sorted(numbers)
    for key, number in zip(keys, numbers, strict=True):
        assert int(key[1:]) == number and is_key(key) and re.fullmatch(KEY, key)
        assert DELIVERIES.key_of(DELIVERIES.parse(key)) == key
        assert DELIVERIES.fault_of(key) is None and DELIVERIES.named(key) == [key]
        assert "/" not in key and key == key.strip()


@given(number=NUMBER, part=st.floats(0, 1, exclude_max=True))
def test_each_has_a_moment_of_its_own_and_sql_names_it_alike(number: int, part: float) -> None:
    key = f"d{number:05}"
    start, end = DELIVERIES.start(key), DELIVERIES.end(key)
    moment = start + part * (end - start - timedelta(microseconds=1))
    assert start <= moment < end and DELIVERIES.key_of(moment) == key
    if number < MOST_DELIVERIES:
        assert DELIVERIES.start(DELIVERIES.shift(key, 1)) == end
    times = pa.table({"t": pa.array([moment, None], pa.timestamp("us", "UTC"))})
    named = sql.query(f"SELECT {sql.partition_of(DELIVERIES, 't')} AS key FROM times", {"times": times})
    assert named["key"].to_pylist() == [key, None]


def test_none_lies_before_the_first_and_there_is_a_last() -> None:
    assert DELIVERIES.shift("d00003", -7) == "d00000" < DELIVERIES.first_key == "d00001"
    with pytest.raises(ConfigError, match="at most 99,999"):
        DELIVERIES.shift("d99999", 1)
    for wrong in ("d1", "2024-01-01", "d000001", "d0000a"):
        with pytest.raises(ConfigError, match=r"number of a delivery.*such as d00001"):
            DELIVERIES.parse(wrong)


def test_the_short_form_needs_no_time() -> None:
    problem = read()
    assert list(problem.columns) == ["age", "seen"] and problem.features.columns == ["age"]
    assert '"delivered_time" AS event_time' in problem.sql("events")
    assert problem.queries == ("events", "labels")
    drawn = problem.dataset.split.drawn
    assert drawn is not None and (drawn.validation, drawn.test) == (0.15, 0.15)
    kept = parse_problem(problem.resolved()["settings"], Path("/problems/churn"))
    assert kept.config_hash == problem.config_hash


def test_the_column_of_deliveries_is_no_feature() -> None:
    sources = copy.deepcopy(SHORT["sources"])
    sources["customers"]["columns"]["batch"] = "integer"
    problem = read(partitions={"every": "delivery", "column": "batch"}, sources=sources)
    assert list(problem.columns) == ["age", "seen"]


def test_a_problem_in_time_keeps_its_hash(toy: ToyProblem) -> None:
    kept = toy().model_dump(mode="json")
    assert "drawn" not in kept["dataset"]["split"] and not {"source", "column"} & set(kept["partitions"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time": "seen"}, "time: deliveries have no time, only an order. If 'seen' says when"),
        ({"label": {"value": "left", "known": "seen"}}, "label.known: deliveries have no time"),
        ({"labels": {"delay_days": 3}}, "labels: delay_days and maturity_days count days"),
        ({"labels": {"after_maturity": "negative"}}, "labels.after_maturity: negative"),
        ({"dataset": {"split": {"test_partitions": 3}}}, "test_partitions: deliveries have no time; take drawn.test"),
        ({"dataset": {"split": {"drawn": {"test": 0.6, "validation": 0.5}}}}, "none is left to learn from"),
        ({"gate": {"max_age_days": 3}}, "gate.max_age_days: deliveries have no time"),
        ({"validation": {"max_age_days": 3}}, "validation.max_age_days: deliveries have no time"),
        ({"partitions": {"every": "delivery", "first": "2024-01-01"}}, "counted as they come; leave both out"),
        ({"partitions": {"every": "day", "first": "2024-01-01", "column": "age"}}, "column goes with every: delivery"),
        ({"partitions": {"every": "delivery", "source": "buyers"}}, "partitions.source: there is no source 'buyers'"),
        (
            {"partitions": {"every": "delivery", "column": "batch"}},
            "partitions.column: source 'customers' has no column",
        ),
        ({"replay": {"history_until": "d00002", "until": "d00004"}}, "replay: deliveries have no time"),
        (
            {
                "features": {
                    "columns": ["age"],
                    "history": {"n": {"by": ["age"], "function": "count", "window_days": 3}},
                }
            },
            "features.history: n: deliveries have no time",
        ),
        (
            {"features": {"columns": ["age"], "datetime": {"h": {"of": "event_time", "part": "hour"}}}},
            "features.datetime.h.of: deliveries have no time",
        ),
    ],
)
def test_what_asks_for_a_time_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(**changes)
    assert message in str(error.value)


def test_what_has_a_time_is_not_drawn(toy: ToyProblem) -> None:
    with pytest.raises(ConfigError, match=r"dataset.split.drawn: goes with deliveries"):
        toy(**{"dataset.split.drawn": {}})


def test_a_label_without_a_time_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"let partitions be \{every: delivery\}"):
        read(partitions={"every": "day", "first": datetime(2024, 1, 1, tzinfo=UTC).date()})
