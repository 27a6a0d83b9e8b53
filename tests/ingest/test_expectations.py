from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from pipelines.errors import DataError
from pipelines.ingest import expectations as module
from pipelines.ingest import judge as judge_module
from pipelines.ingest import rules as rules_module
from pipelines.ingest.batch import BatchRule
from pipelines.ingest.expectations import batch_expectations
from pipelines.ingest.extract import extracted_schema
from pipelines.ingest.rules import Rule, rules
from pipelines.problem import Problem
from tests.ingest.set_aside import expectations, summary
from tests.ingest.staged import NOON, events

ToyProblem = Callable[..., Problem]


EVERYTHING: list[dict[str, Any]] = [
    {"age": 2**62},
    {"age": 2**62 + 1},  # one float apart from the former, and another integer
    {"age": 5, "litres": 5.1},
    {"age": 5, "litres": -1e-12},
    {"age": None, "faults": ["age: not of type integer: 'x'"]},
    {"age": None, "faults": ["shelf: not of type string: 'x'"], "shelf": None},
    {"age": 6, "shelf": None},
    {"age": 7, "shelf": "floor", "litres": 0.0},
    {"age": 8, "litres": -0.0},
    {"age": 9, "event_time": None, "known_time": None, "cutoff_time": None},
    {"age": 10, "known_time": NOON + timedelta(hours=1)},
    {"age": 11, "known_time": NOON + timedelta(hours=1), "kettle_id": None},
    {"age": None, "kettle_id": None},
    {"age": 12, "kettle_id": "twin"},
    {"age": 13, "kettle_id": "twin"},
    {"age": 14, "kettle_id": "corrected"},
    {"age": 14, "kettle_id": "corrected", "known_time": NOON + timedelta(days=9)},
    {"age": 10**6, "litres": 2.0},
    {"age": 16, "cutoff_time": datetime(9999, 1, 1, tzinfo=UTC)},
]


@pytest.fixture
def problem(toy: ToyProblem) -> Problem:
    return toy(
        **{
            "columns.age.unique": True,
            "columns.lid": {"type": "boolean", "available": "cutoff"},
            "columns.made": {"type": "timestamp", "available": "cutoff"},
            "validation.rules": {"young": "age < 100000 OR litres < 2"},
        }
    )


def test_both_agree_on_every_kind_of_damage(problem: Problem) -> None:
    found = {one.rule: one for one in expectations(problem, "events", events(problem, *EVERYTHING))}
    counted = summary(problem, "events", events(problem, *EVERYTHING), ["2024-01-01"]).broken
    assert set(found) >= set(counted) == {rule.name for rule in rules(problem, "events")}
    # Of rows that share a unique value, Great Expectations is shown one for each event.
    assert {name: one.unexpected for name, one in found.items() if name in counted} == counted
    assert counted["age: twice"] == 2
    assert counted["kettle_id: twice"] == 2
    assert counted["young: not fulfilled"] == 1
    assert sorted(found["litres: outside 0..5"].examples) == ["-1e-12", "5.1"]
    assert found["made: of type timestamp"].evaluated == len(EVERYTHING)


def test_of_the_good_rows_a_sample_is_enough(toy: ToyProblem) -> None:
    problem = toy(**{"validation.expectation_rows": 10})
    staged = events(problem, *[{}] * 40, {"litres": 9.0}, {"litres": 9.0})
    found = {one.rule: one for one in expectations(problem, "events", staged)}
    assert (found["litres: outside 0..5"].evaluated, found["litres: outside 0..5"].unexpected) == (12, 2)
    assert expectations(problem, "events", staged) == list(found.values())


def test_great_expectations_is_set_up_once_in_a_process(toy: ToyProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    import great_expectations as gx

    made: list[Any] = []
    make = gx.get_context

    def noted(*given: Any, **named: Any) -> Any:
        made.append(make(*given, **named))
        return made[-1]

    monkeypatch.setattr(gx, "get_context", noted)
    module._whole_frame.cache_clear()
    counts = [
        next(one for one in expectations(toy(), "events", events(toy(), *rows)) if one.rule == "litres: outside 0..5")
        for rows in ([{}, {"litres": 9.0}], [{}, {}, {"litres": 9.0}, {"litres": 8.0}], [{}])
    ]
    assert [(one.evaluated, one.unexpected) for one in counts] == [(2, 1), (4, 2), (1, 0)]
    assert len(made) == 1


def test_labels_have_their_own(toy: ToyProblem) -> None:
    usual = {"event_time": NOON, "known_time": NOON, "partition": "2024-01-01", "faults": [], "raw": None}
    rows = [{**usual, "kettle_id": f"k{n}", "label": label, "number": n} for n, label in enumerate((0, 1, 2, None))]
    staged = pa.Table.from_pylist(rows, schema=extracted_schema(toy(), "labels"))
    found = {one.rule: one.unexpected for one in expectations(toy(), "labels", staged)}
    assert {name for name, count in found.items() if count} == {"label: not 0 or 1", "label: missing"}


def test_nothing_is_expected_of_nothing(toy: ToyProblem) -> None:
    assert expectations(toy(), "events", events(toy())) == []
    assert batch_expectations([]) == []


@pytest.mark.parametrize(
    ("rule", "predicate"),
    [
        ("litres: outside 0..5", "litres < 0 OR litres > 5.2"),
        ("shelf: missing", "false"),
        ("shelf: not an allowed value", "coalesce(shelf, '') NOT IN ('top', 'bottom')"),
        ("known_time: after cutoff_time", "known_time > cutoff_time"),
        ("kettle_id: twice", "false"),
        ("age: twice", "false"),
    ],
)
def test_a_rule_that_the_two_take_differently_stops_the_run(
    problem: Problem, monkeypatch: pytest.MonkeyPatch, rule: str, predicate: str
) -> None:
    def mistaken(problem: Problem, query: Any) -> list[Rule]:
        found = rules_module.rules(problem, query)
        return [replace(one, broken=predicate) if one.name == rule else one for one in found]

    monkeypatch.setattr(judge_module, "rules", mistaken)
    with pytest.raises(DataError, match=f"rule '{rule}'.*they differ on \\d+, kettle_id "):
        expectations(problem, "events", events(problem, *EVERYTHING))


def test_batch_rules_are_evaluated_again_too(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = [
        BatchRule("rows", {"2024-01-01": 3, "2024-01-02": 0}, min=1),
        BatchRule("rows set aside", {"2024-01-01": 0.5, "2024-01-02": None}, max=0.5),
        BatchRule("age", {"2024-01-01": None}, max=2, is_required=True),
    ]
    assert [(one.evaluated, one.unexpected, one.examples) for one in batch_expectations(checked)] == [
        (2, 1, ("2024-01-02: 0",)),
        (1, 0, ()),
        (1, 1, ("2024-01-01: None",)),
    ]
    monkeypatch.setattr(BatchRule, "_breaks", lambda self, value: False)
    with pytest.raises(DataError, match="broken by none, and for Great Expectations by 2024-01-02"):
        batch_expectations(checked)


def test_a_rule_that_cannot_be_evaluated_is_told() -> None:
    import pandas as pd

    frame = pd.DataFrame({"a": [1]})
    with pytest.raises(DataError, match="rule 'b' could not be checked"):
        module._results(frame, [("b", "expect_column_values_to_not_be_null", {"column": "b"})])


def test_of_bad_rows_a_sample_is_looked_at_and_one_without_its_twin_is_not_compared(
    toy: ToyProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BAD_ROWS", 3)
    problem = toy(**{"columns.age.unique": True})
    twice = [{"kettle_id": f"k{n // 2}", "age": n} for n in range(6)]
    shared = [{"kettle_id": f"s{n}", "age": 100} for n in range(6)]
    staged = events(problem, *twice, *shared)
    expected = {found.rule: found for found in expectations(problem, "events", staged)}
    assert expected["shelf: of type string"].evaluated == 3
    assert expected["kettle_id: twice"].unexpected <= 3


def test_of_long_rows_few_are_looked_at(toy: ToyProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRAME_BYTES", 40_000)
    long = [{"kettle_id": f"k{n}" + "x" * 10_000, "litres": n % 2 * 9.0} for n in range(20)]
    found = expectations(toy(), "events", events(toy(), *long))
    (evaluated,) = {each.evaluated for each in found if each.rule == "litres: outside 0..5"}
    assert evaluated == 6, "three good ones, and three bad ones"
