"""Guessed types lose nothing: a number is what prints as the very text that stood there, in every row."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.errors import ConfigError
from pipelines.ingest.extract import check_columns, extract
from pipelines.ingest.sources import described, opened, typed
from pipelines.problem import Problem

Kettles = Callable[..., Problem]
SETTINGS = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
DAY = ("2024-01-01", "2024-01-01")


def read(problem: Problem) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Types and rows; no row is rejected."""
    with opened(problem, *DAY) as sources:
        assert sources.rejected().read_all().num_rows == 0
        kinds = sources.database.sql("SELECT column_name, column_type FROM (DESCRIBE kettles)").fetchall()
        rows = sources.database.sql("FROM kettles").to_arrow_table().to_pylist()
        return dict(kinds), sorted(rows, key=lambda row: str(row.get("y")))  # a source has no order


def places(values: list[Any]) -> list[str]:
    """Texts that sort as the values stand."""
    return [f"place {number:06}" for number in range(len(values))]


def write_csv(path: Path, columns: dict[str, list[str]]) -> None:
    with path.open("w", newline="") as sink:
        writer = csv.writer(sink, quoting=csv.QUOTE_ALL)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


@pytest.mark.parametrize(
    "texts",
    [
        ["12345678901234567890", "12345678901234567891"],
        ["00123", "00124"],
        ["1e5", "100000"],
        ["1.50", "2.00"],
        ["+1", "2"],
        ["1_000", "2"],
        [" 1", "2"],
        ["1 ", "2"],
        ["-0", "1"],
        ["1.0", "1"],
        ["1", "2.5"],
        ["0x1F", "1"],
        ["1E3", "2"],
        [".5", "1.5"],
        ["5.", "1.5"],
        ["9007199254740993.0", "1.5"],
        ["0.1000000000000000055", "0.1"],
        ["inf", "1.5"],
        ["1e400", "1.5"],
        ["9223372036854775808", "1"],
        ["NaN", "1"],
        ["NaN", "nan"],
        ["1", "true"],
        ["TRUE", "true"],
        ["yes", "no"],
        ["t", "f"],
        ["2024-01-05", "soon"],
        ["2024-02-30", "2024-02-28"],
        ["20240105", "2024-01-05"],
        ["2024-01-05T10:00:00.1234567", "2024-01-05T10:00:00.1234568"],
        ["2024-01-05T24:00", "2024-01-06T00:00"],
        ["٣", "4"],
    ],
)
def test_a_text_that_no_number_prints_stays_that_text(kettles: Kettles, tmp_path: Path, texts: list[str]) -> None:
    write_csv(tmp_path / "k.csv", {"x": texts, "y": places(texts)})
    kinds, rows = read(kettles(path="k.csv"))
    assert (kinds["x"], [row["x"] for row in rows]) == ("VARCHAR", texts)


@pytest.mark.parametrize(
    ("texts", "kind", "values"),
    [
        (["1", "-9223372036854775808", ""], "BIGINT", [1, -(2**63), None]),
        (["1.5", "100000.0", "-0.0001", "NA"], "DOUBLE", [1.5, 100000.0, -0.0001, None]),
        (["1.5", "NaN", "1e-05", "1e+22"], "DOUBLE", [1.5, None, 1e-05, 1e22]),
        (["True", "False", ""], "BOOLEAN", [True, False, None]),
        (["2024-01-05", ""], "DATE", [date(2024, 1, 5), None]),
        (
            ["2024-01-05", "2024-01-05T10:00:00.5"],
            "TIMESTAMP",
            [datetime(2024, 1, 5), datetime(2024, 1, 5, 10, 0, 0, 500_000)],
        ),
        (
            ["2024-01-05T10:00:00+01:00", "2024-01-05 10:00"],
            "TIMESTAMP WITH TIME ZONE",
            [datetime(2024, 1, 5, 9, tzinfo=UTC), datetime(2024, 1, 5, 10, tzinfo=UTC)],
        ),
        (["", "NA"], "VARCHAR", [None, None]),
    ],
)
def test_the_narrowest_type_that_loses_nothing_is_taken(
    kettles: Kettles, tmp_path: Path, texts: list[str], kind: str, values: list[Any]
) -> None:
    write_csv(tmp_path / "k.csv", {"x": texts, "y": places(texts)})
    kinds, rows = read(kettles(path="k.csv"))
    assert (kinds["x"], [row["x"] for row in rows]) == (kind, values)


NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.integers(0, 10**25).map(lambda n: f"{n:020}"),
    st.floats(0, 1e6).map(lambda x: f"{x:.2f}"),
    st.dates().map(str),
    st.datetimes().map(str),
    st.datetimes().map(lambda at: f"{at.isoformat()}Z"),
    st.booleans().map(str),
    st.sampled_from(["1e5", "+1", "1_0", " 1", "0", "-0", "1.0", "inf", "NaN", "t", "1,5"]),
)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)


@SETTINGS
@given(texts=st.lists(NUMBERS, min_size=1, max_size=3) | st.lists(NUMBERS | TEXTS, min_size=1, max_size=4))
def test_any_column_of_texts_prints_as_it_was_or_stays_text(kettles: Kettles, tmp_path: Path, texts: list[str]) -> None:
    write_csv(tmp_path / "k.csv", {"x": texts, "y": places(texts)})
    kinds, rows = read(kettles(path="k.csv", nulls=["null"]))
    for text, row in zip(texts, rows, strict=True):
        value = row["x"]
        match kinds["x"]:
            case "DOUBLE":
                assert repr(value) == text or (value is None and text.lower().strip("-") == "nan")
            case "TIMESTAMP" | "TIMESTAMP WITH TIME ZONE":
                at = datetime.fromisoformat(text)
                assert value == (at if kinds["x"] == "TIMESTAMP" or at.tzinfo else at.replace(tzinfo=UTC))
            case _:
                assert str(value) == (None if text == "null" else text)


def test_the_last_of_many_rows_decides(kettles: Kettles, tmp_path: Path) -> None:
    write_csv(tmp_path / "k.csv", {"x": [*(str(n) for n in range(30_000)), "007"], "y": ["1.5"] * 30_001})
    kinds, rows = read(kettles(path="k.csv"))
    assert kinds == {"x": "VARCHAR", "y": "DOUBLE"}
    assert len({row["x"] for row in rows}) == 30_001


# Sources that tell numbers from texts ------------------------------------------------------------------------

JSON_NUMBERS = st.one_of(
    st.integers(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.booleans()
)


@SETTINGS
@given(values=st.lists(JSON_NUMBERS, min_size=1, max_size=3))
def test_any_column_of_json_numbers_keeps_their_values(kettles: Kettles, tmp_path: Path, values: list[Any]) -> None:
    (tmp_path / "k.jsonl").write_text(
        "\n".join(json.dumps({"x": value, "y": place}) for value, place in zip(values, places(values), strict=True))
    )
    kinds, rows = read(kettles(path="k.jsonl"))
    for value, row in zip(values, rows, strict=True):
        if kinds["x"] == "VARCHAR":
            assert row["x"] == json.dumps(value) or Decimal(row["x"]) == Decimal(repr(value))
        else:
            assert row["x"] == value  # Python compares integers with floats exactly


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ("[9007199254740993, 0.5]", "VARCHAR"),
        ("[9007199254740992, 0.5]", "DOUBLE"),
        ("[18446744073709551615]", "VARCHAR"),
        ("[123456789012345678901234567890, 1]", "VARCHAR"),
        ("[1, 2.50]", "DOUBLE"),
        ("[1, 2]", "BIGINT"),
        ('["1", 2]', "VARCHAR"),
        ("[1e5, 1]", "DOUBLE"),
        ('["2024-01-05"]', "DATE"),
    ],
)
def test_json_numbers_that_no_type_holds_stay_texts(kettles: Kettles, tmp_path: Path, values: str, kind: str) -> None:
    (tmp_path / "k.jsonl").write_text("\n".join(f'{{"x": {one.strip()}}}' for one in values.strip("[]").split(",")))
    kinds, rows = read(kettles(path="k.jsonl"))
    assert kinds == {"x": kind}
    if kind == "VARCHAR":
        assert [row["x"] for row in rows] == [one.strip(' "') for one in values.strip("[]").split(",")]


def test_sqlite_numbers_that_no_float_holds_stay_texts(kettles: Kettles, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE kettles (big, few, real, id TEXT)")
        database.executemany(
            "INSERT INTO kettles VALUES (?, ?, ?, ?)", [(2**53 + 1, 1, 0.1, "0.10"), (0.5, 2.5, 1 / 3, "1e5")]
        )
    database.close()
    kinds, rows = read(kettles(database="sqlite:///shop.db", table="kettles"))
    assert list(kinds.values()) == ["VARCHAR", "DOUBLE", "DOUBLE", "VARCHAR"]
    assert rows == [
        {"big": "9007199254740993", "few": 1.0, "real": 0.1, "id": "0.10"},
        {"big": "0.5", "few": 2.5, "real": 1 / 3, "id": "1e5"},
    ]
    declared = {"big": "string", "few": "float", "real": "string", "id": "string"}
    _, rows = read(kettles(database="sqlite:///shop.db", table="kettles", columns=declared))
    assert [row["real"] for row in rows] == ["0.1", "0.3333333333333333"]


def test_postgres_numbers_that_no_float_holds_stay_texts(kettles: Kettles, postgres: Any) -> None:
    query = """SELECT * FROM (VALUES
        (12345678901234567890::numeric, 1.50::numeric(5, 2), 92233720368547758.07::money, 'NaN'::numeric),
        (12345678901234567891, 2, 1::money, 0.25), (null, null, null, null)) AS v(id, price, paid, share)"""
    kinds, rows = read(kettles(database=postgres.uri, query=query))
    assert list(kinds.values()) == ["VARCHAR", "DOUBLE", "VARCHAR", "DOUBLE"]
    assert [row["id"] for row in rows] == ["12345678901234567890", "12345678901234567891", None]
    assert [row["price"] for row in rows] == [1.5, 2.0, None]
    assert rows[0]["paid"] == "92233720368547758.07"


# What is done with texts of numbers ---------------------------------------------------------------------------


def test_a_text_of_numbers_is_a_number_where_the_problem_declares_one(kettles: Kettles, tmp_path: Path) -> None:
    write_csv(tmp_path / "k.csv", {"kettle_id": ["00123", "00124"], "litres": ["1.50", "2.00"]})
    problem = kettles(path="k.csv")
    events = (
        "SELECT kettle_id, TIMESTAMP '2024-01-01 10:00' AS event_time, 'top' AS shelf, litres, 3 AS age FROM kettles"
    )
    (tmp_path / "events.sql").write_text(events)
    with opened(problem, *DAY) as sources:
        rows = [row for batch in extract(problem, "events", sources.database, *DAY) for row in batch.to_pylist()]
    assert [(row["kettle_id"], row["litres"], row["faults"]) for row in rows] == [
        ("00123", 1.5, []),
        ("00124", 2.0, []),
    ]
    (tmp_path / "events.sql").write_text(events.replace("litres,", "litres * 2 AS litres,"))
    with described(problem) as database, pytest.raises(ConfigError, match="VARCHAR") as caught:
        check_columns(problem, "events", database)
    assert "declare `columns` in problem.yaml" in caught.value.cure
    assert "prints otherwise than it is written" in caught.value.cure


# Wide tables --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["k.csv", "k.jsonl"])
@pytest.mark.parametrize("declared", [False, True])
def test_a_wide_table_has_the_values_and_the_rejected_rows_of_a_narrow_one(
    kettles: Kettles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, declared: bool
) -> None:
    monkeypatch.setattr(typed, "TOGETHER", 3)
    kinds = ["integer", "float", "string", "boolean", "timestamp"]
    values = [[3, 1.5, "k", True, "2024-01-01T12:00:00Z"], [4, 2.5, "007", False, "2024-01-05T12:00:00Z"]] * 2
    columns = {f"column_{n}": kinds[n % 5] for n in range(11)}
    rows = [{one: row[n % 5] for n, one in enumerate(columns)} for row in values]
    lines = [json.dumps(row) for row in rows]
    if name == "k.csv":
        lines = [",".join(columns), *(",".join(map(str, row.values())) for row in rows)]
    lines.insert(2, "no row")
    bad = {"column_0": "x", "column_10": "y"} if declared else {}
    odd = rows[0] | bad
    lines += [json.dumps(odd) if name == "k.jsonl" else ",".join(map(str, odd.values()))] if declared else []
    (tmp_path / name).write_text("\n".join(lines))
    problem = kettles(path=name, columns=columns if declared else {}, time_column="column_4")
    with opened(problem, *DAY) as sources:
        found = sources.database.sql("SELECT column_0, column_2, column_6, column_10 FROM kettles").fetchall()
        rejected = sorted(sources.rejected().read_all().to_pylist(), key=lambda row: -row["rules"][0].find("readable"))
    assert found == [(3, "k", 1.5, 3)] * 2
    reasons = [row["rules"] for row in rejected]
    assert reasons[0][0].startswith("not readable")
    assert len(reasons[0]) == 1
    assert reasons[1:] == [["column_0: not of type integer: 'x'", "column_10: not of type integer: 'y'"]] * declared
    assert [json.loads(row["row"])["column_10"] for row in rejected[1:]] == ["y"] * declared


def test_no_query_grows_with_the_width_of_a_table(
    kettles: Kettles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it costs to plan a query grows faster than its length: many short ones take the place of a long one."""
    monkeypatch.setattr(typed, "TOGETHER", 8)
    lengths: dict[int, list[int]] = {}
    for width in (24, 96):
        write_csv(tmp_path / "k.csv", {f"c{n:03}": ["1.5", "2.5"] for n in range(width)})
        counted = lengths.setdefault(width, [])
        judged = typed._judged

        def counting(*arguments: Any, counted: list[int] = counted, judged: Any = judged, **named: Any) -> str:
            query = judged(*arguments, **named)
            counted.append(len(query))
            return query

        with monkeypatch.context() as patch:
            patch.setattr(typed, "_judged", counting)
            kinds, _ = read(kettles(path="k.csv"))
        assert set(kinds.values()) == {"DOUBLE"}
    assert max(lengths[96]) == pytest.approx(max(lengths[24]), rel=0.05)
    assert sum(lengths[96]) == pytest.approx(4 * sum(lengths[24]), rel=0.1)
