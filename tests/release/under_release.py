"""Tables of a problem under release, written by hand: what `compare` and the pages read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines import sql, store
from pipelines.artifacts import TableName, table_schema
from pipelines.dataset.waiting import Judgeable
from pipelines.handoffs.releases import Assignment
from pipelines.problem import Problem
from pipelines.release.assign import is_challengers
from pipelines.release.ladder import Look, Rollout
from pipelines.release.versions import write_version_files

DAYS = [f"2024-01-{day:02}" for day in range(11, 31)]
LATER = "2024-01-31"  # all labels are in
START = datetime(2024, 1, 10, tzinfo=UTC)


@dataclass
class Day:
    """Rows of one partition: scores of both versions and labels, None where there is none yet."""

    labels: Sequence[Any]
    champion: NDArray[np.float64]
    challenger: NDArray[np.float64]
    units: Sequence[str] | None = None

    @property
    def rows(self) -> int:
        return len(self.labels)


def versions(problem: Problem, **thresholds: float) -> None:
    """What evidence reads of versions 3 and 4."""
    for version in ("3", "4"):
        threshold = thresholds.get(f"v{version}", 0.5)
        write_version_files(
            problem,
            version,
            {
                "problem.json": problem.model_dump(mode="json"),
                "reference.json": {"reference": {"threshold": threshold}},
            },
        )


def rollout(problem: Problem, rungs: Sequence[int], looks: Sequence[tuple[str, Sequence[str]]] = ()) -> Rollout:
    """A release of version 4 against version 3 whose days, from the first on, are of these rungs."""
    settings = problem.release
    begun = Rollout(
        name="v3-v4",
        champion="3",
        champion_run="run of 3",
        challenger="4",
        challenger_run="run of 4",
        settings=settings,
        began="2024-01-10",
        started=START,
        reason="better on the test",
    )
    assigned = {day: at(begun, rung).assignment() for day, rung in zip(DAYS, rungs, strict=False)}
    return at(
        begun,
        rungs[-1],
        assigned=assigned,
        looks=tuple(Look(day, rungs[-1], "hold", "because", tuple(judged)) for day, judged in looks),
    )


def at(release: Rollout, rung: int, **changes: Any) -> Rollout:
    return replace(release, rung=rung, **changes)


def served_by_challenger(assignment: Assignment, day: str, units: Sequence[str]) -> NDArray[np.bool_]:
    rows = pa.table({"place": range(len(units)), "unit": list(units), "partition": [day] * len(units)})
    query = f"SELECT {is_challengers(assignment)} AS is_in FROM t ORDER BY place"
    is_in: NDArray[np.bool_] = sql.query(query, {"t": rows})["is_in"].to_numpy().astype(bool)
    return is_in


def write(problem: Problem, name: TableName, rows: pa.Table, key: str, within: str | None = None) -> None:
    schema = table_schema(problem, name)
    for column in schema:
        if column.name not in rows.column_names:
            rows = rows.append_column(column.name, pa.nulls(rows.num_rows, column.type))
    store.write_table(problem, name, rows.select(schema.names).cast(schema), [key], within=within)


def scored_tables(problem: Problem, assignment: Assignment, day: str, rows: Day) -> tuple[pa.Table, pa.Table]:
    """Predictions and shadow predictions of a day, as publish writes them."""
    keys = [f"{day}-{place}" for place in range(rows.rows)]
    units = list(rows.units) if rows.units is not None else keys
    is_in = served_by_challenger(assignment, day, units)
    start = problem.partitions.start(day)
    times = pa.array([start + timedelta(seconds=place) for place in range(rows.rows)], pa.timestamp("us", "UTC"))

    def table(by_challenger: NDArray[np.bool_]) -> pa.Table:
        scores = np.where(
            by_challenger if rows.champion.ndim == 1 else by_challenger[:, None], rows.challenger, rows.champion
        )
        columns: dict[str, Any] = {
            problem.key: keys,
            "partition": [day] * rows.rows,
            "event_time": times,
            "score": scores if scores.ndim == 1 else scores.max(axis=1),
            "model_version": np.where(by_challenger, "4", "3"),
            "variant": np.where(by_challenger, "challenger", "champion"),
            "scored_time": pa.array([start + timedelta(days=1)] * rows.rows, pa.timestamp("us", "UTC")),
            "experiment": ["v3-v4"] * rows.rows,
            "unit": units,
            "propensity": np.where(by_challenger, assignment.share, 1 - assignment.share),
        }
        if scores.ndim == 2:
            columns["probabilities"] = list(scores)
        return pa.table(columns)

    return table(is_in), table(~is_in)


def lay_out(problem: Problem, release: Rollout, days: dict[str, Day]) -> None:
    """Write what is known of these days."""
    for day, rows in days.items():
        predictions, shadows = scored_tables(problem, release.assigned[day], day, rows)
        write(problem, "predictions", predictions, day)
        write(problem, "shadow_predictions", shadows, day)
        label(problem, day, rows.labels)


def label(problem: Problem, day: str, labels: Sequence[Any]) -> None:
    """Labels of a day's rows, known a minute after their events; None: there is none."""
    there = [place for place, value in enumerate(labels) if value is not None]
    start = problem.partitions.start(day)
    time = pa.timestamp("us", "UTC")
    rows = pa.table(
        {
            problem.key: [f"{day}-{place}" for place in there],
            "partition": [day] * len(there),
            "event_time": pa.array([start + timedelta(seconds=place) for place in there], time),
            "known_time": pa.array([start + timedelta(seconds=60 + place) for place in there], time),
            "label": pa.array([labels[place] for place in there], table_schema(problem, "labels").field("label").type),
            "source": ["natural"] * len(there),
            "confidence": [1.0] * len(there),
            "labeler": ["events"] * len(there),
        }
    )
    write(problem, "labels", rows, day, within="natural")


def at_the_end_of(problem: Problem, partition: str = LATER, late: Sequence[str] = ()) -> Judgeable:
    return Judgeable(problem, partition, frozenset(late))


def binary_day(seed: int, rows: int = 400, *, worse: float = 0.0, units: int | None = None, apart: float = 0.2) -> Day:
    """A day of a calibrated champion and a challenger that differs from it by noise, and by a log loss that is
    higher by about `worse`."""
    random = np.random.default_rng(seed)
    chance = random.beta(2, 5, rows)
    labels = (random.random(rows) < chance).astype(int)
    logit = (
        np.log(chance / (1 - chance)) + random.normal(0, apart, rows) + np.sqrt(worse) * 3 * random.normal(size=rows)
    )
    names = None if units is None else [f"unit {number}" for number in random.integers(units, size=rows)]
    return Day(labels.tolist(), chance, 1 / (1 + np.exp(-logit)), names)
