"""label: which events have a label, as known at a moment, and in which split they belong."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from pipelines import sql
from pipelines.errors import DataError
from pipelines.problem import Problem

AS_KNOWN = """
    SELECT {key}, arg_max(label, (known_time, confidence)) AS label
    FROM labels
    WHERE known_time < $as_of
    GROUP BY {key}
"""


def mature(problem: Problem, partition: str, available: list[str]) -> list[str]:
    """The partitions of `available` whose labels are in at the end of `partition`, oldest first.

    A partition is mature once the labels' delay has passed since its end.
    """
    parts, delay = problem.partitions, timedelta(days=problem.labels.delay_days)
    as_of = parts.end(partition)
    return [key for key in sorted(available) if key <= partition and parts.end(key) + delay <= as_of]


def splits(problem: Problem, partition: str, available: list[str]) -> dict[str, str]:
    """Split of each partition whose labels are in at the end of `partition`: the newest are held out.

    Of the mature partitions the newest are test, those before them validation, the rest train (no more of it
    than the window allows): never a random split, which on data that moves reports what no future will show
    (Huyen, ch. 4; Burkov, ch. 3.12).

    Raises:
        DataError: too few partitions for all three.
    """
    parts, rule = problem.partitions, problem.dataset.split
    known = mature(problem, partition, available)
    held_out = rule.validation_partitions + rule.test_partitions
    if len(known) <= held_out:
        raise DataError(
            f"{len(known)} partitions have their labels at the end of {partition}; {held_out} are held out for "
            "validation and test, which leaves none to train on",
            where=f"problem {problem.name}, table events",
            cure=f"ingest earlier {parts.every}s first, or shorten dataset.split in problem.yaml",
        )
    test, validation = known[-rule.test_partitions :], known[-held_out : -rule.test_partitions]
    train = known[:-held_out][-(problem.dataset.window_partitions or 0) :]
    return {**dict.fromkeys(train, "train"), **dict.fromkeys(validation, "validation"), **dict.fromkeys(test, "test")}


def label(problem: Problem, events: Any, labels: Any, as_of: datetime, split: dict[str, str]) -> pa.Table:
    """One row per event of the partitions in `split`: key, partition, event_time, split, label, sorted.

    `label` is what was known before `as_of`: of several statements about an event the latest, and null
    where there was none. Unlabelled is not negative. `events` and `labels` are Arrow datasets or tables.
    """
    key = sql.quote(problem.key)
    return sql.query(
        f"""
        WITH known AS ({AS_KNOWN.format(key=key)})
        SELECT e.{key}, e.partition, e.event_time, s.split, known.label
        FROM events AS e
        JOIN splits AS s USING (partition)
        LEFT JOIN known USING ({key})
        WHERE e.known_time < $as_of
        ORDER BY e.event_time, e.{key}
        """,
        {
            "events": events,
            "labels": labels,
            "splits": pa.table({"partition": list(split), "split": list(split.values())}),
        },
        {"as_of": as_of},
    )
