"""How often the shape rules refuse a sound partition: python -m benchmarks.shape [--only stops,births] [--every week].

Each real table of benchmarks/tables is streamed through the rules alone, days or weeks: a partition is held against
those before it, and one that is refused is accepted, as a person would who finds the feed sound. Nothing is known to be
wrong with these tables: every refusal counts as a false one, though some are of a dead sensor, or a last week that ends
on a Thursday.
"""

from __future__ import annotations

import argparse
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.tables.catalogue import TABLES
from benchmarks.tables.play import HERE
from pipelines.config import Shape
from pipelines.ingest.extract import extract, extracted_schema
from pipelines.ingest.shape import PartitionShape, shape_refusals, shape_rules, shapes
from pipelines.ingest.sources import opened
from pipelines.problem import Problem, Query, parse_problem

Told = dict[str, list[str]]  # partition -> what is held against it


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shape")
    parser.add_argument("--only", default="", help=f"tables, by commas; all without: {', '.join(TABLES)}")
    parser.add_argument("--every", choices=("day", "week"), help="cut all tables alike; without, as their problems say")
    given = parser.parse_args()
    total, refused = 0, 0
    for name in given.only.split(",") if given.only else TABLES:
        with TemporaryDirectory(prefix="evergreen-shape-") as folder:
            problem = laid(name, Path(folder) / name, given.every)
            found = {query: shapes(problem, query, rows(problem, query)) for query in problem.queries}
        told: Told = {}
        for query, parts in found.items():
            for key, reasons in refusals(problem, query, parts).items():
                told.setdefault(key, []).extend(f"{query}: {reason}" for reason in reasons)
        total, refused = total + len(found["events"]), refused + len(told)
        print(shown(name, problem.partitions.every, len(found["events"]), told), flush=True)
    print(f"{refused} of {total} partitions refused ({refused / max(total, 1):.2%})")


def laid(name: str, folder: Path, every: str | None) -> Problem:
    """The table and its problem in `folder`, cut into days or weeks if so wanted."""
    shutil.copytree(HERE / "problems" / name, folder)
    (folder / "data").mkdir()
    pq.write_table(TABLES[name].load(), folder / "data" / f"{name}.parquet")
    raw: dict[str, Any] = yaml.safe_load((folder / "problem.yaml").read_text())
    problem = parse_problem(raw, folder)
    if every in (None, problem.partitions.every):
        return problem
    raw["partitions"] |= {"every": every}
    for bound in ("first", "last") if every == "week" else ():
        day = raw["partitions"].get(bound)
        raw["partitions"][bound] = day and problem.partitions.model_copy(update={"every": "week"}).key_of(day)
    return parse_problem(raw, folder)


def rows(problem: Problem, query: Query) -> pa.Table:
    """All rows of a query, as they are extracted."""
    partitions = problem.partitions
    first, last = partitions.first_key, partitions.last_key
    assert last is not None
    with opened(problem, first, last) as sources:
        batches = extract(problem, query, sources.database, first, last)
        return pa.Table.from_batches(batches, extracted_schema(problem, query))


def refusals(problem: Problem, query: Query, parts: Mapping[str, PartitionShape]) -> Told:
    """What is held against each partition, by those before it, of which those that were refused were accepted."""
    trailing = (problem.validation.shape or Shape()).trailing_partitions
    keys, found = list(parts), Told()
    for place, key in enumerate(keys):
        before = {one: parts[one] for one in keys[max(0, place - trailing) : place]}
        for refusal in shape_refusals(problem, query, shape_rules(problem, before, {key: parts[key]})):
            found.setdefault(key, []).append(refusal.reason)
    return found


def shown(name: str, every: str, partitions: int, told: Told) -> str:
    """A table's share, the rules that refused, and each refused partition with its first reason."""
    rules = Counter(reason.partition(" (")[0] for reasons in told.values() for reason in reasons)
    lines = [f"{name}: {len(told)} of {partitions} {every}s refused ({len(told) / max(partitions, 1):.2%})"]
    lines += [f"  {count:4d}  {rule}" for rule, count in rules.most_common(10)]
    lines += [f"  {key}  {'; '.join(reasons)}" for key, reasons in sorted(told.items())[:20]]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
