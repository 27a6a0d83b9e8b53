"""The rules of a batch's shape: each partition beside the trailing ones before it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from pipelines.config import Shape
from pipelines.ingest.batch import BatchRule, Refusal
from pipelines.ingest.shape.distance import FLOOR, Suspicion, allowed, chance, distances, drawn
from pipelines.ingest.shape.label import judge_label
from pipelines.ingest.shape.number import judge_distinct, judge_number, judge_rest
from pipelines.ingest.shape.profile import MOSTLY, ColumnShape, PartitionShape
from pipelines.ingest.shape.relations import judge_relations
from pipelines.ingest.shape.rhythm import judge_rhythm
from pipelines.ingest.shape.values import judge_gone, judge_values
from pipelines.problem import Problem, Query

FEW = 1.5  # partitions: what is usual is told from so many that it is widened by this over their number


def shape_rules(
    problem: Problem,
    before: Mapping[str, PartitionShape],
    batch: Mapping[str, PartitionShape],
    refused: Collection[str] = (),
) -> list[BatchRule]:
    """One rule per column and kind of change; `before` are the partitions before the batch, the oldest first.

    What is observed is what was measured over its limit, so that 1 is the limit. A partition is compared
    with the trailing ones before it, be they published or in the batch, as they would be had each come by itself:
    nothing is held against those that break a rule here, or that are `refused` for another reason. One that was
    accepted, or that has too few before it, breaks nothing.
    """
    settings = problem.validation.shape
    if settings is None:
        return []
    history, accepted = dict(before), {day.isoformat() for day in settings.accepted}
    observed: dict[str, dict[str, Suspicion]] = {}
    for key, shape in batch.items():
        trailing = list(history.values())[-settings.trailing_partitions :]
        suspicions: dict[str, Suspicion] = {}
        if len(trailing) >= settings.min_partitions and key not in accepted and shape.rows:
            suspicions = _suspicions(problem, settings, trailing, shape)
        for name, value in suspicions.items():
            observed.setdefault(name, {})[key] = value
        if key not in refused and all(one.ratio <= 1 for one in suspicions.values()):
            history[key] = shape
    return [
        BatchRule(
            name,
            {key: one.ratio for key, one in found.items()},
            max=1.0,
            told={key: str(one) for key, one in found.items()},
        )
        for name, found in observed.items()
    ]


def shape_refusals(problem: Problem, query: Query, checked: Sequence[BatchRule]) -> list[Refusal]:
    """Each partition that looks unlike those before it, and each thing in which it differs, the worst first."""
    found = [
        Refusal(
            key,
            query,
            rule.name,
            f"{rule.name} ({rule.told[key]})",
            str(problem.folder / f"{query}.sql"),
            "has the feed changed (units, columns, a stuck or repeated delivery)? Then mend it. If the world has "
            "changed and the feed is sound, name the partition under validation.shape.accepted, or a column or rule "
            "that says nothing here under validation.shape.ignore",
        )
        for rule in checked
        for key in rule.failed
    ]
    how_far = {(key, rule.name): value or 0.0 for rule in checked for key, value in rule.observed.items()}
    return sorted(found, key=lambda one: (one.partition, -how_far[one.partition, one.rule]))


def _suspicions(
    problem: Problem, settings: Shape, trailing: Sequence[PartitionShape], shape: PartitionShape
) -> dict[str, Suspicion]:
    """Rule -> what it measured."""
    settings = settings.model_copy(update={"tolerance": settings.tolerance * (1 + FEW / len(trailing))})
    found: dict[str, Suspicion] = {}
    for name, column in shape.columns.items():
        if name in settings.ignore:
            continue
        past = [one.columns[name] for one in trailing if name in one.columns]
        if len(past) < settings.min_partitions:
            continue
        found[f"{name}: missing values"] = _missing(settings, past, column, shape.rows)
        past = [one for one in past if len(one.shares)]
        if not len(column.shares) or len(past) < settings.min_partitions:
            continue
        if column.is_label:
            found |= judge_label(settings, name, past, column, problem.labels.unit)
            continue
        if column.kind == "pair" and any(_is_daily(side, trailing, shape) for side in name[1:-1].split(" with ")):
            continue  # a new season or a holiday is a new combination with all that there is
        if all(one.known_shares.any() for one in (*past, column)):
            found |= judge_values(settings, name, past, column)
        if column.kind == "pair":
            continue
        declared = problem.columns.get(name)
        unit = declared.unit if declared else ""
        # Where one value is most of the rows, as no rain is, quantiles say nothing; and a quiet week is no news.
        is_graded = column.kind == "number" and max(one.mode_share for one in past) < MOSTLY
        if is_graded:
            found |= judge_number(settings, name, past, column, unit)
            found[f"{name}: number of different values"] = judge_distinct(past, column)
        else:
            far, usual = distances([one.shares for one in past], column.shares, "category")
            floor, counts = FLOOR["category" if column.kind == "category" else "mostly"], [one.count for one in past]
            limit = allowed(floor, settings.tolerance * usual, counts, drawn(past, column))
            found[f"{name}: other values"] = Suspicion(far, usual, limit, "of the rows have other values")
            found |= (
                {f"{name}: a value is gone": judge_gone(past, column)}
                if column.kind == "category"
                else judge_rest(settings, name, past, column, unit)
            )
    odd = {name.partition(":")[0] for name, far in found.items() if far.ratio > 1}
    found |= judge_relations(settings, trailing, shape, odd) | _sizes(settings, trailing, shape)
    found |= judge_rhythm(settings, trailing, shape, odd)
    if len(shape.content) and trailing:
        usual = max((_repeated(one, trailing[:place]) for place, one in enumerate(trailing) if place), default=0.0)
        limit = usual + settings.max_repeated_share + settings.tolerance * chance(usual, len(shape.content))
        repeated = Suspicion(_repeated(shape, trailing), usual, limit, "of the rows")
        found["rows that were there before"] = repeated
    return {name: far for name, far in found.items() if name not in settings.ignore}


def _is_daily(name: str, trailing: Sequence[PartitionShape], shape: PartitionShape) -> bool:
    """Whether a column has one value for all rows of a day."""
    column = shape.columns[name]
    return drawn([one.columns[name] for one in trailing if name in one.columns], column) < column.count


def _missing(settings: Shape, past: Sequence[ColumnShape], column: ColumnShape, rows: int) -> Suspicion:
    most = max(one.null_share for one in past)
    spread = most - min(one.null_share for one in past) + chance(most, rows)
    limit = most + allowed(FLOOR["nulls"], settings.tolerance * spread, [rows], rows)
    return Suspicion(column.null_share, most, limit, "of the values are missing")


def _sizes(settings: Shape, trailing: Sequence[PartitionShape], shape: PartitionShape) -> dict[str, Suspicion]:
    """How many rows there are, and how many of them say what another one says."""
    most = max(one.copies for one in trailing)
    spread = most - min(one.copies for one in trailing) + chance(most, shape.rows)
    limit = most + FLOOR["copies"] + settings.tolerance * spread
    found = {"rows that say the same": Suspicion(shape.copies, most, limit, "of the rows say what another one says")}
    sizes = [np.log([one.rows]) for one in trailing if one.rows]
    if len(sizes) >= settings.min_partitions:
        far, usual = distances(sizes, np.log([shape.rows]), "rows")
        counts = [one.rows for one in trailing]
        limit = allowed(FLOOR["rows"], settings.tolerance * usual, counts, shape.rows)
        what = (
            f"e-folds from the nearest partition before: {shape.rows:,} rows after {min(counts):,} to {max(counts):,}"
        )
        found["number of rows"] = Suspicion(far, usual, limit, what)
    return found


def _repeated(shape: PartitionShape, trailing: Sequence[PartitionShape]) -> float:
    known = np.concatenate([one.content for one in trailing]) if trailing else np.empty(0, np.uint64)
    return float(np.isin(shape.content, known).mean()) if len(shape.content) else 0.0
