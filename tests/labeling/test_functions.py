from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.errors import ConfigError
from pipelines.labeling.functions import votes
from pipelines.problem import Problem

EVENTS = pa.table(
    {
        "kettle_id": ["a", "b", "c", "d"],
        "shelf": ["top", "bottom", "top", None],
        "litres": [4.0, 1.0, None, 2.5],
        "age": pa.array([9, 1, 3, None], pa.int64()),
    }
)


def declared(toy: Callable[..., Problem], **functions: dict[str, str]) -> Problem:
    return toy(**{"labels.weak": {"functions": functions}})


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """A module of somebody's own functions."""
    made = types.ModuleType("kettle_functions")
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


def in_python(toy: Callable[..., Problem], module: types.ModuleType, function: Callable[[pa.Table], Any]) -> Problem:
    module.full = function  # type: ignore[attr-defined]
    return declared(toy, full={"python": f"{module.__name__}:full"})


def test_each_function_has_a_column_of_votes(toy: Callable[..., Problem]) -> None:
    problem = declared(
        toy,
        full={"sql": "litres > 3 -- a comment at the end"},
        old={"sql": "CASE WHEN age > 5 THEN 1 WHEN age < 2 THEN 0 END"},
        never={"sql": "NULL"},
    )
    assert votes(problem, EVENTS).to_pydict() == {
        "full": [1, 0, None, 0],
        "old": [1, 0, None, None],
        "never": [None] * 4,
    }
    assert set(votes(problem, EVENTS).schema.types) == {pa.int8()}


def test_rows_keep_their_order_whatever_the_expression_sorts(toy: Callable[..., Problem]) -> None:
    problem = declared(toy, above_mean={"sql": "litres > avg(litres) OVER (ORDER BY litres DESC, kettle_id)"})
    many = pa.concat_tables([EVENTS] * 500)
    first, second = (votes(problem, table)["above_mean"].to_pylist() for table in (many, many.slice(0, 4)))
    assert len(first) == 2000
    assert second == [0, 0, None, 0]


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("litrs > 3", "litrs"),
        ("litres >", "syntax error"),
        ("avg(litres) > 3", "GROUP BY"),
        ("2", "some are 2"),
        ("litres / 10", "some are 0.4"),
        ("CAST('NaN' AS DOUBLE)", "some are nan"),
        ("shelf", "neither boolean nor a number"),
        ("CAST(shelf AS INTEGER)", "Could not convert"),
    ],
)
def test_the_function_that_is_wrong_is_named(toy: Callable[..., Problem], expression: str, what: str) -> None:
    problem = declared(toy, good={"sql": "litres > 3"}, bad={"sql": expression})
    with pytest.raises(ConfigError, match=what) as caught:
        votes(problem, EVENTS)
    assert caught.value.where.endswith("labels.weak.functions.bad.sql")


@pytest.mark.parametrize(
    "said",
    [
        [1, 0, None, 0],
        np.array([1.0, 0.0, np.nan, 0.0]),
        pa.array([True, False, None, False]),
        pa.chunked_array([[1, 0], [None, 0]]),
        (1, 0, None, 0),
    ],
)
def test_python_may_give_any_array(toy: Callable[..., Problem], module: types.ModuleType, said: Any) -> None:
    seen = []
    problem = in_python(toy, module, lambda events: (seen.append(events), said)[1])
    assert votes(problem, EVENTS)["full"].to_pylist() == [1, 0, None, 0]
    assert [table.num_rows for table in seen] == [4], "called once, with all events"


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ([1], "gives 1 votes for 4 events"),
        ([1, 0, 3, -1], "some are"),
        (7, "gives no array: int"),
        (None, "gives no array: NoneType"),
        (["yes"] * 4, "neither boolean nor a number"),
        (np.zeros((4, 2)), "gives no array: ndarray"),
    ],
)
def test_what_python_gives_is_checked(
    toy: Callable[..., Problem], module: types.ModuleType, said: Any, what: str
) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        votes(in_python(toy, module, lambda events: said), EVENTS)
    assert caught.value.where.endswith("labels.weak.functions.full.python")


def test_python_that_fails_or_is_not_there_is_told(toy: Callable[..., Problem], module: types.ModuleType) -> None:
    with pytest.raises(ConfigError, match="kettle_functions:full fails: KeyError"):
        votes(in_python(toy, module, lambda events: events["nope"]), EVENTS)
    for reference in ("no_such_module:full", "kettle_functions:empty"):
        with pytest.raises(ConfigError, match="cannot be imported"):
            votes(declared(toy, full={"python": reference}), EVENTS)


def test_no_events_no_votes(toy: Callable[..., Problem]) -> None:
    problem = declared(toy, full={"sql": "litres > 3"})
    assert votes(problem, EVENTS.slice(0, 0)).num_rows == 0
