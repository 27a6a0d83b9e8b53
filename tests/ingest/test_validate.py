from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import store
from pipelines.artifacts import table_schema
from pipelines.errors import ConfigError, DataError
from pipelines.ingest import validate
from pipelines.ingest.extract import extracted_schema, good_columns
from pipelines.ingest.judge import judge
from pipelines.ingest.quarantine import edited
from pipelines.problem import Problem, Query, parse_problem
from pipelines.stages.ingest import parted
from tests.examples import dear
from tests.ingest.set_aside import bad_numbers, bad_rows, expectations, summary
from tests.ingest.staged import DAY, NOON, events

ToyProblem = Callable[..., Problem]


def broken(problem: Problem, *changes: dict[str, Any]) -> list[list[str]]:
    """The rules that each row of a batch broke, row by row, in the rows' order; none for a good one."""
    staged = events(problem, *changes)
    bad = bad_rows(problem, "events", staged)
    good = good_rows(problem, "events", staged)
    assert good.num_rows + bad.num_rows == staged.num_rows
    by_row = {}
    for row in bad.to_pylist():
        told = json.loads(row["row"])
        by_row[(told["kettle_id"], told["known_time"], told["age"])] = row["rules"]
    return [by_row.get((row["kettle_id"], as_text(row["known_time"]), row["age"]), []) for row in staged.to_pylist()]


def as_text(time: datetime | None) -> str | None:
    return time.strftime("%Y-%m-%d %H:%M:%S+00") if time else None


def good_rows(problem: Problem, query: Query, staged: Any) -> pa.Table:
    """What is published: the staged rows without the bad ones, by their numbers."""
    good = staged.filter(~pc.field("number").isin(bad_numbers(problem, query, staged)))
    return (good if isinstance(good, pa.Table) else good.to_table()).select(good_columns(problem, query))


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({"litres": 5.1}, ["litres: outside 0..5"]),
        ({"litres": -1.0, "shelf": "floor"}, ["litres: outside 0..5", "shelf: not an allowed value"]),
        ({"shelf": None}, ["shelf: missing"]),
        ({"event_time": None}, ["event_time: missing"]),
        ({"known_time": NOON + timedelta(days=1)}, ["known_time: after cutoff_time"]),
        ({"known_time": None}, ["known_time: missing"]),
        ({"kettle_id": "k0"}, ["kettle_id: twice"]),
        ({"kettle_id": None}, ["kettle_id: missing"]),
        ({"faults": ["age: not of type integer: 'x'"], "age": None}, ["age: not of type integer: 'x'"]),
        ({"faults": ["shelf: not of type string: '1'"], "shelf": None}, ["shelf: not of type string: '1'"]),
        (
            {"faults": ["age: not of type integer: 'x'"], "age": None, "shelf": None, "litres": 9.0},
            ["age: not of type integer: 'x'", "litres: outside 0..5", "shelf: missing"],
        ),
    ],
)
def test_a_bad_row_is_set_aside_with_every_rule_it_broke(toy: ToyProblem, change: dict, rules: list[str]) -> None:
    staged = events(toy(), {}, change, {})
    bad = bad_rows(toy(), "events", staged)
    assert bad.schema.equals(table_schema(toy(), "quarantine"))
    assert sorted(bad["rules"].to_pylist()[-1]) == rules
    assert bad["source"].to_pylist() == ["events"] * bad.num_rows
    assert good_rows(toy(), "events", staged).num_rows + bad.num_rows == 3


def test_a_missing_value_that_is_allowed_breaks_nothing(toy: ToyProblem) -> None:
    assert broken(toy(), {"litres": None, "age": None}) == [[]]


def test_a_correction_is_no_duplicate_and_may_come_late(toy: ToyProblem) -> None:
    later = {"kettle_id": "k0", "known_time": NOON + timedelta(days=1), "litres": 2.0}
    assert broken(toy(), {}, later) == [[], []]
    assert broken(toy(), {}, later, {**later, "age": 4}) == [[], ["kettle_id: twice"], ["kettle_id: twice"]]
    assert broken(toy(), {"known_time": NOON + timedelta(hours=1)}, later) == [["known_time: after cutoff_time"], []]


def test_an_event_of_which_nothing_is_known_in_time_is_late_whatever_its_key(toy: ToyProblem) -> None:
    late = {"known_time": NOON + timedelta(hours=1), "kettle_id": None}
    assert broken(toy(), {"kettle_id": None}, late) == [
        ["kettle_id: missing"],
        ["kettle_id: missing", "known_time: after cutoff_time"],
    ]


def test_a_unique_column_tells_events_apart_not_statements(toy: ToyProblem) -> None:
    problem = toy(**{"columns.age.unique": True})
    corrected = {"kettle_id": "k0", "known_time": NOON + timedelta(days=1)}
    assert broken(problem, {"age": 1}, {**corrected, "age": 1}, {"age": 2}, {"age": None}, {"age": None}) == [[]] * 5
    assert broken(problem, {"age": 1}, {**corrected, "age": 1}, {"age": 1}, {"age": 2}) == [
        ["age: twice"],
        ["age: twice"],
        ["age: twice"],
        [],
    ]


def test_named_rules_are_conditions_that_a_row_fulfils_or_cannot_tell(toy: ToyProblem) -> None:
    problem = toy(**{"validation.rules": {"old_is_small": "litres < 2 OR age < 10 -- as made"}})
    assert broken(problem, {"age": 11}, {"age": 12, "litres": 3.0}, {"age": None, "litres": 3.0}) == [
        [],
        ["old_is_small: not fulfilled"],
        [],
    ]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("liters < 2", "liters"),
        ("litres", "gives DOUBLE, not true or false"),
        ("litres < ", "not one condition"),
        ("litres < 2, age < 3", "not true or false"),
        ("litres < 2) OR (age < 3", "not one condition"),
        ("_twice", "_twice"),
        ("partition = 'x'", "partition"),
        ("CAST(shelf AS INTEGER) > 3", "Could not convert string 'top'"),
    ],
)
def test_a_rule_that_cannot_be_evaluated_is_told_with_its_place(toy: ToyProblem, rule: str, message: str) -> None:
    problem = toy(**{"validation.rules": {"odd": rule}})
    with pytest.raises(ConfigError, match=message) as caught:
        summary(problem, "events", events(problem, {}), [DAY])
    assert "problem.yaml" in caught.value.where


def test_a_row_set_aside_is_kept_whole(toy: ToyProblem) -> None:
    staged = events(toy(), {"litres": 9.0}, {"faults": ["age: x"], "raw": '{"age":"old"}'})
    told = [json.loads(row) for row in bad_rows(toy(), "events", staged)["row"].to_pylist()]
    first, second = sorted(told, key=len, reverse=True)
    assert first == {
        "kettle_id": "k0",
        "event_time": "2024-01-01 12:00:00+00",
        "known_time": "2024-01-01 12:00:00+00",
        "cutoff_time": "2024-01-01 12:00:00+00",
        "shelf": "top",
        "litres": 9.0,
        "age": 3,
    }
    assert second == {"age": "old"}


def test_labels_are_nought_or_one_and_said_once(toy: ToyProblem) -> None:
    problem = toy(**{"labels.delay_days": 2})
    usual = {"event_time": NOON, "known_time": NOON, "partition": DAY, "faults": [], "raw": None}
    values = [("a", 0), ("b", 1), ("c", 2), ("d", 0), ("d", 1), ("e", None)]
    rows = [{**usual, "kettle_id": key, "label": label, "number": n} for n, (key, label) in enumerate(values)]
    staged = pa.Table.from_pylist(rows, schema=extracted_schema(problem, "labels"))
    good = good_rows(problem, "labels", staged)
    assert good["label"].to_pylist() == [0, 1]
    bad = bad_rows(problem, "labels", staged)
    assert Counter(rule for rules in bad["rules"].to_pylist() for rule in rules) == {
        "label: not 0 or 1": 1,
        "kettle_id: twice": 2,
        "label: missing": 1,
    }
    assert {json.loads(row)["known_time"] for row in bad["row"].to_pylist()} == {"2023-12-30 12:00:00+00"}, "no delay"


def test_a_batch_is_counted_by_partition_and_rule(toy: ToyProblem) -> None:
    second = {
        "partition": "2024-01-02",
        "event_time": NOON + timedelta(days=1),
        "cutoff_time": NOON + timedelta(days=1),
    }
    problem = toy(**{"columns.litres.max_null_share": 0.5})
    staged = events(
        problem,
        {"litres": None},
        {"event_time": NOON - timedelta(hours=1)},
        {**second, "litres": 9.0, "shelf": "floor"},
        {"faults": ["age: not of type integer: 'x'"], "age": None},
    )
    found = summary(problem, "events", staged, ["2024-01-01", "2024-01-02", "2024-01-03"])
    assert (found.rows, found.bad) == (4, 2)
    assert found.partitions.select(["partition", "rows", "bad", "newest", "null_share_litres"]).to_pylist() == [
        {"partition": "2024-01-01", "rows": 3, "bad": 1, "newest": NOON, "null_share_litres": 0.5},
        {"partition": "2024-01-02", "rows": 1, "bad": 1, "newest": None, "null_share_litres": None},
        {"partition": "2024-01-03", "rows": 0, "bad": 0, "newest": None, "null_share_litres": None},
    ]
    assert found.broken_in["age: not of type integer"] == {"2024-01-01": 1}
    assert found.broken_in["litres: outside 0..5"] == {"2024-01-02": 1}
    assert (found.rows_in(["2024-01-02", "2024-01-03"]), found.rows_in([])) == (1, 0)
    assert {name: count for name, count in found.broken.items() if count} == {
        "litres: outside 0..5": 1,
        "shelf: not an allowed value": 1,
        "age: not of type integer": 1,
    }
    with pytest.raises(DataError, match="rows of 2024-01-02 in a batch of 2024-01-01"):
        summary(problem, "events", staged, ["2024-01-01"])


def test_nothing_extracted_is_counted_too(toy: ToyProblem) -> None:
    staged = events(toy())
    found = summary(toy(), "events", staged, [DAY])
    assert (found.rows, found.bad, set(found.broken.values())) == (0, 0, {0})
    assert bad_rows(toy(), "events", staged).num_rows == 0


def test_a_sample_of_too_many_bad_rows_is_bounded(toy: ToyProblem) -> None:
    staged = events(toy(), *[{"litres": 9.0}] * 50)
    assert bad_rows(toy(), "events", staged, limit=7).num_rows == 7


def test_copies_have_ids_of_their_own_that_every_run_gives_again(toy: ToyProblem) -> None:
    same = {"kettle_id": "k", "litres": 9.0}
    bad = bad_rows(toy(), "events", events(toy(), same, {}, same, {"litres": 8.0}))
    again = bad_rows(toy(), "events", events(toy(), {"litres": -1.0, "kettle_id": "z"}, same, same))
    ids, ids_again = (dict(zip(t["id"].to_pylist(), t["row"].to_pylist(), strict=True)) for t in (bad, again))
    assert len(ids) == 3
    assert len(set(ids) & set(ids_again)) == 2
    assert all(ids[one] == ids_again[one] for one in set(ids) & set(ids_again))
    assert all(len(one) == 16 and set(one) <= set("0123456789abcdef") for one in ids)


def test_good_rows_come_in_their_order_from_files_too(toy: ToyProblem, tmp_path: Any) -> None:
    problem = toy(**{"columns.age.unique": True})
    count = 150_000
    keys = [f"k{n}" for n in range(count)]
    keys[140_000] = "k3"  # a duplicate, far from its twin
    ages = list(range(count))
    ages[77] = 100_000
    staged = pa.table(
        {
            "kettle_id": keys,
            "event_time": [NOON] * count,
            "known_time": [NOON] * count,
            "cutoff_time": [NOON] * count,
            "shelf": ["top"] * count,
            "litres": [1.0] * count,
            "age": ages,
            "partition": [DAY] * count,
            "faults": [[]] * count,
            "raw": [None] * count,
            "number": range(count),
        },
        schema=extracted_schema(problem, "events"),
    )
    pq.write_table(staged, tmp_path / "staged.parquet", row_group_size=20_000)
    dataset = ds.dataset(tmp_path / "staged.parquet")
    good = good_rows(problem, "events", dataset)
    wanted = [n for n in range(count) if n not in (3, 140_000, 77, 100_000)]
    assert good.equals(staged.take(wanted).select(good_columns(problem, "events")))
    bad = bad_rows(problem, "events", dataset)
    assert Counter(map(tuple, bad["rules"].to_pylist())) == {("kettle_id: twice",): 2, ("age: twice",): 2}


# What may be wrong with a row, and its rule, written down a second time: row by row, in plain Python.
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "kettle_id": st.sampled_from(["a", "b", "c", "d", None]),
            "known_time": st.sampled_from([NOON - timedelta(days=1), NOON, NOON + timedelta(days=1), None]),
            "cutoff_time": st.sampled_from([NOON, None]),
            "event_time": st.sampled_from([NOON, NOON, None]),
            "shelf": st.sampled_from(["top", "bottom", "floor", "", None]),
            "litres": st.sampled_from([-0.0, 0.0, 2.5, 5.0, 5.000001, -1e-9, 1e300, None]),
            "age": st.sampled_from([0, 1, 2**62, 2**62 + 1, None]),
            "faults": st.sampled_from(
                [[], [], [], ["age: not of type integer: 'x'"], ["shelf: not of type string: 'y'"]]
            ),
        }
    ),
    max_size=12,
)


def naive(rows: list[dict[str, Any]]) -> list[set[str]]:
    found = []
    for row in rows:
        same = [one for one in rows if row["kettle_id"] is not None and one["kettle_id"] == row["kettle_id"]]
        known = [one["known_time"] for one in same if one["known_time"] is not None]
        told = {fault.split(":")[0] for fault in row["faults"]}
        out = set(row["faults"])
        out |= {
            f"{name}: missing"
            for name in ("kettle_id", "event_time", "known_time", "cutoff_time", "shelf")
            if row[name] is None and name not in told
        }
        if row["known_time"] is not None and known.count(row["known_time"]) > 1:
            out.add("kettle_id: twice")
        is_first = not known or row["known_time"] == min(known)
        if None not in (row["known_time"], row["cutoff_time"]) and row["known_time"] > row["cutoff_time"] and is_first:
            out.add("known_time: after cutoff_time")
        if row["litres"] is not None and not 0 <= row["litres"] <= 5:
            out.add("litres: outside 0..5")
        if row["shelf"] not in ("top", "bottom", None):
            out.add("shelf: not an allowed value")
        events_with = {
            n if one["kettle_id"] is None else one["kettle_id"]
            for n, one in enumerate(rows)
            if one["age"] == row["age"]
        }
        if row["age"] is not None and len(events_with) > 1:
            out.add("age: twice")
        if row["litres"] is not None and row["age"] is not None and not row["litres"] < row["age"] + 4:
            out.add("small: not fulfilled")
        found.append(out)
    return found


@settings(max_examples=dear(30))
@given(ROWS)
def test_good_and_bad_are_all_rows_whatever_the_damage(toy: ToyProblem, rows: list[dict[str, Any]]) -> None:
    problem = toy(**{"columns.age.unique": True, "validation.rules": {"small": "litres < age + 4"}})
    raw = [{**row, "raw": json.dumps({"row": n})} for n, row in enumerate(rows)]
    staged = events(problem, *raw)
    expected = naive(rows)
    bad, good = bad_rows(problem, "events", staged), good_rows(problem, "events", staged)
    found = dict(zip((json.loads(row)["row"] for row in bad["row"].to_pylist()), bad["rules"].to_pylist(), strict=True))
    assert {n: set(rules) for n, rules in found.items()} == {n: rules for n, rules in enumerate(expected) if rules}
    assert all(len(rules) == len(set(rules)) for rules in found.values())
    wanted = staged.filter(pa.array([not rules for rules in expected], pa.bool_()))
    assert good.to_pylist() == wanted.select(good.schema.names).to_pylist()
    counted = summary(problem, "events", staged, [DAY])
    assert (counted.rows, counted.bad) == (len(rows), len(found))
    told = Counter(rule.split(": '")[0] for rules in found.values() for rule in rules)
    assert {name: count for name, count in counted.broken.items() if count} == told
    assert bad["id"].to_pylist() == bad_rows(problem, "events", staged)["id"].to_pylist()
    assert len(set(bad["id"].to_pylist())) == bad.num_rows


OF_CLASSES = {"task": "multiclass", "labels.classes": ["dry", "wet", "it's"], "features.history": {}}
OF_NUMBERS = {
    "task": "regression",
    "training.select_by": "rmse",
    "gate.limits": {"rmse": {"max": 9}},
    "gate.slices": None,
    "gate.gain_over_baselines": {"rmse": 0},
    "gate.gain_over_champion": {"rmse": 0},
}


def extracted_labels(problem: Problem, column: str, tmp_path: Any) -> pa.Table:
    """What extract gives of one label a row, `column` being an SQL list of them."""
    from pipelines import sql
    from pipelines.ingest.extract import extract

    times = "TIMESTAMPTZ '2024-01-01 12:00:00+00' AS event_time, TIMESTAMPTZ '2024-01-01 12:00:00+00' AS known_time"
    query = (
        f"SELECT 'k' || n AS kettle_id, {times}, label FROM (SELECT unnest({column}) AS label, unnest(range(9)) AS n)"
    )
    (tmp_path / "labels.sql").write_text(query)
    its = parse_problem(problem.model_dump(mode="json"), tmp_path)
    with sql.connection({}) as database:
        return pa.Table.from_batches(extract(its, "labels", database, DAY, DAY)).slice(0, 9)


@pytest.mark.parametrize(
    ("settings", "column", "good", "rules"),
    [
        ({}, "[1, 0, 2, NULL]", [1, 0], ["label: missing", "label: not 0 or 1"]),
        (
            OF_CLASSES,
            "['dry', 'it''s', 'Dry', 'x', NULL]",
            ["dry", "it's"],
            ["label: missing", "label: not one of labels.classes", "label: not one of labels.classes"],
        ),
        ({**OF_CLASSES, "labels.classes": [0, 1, 2]}, "[0, 2, 3]", ["0", "2"], ["label: not one of labels.classes"]),
        (
            OF_NUMBERS,
            "['1.5', '-3e9', 'x', 'inf', NULL]",
            [1.5, -3e9],
            ["label: missing", "label: not a finite number: 'inf'", "label: not of type float: 'x'"],
        ),
        (
            OF_NUMBERS,
            "[2.5::DOUBLE, 'nan'::DOUBLE, '-inf'::DOUBLE]",
            [2.5],
            ["label: missing", "label: not a finite number: '-inf'"],
        ),
    ],
)
def test_a_label_is_what_the_task_says(
    toy: ToyProblem, tmp_path: Any, settings: dict[str, Any], column: str, good: list[Any], rules: list[str]
) -> None:
    problem = toy(**settings)
    staged = extracted_labels(problem, column, tmp_path)
    staged = staged.filter(pc.less(staged["number"], len(good) + len(rules)))
    kept = good_rows(problem, "labels", staged)
    assert kept["label"].to_pylist() == good
    assert kept.schema.field("label").type == table_schema(problem, "labels").field("label").type
    bad = bad_rows(problem, "labels", staged)
    assert sorted(rule for row in bad["rules"].to_pylist() for rule in row) == rules
    expectations(problem, "labels", staged)  # Great Expectations agrees, or says so


def test_of_many_long_rows_the_beginnings_are_kept(toy: ToyProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "WHOLE_BYTES", 25_000)
    texts = [{"litres": 9.0, "kettle_id": f"k{n}" + "x" * 10_000} for n in range(4)]
    bad = bad_rows(toy(), "events", events(toy(), *texts, {"litres": 9.0}))
    rows = [json.loads(row) for row in bad["row"].to_pylist()]
    cut = [row for row in rows if validate.SHORTENED in row]
    assert (len(rows), len(cut)) == (5, 2)
    assert all(row["litres"] == 9.0 and len(row["kettle_id"]) < 300 for row in cut)
    monkeypatch.setattr(validate, "WHOLE_BYTES", 1 << 20)
    whole = bad_rows(toy(), "events", events(toy(), *texts, {"litres": 9.0}))
    assert bad["id"].equals(whole["id"]), "ids are those of the whole rows"
    with pytest.raises(DataError, match="only the beginnings"):
        edited(toy(), "events", json.dumps(cut[0]), {"litres": "1"})


def test_good_rows_and_bad_ones_are_told_apart_however_many_there_are(
    toy: ToyProblem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_STORE_URI", tmp_path.as_uri())
    staged = events(toy(), {}, {"litres": 9.0}, {}, {"litres": 9.0}, {})
    for most in (2, 1):
        monkeypatch.setattr(parted, "MOST_NUMBERS", most)
        uri = store.store_uri("toy", f"staging-{most}")
        store.stage(uri, staged, staged.schema)
        with judge(toy(), "events", store.staged(uri)) as noted:
            assert parted.part(toy(), noted, uri) == 2
        assert parted.good(uri).to_table().sort_by("number")["number"].to_pylist() == [0, 2, 4]
