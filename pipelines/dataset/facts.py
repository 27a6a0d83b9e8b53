"""What only a run knows about the training set that it made: beside the problem, all that its datasheet needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipelines import sql
from pipelines.dataset.label import SPLITS
from pipelines.problem import Problem


@dataclass(frozen=True)
class Facts:
    """Every field goes to JSON as it is (`dataclasses.asdict`)."""

    training_set: str  # id of the set
    partition: str  # newest partition that the set may know of
    as_of: str  # ISO 8601: nothing learnt then or later is in the set
    available: list[str]  # keys of all ingested partitions
    partitions: dict[str, str]  # split of each partition, as `label.splits` gave it
    young: list[str]  # partitions whose labels still have time to come in: `label.young`
    young_events: int  # events of those partitions
    excluded: dict[str, int]  # rows left out, by reason: `label.excluded`, and what later stages left out
    not_drawn: int  # labelled rows of the training split that sampling passed over
    quarantined: dict[str, int]  # rejected rows of the set's partitions, by rule; a row counts for each rule it broke
    splits: list[dict[str, Any]]  # `split_counts` of the assembled rows
    label_sources: list[dict[str, Any]]  # `source_counts` of the assembled rows
    features: list[dict[str, Any]]  # the feature schema, in the model's order
    findings: list[dict[str, Any]]  # `dataclasses.asdict` of what the leak checks found
    queries: dict[str, str]  # texts of the SQL that gives events and labels, by name
    table_versions: dict[str, int | None]  # versions of the tables that were read and written; None: not written yet
    git_commit: str  # of the code; empty where it is not known
    power: dict[str, Any] = field(
        default_factory=dict
    )  # what the held-out rows can show: `evaluation.power.held_out_power`


QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def split_counts(problem: Problem, rows: pa.Table) -> list[dict[str, Any]]:
    """Per split, oldest first: split, partitions, rows, mean_weight, first_event, last_event; and of the label:

    positives and positive_rate; or classes, the rows of each declared class; or mean, sd, min, max and quantiles, as
    many as QUANTILES. `rows`: those of the training set, with split, partition, event_time, label and weight. Times
    are ISO 8601, in UTC.
    """
    names = ", ".join(map(sql.literal, SPLITS))
    counts = _counted(
        f"""SELECT split, count(DISTINCT partition) AS partitions, count(*) AS rows,
                {_of_labels(problem)}, avg(weight) AS mean_weight,
                strftime(min(event_time), '%Y-%m-%dT%H:%M:%SZ') AS first_event,
                strftime(max(event_time), '%Y-%m-%dT%H:%M:%SZ') AS last_event
            FROM rows GROUP BY split ORDER BY list_position([{names}], split)""",
        rows,
    )
    if problem.task == "multiclass":
        counts = [{**split, "classes": dict(zip(problem.classes, split["classes"], strict=True))} for split in counts]
    return counts


def source_counts(problem: Problem, rows: pa.Table) -> list[dict[str, Any]]:
    """Per split and source of labels: split, source, rows, mean_confidence; positives, of a binary problem."""
    names = ", ".join(map(sql.literal, SPLITS))
    positives = "sum(label)::BIGINT AS positives, " if problem.task == "binary" else ""
    return _counted(
        f"""SELECT split, source, count(*) AS rows, {positives}avg(confidence) AS mean_confidence
            FROM rows GROUP BY split, source ORDER BY list_position([{names}], split), source""",
        rows,
    )


def _of_labels(problem: Problem) -> str:
    """SQL for what the labels of some rows are like."""
    match problem.task:
        case "binary":
            return "sum(label)::BIGINT AS positives, avg(label) AS positive_rate"
        case "multiclass":
            counts = (f"count_if(label = {sql.literal(name)})::BIGINT" for name in problem.classes)
            return f"[{', '.join(counts)}] AS classes"
        case "regression":
            return f"""avg(label) AS mean, stddev_samp(label) AS sd, min(label) AS min, max(label) AS max,
                quantile_cont(label, {list(QUANTILES)}) AS quantiles"""


def _counted(text: str, rows: pa.Table) -> list[dict[str, Any]]:
    counts: list[dict[str, Any]] = sql.query(text, {"rows": rows}).to_pylist()
    return counts
