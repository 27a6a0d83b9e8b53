"""Rows under release that have their label: what both versions made of each, and which of the two served it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines import sql, store
from pipelines.asof.as_known import in_the_partition, labels_as_known, labels_of
from pipelines.dataset.label import label_number
from pipelines.metrics.scored import Scored, scored
from pipelines.monitoring.estimate.realised import scores_of
from pipelines.problem import Problem
from pipelines.release.versions import threshold_of, version_problem

if TYPE_CHECKING:
    from pipelines.handoffs.releases import Assignment


class Side(NamedTuple):
    """One of the two versions, as it reads labels and decides."""

    version: str
    trained_problem: Problem
    threshold: float

    def scored(self, rows: pa.Table, variant: str) -> Scored:
        said = pa.table({name: rows[f"{variant}_{name}"] for name in self.columns})
        labels = rows[f"{variant}_label"].to_numpy()
        return scored(self.trained_problem, labels, scores_of(self.trained_problem, said), threshold=self.threshold)

    @property
    def columns(self) -> list[str]:
        """What the version says of a row."""
        return ["score", "probabilities"] if self.trained_problem.task == "multiclass" else ["score"]


def side(problem: Problem, version: str) -> Side:
    return Side(version, version_problem(problem, version), threshold_of(problem, version))


class ScoredTwice(NamedTuple):
    """The labelled rows of a partition that both versions have scored, in the order of their time."""

    partition: str
    champion: Scored
    challenger: Scored
    by_challenger: NDArray[np.bool_]
    """Whether the challenger served the row, shape (rows,)."""
    units: NDArray[np.uint64]
    """Hash of what was assigned as a whole, shape (rows,)."""
    rows: pa.Table
    """Columns partition and event_time."""


def scored_twice(
    problem: Problem, assignment: Assignment, champion: Side, challenger: Side, partition: str, as_of: datetime
) -> ScoredTwice:
    """The rows of one partition with labels as they were known at `as_of`.

    A row whose label one of the two versions does not know, or to which it gave no finite score, is left out. Where an
    event without a label counts as negative (`labels.after_maturity`), it does here.
    """
    is_negative = problem.labels.after_maturity == "negative"
    label = "coalesce(known.label, 0)" if is_negative else "known.label"
    numbers = {
        "champion": label_number(champion.trained_problem, label),
        "challenger": label_number(challenger.trained_problem, label),
    }
    said = [
        f"CASE WHEN p.variant = '{variant}' THEN p.{name} ELSE s.{name} END AS {variant}_{name}"
        for variant, version in (("champion", champion), ("challenger", challenger))
        for name in version.columns
    ]
    labels = [f"{number} AS {variant}_label" for variant, number in numbers.items()]
    known = " AND ".join(f"{number} IS NOT NULL" for number in numbers.values())
    key = sql.quote(problem.key)
    time, parts = pc.field("event_time"), problem.partitions
    span = (time >= pc.scalar(parts.start(partition))) & (time < pc.scalar(parts.end(partition)))
    its_own = pc.field("partition") == partition
    rows = sql.query(
        f"""WITH known AS MATERIALIZED ({labels_as_known(problem)}),
            of_events AS ({labels_of(problem, "p", in_the_partition(problem))})
        SELECT p.partition, p.event_time, p.variant = 'challenger' AS by_challenger,
            hash(coalesce(p.unit, p.{key})) AS unit, {", ".join([*labels, *said])}
        FROM p JOIN s USING ({key})
        {"LEFT " if is_negative else ""}JOIN of_events AS known
            ON known.{key} = p.{key} AND known.event_time = p.event_time
        WHERE isfinite(p.score) AND isfinite(s.score) AND {known}
            AND p.model_version IN ($champion, $challenger) AND s.model_version IN ($champion, $challenger)
            AND (p.variant = 'challenger') = (p.model_version = $challenger)
            AND (s.variant = 'challenger') = (s.model_version = $challenger) AND p.variant <> s.variant
        ORDER BY p.event_time, p.{key}""",
        {
            "p": store.dataset(problem, "predictions").filter(its_own),
            "s": store.dataset(problem, "shadow_predictions").filter(its_own),
            "labels": store.dataset(problem, "labels").filter(span),
        },
        {"as_of": as_of, "champion": assignment.champion, "challenger": assignment.challenger},
    )
    return ScoredTwice(
        partition,
        champion.scored(rows, "champion"),
        challenger.scored(rows, "challenger"),
        _array(rows["by_challenger"]).astype(bool),
        _array(rows["unit"]).astype(np.uint64),
        rows.select(["partition", "event_time"]),
    )


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    values: NDArray[Any] = column.to_numpy()
    return values


def unit_codes(parts: list[ScoredTwice], *, are_lasting: bool) -> NDArray[np.int64]:
    """Code of each row's unit, from 0 on, of all partitions one after the other.

    Args:
        are_lasting: a unit is the same in all partitions; else it is another one in each.
    """
    if are_lasting:
        units = np.concatenate([part.units for part in parts])
        return np.unique(units, return_inverse=True)[1].astype(np.int64)
    codes, offset = [], 0
    for part in parts:
        distinct, places = np.unique(part.units, return_inverse=True)
        codes.append(places.astype(np.int64) + offset)
        offset += len(distinct)
    return np.concatenate(codes)
