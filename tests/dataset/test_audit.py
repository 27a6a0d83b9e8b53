"""Sixty events over ten days, a training set made of them, and what may happen to it on its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines import sql
from pipelines.artifacts import table_schema
from pipelines.dataset import audit as audited
from pipelines.dataset.audit import audit
from pipelines.dataset.label import label, splits
from pipelines.dataset.leaks import Finding
from pipelines.features.featurize import featurize
from pipelines.problem import Problem
from tests.dataset.test_label import DAY, START, days, events, happened, labels, said
from tests.examples import dear

ToyProblem = Callable[..., Problem]
AS_OF = START + 12 * DAY


@dataclass(frozen=True)
class Made:
    problem: Problem
    events: pa.Table
    labels: pa.Table
    split: dict[str, str]
    labelled: pa.Table
    training_sets: pa.Table
    features: pa.Table

    def audit(self, rows: int = 1_000) -> dict[str, Finding]:
        made = audited.Made(self.labelled, self.training_sets, self.features)
        found = audit(self.problem, self.events, self.labels, AS_OF, self.split, made, rows)
        assert [one.name for one in found] == ["rows of events", "labels as published", "features as defined"]
        return {one.name: one for one in found}


@pytest.fixture
def made(toy: ToyProblem) -> Made:
    """All labels are in an hour after their event; every tenth event has none."""
    problem = toy()
    happenings = [happened(f"k{n:02}", n / 6, shelf="top" if n % 3 else "bottom", litres=n / 7) for n in range(60)]
    told = [
        said(f"k{n:02}", n / 6 + 1 / 24, n % 2, event_time=one["event_time"], partition=one["partition"])
        for n, one in enumerate(happenings)
        if n % 10
    ]
    rows, known = events(problem, *happenings), labels(problem, *told)
    split = splits(problem, days(12)[-1], days(10))
    labelled = label(problem, rows, known, AS_OF, split)
    chosen = labelled.filter(pc.and_(pc.is_valid(labelled["label"]), pc.not_equal(labelled["split"], "embargo")))
    schema = table_schema(problem, "features")
    of_set = rows.filter(pc.is_in(rows["partition"], value_set=chosen["partition"].combine_chunks()))
    batches = [batch.cast(schema) for batch in featurize(problem, of_set, rows, known)]
    return Made(problem, rows, known, split, labelled, chosen, pa.Table.from_batches(batches, schema=schema))


def changed(table: pa.Table, assignment: str, where: str = "kettle_id = 'k33'") -> pa.Table:
    name, _, value = assignment.partition(" = ")
    query = f"SELECT * REPLACE (CASE WHEN {where} THEN {value} ELSE {name} END AS {name}) FROM rows"
    return sql.query(query, {"rows": table}).cast(table.schema)


def test_a_set_as_it_was_made_passes(made: Made) -> None:
    found = made.audit()
    assert all(one.passed and not one.cure for one in found.values()), found
    assert "60 events" in found["labels as published"].reason


@pytest.mark.parametrize(
    ("table", "assignment", "finding", "told"),
    [
        ("labelled", "label = 1 - label", "labels as published", "1 of 60 events differ"),
        ("labelled", "label = NULL", "labels as published", "k33 (label)"),
        ("labelled", "split = 'embargo'", "labels as published", "k33 (split)"),
        ("labelled", "source = 'hand'", "labels as published", "k33 (source)"),
        ("labelled", "label_known_time = event_time", "labels as published", "k33 (label_known_time)"),
        ("training_sets", "label = 1 - label", "labels as published", "k33 (label)"),
        ("features", "litres = litres + 1e-12", "features as defined", "k33 (litres)"),
        ("features", "litres = NULL", "features as defined", "k33 (litres)"),
        ("features", "shelf = 'attic'", "features as defined", "k33 (shelf)"),
        ("features", "shelf_rate_3d = 0.25", "features as defined", "k33 (shelf_rate_3d)"),
        ("features", "kettle_id = 'other'", "features as defined", "k33 (missing)"),
        ("labelled", "partition = '2024-01-02'", "rows of events", "2024-01-02 has 7 rows of 6 events"),
        ("training_sets", "kettle_id = 'other'", "rows of events", "has 1 rows that are no labelled event"),
        ("training_sets", "kettle_id = 'k34'", "rows of events", "has 1 events that stand there twice"),
    ],
)
def test_one_row_that_was_changed_on_its_way_is_found(
    made: Made, table: str, assignment: str, finding: str, told: str
) -> None:
    harmed: Any = replace(made, **{table: changed(getattr(made, table), assignment)})
    found = harmed.audit()[finding]
    assert not found.passed
    assert told in found.reason
    assert found.cure


def test_a_history_that_looks_ahead_is_found(made: Made) -> None:
    """The rate of the shelf on the same day, which is known in the evening only."""
    ahead = sql.query(
        """SELECT f.* REPLACE (coalesce(avg(l.label) OVER (PARTITION BY f.shelf, f.partition), 0.5) AS shelf_rate_3d)
           FROM f LEFT JOIN l USING (kettle_id)""",
        {"f": made.features, "l": made.labelled.select(["kettle_id", "label"])},
    ).cast(made.features.schema)
    found = replace(made, features=ahead).audit()["features as defined"]
    assert not found.passed
    assert "(shelf_rate_3d)" in found.reason


def test_events_left_out_are_counted_even_where_none_of_them_is_drawn(made: Made) -> None:
    fewer = replace(made, labelled=made.labelled.slice(1))
    assert "has 5 rows of 6 events" in fewer.audit(rows=1)["rows of events"].reason


@settings(max_examples=dear(20), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(1, 100))
def test_as_many_rows_as_wanted_are_made_again(made: Made, rows: int) -> None:
    found = made.audit(rows)
    assert all(one.passed for one in found.values())
    assert found["labels as published"].reason.startswith(f"{min(rows, 60)} events")
