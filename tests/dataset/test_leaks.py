from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from pipelines.dataset.leaks import Finding, check, feature_sources, require_clean
from pipelines.errors import ConfigError, DataError, SchemaError
from pipelines.problem import Problem

ToyProblem = Callable[..., Problem]
START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
AS_OF = START + 10 * DAY
SPLITS = ["train"] * 7 + ["validation"] + ["test"] * 2
PER_DAY = 60


def assembled(problem: Problem, **columns: Any) -> pa.Table:
    """Ten days of 60 kettles; every feature is noise, and every label is known an hour later."""
    random, count = np.random.default_rng(1), PER_DAY * len(SPLITS)
    time = [START + DAY * (n // PER_DAY) + timedelta(minutes=n % PER_DAY) for n in range(count)]
    table: dict[str, Any] = {
        "kettle_id": [f"k{n:04}" for n in range(count)],
        "partition": [at.date().isoformat() for at in time],
        "event_time": time,
        "split": [SPLITS[n // PER_DAY] for n in range(count)],
        "label": pa.array(random.integers(0, 2, count), pa.int8()),
        "source": ["natural"] * count,
        "weight": [1.0] * count,
        "label_known_time": [at + timedelta(hours=1) for at in time],
        "shelf": random.choice(["top", "bottom"], count),
        "litres": random.normal(size=count),
        "age": np.arange(count),
        "shelf_rate_3d": random.normal(size=count),
        "shelf_count_2d": random.normal(size=count),
    }
    return pa.table(table | columns)


def replaced(rows: pa.Table, name: str, place: int, value: Any) -> pa.Table:
    values = rows[name].to_pylist()
    values[place] = value
    return rows.set_column(rows.column_names.index(name), name, pa.array(values, rows[name].type))


def found(problem: Problem, rows: pa.Table) -> dict[str, Finding]:
    return {finding.name: finding for finding in check(problem, rows, AS_OF)}


def test_rows_that_do_not_fit_in_memory_are_read_from_disk(toy: ToyProblem, tmp_path: Path) -> None:
    problem = toy(**{"dataset.leaks": {"entities": ["age"], "duplicates": True}})
    rows = replaced(assembled(problem), "kettle_id", 500, "k0001")
    with pa.ipc.new_file(tmp_path / "rows.arrow", rows.schema) as writer:
        writer.write_table(rows, max_chunksize=50)
    on_disk = ds.dataset(tmp_path / "rows.arrow", format="ipc")
    assert check(problem, on_disk, AS_OF) == check(problem, rows, AS_OF)


def test_an_honest_set_passes_and_every_check_says_so(toy: ToyProblem) -> None:
    problem = toy(**{"dataset.leaks": {"entities": ["age"], "duplicates": True}})
    findings = check(problem, assembled(problem), AS_OF)
    assert [finding.name for finding in findings] == [
        "availability",
        "single_feature",
        "label_times",
        "event_times",
        "events_once",
        "entity age",
        "duplicates",
        "copies",
        "label_coverage",
    ]
    assert all(finding.passed and finding.reason and not finding.cure for finding in findings)
    require_clean(problem, findings)


def test_a_feature_that_says_when_it_is_known_too_late_or_not_at_all(toy: ToyProblem) -> None:
    problem = toy(**{"columns.litres.available": "later", "columns.shelf.available": None})
    finding = found(problem, assembled(problem))["availability"]
    assert not finding.passed
    assert "litres (used by litres) is known only later" in finding.reason
    assert "shelf (used by shelf, shelf_rate_3d, shelf_count_2d) does not say when it is known" in finding.reason
    with pytest.raises(DataError, match="litres") as info:
        require_clean(problem, [finding])
    assert "available: cutoff" in info.value.cure


def test_columns_that_features_are_made_of_have_to_say_it_too(toy: ToyProblem) -> None:
    problem = toy(
        **{
            "columns.lid": {"type": "string"},
            "columns.bought": {"type": "timestamp"},
            "columns.heat": {"type": "float", "available": "later"},
            "columns.note": {"type": "string"},
            "features.history": {"heat_3d": {"by": ["shelf"], "of": "heat", "function": "max", "window_days": 3}},
            "features.crosses": {"shelf_lid": {"of": ["shelf", "lid"]}},
            "features.datetime": {
                "bought_hour": {"of": "bought", "part": "hour", "cyclical": True},
                "month": {"part": "month"},
            },
        }
    )
    assert feature_sources(problem) == {
        "shelf": ["shelf"],
        "litres": ["litres"],
        "heat_3d": ["shelf", "heat"],
        "shelf_lid": ["shelf", "lid"],
        "bought_hour_sin": ["bought"],
        "bought_hour_cos": ["bought"],
        "month": [],
    }
    assert list(feature_sources(problem)) == problem.feature_names
    made = {name: np.zeros(600) for name in problem.feature_names[2:]}
    finding = found(problem, assembled(problem, **made))["availability"]
    for name in ("lid (used by shelf_lid)", "bought (used by bought_hour_sin, bought_hour_cos)", "heat (used by"):
        assert name in finding.reason
    assert "note" not in finding.reason, "no feature uses it"


def test_a_feature_that_alone_predicts_too_well_is_named(toy: ToyProblem) -> None:
    """As dep_delay would: noisy, but far too good."""
    problem = toy()
    rows = assembled(problem)
    late = rows["label"].to_numpy() * 2 + np.random.default_rng(2).normal(size=rows.num_rows)
    finding = found(problem, assembled(problem, litres=late))["single_feature"]
    assert not finding.passed
    assert "litres alone predicts the label with an AUC of 0.9" in finding.reason
    assert "allowed: 0.85" in finding.reason
    assert "shelf" not in finding.reason
    with pytest.raises(DataError, match="litres alone predicts"):
        require_clean(problem, [finding])


def test_only_the_training_split_is_asked(toy: ToyProblem) -> None:
    """The feature is perfect on the other three tenths of the rows, 0.65 on all of them."""
    problem = toy(**{"dataset.leaks": {"max_single_feature_auc": 0.6}})
    rows = assembled(problem)
    held_out = np.where(np.array(rows["split"].to_pylist()) == "train", 0.0, rows["label"].to_numpy())
    assert found(problem, assembled(problem, litres=held_out))["single_feature"].passed


def test_somebody_may_have_looked(toy: ToyProblem) -> None:
    problem = toy(**{"dataset.leaks": {"accepted": ["litres"]}})
    rows = assembled(problem)
    finding = found(problem, assembled(problem, litres=rows["label"].to_numpy() * 1.0))["single_feature"]
    assert finding.passed
    assert finding.reason == "litres predicts best alone, with an AUC of 1.000; allowed: 0.85; accepted: litres"
    with pytest.raises(ConfigError, match="'liters' is no feature; did you mean 'litres'"):
        check(toy(**{"dataset.leaks": {"accepted": ["liters"]}}), rows, AS_OF)


def test_a_label_that_came_too_late(toy: ToyProblem) -> None:
    problem = toy()
    rows = assembled(problem)
    late = replaced(rows, "label_known_time", 0, START + 7 * DAY)
    assert (
        "1 train rows have labels that were not known before 2024-01-08" in found(problem, late)["label_times"].reason
    )
    assert found(problem, replaced(rows, "label_known_time", 0, START + 7 * DAY - timedelta(microseconds=1)))[
        "label_times"
    ].passed
    later = replaced(rows, "label_known_time", PER_DAY * 7, START + 8 * DAY)
    assert "1 validation rows" in found(problem, later)["label_times"].reason
    future = replaced(rows, "label_known_time", PER_DAY * 9, AS_OF)
    assert (
        "1 test rows have labels that were not known before 2024-01-11" in found(problem, future)["label_times"].reason
    )
    untold = replaced(rows, "label_known_time", 3, None)
    assert "1 rows do not say" in found(problem, untold)["label_times"].reason
    plain = toy(**{"dataset.split": {"embargo": False}})
    finding = found(plain, late)["label_times"]
    assert finding.passed
    assert "there is no embargo" in finding.reason
    assert not found(plain, future)["label_times"].passed


def test_splits_that_overlap_in_time(toy: ToyProblem) -> None:
    problem = toy()
    finding = found(problem, replaced(assembled(problem), "split", 0, "test"))["event_times"]
    assert not finding.passed
    assert "validation goes on until" in finding.reason
    strange = found(problem, replaced(assembled(problem), "split", 0, "embargo"))["event_times"]
    assert "rows of embargo" in strange.reason


def test_an_event_that_stands_twice(toy: ToyProblem) -> None:
    problem = toy()
    finding = found(problem, replaced(assembled(problem), "kettle_id", 500, "k0001"))["events_once"]
    assert (finding.passed, finding.reason) == (False, "1 events stand more than once, such as k0001")


def test_an_entity_in_two_splits(toy: ToyProblem) -> None:
    problem = toy(**{"dataset.leaks": {"entities": ["age"]}})
    rows = replaced(replaced(assembled(problem), "age", 599, 7), "age", 598, 8)
    finding = found(problem, rows)["entity age"]
    assert (finding.passed, finding.reason) == (False, "2 values of age stand in more than one split, such as 7, 8")
    assert "split.group_by to age" in finding.cure
    empty = replaced(replaced(assembled(problem), "age", 599, None), "age", 0, None)
    assert found(problem, empty)["entity age"].passed, "no value is no entity"
    assert "entity age" in found(toy(**{"dataset.split": {"group_by": "age"}}), assembled(problem)), "ours is checked"


def test_equal_rows_in_two_splits_where_that_is_asked(toy: ToyProblem) -> None:
    problem = toy(**{"dataset.leaks": {"duplicates": True}})
    rows = assembled(problem)
    for name in problem.feature_names:
        rows = replaced(rows, name, 599, rows[name][0].as_py())
    finding = found(problem, rows)["duplicates"]
    assert not finding.passed
    assert finding.reason.startswith("2 rows have features equal to those of a row in another split, such as k0000")
    inside = rows
    for name in problem.feature_names:
        inside = replaced(inside, name, 599, inside[name][590].as_py())
    assert found(problem, inside)["duplicates"].passed, "copies within a split are no leak"
    hollow = rows
    for name in problem.feature_names[1:]:
        hollow = replaced(replaced(hollow, name, 0, None), name, 599, None)
    assert not found(problem, hollow)["duplicates"].passed, "missing equals missing"
    assert "duplicates" not in found(toy(), rows)


def test_all_failures_are_told_at_once(toy: ToyProblem) -> None:
    problem = toy(**{"columns.litres.available": "later"})
    rows = replaced(assembled(problem), "label_known_time", 0, AS_OF)
    with pytest.raises(DataError, match="the training set leaks: 2 of 7 checks failed") as info:
        require_clean(problem, check(problem, rows, AS_OF))
    assert "availability" in info.value.what
    assert "label_times" in info.value.what


def test_missing_columns_are_told(toy: ToyProblem) -> None:
    problem = toy(**{"dataset.leaks": {"entities": ["age"]}})
    with pytest.raises(SchemaError, match="lacks the columns label_known_time, litres, age"):
        check(problem, assembled(problem).drop_columns(["label_known_time", "litres", "age"]), AS_OF)


def test_a_set_of_no_rows_is_no_accident(toy: ToyProblem) -> None:
    problem = toy(**{"dataset.leaks": {"entities": ["age"], "duplicates": True}})
    assert all(finding.passed for finding in check(problem, assembled(problem).slice(0, 0), AS_OF))


OF_NUMBERS = {
    "task": "regression",
    "training.select_by": "rmse",
    "gate.limits": {"rmse": {"max": 9}},
    "gate.slices": None,
    "gate.gain_over_baselines": {"rmse": 0},
    "gate.gain_over_champion": {"rmse": 0},
}


def test_a_feature_that_explains_a_number_is_suspicious_beyond_its_own_limit(toy: ToyProblem) -> None:
    random = np.random.default_rng(3)
    label = random.normal(size=PER_DAY * len(SPLITS))
    columns = {"label": label, "litres": 3 * label + random.normal(0, 0.5, len(label))}
    rows = assembled(toy(), **columns)
    finding = found(toy(**OF_NUMBERS), rows)["single_feature"]
    assert not finding.passed and "litres alone predicts the label with an R2 of 0.9" in finding.reason
    assert found(toy(**OF_NUMBERS, **{"dataset.leaks.max_single_feature_r2": 0.999}), rows)["single_feature"].passed
    assert found(toy(**OF_NUMBERS, **{"dataset.leaks.accepted": ["litres"]}), rows)["single_feature"].passed


def test_a_feature_that_gives_one_of_several_classes_away_is_suspicious(toy: ToyProblem) -> None:
    settings = {"task": "multiclass", "labels.classes": ["a", "b", "c"], "features.history": {}}
    label = np.random.default_rng(3).choice(["a", "b", "c"], PER_DAY * len(SPLITS))
    rows = assembled(toy(), label=label, litres=(label == "c").astype(float))
    finding = found(toy(**settings), rows)["single_feature"]
    assert not finding.passed and "litres alone predicts the label with an AUC of 1.000" in finding.reason
    assert "for c" in finding.reason


def test_sound_features_of_many_classes_and_of_levels_pass(toy: ToyProblem) -> None:
    random = np.random.default_rng(3)
    classes = [f"class {n}" for n in range(9)]
    position = random.choice(9, PER_DAY * len(SPLITS))
    settings = {"task": "multiclass", "labels.classes": classes, "features.history": {}}
    rows = assembled(toy(), label=np.array(classes)[position], litres=position + random.normal(size=len(position)))
    assert found(toy(**settings), rows)["single_feature"].passed, "one class is told with an AUC above 0.95"
    rows = assembled(toy(), label=np.array(classes)[position], litres=position * 10.0)
    assert not found(toy(**settings), rows)["single_feature"].passed

    shelf = random.choice(["top", "bottom"], len(position))
    label = np.where(shelf == "top", 10.0, 0.0) + random.normal(size=len(shelf))
    level = np.where(shelf == "top", 10.0, 0.0) + random.normal(size=len(shelf))
    finding = found(toy(**OF_NUMBERS), assembled(toy(), label=label, shelf=shelf, litres=level))["single_feature"]
    assert finding.passed and "of what the other features leave unexplained it explains" in finding.reason
    leaked = found(toy(**OF_NUMBERS), assembled(toy(), label=label, shelf=shelf, litres=label * 3))["single_feature"]
    assert not leaked.passed and "litres alone predicts" in leaked.reason and "shelf alone" not in leaked.reason


def copied(rows: pa.Table, share: float) -> pa.Table:
    """The last rows, which test, get the features of the first, which train, under their own keys."""
    count = round(share * 2 * PER_DAY)
    names = ["shelf", "litres", "shelf_rate_3d", "shelf_count_2d"]
    for name in names:
        values = rows[name].to_pylist()
        values[len(values) - count :] = values[:count]
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(values, rows[name].type))
    return rows


def test_test_rows_that_are_copies_of_training_rows(toy: ToyProblem) -> None:
    problem = toy()
    rows = assembled(problem)
    assert found(problem, copied(rows, 0.04))["copies"].passed
    finding = found(problem, copied(rows, 0.3))["copies"]
    assert not finding.passed
    assert "30.0% of the test rows have the features of a training row, of the training rows 0.0%" in finding.reason
    assert "copies" not in found(toy(**{"dataset.leaks.max_copied_share": None}), copied(rows, 0.3))
    assert found(toy(**{"dataset.leaks.max_copied_share": 0.5}), copied(rows, 0.3))["copies"].passed


def test_where_rows_are_alike_copies_are_natural(toy: ToyProblem) -> None:
    problem = toy(**{"features.history": {}, "features.columns": ["shelf"]})
    assert found(problem, assembled(problem))["copies"].passed


def rounded(rows: pa.Table, busy: np.ndarray) -> pa.Table:
    """Whether a row is of a busy hour, in which all are alike; at other hours each is of its own kind."""
    values = np.where(busy, 0.0, np.arange(rows.num_rows, dtype=float))
    return rows.set_column(rows.column_names.index("litres"), "litres", pa.array(values))


def test_held_out_rows_of_a_busier_kind_are_no_copies_but_an_old_delivery_is(toy: ToyProblem) -> None:
    problem = toy(**{"features.history": {}, "features.columns": ["litres"]})
    rows = assembled(problem)
    is_test = np.array(rows["split"].to_pylist()) == "test"
    chance = np.random.default_rng(0).random(rows.num_rows)
    assert found(problem, rounded(rows, chance < np.where(is_test, 0.7, 0.52)))["copies"].passed
    assert not found(problem, rounded(rows, chance < np.where(is_test, 1.0, 0.52)))["copies"].passed
    assert not found(problem, rounded(rows, chance < np.where(is_test, 0.2, 0.02)))["copies"].passed


def unlabelled(rows: pa.Table, share: float) -> pa.Table:
    is_test = np.array(rows["split"].to_pylist()) == "test"
    gone = is_test & (np.random.default_rng(0).random(len(is_test)) < share)
    return rows.set_column(rows.column_names.index("label"), "label", pa.array(rows["label"].to_numpy(), mask=gone))


def test_labels_that_are_missing_in_the_test_alone(toy: ToyProblem) -> None:
    problem, rows = toy(), assembled(toy())

    def coverage(problem: Problem, events: pa.Table) -> dict[str, Finding]:
        return {one.name: one for one in check(problem, rows, AS_OF, events)}

    assert coverage(problem, unlabelled(rows, 0.03))["label_coverage"].passed
    finding = coverage(problem, unlabelled(rows, 0.5))["label_coverage"]
    assert not finding.passed
    assert "have no label, of the training partitions 0.0% to 0.0%" in finding.reason
    off = toy(**{"dataset.leaks.max_unlabelled_rise": None})
    assert "label_coverage" not in coverage(off, unlabelled(rows, 0.5))
    assert coverage(toy(**{"dataset.leaks.max_unlabelled_rise": 0.9}), unlabelled(rows, 0.5))["label_coverage"].passed
