"""Batch rules: what a batch as a whole has to fulfil before any of it is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby
from typing import NamedTuple

import pyarrow as pa

from pipelines.config import Volume
from pipelines.errors import DataError
from pipelines.ingest.validate import Summary, some
from pipelines.problem import Problem, Query

SHARE = "rows set aside"
EMPTY = "rows"
SHOWN_RULES = 5
SHOWN_PARTITIONS = 5  # in a message; the page of the run has all
MEND = "mend the rule (validation, columns)"


class Refusal(NamedTuple):
    """A rule of the batch that a partition breaks, so that it is not published."""

    partition: str
    query: Query
    rule: str
    reason: str
    """With the numbers, to be read after the partition's key."""
    where: str
    cure: str


@dataclass(frozen=True)
class BatchRule:
    """A bound on a number that each partition of a batch has.

    `observed` is that number by partition; None where there is none, which breaks the rule if `is_required`. `details`
    says it in words, of rules whose numbers mean nothing by themselves.
    """

    name: str
    observed: dict[str, float | None]
    min: float | None = None
    max: float | None = None
    is_required: bool = False
    details: Mapping[str, str] = field(default_factory=dict)

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


def may_be_empty(problem: Problem, keys: Sequence[str], good: int) -> bool:
    """Whether partitions of a batch of so many good rows may be without any, as problem.yaml or the batch says."""
    setting, parts = problem.validation.allow_empty, problem.partitions
    if setting is not None:
        return setting
    is_history = len(keys) > 1 and good > 0
    return is_history or all(parts.start(key) == parts.end(key) for key in keys)  # a day left out of the calendar


def batch_rules(
    problem: Problem, summary: Summary, trailing: Sequence[int], *, may_be_empty: bool = False
) -> list[BatchRule]:
    """The batch rules of a query and what was observed; `trailing` are the good rows of the partitions before.

    All but the share of rows set aside are for events: labels come when they come. A partition's volume is its good
    rows over the mean of those before it, be they in the batch or in `trailing` (the oldest first); the first
    partition of all has nothing to be compared with. A partition without rows breaks no rule but that there be some,
    unless it `may_be_empty` (between the problem's first and last), and counts in no mean.
    """
    parts = summary.partitions
    keys = parts["partition"].to_pylist()
    rows, bad = (parts[name].to_pylist() for name in ("rows", "bad"))
    settings = problem.validation
    share = dict(zip(keys, (b / r if r else None for r, b in zip(rows, bad, strict=True)), strict=True))
    declared_rules = [BatchRule(SHARE, share, max=settings.max_quarantined_share)]
    if summary.query == "labels":
        return declared_rules
    must_have_rows = {
        key: count
        for key, count in zip(keys, rows, strict=True)
        if not (may_be_empty and problem.partitions.holds(key))
    }
    if must_have_rows:
        declared_rules.insert(0, BatchRule(EMPTY, must_have_rows, min=1))
    for name, column in problem.columns.items():
        if column.max_null_share is not None:
            nulls = dict(zip(keys, parts[f"null_share_{name}"].to_pylist(), strict=True))
            declared_rules.append(BatchRule(f"{name}: share of missing values", nulls, max=column.max_null_share))
    if settings.max_age_days is not None:
        ages = {key: age for key, age, r in zip(keys, _ages(problem, parts), rows, strict=True) if r}
        declared_rules.append(
            BatchRule("age of the newest event in days", ages, max=settings.max_age_days, is_required=True)
        )
    if settings.volume is not None:
        good = [r - b for r, b in zip(rows, bad, strict=True)]
        ratios = _ratios(good, trailing, settings.volume)
        declared_rules.append(
            BatchRule(
                "rows over the mean of the partitions before",
                {key: ratio for key, ratio, r in zip(keys, ratios, rows, strict=True) if r},
                min=settings.volume.min_ratio,
                max=settings.volume.max_ratio,
            )
        )
    return declared_rules


def check_sources(problem: Problem, counts: Mapping[str, Mapping[str, int]], set_aside: str) -> None:
    """Let no source pass of which too much could not be read; `counts` has its "rows" and "rejected".

    Raises:
        DataError: with every such source.
    """
    limit = problem.validation.max_quarantined_share
    bad = [
        f"{count['rejected']} of {count['rows']} rows of {name}"
        for name, count in counts.items()
        if count["rejected"] > limit * count["rows"]
    ]
    if bad:
        raise DataError(
            f"too much could not be read: {some(bad)}; at most {limit:.1%} may be set aside",
            where=set_aside,
            cure="nothing was published: look at the rows there, mend the source or its columns, then clear this run",
        )


def batch_refusals(problem: Problem, summary: Summary, checked: Sequence[BatchRule], set_aside: str) -> list[Refusal]:
    """Each partition that breaks a rule of the batch, with each rule that it breaks and the numbers.

    `set_aside` says where the bad rows can be looked at.
    """
    refusals = []
    for rule in checked:
        for key in rule.failed:
            if rule.name == SHARE:
                where, cure = set_aside, "look at the rows set aside, and mend the source or the rule"
            else:
                where = problem.place(summary.query)
                rule_of = "let partitions be empty (validation.allow_empty: true)" if rule.name == EMPTY else MEND
                cure = (
                    "has the source been delivered, and whole? is the partition inside the problem's first and last? "
                    f"if so, {rule_of}"
                )
            refusals.append(Refusal(key, summary.query, rule.name, _reason(rule, key, summary), where, cure))
    return refusals


def reasons(refusals: Sequence[Refusal]) -> dict[str, list[str]]:
    """All that is held against each refused partition, in time order.

    >>> refusal = Refusal("2024-01-01", "events", "rows", "no rows", "events.sql", "")
    >>> reasons([refusal, refusal._replace(query="labels", reason="half of them")])
    {'2024-01-01': ['no rows', 'labels: half of them']}
    """
    by_partition: dict[str, list[str]] = {}
    for refusal in sorted(refusals, key=lambda refusal: refusal.partition):
        by_partition.setdefault(refusal.partition, []).append(
            refusal.reason if refusal.query == "events" else f"{refusal.query}: {refusal.reason}"
        )
    return by_partition


def summed_up(refused: Mapping[str, Sequence[str]]) -> str:
    """The first refused partitions with all reasons, a line for each or for several in a row with the same; and how
    many more there are.

    >>> print(summed_up({"2024-01-01": ["no rows"], "2024-01-02": ["no rows"], "2024-01-03": ["half of it"]}))
    2 from 2024-01-01 to 2024-01-02: no rows
    2024-01-03: half of it
    """
    groups = [(reason, list(keys)) for reason, keys in groupby(refused, key=lambda key: "; ".join(refused[key]))]
    lines = [
        f"{keys[0] if len(keys) == 1 else f'{len(keys):,} from {keys[0]} to {keys[-1]}'}: {reason}"
        for reason, keys in groups[:SHOWN_PARTITIONS]
    ]
    left_out = sum(len(keys) for _, keys in groups[SHOWN_PARTITIONS:])
    return "\n".join([*lines, *([f"and {left_out} more partitions"] if left_out else [])])


def check_refusals(problem: Problem, keys: Sequence[str], refusals: Sequence[Refusal]) -> None:
    """Let a run pass whose good partitions can be published without the refused ones.

    Raises:
        DataError: none of `keys`, the run's partitions, is left to publish, or more are refused than
            validation.max_refused_share allows.
    """
    refused = reasons(refusals)
    limit = problem.validation.max_refused_share
    if len(refused) < len(keys) and len(refused) <= limit * len(keys):
        return
    several = f"{len(refused)} of {len(keys)} partitions are refused, and {limit:.0%} may be (max_refused_share)\n"
    cures = list(dict.fromkeys(refusal.cure for refusal in refusals))
    raise DataError(
        (several if len(keys) > 1 else "") + summed_up(refused),
        where=refusals[0].where,
        cure=f"nothing was published: {'; '.join(cures)}; then clear this run",
    )


def _ages(problem: Problem, parts: pa.Table) -> list[float | None]:
    """Days from the newest good event of each partition to the partition's end."""
    return [
        None if newest is None else (problem.partitions.end(key) - newest) / timedelta(days=1)
        for key, newest in zip(parts["partition"].to_pylist(), parts["newest"].to_pylist(), strict=True)
    ]


def _ratios(rows: Sequence[int], trailing: Sequence[int], volume: Volume) -> list[float | None]:
    """Each number of rows over the mean of those before it, of which what is empty or out of bounds does not count.

    >>> _ratios([10, 30, 40], [10, 10], Volume(trailing_partitions=2, max_ratio=3))
    [1.0, 3.0, 2.0]
    >>> _ratios([30, 10], [10], Volume(max_ratio=2)), _ratios([3], [0], Volume())
    ([3.0, 1.0], [None])
    """
    before = list(trailing)
    ratios: list[float | None] = []
    for count in rows:
        compared = before[-volume.trailing_partitions :]
        ratio = count * len(compared) / sum(compared) if sum(compared) else None
        ratios.append(ratio)
        if count and (ratio is None or volume.min_ratio <= ratio <= volume.max_ratio):
            before.append(count)
    return ratios


def _reason(rule: BatchRule, key: str, summary: Summary) -> str:
    value = rule.observed[key]
    if rule.name == EMPTY:
        return "no rows"
    if rule.name == SHARE:
        rows = summary.partitions["rows"].to_pylist()[summary.partitions["partition"].to_pylist().index(key)]
        worst = sorted(
            ((count[key], name) for name, count in summary.broken_in.items() if count.get(key)), reverse=True
        )
        broken = "; ".join(f"{name} ({count} rows)" for count, name in worst[:SHOWN_RULES])
        return (
            f"too many bad {summary.query} ({value:.1%} of {rows} rows): at most {rule.max:.1%} may be set aside. "
            f"Rules broken: {broken}"
        )
    return f"{rule.name}: {rule.limit}, but it has {'none' if value is None else f'{value:.3g}'}"
