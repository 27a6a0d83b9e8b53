from __future__ import annotations

import pytest

from pipelines import inline, store
from pipelines.errors import ConfigError, DataError, SchemaError
from pipelines.problem import load_problem
from pipelines.stages import ingest

WEEK = "2013-02-04"


def counts(problem: str) -> dict[str, int]:
    config = load_problem(problem)
    return {name: store.dataset(config, name).count_rows() for name in ("events", "labels", "quarantine")}


def edit(problem: str, file: str, old: str, new: str) -> None:
    path = load_problem(problem).folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_bad_rows_are_set_aside_and_the_rest_is_published(loop: str) -> None:
    before = counts(loop)
    edit(
        loop,
        "events.sql",
        "    f.distance,",
        "    CASE WHEN f.flight % 100 = 7 THEN -f.distance ELSE f.distance END AS distance,",
    )
    published = inline.ingest(loop, WEEK, WEEK)
    assert published["events"] + published["quarantined"] == 6104
    assert 0 < published["quarantined"] < 6104 * 0.02
    rows = store.dataset(load_problem(loop), "quarantine").to_table().to_pylist()
    assert len(rows) == published["quarantined"]
    assert {(row["partition"], row["source"], *row["rules"]) for row in rows} == {
        (WEEK, "events", "distance: outside 50..6000")
    }
    assert counts(loop)["events"] == before["events"] + published["events"]
    inline.ingest(loop, WEEK, WEEK)
    assert counts(loop)["quarantine"] == published["quarantined"], "a repeated run replaces what it set aside"


def test_too_many_bad_rows_publish_nothing_and_can_be_looked_at(loop: str) -> None:
    before = counts(loop)
    edit(loop, "events.sql", "    f.distance,", "    -f.distance AS distance,")
    with pytest.raises(DataError, match=r"100.0% of 6104 rows.*distance: outside 50..6000 \(6104 rows\)") as caught:
        inline.ingest(loop, WEEK, WEEK)
    assert counts(loop) == before
    assert store.staged(caught.value.where).count_rows() == 6104


def test_another_schema_publishes_nothing(loop: str) -> None:
    before = counts(loop)
    edit(loop, "events.sql", "    w.visib,", "    w.visib AS view,")
    with pytest.raises(SchemaError, match=r"visib \(float\) is declared and missing"):
        inline.ingest(loop, WEEK, WEEK)
    assert counts(loop) == before


def test_a_partition_past_the_end_of_the_data_is_told(loop: str) -> None:
    with pytest.raises(DataError, match="no rows in 2014-02-03"):
        inline.ingest(loop, "2014-02-03", "2014-02-03")


def test_a_range_in_the_wrong_order_is_told(loop: str) -> None:
    with pytest.raises(ConfigError, match="2013-02-11 comes after 2013-02-04"):
        ingest.extract(loop, "2013-02-11", "2013-02-04")
