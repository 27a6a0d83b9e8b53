"""What texts stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.propose.table_of import table_of


def _text(columns: dict[str, list[str]]) -> str:
    rows = zip(*columns.values(), strict=True)
    return "\n".join([";".join(columns), *(";".join(row) for row in rows)]) + "\n"


MANY = [str(n) for n in range(40)]


@pytest.mark.parametrize(
    ("values", "kind", "first"),
    [
        (["1.50", *MANY], "float", 1.5),
        (["N/A", *MANY], "integer", None),
        (["-", *MANY], "integer", None),
        (["$1,234.50", *(f"${n}.00" for n in MANY)], "float", 1234.5),
        (["12 %", *(f"{n} %" for n in MANY)], "float", 12.0),
        (["1.234,50", *(f"{n},25" for n in MANY)], "float", 1234.5),
        (["007", *(f"{n:03}" for n in range(40))], "string", "007"),
        (["-999", *MANY], "integer", None),
        (["oops", *(f"{n}.10" for n in range(99))], "float", None),
    ],
)
def test_numbers_are_numbers_however_they_are_written(
    tmp_path: Path, values: list[str], kind: str, first: object
) -> None:
    with table_of(tmp_path, _text({"x": values, "y": ["a"] * len(values)})) as table:
        (column, _) = table.columns
        assert column.kind == kind
        assert table.database.execute("SELECT x FROM rows").fetchall()[0][0] == first


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([f"{day:02}/01/2024" for day in range(1, 29)], "2024-01-01"),
        ([f"01/{day:02}/2024" for day in range(1, 29)], "2024-01-01"),
        ([f"{day:02}.01.2024 10:30" for day in range(1, 29)], "2024-01-01 10:30:00"),
        ([f"202401{day:02}" for day in range(1, 29)], "2024-01-01"),
        ([f"Jan {day:02}, 2024" for day in range(1, 29)], "2024-01-01"),
        ([str(1_704_067_200 + 86_400 * day) for day in range(28)], "2024-01-01 00:00:00+00"),
        ([str(1_704_067_200_000 + 86_400_000 * day) for day in range(28)], "2024-01-01 00:00:00+00"),
        ([f"{day:02}/01/24" for day in range(1, 29)], "2024-01-01"),
        ([f"{day:02}.01.24" for day in range(1, 29)], "2024-01-01"),
        ([f"{day:02}/01/2024" for day in range(1, 29)] * 4 + ["31/31/2024"], "2024-01-01"),
        ([f"2024-{month:02}" for month in range(1, 13)], "2024-01-01"),
        ([f"2024{month:02}" for month in range(1, 13)], "2024-01-01"),
        ([f"2024Q{quarter}" for quarter in range(1, 5)], "2024-01-01"),
        ([f"Q{quarter} 2024" for quarter in range(1, 5)], "2024-01-01"),
        ([f"2024-W{week:02}" for week in range(1, 53)], "2024-01-01"),
        ([f"202401{day:02}101500" for day in range(1, 29)], "2024-01-01 10:15:00"),
        ([str(45_292 + day) for day in range(28)], "2024-01-01"),
        ([f"{45_292.25 + day}" for day in range(28)], "2024-01-01 06:00:00"),
        ([f"Mon, {day:02} Jan 2024" for day in range(1, 29, 7)], "2024-01-01"),
        ([f"2024-01-{day:02}T00:00:00-05:00" for day in range(1, 29)], "2024-01-01 05:00:00+00"),
    ],
)
def test_times_are_times_however_they_are_written(tmp_path: Path, values: list[str], expected: str) -> None:
    with table_of(tmp_path, _text({"created date": values, "y": ["a"] * len(values)})) as table:
        column = table.column("created date")
        assert column is not None
        assert column.kind == "time"
        query = f"SELECT CAST(min(created_date) AS VARCHAR) FROM {'rows'}"
        assert table.database.execute(query).fetchall()[0][0] == expected


def test_a_word_for_missing_stays_a_value_where_it_may_be_one(tmp_path: Path) -> None:
    with table_of(tmp_path, _text({"damage": ["none", "some", "N/A"] * 10, "n": MANY[:30]})) as table:
        values = table.database.execute("SELECT DISTINCT damage FROM rows ORDER BY 1 NULLS LAST").fetchall()
        assert [value for (value,) in values] == ["none", "some", None]
        assert table.origin.settings["nulls"] == ["", "NA", "N/A"]


def _days(form: str) -> list[str]:
    return [form.format(day=day, month=month) for month in (1, 2, 3) for day in range(1, 28)]


@pytest.mark.parametrize(
    ("form", "clock"),
    [
        ("2024-{month:02}-{day:02}", "date"),
        ("2024-{month:02}-{day:02}T10:15", "local"),
        ("2024-{month:02}-{day:02} 10:15:20.125", "local"),
        ("2024-{month:02}-{day:02}T10:15:20.125", "local"),
        ("2024-{month:02}-{day:02}T10:15:20Z", "zoned"),
        ("2024-{month:02}-{day:02} 10:15:20.1Z", "zoned"),
        ("2024-{month:02}-{day:02}T10:15:20+01:00", "zoned"),
        ("2024-{month:02}-{day:02} 10:15:20+0100", "zoned"),
        ("2024-{month:02}-{day:02} 10:15+01", "zoned"),
    ],
)
@pytest.mark.parametrize("day", [31, "soon"])
def test_a_time_that_is_none_is_set_aside_and_the_others_stay_times(
    tmp_path: Path, form: str, clock: str, day: int | str
) -> None:
    bad = form.format(day=day, month=2) if isinstance(day, int) else day
    values = [*_days(form), bad]
    with table_of(tmp_path, _text({"taken_in": values, "y": ["a"] * len(values)})) as table:
        (column, _) = table.columns
        assert (column.kind, column.clock, column.declared, column.unread) == ("time", clock, "timestamp", 1)
        assert "1 that are no times are set aside" in column.note
        assert table.database.execute("SELECT count(*) - count(taken_in) FROM rows").fetchall() == [(1,)]
        assert set(table.offsets.get("taken_in", {}).values()) <= {"Z", "+01:00", "+0100", "+01"}
