"""What is chosen for a table: key, time, rhythm, task, and what is left out."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import yaml

from pipelines.errors import ConfigError, DataError
from pipelines.propose.draft import Wishes, draft
from pipelines.propose.files import files_of
from pipelines.propose.origin import origin
from pipelines.propose.rehearsal import rehearsed
from pipelines.propose.table import read
from tests.propose.table_of import NOW, drafted, orders, table_of


def test_orders_are_seen_for_what_they_are(tmp_path: Path) -> None:
    made = drafted(tmp_path, pa.table(orders()), "returned")
    assert (made.target.task, made.target.expression) == ("binary", "CAST(\"returned\" = 'yes' AS TINYINT)")
    assert made.key.name == "order_id"
    assert made.time is not None
    assert made.time.columns == ("placed_at",)
    assert made.known.column == "closed_at", "a label comes later where a second time says so"
    assert made.rhythm is not None
    assert (made.rhythm.every, made.rhythm.first) == ("month", "2024-01-01")
    assert [feature.name for feature in made.features if feature.is_learnt_from] == ["country", "paid"]
    assert made.features[0].rules["allowed"] == ["DE", "FR", "IT"]
    assert made.history == {"customer_id_rate_91d": {"by": ["customer_id"], "function": "mean", "window_days": 91}}
    assert set(made.left_out) == {"order_id", "placed_at", "closed_at", "customer_id", "returned"}


def _with(name: str) -> tuple[dict[str, Any], str]:
    """Orders with a column that gives the label away, or must not be learnt for another reason."""
    rows, random = orders(), np.random.default_rng(5)
    yes = rows["returned"] == "yes"
    count = len(yes)
    days = (rows["closed_at"] - rows["placed_at"]).astype("timedelta64[h]").astype(int)
    leaks = {
        "status": np.where(yes, "sent back", "kept"),
        "refund": np.where(yes, rows["paid"], 0.0),
        "days_open": days / 24,
        "invoice": np.arange(count) + 70_000,
        "batch": np.arange(count) // 20 + 500,
        "return_reason": np.where(yes, random.choice(["size", "colour"], count), ""),
        "shop": np.full(count, "main"),
        "comment_id": [f"c{number}" for number in random.permutation(count)],
        "quality": np.where(random.random(count) < 0.97, yes, ~yes).astype(int) * 3,
        "paid_back_at": np.where(yes, rows["closed_at"] + np.timedelta64(5, "D"), np.datetime64("NaT")),
    }
    return rows | {name: leaks[name]}, name


@pytest.mark.parametrize(
    "name",
    [
        "status",
        "refund",
        "days_open",
        "invoice",
        "batch",
        "return_reason",
        "shop",
        "comment_id",
        "quality",
        "paid_back_at",
    ],
)
def test_what_a_model_must_not_see_is_left_out_by_name(tmp_path: Path, name: str) -> None:
    rows, leak = _with(name)
    made = drafted(tmp_path, pa.table(rows), "returned")
    assert leak in made.left_out
    assert made.left_out[leak]
    assert [feature.name for feature in made.features if feature.is_learnt_from] == ["country", "paid"]


def test_a_table_without_a_unique_column_gets_a_key_of_its_time_and_place(tmp_path: Path) -> None:
    hours = np.arange("2024-01-01T00", "2024-07-01T00", dtype="datetime64[h]").astype("datetime64[s]")
    random = np.random.default_rng(2)
    rows = {
        "station": np.tile(["north", "south"], len(hours)),
        "measured": np.repeat(hours, 2),
        "wind": random.random(2 * len(hours)).round(2),
    }
    rows["load"] = 50 * (rows["station"] == "north") + 5 * rows["wind"] + random.random(2 * len(hours))
    made = drafted(tmp_path, pa.table(rows), "load")
    assert made.key.columns == ("measured", "station")
    assert made.target.task == "regression"
    assert made.rhythm is not None
    assert made.rhythm.every == "week"
    assert made.no_leaks == ["station"], "a place tells the level of its load, and is known before"
    assert "hour_of_day" in made.parts


def test_rows_that_say_the_same_still_have_keys_of_their_own(tmp_path: Path) -> None:
    days = np.repeat(np.arange("2024-01-01", "2024-12-01", dtype="datetime64[D]"), 10)
    random = np.random.default_rng(2)
    rows = {"day": days, "kind": random.choice(["a", "b"], len(days)), "n": random.integers(0, 2, len(days))}
    made = drafted(tmp_path, pa.table(rows), "n")
    assert made.key.columns == ()
    assert "hash" in made.key.why
    assert made.time is not None
    assert made.time.clock == "date"


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["good", "bad"], "binary", ()),
        ([1, 2], "binary", ()),
        (["a", "b", "c"], "multiclass", ("a", "b", "c")),
        ([0, 1, 2], "multiclass", ("0", "1", "2")),
        ([1.5, 2.5, 3.5, 4.5], "regression", ()),
        (list(range(50)), "regression", ()),
    ],
)
def test_the_task_follows_from_the_values(
    tmp_path: Path, values: list[Any], task: str, classes: tuple[str, ...]
) -> None:
    rows = orders(1_500)
    rows["outcome_of_it"] = np.random.default_rng(1).choice(values, 1_500)
    del rows["returned"]
    made = drafted(tmp_path, pa.table(rows), "outcome_of_it")
    assert made.target.task == task
    assert tuple(sorted(made.target.classes)) == classes


def test_a_threshold_makes_a_yes_or_no_of_a_number(tmp_path: Path) -> None:
    made = drafted(tmp_path, pa.table(orders()), "paid", threshold=100.0)
    assert (made.target.task, made.target.expression) == ("binary", 'CAST("paid" >= 100 AS TINYINT)')


def test_wishes_that_do_not_go_with_the_table_are_told(tmp_path: Path) -> None:
    rows = pa.table(orders(500))
    with pytest.raises(ConfigError, match="did you mean 'returned'"):
        drafted(tmp_path, rows, "retuned")
    with pytest.raises(ConfigError, match="holds no times"):
        drafted(tmp_path, rows, "returned", time="paid")
    with pytest.raises(ConfigError, match="no row has 'maybe'"):
        drafted(tmp_path, rows, "returned", positive="maybe")
    with pytest.raises(ConfigError, match="is a time"):
        drafted(tmp_path, rows, "closed_at")
    with pytest.raises(DataError, match="most of them in a few rows"):
        drafted(tmp_path, rows, "order_id")


def test_the_zone_is_told_by_offsets_of_summer_and_winter(tmp_path: Path) -> None:
    rows = orders(1_200)
    summer = (rows["placed_at"] > np.datetime64("2024-03-31T03")) & (rows["placed_at"] < np.datetime64("2024-10-27T02"))
    rows["placed_at"] = [f"{at}{'+02:00' if s else '+01:00'}" for at, s in zip(rows["placed_at"], summer, strict=True)]
    made = drafted(tmp_path, pa.table(rows), "returned")
    assert made.zone[0] == "Europe/Berlin"


def test_a_time_in_parts_is_put_together(tmp_path: Path) -> None:
    rows = orders(1_500)
    days = rows["placed_at"].astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    rows |= {
        "year": days.astype("datetime64[Y]").astype(int) + 1970,
        "month": months.astype(int) % 12 + 1,
        "day": (days - months).astype(int) + 1,
    }
    del rows["placed_at"], rows["closed_at"]
    made = drafted(tmp_path, pa.table(rows), "returned")
    assert made.time is not None
    assert made.time.columns == ("year", "month", "day")
    assert made.rhythm is not None
    assert made.rhythm.first == "2024-01-01"
    assert "year" in made.left_out


def test_names_become_names_of_columns(tmp_path: Path) -> None:
    rows = {name.upper().replace("_", " "): values for name, values in orders(1_500).items()}
    made = drafted(tmp_path, pa.table(rows), "returned")
    assert {"country", "paid"} <= {feature.name for feature in made.features}
    assert made.key.expression == '"ORDER ID"'


def test_texts_are_read_for_their_words_and_other_times_count_as_days(tmp_path: Path) -> None:
    rows = orders(1_500)
    random = np.random.default_rng(7)
    told = ["the parcel", "came late", "box was broken", "please send another", "thank you", "it does not fit"]
    rows["message"] = [" ".join(random.choice(told, 5)) + f" {number}" for number in range(1_500)]
    rows["customer_since"] = rows["placed_at"] - random.integers(1, 900, 1_500).astype("timedelta64[D]")
    made = drafted(tmp_path, pa.table(rows), "returned")
    types = {feature.name: feature.type for feature in made.features}
    assert types["message"] == "text"
    assert types["customer_since"] == "timestamp"
    assert made.parts["customer_since_age"] == {"of": "customer_since", "part": "age"}
    assert made.time is not None
    assert made.time.columns == ("placed_at",), "what lies long before is not when it happens"


def test_lists_of_as_many_numbers_are_embeddings(tmp_path: Path) -> None:
    rows = orders(600)
    random = np.random.default_rng(7)
    rows["seen"] = pa.array(list(random.random((600, 4)).astype("float32")))
    rows["bought"] = pa.array([[1.0] * (place % 3 + 1) for place in range(600)])
    pq.write_table(pa.table(rows), tmp_path / "orders.parquet")
    with read(origin(str(tmp_path / "orders.parquet"), None, tmp_path), tmp_path) as table:
        made = draft("orders", table, Wishes("returned"), NOW)
    features = {feature.name: feature for feature in made.features}
    assert (features["seen"].type, features["seen"].rules["length"]) == ("embedding", 4)
    assert "lists of 1 to 3 numbers" in made.left_out["bought"]


def test_a_table_without_a_time_comes_by_delivery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path))
    (tmp_path / "orders").mkdir()
    rows = {name: values for name, values in orders(400).items() if not name.endswith("_at")}
    with table_of(tmp_path / "orders", pa.table(rows)) as table:
        made, remarks = rehearsed(draft("orders", table, Wishes("returned"), NOW), "shop")
    files = files_of(made, "shop")
    assert made.time is None and "  every: delivery" in files["problem.yaml"]
    assert "delivered_time AS event_time" in files["events.sql"]
    assert "delivered_time AS known_time" in files["labels.sql"]
    assert any("400 rows in 1 of 1 deliveries" in remark.text for remark in remarks)


def test_a_number_is_not_learnt_from_what_it_is_made_of_or_what_is_cut_from_it(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    count = 1_500
    distance = random.gamma(2, 3, count).round(2)
    packing, travel = random.normal(20, 5, count).round(1), (4 * distance + random.normal(0, 5, count)).round(1)
    minutes = packing + travel
    rows = {
        "order_no": [f"A{number}" for number in random.permutation(count)],
        "distance": distance,
        "items": random.integers(1, 9, count),
        "packing": packing,
        "travel": travel,
        "is_late": (minutes > 50).astype(int),
        "tens": (minutes // 10).astype(int),
        "quarters": [f"from {int(m // 15) * 15}" for m in minutes],
        "logarithm": np.log(np.maximum(minutes, 1)).round(4),
        "minutes": minutes.round(1),
    }
    made = drafted(tmp_path, pa.table(rows), "minutes")
    assert [feature.name for feature in made.features] == ["distance", "items"]
    assert "with packing it adds up" in made.left_out["travel"]
    assert "follows from the label" in made.left_out["is_late"]


def _scored(auc: float, is_yes: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, Any]:
    """Numbers of two normal distributions as far apart as that AUC takes."""
    noise = np.random.default_rng(seed).normal(size=len(is_yes))
    return noise + is_yes * {0.75: 0.954, 0.83: 1.349}[auc]


def test_amounts_and_texts_of_what_happened_are_left_out_and_strong_features_stay(tmp_path: Path) -> None:
    rows, random = orders(), np.random.default_rng(5)
    yes = rows["returned"] == "yes"
    count = len(yes)
    rows |= {
        "credit": np.where(yes & (random.random(count) < 0.5), rows["paid"], 0.0),
        "courier": np.where(yes & (random.random(count) < 0.5), random.choice(["DHL", "UPS"], count), ""),
        "log": [f"order {n} was {'taken back' if y else 'kept'} by the shop after all" for n, y in enumerate(yes)],
        "booked": rows["placed_at"].astype("datetime64[D]"),
        "rating": _scored(0.75, yes, 1),
        "risk": _scored(0.83, yes, 2),
    }
    made = drafted(tmp_path, pa.table(rows), "returned")
    names = {feature.name for feature in made.features if feature.is_learnt_from}
    assert names == {"country", "paid", "rating", "risk"}
    assert "other than 0 only where" in made.left_out["credit"]
    assert "there only where" in made.left_out["courier"]
    assert "its word" in made.left_out["log"]
    assert made.left_out["booked"] == "the event's time once more"


def test_a_number_of_things_is_a_count_and_a_number_of_a_thing_is_not(tmp_path: Path) -> None:
    rows, random = orders(), np.random.default_rng(5)
    rows["num_items"] = random.integers(0, 200, 3_000)
    rows["shelf_num"] = random.integers(0, 140, 3_000)
    rows["hash"] = random.integers(-(2**62), 2**62, 3_000)
    made = drafted(tmp_path, pa.table(rows), "returned")
    assert "num_items" in {feature.name for feature in made.features}
    assert made.left_out["shelf_num"].startswith("an id of numbers")
    assert made.left_out["hash"].startswith("numbers beyond")
    assert "maturity_days: 18" in files_of(made, "shop")["problem.yaml"], "orders close within 1 to 19 days"


@pytest.mark.parametrize(
    ("yes", "no", "why"),
    [(["Yes", "yes ", "YES"], ["NO", "no", " No"], "yes in"), (["1.0"], ["0.0"], "1.0 in"), (["T"], ["F"], "T in")],
)
def test_a_yes_is_a_yes_however_it_is_written(tmp_path: Path, yes: list[str], no: list[str], why: str) -> None:
    rows, random = orders(600), np.random.default_rng(5)
    rows["returned"] = np.where(rows["returned"] == "yes", random.choice(yes, 600), random.choice(no, 600))
    rows["returned"][:20] = ""
    made = drafted(tmp_path, pa.table(rows), "returned")
    assert made.target.task == "binary"
    assert made.target.why.startswith(why)
    assert made.labelled == 580


def test_months_are_known_a_month_later_and_have_no_weekday(tmp_path: Path) -> None:
    months = [f"{year}-{month:02}" for year in range(1980, 2020) for month in range(1, 13)]
    random = np.random.default_rng(5)
    rows = pa.table({"month": months, "rate": random.random(480), "gdp": random.random(480).round(4)})
    made = drafted(tmp_path, rows, "gdp")
    assert made.rhythm is not None
    assert (made.rhythm.every, made.rhythm.first) == ("quarter", "1980-01-01")
    assert "1 MONTH" in made.known.expression
    assert set(made.parts) == {"month_of_year"}


def test_a_table_with_nothing_to_learn_from_says_why(tmp_path: Path) -> None:
    rows = orders(600)
    with pytest.raises(DataError, match="no column is left to learn 'returned' from") as error:
        drafted(tmp_path, pa.table({name: rows[name] for name in ("placed_at", "returned", "order_id")}), "returned")
    assert "order_id: the key" in error.value.cure
    with pytest.raises(ConfigError, match="two columns have the same name: paid"):
        drafted(tmp_path, "paid,Paid,n\n" + "1,2,3\n" * 60, "paid")


def test_names_that_mean_something_elsewhere_do_no_harm(tmp_path: Path) -> None:
    rows = orders(600)
    odd = ("number", "rowid", "evergreen_at", "label", "true", "null", "select", "it's {{ 1 }} # --")
    rows |= {name: rows["paid"] + place for place, name in enumerate(odd)}
    made = drafted(tmp_path, pa.table(rows), "returned")
    names = {feature.name for feature in made.features}
    assert {"number_value", "rowid_value", "evergreen_at", "label_value", "true", "null", "it_s_1"} <= names
    assert set(yaml.safe_load(files_of(made, "shop")["problem.yaml"])["columns"]) == names


def test_a_birthday_is_no_event_and_a_word_of_a_rare_class_no_leak(tmp_path: Path) -> None:
    rows, random = orders(1_000), np.random.default_rng(5)
    rows["birth_date"] = rows.pop("placed_at")
    rows["returned"] = random.choice(["kept", "back", "lost"], 1_000, p=[0.5, 0.47, 0.03])
    told = ["it came late", "the box was broken", "please send another one", "thank you", "it does not fit"]
    rows["note"] = [" ".join(random.choice(told, 3)) + f" {place}" for place in range(1_000)]
    is_sad = (rows["returned"] == "lost") | (random.random(1_000) < 0.1)
    rows["note"] = [f"{note} alas" if sad else note for note, sad in zip(rows["note"], is_sad, strict=True)]
    del rows["closed_at"]
    made = drafted(tmp_path, pa.table(rows), "returned")
    assert made.time is None
    assert "note" in {feature.name for feature in made.features}


def test_a_panel_of_years_is_keyed_by_its_years_and_things(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    rows = {"country": np.tile([f"C{n:02}" for n in range(30)], 40), "year": np.repeat(np.arange(1980, 2020), 30)}
    rows |= {"income": random.random(1_200), "growth": random.random(1_200).round(4)}
    made = drafted(tmp_path, pa.table(rows), "growth")
    assert made.time is None
    assert made.key.columns == ("year", "country")
    assert "no column says when more than the year (year)" in files_of(made, "shop")["problem.yaml"]


@pytest.mark.parametrize("part", ["quarter", "month"])
def test_a_year_with_a_quarter_or_the_name_of_a_month_is_a_time(tmp_path: Path, part: str) -> None:
    names = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October"]
    values = [*names, "November", "December"] if part == "month" else [1, 2, 3, 4]
    years = range(1980, 2020)
    random = np.random.default_rng(5)
    rows = {"year": np.repeat(years, len(values)), part: values * len(years)}
    rows |= {"rate": random.random(len(rows["year"])), "gdp": random.random(len(rows["year"])).round(4)}
    made = drafted(tmp_path, pa.table(rows), "gdp")
    assert made.time is not None
    assert made.time.columns == ("year", part)
    assert made.rhythm is not None
    assert (made.rhythm.every, made.rhythm.first, made.rhythm.last) == ("quarter", "1980-01-01", "2020-01-01")
    assert made.rhythm.last_events == "2019-10-01", "and its label is known a quarter later"


def test_three_quarters_are_quarters_and_twelve_months_are_a_category(tmp_path: Path) -> None:
    rows, random = orders(240), np.random.default_rng(5)
    rows["quarter"] = random.choice(["2024Q1", "2024Q2", "2024Q3"], 240)
    rows["season"] = random.choice([f"month {n}" for n in range(12)], 240)
    del rows["placed_at"], rows["closed_at"]
    made = drafted(tmp_path, pa.table(rows), "returned")
    assert made.rhythm is not None
    assert (made.rhythm.every, made.rhythm.partitions) == ("quarter", 3)
    assert "season" in {feature.name for feature in made.features}
    with pytest.raises(DataError, match="12 rows have a label"):
        drafted(tmp_path, pa.table({name: values[:12] for name, values in orders(240).items()}), "returned")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_one_time_that_is_none_leaves_the_event_where_it_is_and_is_set_aside_by_name(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path))
    (tmp_path / "orders").mkdir()
    rows = orders(400)
    texts = {name: [f"{moment}+01:00" for moment in rows[name]] for name in ("placed_at", "closed_at")}
    texts["placed_at"][7] = "2024-02-31T10:00:00+01:00"
    path = tmp_path / "orders" / f"orders.{suffix}"
    (csv.write_csv if suffix == "csv" else pq.write_table)(pa.table(rows | texts), path)
    with read(origin(str(path), None, path.parent), path.parent) as table:
        made, remarks = rehearsed(draft("orders", table, Wishes("returned"), NOW), "shop")
    assert made.time is not None and made.time.columns == ("placed_at",)
    files = files_of(made, "shop")
    assert "look: 1 that are no times are set aside" in files["problem.yaml"]
    assert "WHERE" not in files["events.sql"]
    said = [remark.text for remark in remarks]
    assert any("1 of 400 rows" in text for text in said), said


def test_a_time_that_is_asked_for_and_is_none_too_often_says_how_often(tmp_path: Path) -> None:
    rows = orders(400)
    placed = [f"{moment}Z" if number % 9 else "soon" for number, moment in enumerate(rows["placed_at"])]
    with pytest.raises(ConfigError, match="holds no times: 45 of 400 values are none, such as 'soon'; at most 2% may"):
        drafted(tmp_path, pa.table(rows | {"placed_at": placed}), "returned", time="placed_at")


def test_the_partitions_reach_to_the_newest_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path))
    (tmp_path / "orders").mkdir()
    placed = [datetime(2024, 3, 1) + timedelta(minutes=20 * number) for number in range(40 * 72)]
    days = [number % 5 for number in range(len(placed))]
    closed = [moment + timedelta(days=wait) for moment, wait in zip(placed, days, strict=True)]
    closed[100] = datetime(2199, 1, 1)
    rows = {
        "order_id": [f"A{number}" for number in range(len(placed))],
        "placed_at": placed,
        "closed_at": closed,
        "paid": [number * 7 % 50 for number in range(len(placed))],
        "returned": ["yes" if number % 3 else "no" for number in range(len(placed))],
    }
    with table_of(tmp_path / "orders", pa.table(rows)) as table:
        wishes = Wishes("returned", known="closed_at", every="day")
        made, remarks = rehearsed(draft("orders", table, wishes, NOW), "shop")
    assert made.rhythm is not None and made.rhythm.until == "2024-04-09", "the last day with events"
    text = files_of(made, "shop")["problem.yaml"]
    assert "last: 2024-04-13 # the newest label of the events up to 2024-04-09 is known there; look: 1" in text
    assert yaml.safe_load(text)["validation"]["allow_empty"] is True
    said = [remark.text for remark in remarks]
    assert any(text.startswith("labels: 1 rows are known before partitions.first") for text in said), said
