"""A profile counts every row once, on the reference's bins, and parts merge into the whole."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.artifacts import table_schema
from pipelines.errors import DataError, SchemaError
from pipelines.metrics.scored import Scored
from pipelines.problem import load_problem
from pipelines.profiles import column as module
from pipelines.profiles.column import Categories, ColumnProfile, Numbers, heavy, merge
from pipelines.profiles.profile import SCORE, Reference, from_rows, profile, reference, to_rows
from tests.profiles.conftest import binary


def refer(**columns: Any) -> Reference:
    return reference(pa.table(columns), np.array([0, 1]), binary(np.array([0.2, 0.8]), np.array([0, 1])))


def look(known: Reference, **columns: Any) -> dict[str, ColumnProfile]:
    count = len(next(iter(columns.values())))
    table = pa.table({**columns, SCORE: pa.array([0.5] * count, pa.float64())})
    return profile(table.to_batches(), known)[0]


# Reference ----------------------------------------------------------------------------------------------


def test_a_reference_survives_json(trained: Reference) -> None:
    text = json.dumps(trained.model_dump(mode="json"), allow_nan=False)
    assert Reference.model_validate(json.loads(text)) == trained


def test_a_reference_profiles_its_own_training_data(training: pa.Table, trained: Reference) -> None:
    scored = training.append_column(SCORE, pa.array(np.linspace(0, 1, training.num_rows)))
    again, _ = profile(scored.to_batches(), trained)
    for name in training.column_names:
        assert again[name] == trained.columns[name].profile


def test_quantile_bins_hold_equal_shares(trained: Reference) -> None:
    column = trained.columns["temp"]
    *bins, unseen, nulls = column.profile.counts
    assert isinstance(column.bins, Numbers) and column.bins.scale == pytest.approx(10, rel=0.1)
    inner = bins[9:-9]
    assert len(inner) == 8 and max(inner) - min(inner) <= 1
    assert sum(bins[:9]) == pytest.approx(inner[0], abs=1) == pytest.approx(sum(bins[-9:]), abs=1)
    assert unseen == 0 and nulls > 0


def test_steps_beyond_the_quantiles_tell_how_far_away_a_number_is() -> None:
    known = refer(x=np.random.default_rng(0).normal(0, 1, 1_000))
    far = {shift: look(known, x=np.full(10, float(shift)))["x"].counts for shift in (4, 9, 40)}
    assert len(set(far.values())) == 3
    assert look(known, x=np.full(10, 1e200))["x"].counts[-3] == 10


def test_repeated_values_share_a_bin_and_what_falls_below_has_its_own() -> None:
    known = refer(precip=[0.0] * 95 + [0.1, 0.2, 0.3, 0.4, 0.5])
    assert max(known.columns["precip"].profile.counts) == 95
    below, zero, none = (look(known, precip=[value])["precip"].counts for value in (-1e-9, 0.0, None))
    assert len({below, zero, none}) == 3 and none[-1] == 1


@pytest.mark.parametrize("values", [[7.0] * 5, [1.7e308, -1.7e308], [0.1] * 3, [5e-324, 0.0], [None, math.nan]])
def test_a_column_without_a_usable_spread(values: list[float | None]) -> None:
    known = refer(x=pa.array(values, pa.float64()))
    found = look(known, x=[7.0, 8.0, None])["x"]
    assert sum(found.counts) == found.rows == 3
    assert Reference.model_validate(json.loads(json.dumps(known.model_dump(mode="json"), allow_nan=False))) == known


def test_categories_are_ranked_by_frequency_then_name() -> None:
    known = refer(carrier=["B", "A", "A", "C", None])
    assert known.columns["carrier"].bins == Categories(kept=("A", "B", "C"), known=("A", "B", "C"))
    assert known.columns["carrier"].profile.counts == (2, 1, 1, 0, 0, 1)


def test_only_frequent_categories_have_a_bin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_CATEGORIES", 1)
    known = refer(dest=["A", "A", "B", "C"])
    found = look(known, dest=["A", "C", "D", None])["dest"]
    assert found.counts == (1, 1, 1, 1)  # A, other (C is known), unseen (D), null
    assert found.unseen == 1


def test_too_many_categories_to_know_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_CATEGORIES", 1)
    monkeypatch.setattr(module, "KNOWN_CATEGORIES", 2)
    known = refer(dest=["A", "A", "B", "C"])
    found = look(known, dest=["A", "C", "D", None])["dest"]
    assert found.counts == (1, 2, 0, 1)
    assert found.unseen == 0


def test_an_empty_training_column() -> None:
    known = refer(seats=pa.nulls(2, pa.float64()), carrier=pa.nulls(2, pa.string()))
    found = look(known, seats=[1.0, None], carrier=["A", None])
    assert found["seats"].counts == (1, 0, 1)
    assert found["carrier"].counts == (0, 1, 1)


def test_metrics_of_the_test_split_are_kept(trained: Reference) -> None:
    assert trained.metrics["auc"] == 1
    assert trained.mean_score == pytest.approx(0.5)
    assert sum(trained.columns[SCORE].profile.counts) == 500


def test_no_rows_are_no_reference() -> None:
    with pytest.raises(DataError, match="no rows"):
        empty = binary(np.array([]), np.array([]))
        reference(pa.table({"x": pa.array([], pa.float64())}), np.array([], np.int64), empty)


def test_of_classes_the_reference_keeps_their_shares_and_the_scores_of_what_was_decided() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.25, 0.7, 0.05]])
    costs = np.array([[0, 1, 1], [9, 0, 1], [1, 1, 0]])  # what is b is dearly taken for a
    test = Scored("multiclass", ("a", "b", "c"), np.array([0, 2, 1]), probabilities, np.ones(3), costs=costs)
    assert test.decisions.tolist() == [1, 2, 1]
    known = reference(pa.table({"x": [1.0, 2.0]}), np.array([0, 0, 0, 2]), test)
    assert (known.label_rate, known.label_mean) == (None, None)
    assert known.class_rates == {"a": 0.75, "b": 0.0, "c": 0.25}
    assert known.mean_score == pytest.approx((0.3 + 0.8 + 0.7) / 3)
    assert known.metrics["accuracy"] == pytest.approx(2 / 3)
    assert Reference.model_validate(json.loads(json.dumps(known.model_dump(mode="json"), allow_nan=False))) == known


def test_of_numbers_the_reference_bins_the_predictions_by_their_quantiles() -> None:
    values = np.arange(1_000.0) * 1e3
    test = Scored("regression", (), values + 1, values, np.ones(1_000))
    known = reference(pa.table({"x": [1.0, 2.0]}), np.array([10.0, 30.0]), test, bins=4)
    assert (known.label_rate, known.label_mean, known.class_rates) == (None, 20.0, {})
    bins = known.columns[SCORE].bins
    assert isinstance(bins, Numbers) and bins.edges[0] < 0 and bins.edges[-1] > 1e6
    assert min(bins.edges, key=lambda edge: abs(edge - 5e5)) == pytest.approx(5e5, rel=0.01)
    assert known.label_std == 10
    assert known.metrics["bias"] == pytest.approx(-1)


def test_a_reference_of_before_there_were_other_tasks_is_read(trained: Reference) -> None:
    former = trained.model_dump(mode="json")
    for name in ("class_rates", "label_mean", "threshold", "label_std", "partitions"):
        del former[name]
    assert Reference.model_validate(former) == trained


# Profile ------------------------------------------------------------------------------------------------


def test_numbers() -> None:
    known = refer(x=[1.0, 2.0, 3.0, 4.0])
    found = look(known, x=[1.0, 2.5, 9.0, None, math.nan, math.inf, -math.inf])["x"]
    assert (found.rows, found.nulls, found.non_finite, found.unseen, found.valued) == (7, 1, 3, 0, 3)
    assert found.mean == pytest.approx(12.5 / 3)
    assert found.std == pytest.approx(np.std([1.0, 2.5, 9.0]))
    assert (found.min, found.max) == (1, 9)
    assert sum(found.counts) == 7 and found.counts[-1] == 4


def test_huge_numbers_do_not_overflow() -> None:
    found = look(refer(x=[0.0, 1.0]), x=[1.5e308, 1.5e308])["x"]
    assert found.mean == pytest.approx(1.5e308) and found.std == pytest.approx(0, abs=1e293)
    apart = look(refer(x=[0.0, 1.0]), x=[1.5e308, -1.5e308])["x"]
    assert apart.mean == 0 and apart.std == pytest.approx(1.5e308)
    one, other = (look(refer(x=[0.0, 1.0]), x=[value])["x"] for value in (1.5e308, -1.5e308))
    assert merge(one, other).std == pytest.approx(1.5e308)


@pytest.mark.parametrize("type_", [pa.int8(), pa.int64(), pa.uint16(), pa.float32()])
def test_any_kind_of_number(type_: pa.DataType) -> None:
    found = look(refer(x=[1, 2, 3]), x=pa.array([1, 3, None], type_))["x"]
    assert (found.mean, found.nulls) == (2, 1)


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_any_kind_of_string(type_: pa.DataType) -> None:
    known = refer(carrier=pa.array(["AA", "UA", "AA"], type_))
    found = look(known, carrier=pa.array(["UA", "XX", None], pa.string()).cast(type_))["carrier"]
    assert found.counts == (0, 1, 0, 1, 1)
    assert found.new == {"XX": 1}


def test_booleans_are_categories() -> None:
    found = look(refer(x=[True, False, False]), x=[True, True, None])["x"]
    assert found.counts == (0, 2, 0, 0, 1)


def test_a_column_that_came_without_a_type_is_all_null() -> None:
    found = look(refer(x=[1.0, 2.0], carrier=["A", "B"]), x=pa.nulls(2), carrier=pa.nulls(2))
    assert found["x"].nulls == found["carrier"].nulls == 2


def test_no_rows(trained: Reference) -> None:
    profiles, slices = profile([], trained, ["carrier"])
    assert slices == {}
    for found in profiles.values():
        assert (found.rows, found.mean, found.std, sum(found.counts)) == (0, None, None, 0)


def test_a_missing_column_is_named(trained: Reference, rows: Callable[..., pa.Table]) -> None:
    with pytest.raises(SchemaError, match="missing columns: seats, temp"):
        profile(rows(5).drop_columns(["seats", "temp"]).to_batches(), trained)


@pytest.mark.parametrize(("before", "after"), [([1.0], ["a"]), (["a"], [1.0])])
def test_a_column_that_changed_its_kind_is_named(before: list[Any], after: list[Any]) -> None:
    with pytest.raises(SchemaError, match=r"x had .* in training, now "):
        look(refer(x=before), x=after)


# Merge --------------------------------------------------------------------------------------------------

NUMBER = st.one_of(st.none(), st.floats(allow_subnormal=False), st.sampled_from([1.0, 2.0, 3.0]))
CATEGORY = st.one_of(st.none(), st.sampled_from(["A", "B", "C", "D"]), st.text(max_size=2))
ROWS = st.lists(st.tuples(NUMBER, CATEGORY), max_size=20)


@settings(deadline=None)
@given(parts=st.lists(ROWS, min_size=1, max_size=4))
def test_parts_merge_into_the_whole(parts: list[list[tuple[float | None, str | None]]]) -> None:
    known = refer(x=[1.0, 2.0, 3.0, 3.0], carrier=["A", "A", "B", "C"])

    def of(some: list[tuple[float | None, str | None]]) -> dict[str, ColumnProfile]:
        numbers, categories = (
            pa.array([x for x, _ in some], pa.float64()),
            pa.array([c for _, c in some], pa.string()),
        )
        return look(known, x=numbers, carrier=categories)

    whole, halves = of([row for part in parts for row in part]), [of(part) for part in parts]
    for name, expected in whole.items():
        found = reduce(merge, [half[name] for half in halves])
        scale = max(abs(expected.min or 0), abs(expected.max or 0))  # a mean near 0 of large numbers is all error
        assert found.mean == (None if expected.mean is None else pytest.approx(expected.mean, abs=scale * 1e-12))
        assert found.std == (None if expected.std is None else pytest.approx(expected.std, abs=scale * 1e-7))
        assert without_moments(found) == without_moments(expected)
        assert sum(found.counts) == found.rows
        assert found.mean is None or math.isfinite(found.mean)


def without_moments(found: ColumnProfile) -> ColumnProfile:
    return found.model_copy(update={"mean": None, "std": None})


@given(parts=st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=30), max_size=5))
def test_what_is_heavy_in_the_whole_is_heavy_in_the_merged_parts(parts: list[list[str]]) -> None:
    counted = [{name: part.count(name) for name in part} for part in parts]
    merged: dict[str, int] = {}
    for part in counted:
        merged = heavy(merged, part, most=3)
    whole = [name for part in parts for name in part]
    for name in set(whole):
        assert merged.get(name, 0) <= whole.count(name)
        assert whole.count(name) - merged.get(name, 0) <= len(whole) / 4
    assert len(merged) <= 3


def test_batches_are_parts(trained: Reference, rows: Callable[..., pa.Table]) -> None:
    table = rows(1_000)
    (whole, cuts), (parts, small) = (
        profile(table.to_batches(max_chunksize=size), trained, ["carrier", "temp"]) for size in (None, 7)
    )
    assert {name: cut.counts for name, cut in cuts.items()} == {name: cut.counts for name, cut in small.items()}
    assert {name: column.counts for name, column in whole.items()} == {n: c.counts for n, c in parts.items()}
    assert parts["temp"].mean == pytest.approx(whole["temp"].mean)


def test_other_bins_do_not_merge() -> None:
    few, many = look(refer(x=[1.0]), x=[1.0])["x"], look(refer(x=[1.0, 2.0, 3.0]), x=[1.0])["x"]
    with pytest.raises(ValueError, match="zip"):
        merge(few, many)


# Rows ---------------------------------------------------------------------------------------------------


def test_rows_follow_the_contract_and_come_back(trained: Reference, rows: Callable[..., pa.Table]) -> None:
    problem = load_problem("flight_delay")
    table = rows(100).append_column("gone", pa.nulls(100, pa.string()))
    table = table.set_column(2, "carrier", pa.array(["AA", "ZZ"] * 50))
    profiles, slices = profile(table.to_batches(), trained, ["carrier"])
    table = to_rows(problem, "2013-04-01", "3", profiles, slices)
    assert table.schema == table_schema(problem, "profiles")
    assert table["column"].to_pylist() == ["temp", "seats", "carrier", "is_holiday", SCORE, SCORE, SCORE]
    assert table["slice"].to_pylist()[-2:] == ["carrier=AA", "carrier=(other)"]
    assert profiles["carrier"].new == {"ZZ": 50}
    assert table["mean"].to_pylist()[2] is None
    assert from_rows(table) == profiles


def test_scores_of_exactly_0_and_1_have_bins_of_their_own(trained: Reference) -> None:
    counts = [look_at_scores(trained, score) for score in (0.0, 1e-9, 0.5, 1 - 1e-9, 1.0)]
    assert counts[0][0] == 1 and counts[-1][-3] == 1 and len(set(counts)) == 5


def look_at_scores(known: Reference, score: float) -> tuple[int, ...]:
    row = pa.table({"temp": [1.0], "seats": [1], "carrier": ["AA"], "is_holiday": [True], SCORE: [score]})
    return profile(row.to_batches(), known)[0][SCORE].counts


# Slices -------------------------------------------------------------------------------------------------


def test_scores_by_slice_add_up_to_all(trained: Reference, rows: Callable[..., pa.Table]) -> None:
    table = rows(2_000)
    profiles, slices = profile(table.to_batches(), trained, ["carrier", "temp", "no_feature"])
    by_carrier = {name: one for name, one in slices.items() if name.startswith("carrier=")}
    quarters = [one for name, one in slices.items() if name.startswith("temp=(") and "missing" not in name]
    assert set(by_carrier) == {"carrier=AA", "carrier=UA", "carrier=B6", "carrier=(missing)"}
    assert reduce(merge, by_carrier.values()).counts == profiles[SCORE].counts
    assert len(quarters) == 4 and all(0.15 < one.rows / 1_800 < 0.35 for one in quarters)
    ours = table.filter(pc.equal(table["carrier"], "UA"))["score"].to_numpy()
    assert by_carrier["carrier=UA"].rows == len(ours)
    assert by_carrier["carrier=UA"].mean == pytest.approx(ours.mean())
    assert by_carrier["carrier=UA"].std == pytest.approx(ours.std())


def test_without_slices_there_are_none(trained: Reference, rows: Callable[..., pa.Table]) -> None:
    assert profile(rows(10).to_batches(), trained)[1] == {}


# History ------------------------------------------------------------------------------------------------


def test_the_reference_keeps_its_partitions(training: pa.Table, rows: Callable[..., pa.Table]) -> None:
    test = binary(np.linspace(0, 1, 500), np.linspace(0, 1, 500) > 0.8)
    parts = {f"2024-01-{day:02}": rows(50, seed=day) for day in range(1, 4)}
    history = pa.concat_tables(
        part.append_column("partition", pa.array([key] * 50)) for key, part in reversed(parts.items())
    )
    known = reference(training, np.repeat([0, 1], [800, 200]), test, history=history)
    assert list(known.partitions) == list(parts)
    for key, part in parts.items():
        assert known.partitions[key] == profile(part.to_batches(), known)[0]
    assert Reference.model_validate(json.loads(json.dumps(known.model_dump(mode="json"), allow_nan=False))) == known
