"""Rolling-origin folds: a model learns from partitions and is measured on newer ones, over and over."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql
from pipelines.dataset.drawn import unit_of_key, unit_sql
from pipelines.errors import DataError
from pipelines.problem import Problem


def folds(problem: Problem, train: pa.Table) -> list[tuple[pa.Table, pa.Table]]:
    """(earlier rows, the newer rows that a model learnt from them is measured on), the newest fold last. Of deliveries,
    which have no time, `search.folds` parts drawn by a hash of the key or the group, and the rows beside each.

    Rolling origin (Tashman, 2000): fold by fold the measured rows are the next newest `search.fold_partitions`
    partitions of `train` that have rows, and the earlier ones are all that lie before, as far as a model that had to
    predict the first measured partition could have learnt from them: with `dataset.split.embargo`, partitions that
    were mature by its start. With `dataset.split.group_by`, where `train` has that column, a group that is measured is
    not learnt from. At most `search.folds` of them; fewer where there are not enough partitions. A row of a mature
    partition whose label came late all the same is not told from the others, as `train` does not know when.

    Raises:
        DataError: not even one fold has rows on both sides.
    """
    rule, parts = problem.training.search, problem.partitions
    if problem.dataset.split.drawn:
        return _drawn(problem, train, max(rule.folds, 2))
    keys = sorted(key for key in train["partition"].unique().to_pylist() if key is not None)
    pairs: list[tuple[pa.Table, pa.Table]] = []
    for newest in range(len(keys), 0, -rule.fold_partitions):
        measured = keys[max(newest - rule.fold_partitions, 0) : newest]
        start = parts.start(measured[0])
        earlier = [key for key in keys if parts.end(key) + _wait(problem) <= start]
        if len(measured) < rule.fold_partitions or not earlier or len(pairs) == rule.folds:
            break
        newer = of_partitions(train, measured)
        older = _of_other_groups(problem, of_partitions(train, earlier), newer)
        if older.num_rows:
            pairs.append((older, newer))
    if not pairs:
        gap = parts.as_many_as(_wait(problem))
        raise DataError(
            f"the training split has rows of {len(keys)} partitions, too few to learn from some and measure on newer "
            f"ones: {1 + gap + rule.fold_partitions} in a row are needed"
            + (f", {gap} of which lie in the embargo" if gap else ""),
            where=f"problem {problem.name}, training.search",
            cure=f"train on more {parts.plural} (dataset.window_partitions, or ingest earlier ones), or measure on "
            "fewer (training.search.fold_partitions)",
        )
    return pairs[::-1]


def _drawn(problem: Problem, train: pa.Table, folds: int) -> list[tuple[pa.Table, pa.Table]]:
    """Each part once as what is measured on."""
    drawn, group = problem.dataset.split.drawn, problem.dataset.split.group_by
    assert drawn is not None
    unit_of = unit_sql if group in train.column_names else unit_of_key
    chance = f"md5_number_lower(concat('fold {drawn.seed} ', {unit_of(problem, 'rows')}))"
    fold = sql.query(f"SELECT ({chance} % {folds})::INT AS fold FROM rows", {"rows": train})["fold"]
    pairs = [
        (train.filter(pc.not_equal(fold, number)), train.filter(pc.equal(fold, number))) for number in range(folds)
    ]
    if any(not learnt.num_rows or not measured.num_rows for learnt, measured in pairs):
        raise DataError(
            f"{train.num_rows:,} rows are too few for {folds} folds",
            where=f"problem {problem.name}, training.search",
            cure="deliver more rows, or take fewer folds (training.search.folds)",
        )
    return pairs


def of_partitions(rows: pa.Table, keys: list[str]) -> pa.Table:
    """The rows of these partitions, in their order."""
    return rows.filter(pc.is_in(rows["partition"], value_set=pa.array(keys, pa.string())))


def _of_other_groups(problem: Problem, older: pa.Table, newer: pa.Table) -> pa.Table:
    """The rows whose group has none in `newer`; rows without a group stay."""
    group = problem.dataset.split.group_by
    if group is None or group not in older.schema.names:
        return older
    return older.filter(pc.invert(pc.is_in(older[group], value_set=newer[group].combine_chunks(), skip_nulls=True)))


def _wait(problem: Problem) -> timedelta:
    """What lies at least between the end of a partition and the first prediction of a model that learnt from it."""
    return timedelta(days=problem.labels.mature_after_days if problem.dataset.split.embargo else 0)
