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
    history = dict(before)
    accepted = {key for named in settings.accepted for key in problem.partitions.named(named)}
    observed: dict[str, dict[str, Suspicion]] = {}
    for key, shape in batch.items():
        trailing = list(history.values())[-settings.trailing_partitions :]
        suspicions: dict[str, Suspicion] = {}
        if len(trailing) >= settings.min_partitions and key not in accepted and shape.rows:
            suspicions = _suspicions(problem, settings, trailing, shape)
        for name, value in suspicions.items():
            observed.setdefault(name, {})[key] = value
        if key not in refused and all(suspicion.ratio <= 1 for suspicion in suspicions.values()):
            history[key] = shape
    return [
        BatchRule(
            name,
            {key: suspicion.ratio for key, suspicion in by_partition.items()},
            max=1.0,
            details={key: str(suspicion) for key, suspicion in by_partition.items()},
        )
        for name, by_partition in observed.items()
    ]


def shape_refusals(problem: Problem, query: Query, checked: Sequence[BatchRule]) -> list[Refusal]:
    """Each partition that looks unlike those before it, and each thing in which it differs, the worst first."""
    refusals = [
        Refusal(
            key,
            query,
            rule.name,
            f"{rule.name} ({rule.details[key]})",
            problem.place(query),
            "has the feed changed (units, columns, a stuck or repeated delivery)? Then mend it. If the world has "
            "changed and the feed is sound, name the partition under validation.shape.accepted, or a column or rule "
            "that says nothing here under validation.shape.ignore",
        )
        for rule in checked
        for key in rule.failed
    ]
    how_far = {(key, rule.name): value or 0.0 for rule in checked for key, value in rule.observed.items()}
    return sorted(refusals, key=lambda refusal: (refusal.partition, -how_far[refusal.partition, refusal.rule]))


def _suspicions(
    problem: Problem, settings: Shape, trailing: Sequence[PartitionShape], shape: PartitionShape
) -> dict[str, Suspicion]:
    """Rule -> what it measured."""
    settings = settings.model_copy(update={"tolerance": settings.tolerance * (1 + FEW / len(trailing))})
    suspicions: dict[str, Suspicion] = {}
    for name, column in shape.columns.items():
        if name in settings.ignore:
            continue
        past = [earlier.columns[name] for earlier in trailing if name in earlier.columns]
        if len(past) < settings.min_partitions:
            continue
        suspicions[f"{name}: missing values"] = _missing(settings, past, column, shape.rows)
        past = [column_then for column_then in past if len(column_then.shares)]
        if not len(column.shares) or len(past) < settings.min_partitions:
            continue
        if column.is_label:
            suspicions |= judge_label(settings, name, past, column, problem.labels.unit)
            continue
        if column.kind == "pair" and any(_is_daily(side, trailing, shape) for side in name[1:-1].split(" with ")):
            continue  # a new season or a holiday is a new combination with all that there is
        if all(column_then.known_shares.any() for column_then in (*past, column)):
            suspicions |= judge_values(settings, name, past, column)
        if column.kind == "pair":
            continue
        declared = problem.columns.get(name)
        unit = declared.unit if declared else ""
        # Where one value is most of the rows, as no rain is, quantiles say nothing; and a quiet week is no news.
        is_graded = column.kind == "number" and max(column_then.mode_share for column_then in past) < MOSTLY
        if is_graded:
            suspicions |= judge_number(settings, name, past, column, unit)
            suspicions[f"{name}: number of different values"] = judge_distinct(past, column)
        else:
            far, usual = distances([column_then.shares for column_then in past], column.shares, "category")
            floor, counts = (
                FLOOR["category" if column.kind == "category" else "mostly"],
                [column_then.count for column_then in past],
            )
            limit = allowed(floor, settings.tolerance * usual, counts, drawn(past, column))
            suspicions[f"{name}: other values"] = Suspicion(far, usual, limit, "of the rows have other values")
            suspicions |= (
                {f"{name}: a value is gone": judge_gone(past, column)}
                if column.kind == "category"
                else judge_rest(settings, name, past, column, unit)
            )
    odd = {name.partition(":")[0] for name, far in suspicions.items() if far.ratio > 1}
    suspicions |= judge_relations(settings, trailing, shape, odd) | _sizes(settings, trailing, shape)
    suspicions |= judge_rhythm(settings, trailing, shape, odd)
    if len(shape.content) and trailing:
        *earlier, now = _repeated([*trailing, shape])
        usual = max(earlier)
        limit = usual + settings.max_repeated_share + settings.tolerance * chance(usual, len(shape.content))
        suspicions["rows that were there before"] = Suspicion(now, usual, limit, "of the rows")
    return {name: far for name, far in suspicions.items() if name not in settings.ignore}


def _is_daily(name: str, trailing: Sequence[PartitionShape], shape: PartitionShape) -> bool:
    """Whether a column has one value for all rows of a day."""
    column = shape.columns[name]
    return drawn([earlier.columns[name] for earlier in trailing if name in earlier.columns], column) < column.count


def _missing(settings: Shape, past: Sequence[ColumnShape], column: ColumnShape, rows: int) -> Suspicion:
    most = max(column_then.null_share for column_then in past)
    spread = most - min(column_then.null_share for column_then in past) + chance(most, rows)
    limit = most + allowed(FLOOR["nulls"], settings.tolerance * spread, [rows], rows)
    return Suspicion(column.null_share, most, limit, "of the values are missing")


def _sizes(settings: Shape, trailing: Sequence[PartitionShape], shape: PartitionShape) -> dict[str, Suspicion]:
    """How many rows there are, and how many of them say what another one says."""
    most = max(earlier.copies for earlier in trailing)
    spread = most - min(earlier.copies for earlier in trailing) + chance(most, shape.rows)
    limit = most + FLOOR["copies"] + settings.tolerance * spread
    suspicions = {
        "rows that say the same": Suspicion(shape.copies, most, limit, "of the rows say what another one says")
    }
    sizes = [np.log([earlier.rows]) for earlier in trailing if earlier.rows]
    if len(sizes) >= settings.min_partitions:
        far, usual = distances(sizes, np.log([shape.rows]), "rows")
        counts = [earlier.rows for earlier in trailing]
        limit = allowed(FLOOR["rows"], settings.tolerance * usual, counts, shape.rows)
        what = (
            f"e-folds from the nearest partition before: {shape.rows:,} rows after {min(counts):,} to {max(counts):,}"
        )
        suspicions["number of rows"] = Suspicion(far, usual, limit, what)
    return suspicions


def _repeated(shapes: Sequence[PartitionShape]) -> list[float]:
    """Of the rows of each, the share that was there in one before it already.

    All are sorted at once: to look each up among those before it costs as many sorts of as many rows as there are.
    """
    contents = [shape.content for shape in shapes]
    _, first = np.unique(np.concatenate(contents), return_index=True)
    is_new = np.zeros(sum(map(len, contents)))
    is_new[first] = 1.0
    ends = np.cumsum([len(content) for content in contents])[:-1]
    return [1.0 - float(part.mean()) if len(part) else 0.0 for part in np.split(is_new, ends)]
