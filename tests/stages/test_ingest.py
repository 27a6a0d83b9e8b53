from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines import ledger, local_run, quarantine, store
from pipelines.dataset.rebuild import content_hash, rebuild
from pipelines.errors import ConfigError, DataError, SchemaError
from pipelines.problem import Query, load_problem
from pipelines.stages import stage
from pipelines.stages.ingest.validate import SAMPLED_ROWS, _shape_rules
from tests.stages.conftest import judged_by_both

pytestmark = pytest.mark.slow

WEEK = "2013-02-11"
ROWS = 6236


@pytest.fixture
def by_both() -> Iterator[None]:
    """Great Expectations takes part."""
    with judged_by_both():
        yield


def counts(problem: str) -> dict[str, int]:
    config = load_problem(problem)
    return {name: store.dataset(config, name).count_rows() for name in ("events", "labels", "quarantine")}


def edit(problem: str, file: str, old: str, new: str) -> None:
    path = load_problem(problem).folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.usefixtures("by_both")
def test_bad_rows_are_set_aside_and_the_rest_is_published(loop: str) -> None:
    before = counts(loop)
    edit(
        loop,
        "events.sql",
        "    f.distance,",
        "    CASE WHEN f.flight % 100 = 7 THEN -f.distance ELSE f.distance END AS distance,",
    )
    published = local_run.ingest(loop, WEEK, WEEK)
    assert published.events + published.quarantined == ROWS
    assert 0 < published.quarantined < ROWS * 0.02
    rows = store.dataset(load_problem(loop), "quarantine").to_table().to_pylist()
    assert len(rows) == published.quarantined
    assert {(row["partition"], row["source"], *row["rules"]) for row in rows} == {
        (WEEK, "events", "distance: outside 50..6000")
    }
    assert counts(loop)["events"] == before["events"] + published.events
    local_run.ingest(loop, WEEK, WEEK)
    assert counts(loop)["quarantine"] == published.quarantined, "a repeated run replaces what it set aside"


@pytest.mark.usefixtures("by_both")
def test_too_many_bad_rows_publish_nothing_and_can_be_looked_at(loop: str) -> None:
    before = counts(loop)
    edit(loop, "events.sql", "    f.distance,", "    -f.distance AS distance,")
    with pytest.raises(
        DataError, match=rf"100.0% of {ROWS} rows.*distance: outside 50..6000 \({ROWS} rows\)"
    ) as caught:
        local_run.ingest(loop, WEEK, WEEK)
    assert counts(loop) == before
    assert store.staged(caught.value.where).count_rows() == SAMPLED_ROWS
    page = store.read_bytes(store.store_uri(loop, "reports", f"{WEEK}_{WEEK}", "validation.html")).decode()
    assert "Nothing was published" in page
    assert f"{ROWS:,}" in page


def test_a_refused_week_is_held_until_a_delivery_is_good_and_no_other_is(loop: str) -> None:
    config = load_problem(loop)
    quarantine.hold(config, "2013-02-18", "a person says so", {"by": "hand"})
    edit(loop, "events.sql", "    f.distance,", "    -f.distance AS distance,")
    for week in (WEEK, "2013-02-04"):
        with pytest.raises(DataError):
            local_run.ingest(loop, week, week)
    assert quarantine.held(config) == {WEEK, "2013-02-18"}, "what was published before stays good"
    (row,) = [row for row in quarantine.holds(config) if row["partition"] == WEEK]
    assert "distance: outside 50..6000" in row["reason"]
    assert row["evidence"]["page"].endswith("validation.html")
    edit(loop, "events.sql", "    -f.distance AS distance,", "    f.distance,")
    local_run.ingest(loop, WEEK, "2013-02-18")
    assert quarantine.held(config) == {"2013-02-18"}, "who held it lets it in"
    assert [row["action"] for row in ledger.decisions(config, "partition") if row["partition"] == WEEK] == [
        "quarantine",
        "readmitted",
    ]


@pytest.mark.usefixtures("by_both")
def test_a_week_in_another_unit_publishes_nothing_until_somebody_accepts_it(loop: str) -> None:
    """Each row is within its rules: only the weeks before tell."""
    before = counts(loop)
    edit(loop, "events.sql", "    w.wind_speed,", "    w.wind_speed * 0.44704 AS wind_speed,")
    with pytest.raises(DataError, match=f"^{WEEK}: wind_speed: "):
        local_run.ingest(loop, WEEK, WEEK)
    assert counts(loop) == before
    page = store.read_bytes(store.store_uri(loop, "reports", f"{WEEK}_{WEEK}", "validation.html")).decode()
    assert f"{WEEK}: wind_speed: " in page
    edit(loop, "problem.yaml", "    accepted:\n", f"    accepted:\n    - {WEEK}\n")
    assert local_run.ingest(loop, WEEK, WEEK).events == ROWS


def test_a_partition_is_held_against_what_holds_of_those_before(loop: str) -> None:
    """Neither what was superseded or withdrawn nor labels that people gave are what the feed looked like."""
    config = load_problem(loop)

    def observed(query: Query) -> dict[str, Any]:
        keys = store.partition_keys(config, query)
        holds = pc.field("superseded_time").is_null() & pc.field("withdrawn_time").is_null()
        good = store.dataset(config, query).filter((pc.field("partition") == keys[-1]) & holds)
        found = _shape_rules(config, query, keys[-1], good)
        return {rule.name: pytest.approx(rule.observed[keys[-1]]) for rule in found}

    usual = {query: observed(query) for query in config.queries}
    assert usual["events"]
    assert usual["labels"]
    for query, column in (("events", "superseded_time"), ("events", "withdrawn_time"), ("labels", "superseded_time")):
        rows = store.dataset(config, query).to_table()
        number = "distance" if query == "events" else "label"
        odd = rows.set_column(rows.schema.get_field_index(number), number, pc.multiply(rows[number], 0))
        ended = pa.array([datetime(2013, 6, 1, tzinfo=UTC)] * len(rows), pa.timestamp("us", "UTC"))
        odd = odd.set_column(odd.schema.get_field_index(column), column, ended).cast(rows.schema)
        keys = store.partition_keys(config, query)
        within = "natural" if query == "labels" else None
        store.write_table(config, query, pa.concat_tables([rows, odd]), keys, within=within)
        assert observed(query) == usual[query]
    *before, last = store.partition_keys(config, "labels")
    holds = pc.field("superseded_time").is_null() & (pc.field("partition") != last)
    natural = store.dataset(config, "labels").to_table(filter=holds)
    by_hand = natural.set_column(natural.schema.get_field_index("source"), "source", pa.array(["hand"] * len(natural)))
    by_hand = by_hand.set_column(by_hand.schema.get_field_index("label"), "label", pc.subtract(1, natural["label"]))
    store.write_table(config, "labels", by_hand.cast(natural.schema), before, within="hand")
    assert observed("labels") == usual["labels"]


def halve_a_distance(problem: str, flight: int) -> None:
    edit(
        problem,
        "events.sql",
        "    f.distance,",
        f"    CASE WHEN f.flight = {flight} THEN f.distance // 2 ELSE f.distance END AS distance,",
    )


def rebuilt(problem: str, as_of: datetime) -> dict[str, str]:
    config = load_problem(problem)
    tables = rebuild(config, WEEK, as_of, store.dataset(config, "events"), store.dataset(config, "labels"))
    assert tables["features"].num_rows == ROWS
    return {name: content_hash(rows) for name, rows in tables.items()}


def test_a_correction_is_a_new_statement_and_the_past_can_be_rebuilt(loop: str) -> None:
    first = local_run.ingest(loop, WEEK, WEEK)
    assert (first.new, first.unchanged, first.corrected) == (ROWS, 0, 0)
    config = load_problem(loop)
    then = config.partitions.end(WEEK)
    before = rebuilt(loop, then)
    local_run.ingest(loop, "2013-02-18", "2013-02-18")

    halve_a_distance(loop, 1141)
    second = local_run.ingest(loop, WEEK, WEEK)
    assert second.corrected > 0
    assert (second.unchanged, second.withdrawn) == (ROWS - second.corrected, 0)
    assert rebuilt(loop, then) == before, "what was known then"
    later = config.partitions.end("2013-02-18") + timedelta(microseconds=1)
    corrected = rebuilt(loop, later)
    assert corrected["events"] != before["events"]
    assert corrected["features"] == before["features"], "a prediction is made from what its cut-off knew"
    assert local_run.ingest(loop, WEEK, WEEK).unchanged == ROWS, "a repeated run changes nothing"

    restated = local_run.ingest(loop, WEEK, WEEK, restate=True)
    assert store.dataset(config, "events").count_rows(filter=pc.field("partition") == WEEK) == ROWS
    assert rebuilt(loop, then)["events"] != before["events"], "as if it had been known from the first"
    assert restated.events == ROWS


def test_a_row_is_mended_and_released_and_stays_so(loop: str) -> None:
    edit(
        loop,
        "events.sql",
        "    f.distance,",
        "    CASE WHEN f.flight = 1141 THEN -f.distance ELSE f.distance END AS distance,",
    )
    bad = local_run.ingest(loop, WEEK, WEEK).quarantined
    config = load_problem(loop)
    row = quarantine.listing(config, WEEK)[0]
    key = json.loads(quarantine.find(config, row["id"])["row"])["flight_id"]
    with pytest.raises(DataError, match=r"still breaks distance: outside 50\.\.6000"):
        quarantine.release(config, row["id"], {}, "as it is")
    with pytest.raises(ConfigError, match="did you mean 'distance'"):
        quarantine.release(config, row["id"], {"distanse": "1089"}, "a typing mistake")
    quarantine.release(config, row["id"], {"distance": "1089"}, "the sign was wrong")

    def released() -> list[dict[str, Any]]:
        is_it = pc.field("flight_id") == key
        return store.dataset(config, "events").to_table(columns=["distance"], filter=is_it).to_pylist()

    assert released() == [{"distance": 1089}]
    assert row["id"] not in {one["id"] for one in quarantine.listing(config, WEEK)}
    assert [one["evidence"]["after"]["distance"] for one in ledger.decisions(config, "release")] == [1089]
    with pytest.raises(DataError, match="it was released before"):
        quarantine.release(config, row["id"], {"distance": "1089"}, "again")
    again = local_run.ingest(loop, WEEK, WEEK)
    assert (again.quarantined, again.unchanged) == (bad - 1, ROWS - bad + 1)
    assert released() == [{"distance": 1089}]


def test_another_schema_publishes_nothing(loop: str) -> None:
    before = counts(loop)
    edit(loop, "events.sql", "    w.visib,", "    w.visib AS view,")
    with pytest.raises(SchemaError, match=r"visib \(float\) is declared and missing"):
        local_run.ingest(loop, WEEK, WEEK)
    assert counts(loop) == before


def test_a_partition_past_the_last_is_told(loop: str) -> None:
    with pytest.raises(ConfigError, match="2014-02-03 is none of the problem's partitions"):
        local_run.ingest(loop, "2014-02-03", "2014-02-03")


def test_a_range_in_the_wrong_order_is_told(loop: str) -> None:
    with pytest.raises(ConfigError, match="2013-02-18 comes after 2013-02-11"):
        stage("ingest.extract")(loop, "2013-02-18", "2013-02-11")
