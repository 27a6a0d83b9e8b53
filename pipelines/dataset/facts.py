"""What only a run knows about the training set that it made: beside the problem, all that its datasheet needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from pipelines import sql
from pipelines.dataset.label import SPLITS
from pipelines.documents.dataset import Feature, LeakFinding, Power, SourceCount, SplitCount
from pipelines.problem import Problem

if TYPE_CHECKING:
    import pyarrow.dataset as ds


@dataclass(frozen=True)
class Facts:
    """Every field goes to JSON as it is (`dataclasses.asdict`)."""

    training_set: str
    """Id of the set."""
    partition: str
    """Newest partition that the set may know of."""
    as_of: str
    """ISO 8601: nothing learnt then or later is in the set."""
    available: list[str]
    """Keys of all ingested partitions."""
    partitions: dict[str, str]
    """Split of each partition, as `label.splits` gave it."""
    young: list[str]
    """Partitions whose labels still have time to come in: `label.young`."""
    young_events: int
    """Events of those partitions."""
    excluded: dict[str, int]
    """Rows left out, by reason: `label.excluded`, and what later stages left out."""
    not_drawn: int
    """Labelled rows of the training split that sampling passed over."""
    quarantined: dict[str, int]
    """Rejected rows of the set's partitions, by rule; a row counts for each rule it broke."""
    splits: list[SplitCount]
    label_sources: list[SourceCount]
    features: list[Feature]
    """In the model's order."""
    findings: list[LeakFinding]
    """What the leak checks found."""
    queries: dict[str, str]
    """Texts of the SQL that gives events and labels, by name."""
    table_versions: dict[str, int | None]
    """Versions of the tables that were read and written; None: not written yet."""
    git_commit: str
    """Of the code; empty where it is not known."""
    power: Power | None = None
    """What the held-out rows can show: `evaluation.gate.power`."""


QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def split_counts(problem: Problem, rows: pa.Table | ds.Dataset) -> list[SplitCount]:
    """What each split holds, the oldest first. `rows`: those of the training set, with split, partition, event_time,
    label and weight."""
    names = ", ".join(map(sql.literal, SPLITS))
    text = f"""SELECT split, count(DISTINCT partition) AS partitions, count(*) AS rows,
            {_of_labels(problem)}, avg(weight) AS mean_weight,
            strftime(min(event_time), '%Y-%m-%dT%H:%M:%SZ') AS first_event,
            strftime(max(event_time), '%Y-%m-%dT%H:%M:%SZ') AS last_event
        FROM rows GROUP BY split ORDER BY list_position([{names}], split)"""
    counts = sql.query(text, {"rows": rows}).to_pylist()
    if problem.task == "multiclass":
        counts = [{**split, "classes": dict(zip(problem.classes, split["classes"], strict=True))} for split in counts]
    typed: list[SplitCount] = counts
    return typed


def source_counts(problem: Problem, rows: pa.Table | ds.Dataset) -> list[SourceCount]:
    """What each split has of each source of labels."""
    names = ", ".join(map(sql.literal, SPLITS))
    positives = "sum(label)::BIGINT AS positives, " if problem.task == "binary" else ""
    text = f"""SELECT split, source, count(*) AS rows, {positives}avg(confidence) AS mean_confidence
        FROM rows GROUP BY split, source ORDER BY list_position([{names}], split), source"""
    counts: list[SourceCount] = sql.query(text, {"rows": rows}).to_pylist()
    return counts


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
