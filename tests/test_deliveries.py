"""What a source holds of each delivery, which number it gets, and what is said when it changes or goes."""

from __future__ import annotations

import copy
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import deliveries
from pipelines.errors import ConfigError, DataError, SchemaError
from pipelines.ingest.look import check_sources, come_so_far, look, newest
from pipelines.ingest.sources import offered, opened
from pipelines.problem import Problem, load_problem
from pipelines.stages import stage
from tests.config.test_deliveries import SHORT

HEADER = "customer,age,left\n"


class Shop:
    """A problem of deliveries in `folder`, and its source."""

    def __init__(self, folder: Path, source: dict[str, Any], **partitions: str) -> None:
        self.folder = folder / "shop"
        self.folder.mkdir()
        raw = copy.deepcopy(SHORT)
        columns = {"customer": "string", "age": "integer", "left": "integer"}
        columns |= {partitions["column"]: "integer"} if partitions else {}
        raw["sources"] = {"customers": {**source, "columns": columns}}
        raw["partitions"] |= partitions
        (self.folder / "problem.yaml").write_text(yaml.safe_dump(raw))

    @property
    def problem(self) -> Problem:
        return load_problem("shop")

    def deliver(self, name: str, *rows: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(HEADER + "".join(f"{row}\n" for row in rows))

    def look(self) -> deliveries.Look:
        return deliveries.look(self.problem, offered(self.problem))

    def rows(self, first: str, last: str) -> list[tuple[str, str]]:
        """Customers and the moment of their delivery, as events.sql sees them."""
        with opened(self.problem, first, last, deliveries.registered(self.problem)) as sources:
            text = "SELECT customer, strftime(delivered_time AT TIME ZONE 'UTC', '%H') FROM customers ORDER BY 2, 1"
            return sources.database.sql(text).fetchall()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path))
    monkeypatch.setenv("EVERGREEN_STORE_URI", f"file://{tmp_path}/store")
    return tmp_path


def names(of: dict[str, deliveries.Delivery]) -> dict[str, str]:
    return {key: delivery.name for key, delivery in of.items()}


def test_files_are_numbered_by_name_and_then_as_they_come(home: Path) -> None:
    shop = Shop(home, {"path": "in", "format": "csv"})
    for name in ("week_10", "week_9"):
        shop.deliver(f"in/{name}.csv", f"{name},40,1")
    assert names(shop.look().deliveries) == {"d00001": "week_9.csv", "d00002": "week_10.csv"}
    shop.deliver("in/week_1.csv", "late,40,1")
    seen = shop.look()
    assert seen.new == ["d00003"] and names(seen.deliveries)["d00003"] == "week_1.csv"
    assert shop.look().new == []
    assert shop.rows("d00002", "d00003") == [("week_10", "02"), ("late", "03")]
    came = [delivery.came for delivery in seen.deliveries.values() if delivery.came]
    assert len(came) == 3 and came == sorted(came)


def test_a_file_that_changed_or_went_is_told(home: Path) -> None:
    shop = Shop(home, {"path": "in/*.csv"})
    shop.deliver("in/a.csv", "1,40,1")
    shop.deliver("in/b.csv", "2,40,1")
    shop.look()
    os.utime(shop.folder / "in" / "a.csv", (1, 1))
    assert shop.look().changed == {}, "the same content under another date is no change"
    shop.deliver("in/a.csv", "1,41,1")
    (shop.folder / "in" / "b.csv").unlink()
    seen = shop.look()
    assert [*seen.changed] == ["d00001"] and seen.gone == ["d00002"]
    with pytest.raises(DataError, match=r"d00002 \(b.csv\) is not there any more"):
        shop.rows("d00001", "d00002")
    for age in (40, 41, 40):  # there and back again
        deliveries.taken_in(shop.problem, [*shop.look().changed.values()])
        assert shop.look().changed == {}
        shop.deliver("in/a.csv", f"1,{age},1")
        assert [*shop.look().changed] == ["d00001"]


def test_one_file_is_one_delivery_until_it_holds_something_else(home: Path) -> None:
    shop = Shop(home, {"path": "customers.csv"})
    shop.deliver("customers.csv", "1,40,1")
    assert names(shop.look().deliveries) == {"d00001": "customers.csv"}
    assert shop.rows("d00001", "d00001") == [("1", "01")]
    shop.deliver("customers.csv", "2,50,0")
    assert shop.look().new == ["d00002"]
    assert shop.rows("d00002", "d00002") == [("2", "02")]
    with pytest.raises(DataError, match="d00002, which came later, stands in its place"):
        shop.rows("d00001", "d00001")


def test_a_column_says_which_delivery_a_row_came_with(home: Path) -> None:
    database = home / "shop.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE customers (customer TEXT, age INTEGER, left INTEGER, batch INTEGER)")
        rows = [("a", 40, 1, 9), ("b", 41, 0, 10), ("c", 42, 0, None)]
        connection.executemany("INSERT INTO customers VALUES (?, ?, ?, ?)", rows)
    shop = Shop(home, {"database": f"sqlite:///{database}", "table": "customers"}, column="batch")
    assert not check_sources(shop.problem)
    assert names(shop.look().deliveries) == {"d00001": "9", "d00002": "10"}
    assert shop.rows("d00002", "d00002") == [("b", "02"), ("c", None)], "a row without one is judged, and not lost"
    with sqlite3.connect(database) as connection:
        connection.execute("INSERT INTO customers VALUES ('d', 43, 1, 9), ('e', 44, 1, 3)")
    seen = shop.look()
    assert [*seen.changed] == ["d00001"] and names(seen.deliveries)["d00003"] == "3"


def test_a_person_may_say_the_name(home: Path) -> None:
    shop = Shop(home, {"path": "in", "format": "csv"})
    shop.deliver("in/march.csv", "1,40,1")
    shop.look()
    assert deliveries.named(shop.problem, "march.csv") == deliveries.named(shop.problem, "d00001") == "d00001"
    assert deliveries.shown(shop.problem, "d00001") == "d00001 (march.csv)"
    with pytest.raises(ConfigError, match=r"no delivery 'april.csv' has come(.|\n)*d00001 \(march.csv\)"):
        deliveries.named(shop.problem, "april.csv")
    with pytest.raises(ConfigError, match="d00002 has not come"):
        shop.rows("d00002", "d00002")


def test_two_looks_at_once_give_a_number_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(home, {"path": "in", "format": "csv"})
    shop.deliver("in/a.csv", "1,40,1")
    offers = offered(shop.problem)
    shop.deliver("in/b.csv", "2,40,1")
    others, record = offered(shop.problem), deliveries.ledger.record_all

    def beaten(problem: Problem, rows: Any) -> bool:
        monkeypatch.setattr(deliveries.ledger, "record_all", record)
        deliveries.look(problem, offers)
        return record(problem, rows)

    monkeypatch.setattr(deliveries.ledger, "record_all", beaten)
    assert names(deliveries.look(shop.problem, others).deliveries) == {"d00001": "a.csv", "d00002": "b.csv"}


def test_check_looks_at_all_of_them_and_keeps_nothing(home: Path) -> None:
    shop = Shop(home, {"path": "in", "format": "csv"})
    for name in "ab":
        shop.deliver(f"in/{name}.csv", *(f"{name}{number},{30 + number},{number % 2}" for number in range(40)))
    come = come_so_far(shop.problem)
    last = newest(shop.problem, come, None)  # type: ignore[arg-type]  # deliveries are due whenever it is
    assert last == "d00002"
    said = "\n".join(remark.text for remark in look(shop.problem, last, come))
    assert "deliveries: d00001 (a.csv), d00002 (b.csv)" in said
    assert "80 rows in 2 of 2 deliveries, usually 40 a delivery" in said
    assert not (home / "store").exists()


def test_a_column_of_our_name_is_refused(home: Path) -> None:
    shop = Shop(home, {"path": "in", "format": "csv"})
    raw = yaml.safe_load((shop.folder / "problem.yaml").read_text())
    raw["sources"]["customers"]["columns"]["delivered_time"] = "string"
    (shop.folder / "problem.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match="delivered_time"):
        load_problem("shop")


def test_a_column_that_is_not_there_is_told(home: Path) -> None:
    shop = Shop(home, {"path": "in", "format": "csv"}, column="batch")
    shop.deliver("in/a.csv", "1,40,1")
    (fault,) = check_sources(shop.problem)
    assert isinstance(fault, SchemaError) and "batch" in str(fault)


@pytest.mark.parametrize(
    ("partitions", "key", "cure"),
    [
        ({"every": "week", "first": "2024-01-01"}, "2024-01-03", "2024-01-01"),
        ({"every": "week", "first": "2024-01-08"}, "2024-01-01", "they begin with 2024-01-08"),
        ({"every": "day", "first": "2024-01-01", "last": "2024-01-05"}, "2024-01-06", "end with 2024-01-05"),
        ({"every": "day", "first": "2024-01-01"}, "2024-01-02T05Z", "first day of a day"),
        ({"every": "day", "first": "2024-01-01"}, "../../x", "first day of a day"),
        ({"every": "hour", "first": "2024-01-01"}, "2024-01-02", "first moment of an hour"),
    ],
)
@pytest.mark.parametrize("name", ["score.plan", "monitor.profile", "release.assess", "annotate.choose", "train.label"])
def test_no_stage_takes_a_key_that_is_none_of_the_problems(
    toy: Callable[..., Problem],
    monkeypatch: pytest.MonkeyPatch,
    partitions: dict[str, str],
    key: str,
    cure: str,
    name: str,
) -> None:
    problem = toy(partitions=partitions)
    monkeypatch.setattr("pipelines.problem.load_problem", lambda _: problem)
    with pytest.raises(ConfigError) as failure:
        stage(name)("kettle", key)
    assert cure in failure.value.cure
    assert key in failure.value.what


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("ingest.extract", {"first": "2023-12-31", "last": "2024-01-02"}),
        ("ingest.extract", {"first": "2024-01-01", "last": "2031-01-01"}),
        ("train.label", {"partition": "2024-01-02", "window_from": "2023-12-31"}),
    ],
)
def test_no_stage_takes_a_span_that_leaves_the_problems(
    toy: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch, name: str, keys: dict[str, str]
) -> None:
    problem = toy(partitions={"every": "day", "first": "2024-01-01", "last": "2024-06-30"})
    monkeypatch.setattr("pipelines.problem.load_problem", lambda _: problem)
    with pytest.raises(ConfigError, match="none of the problem's partitions") as failure:
        stage(name)("kettle", **keys)
    assert "2024-01-01 and end with 2024-06-30" in failure.value.cure


def test_a_span_may_name_deliveries_that_an_ingest_has_yet_to_number(home: Path) -> None:
    problem = Shop(home, {"path": "in", "format": "csv"}).problem
    key = problem.partitions.first_key
    deliveries.require_partition(problem, key, may_come=True)
    with pytest.raises(ConfigError, match="no delivery"):
        deliveries.require_partition(problem, key)
    with pytest.raises(ConfigError, match="names no partition"):
        deliveries.require_partition(problem, "2024-01-01", may_come=True)
