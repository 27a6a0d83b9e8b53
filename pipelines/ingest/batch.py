"""Batch rules: what a batch as a whole has to fulfil before any of it is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa

from pipelines.errors import DataError
from pipelines.ingest.validate import Summary, some
from pipelines.problem import Problem

SHARE = "rows set aside"
EMPTY = "rows"
SHOWN_RULES = 5


@dataclass(frozen=True)
class BatchRule:
    """A bound on a number that each partition of a batch has.

    `observed` is that number by partition; None where there is none, which breaks the rule if `is_required`.
    """

    name: str
    observed: dict[str, float | None]
    min: float | None = None
    max: float | None = None
    is_required: bool = False

    @property
    def failed(self) -> list[str]:
        """The partitions that break the rule."""
        return [key for key, value in self.observed.items() if self._breaks(value)]

    @property
    def limit(self) -> str:
        """The bounds in words.

        >>> BatchRule("rows", {}, min=1).limit, BatchRule("volume", {}, min=0.5, max=2).limit
        ('at least 1', '0.5 to 2')
        """
        if self.min is not None and self.max is not None:
            return f"{self.min:g} to {self.max:g}"
        return f"at least {self.min:g}" if self.min is not None else f"at most {self.max:g}"

    def _breaks(self, value: float | None) -> bool:
        if value is None:
            return self.is_required
        return (self.min is not None and value < self.min) or (self.max is not None and value > self.max)


def batch_rules(problem: Problem, summary: Summary, trailing: Sequence[int]) -> list[BatchRule]:
    """The batch rules of a query and what was observed; `trailing` are the good rows of the partitions before.

    All but the share of rows set aside are for events: labels come when they come. A partition's volume is its good
    rows over the mean of those before it, be they in the batch or in `trailing` (the oldest first); the first
    partition of all has nothing to be compared with. A partition without rows breaks no rule but that there be some.
    """
    parts = summary.partitions
    keys = parts["partition"].to_pylist()
    rows, bad = (parts[name].to_pylist() for name in ("rows", "bad"))
    settings = problem.validation
    share = dict(zip(keys, (b / r if r else None for r, b in zip(rows, bad, strict=True)), strict=True))
    found = [BatchRule(SHARE, share, max=settings.max_quarantined_share)]
    if summary.query == "labels":
        return found
    found.insert(0, BatchRule(EMPTY, dict(zip(keys, rows, strict=True)), min=1))
    for name, column in problem.columns.items():
        if column.max_null_share is not None:
            nulls = dict(zip(keys, parts[f"null_share_{name}"].to_pylist(), strict=True))
            found.append(BatchRule(f"{name}: share of missing values", nulls, max=column.max_null_share))
    if settings.max_age_days is not None:
        ages = {key: age for key, age, r in zip(keys, _ages(problem, parts), rows, strict=True) if r}
        found.append(BatchRule("age of the newest event in days", ages, max=settings.max_age_days, is_required=True))
    if settings.volume is not None:
        good = [r - b for r, b in zip(rows, bad, strict=True)]
        ratios = _ratios(good, list(trailing), settings.volume.trailing_partitions)
        found.append(
            BatchRule(
                "rows over the mean of the partitions before",
                {key: ratio for key, ratio, r in zip(keys, ratios, rows, strict=True) if r},
                min=settings.volume.min_ratio,
                max=settings.volume.max_ratio,
            )
        )
    return found


def check_sources(problem: Problem, counts: Mapping[str, Mapping[str, int]], set_aside: str) -> None:
    """Let no source pass of which too much could not be read; `counts` has its "rows" and "rejected".

    Raises:
        DataError: with every such source.
    """
    limit = problem.validation.max_quarantined_share
    bad = [f"{one['rejected']} of {one['rows']} rows of {name}" for name, one in counts.items()
           if one["rejected"] > limit * one["rows"]]  # fmt: skip
    if bad:
        raise DataError(
            f"too much could not be read: {some(bad)}; at most {limit:.1%} may be set aside",
            where=set_aside,
            cure="nothing was published: look at the rows there, mend the source or its columns, then clear this run",
        )


def check_batch(problem: Problem, summary: Summary, checked: Sequence[BatchRule], set_aside: str) -> None:
    """Let no batch pass that is too bad to publish. `set_aside` says where its bad rows can be looked at.

    Raises:
        DataError: with every rule that is broken, the partitions, and the numbers.
    """
    broken = [one for one in checked if one.failed]
    if not broken:
        return
    lines = []
    for one in broken:
        shown = some([_shown(one, key, summary) for key in one.failed])
        if one.name == EMPTY:
            lines.append(f"no rows in {some(one.failed)}")
        elif one.name == SHARE:
            worst = sorted(((count, rule) for rule, count in summary.broken.items() if count), reverse=True)
            rules = "; ".join(f"{rule} ({count} rows)" for count, rule in worst[:SHOWN_RULES])
            lines.append(
                f"too many bad {summary.query} in {shown}: at most {one.max:.1%} may be set aside. "
                f"Rules broken: {rules}"
            )
        else:
            lines.append(f"{one.name}: {one.limit}, but {shown}")
    is_bad = any(one.name == SHARE for one in broken)
    raise DataError(
        "\n".join(lines),
        where=set_aside if is_bad else str(problem.folder / f"{summary.query}.sql"),
        cure="nothing was published: look at the rows set aside, mend the source or the rule, then clear this run"
        if is_bad
        else "nothing was published: has the source been delivered, and whole? is the partition inside the problem's "
        "first and last? if so, mend the rule (validation, columns); then clear this run",
    )


def _ages(problem: Problem, parts: pa.Table) -> list[float | None]:
    """Days from the newest good event of each partition to the partition's end."""
    return [
        None if newest is None else (problem.partitions.end(key) - newest) / timedelta(days=1)
        for key, newest in zip(parts["partition"].to_pylist(), parts["newest"].to_pylist(), strict=True)
    ]


def _ratios(rows: list[int], trailing: list[int], partitions: int) -> list[float | None]:
    """Each number of rows over the mean of those before it.

    >>> _ratios([10, 30, 40], [10, 10], 2), _ratios([5, 5], [], 4), _ratios([3], [0], 1)
    ([1.0, 3.0, 2.0], [None, 1.0], [None])
    """
    history = trailing + rows
    found: list[float | None] = []
    for place, count in enumerate(rows, start=len(trailing)):
        before = history[max(0, place - partitions) : place]
        found.append(count * len(before) / sum(before) if sum(before) else None)
    return found


def _shown(rule: BatchRule, key: str, summary: Summary) -> str:
    value = rule.observed[key]
    if rule.name == SHARE:
        place = summary.partitions["partition"].to_pylist().index(key)
        return f"{key} ({value:.1%} of {summary.partitions['rows'][place].as_py()} rows)"
    return f"{key} has {'none' if value is None else f'{value:.3g}'}"
