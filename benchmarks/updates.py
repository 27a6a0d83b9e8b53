"""Stateless against stateful updates: the default problem from April to December 2013, week by week.

    python -m benchmarks.updates [--folder FOLDER] [--cache FOLDER] [--write]

The first champion is trained as of the end of March. Each week is scored by the model that each way of updating had by
its beginning, and measured by the labels that came later. A way learns only from what had its labels by then, and
holds out validation and test as the train DAG does, whose gate is left out: every update serves. `--folder` has a
store with the whole year ingested, and is only read; without it the year is ingested into a temporary one. `--cache`
keeps the fits from scratch for the next run. `--write` writes docs/measurements/updates.md.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import skops.io

from pipelines import local_run, sql, store
from pipelines.asof.as_known import targets
from pipelines.dataset.label import labelled, splits
from pipelines.features.featurize import featurize
from pipelines.metrics.metrics import measure
from pipelines.metrics.scored import scored
from pipelines.problem import ROOT, Problem, load_problem
from pipelines.training.fit import fit
from pipelines.training.model import TRUSTED_TYPES, Model
from pipelines.training.update import continued, recalibrated

NAME, CANDIDATE = "flight_delay", "xgboost"
HISTORY_UNTIL, LAST = "2013-03-25", "2013-12-16"
WAYS = {  # name: (how, every so many weeks)
    "never": ("never", 1),
    "scratch, every 4 weeks": ("scratch", 4),
    "continue, every 4 weeks": ("continue", 4),
    "recalibrate, every 4 weeks": ("recalibrate", 4),
    "continue, every week": ("continue", 1),
    "recalibrate, every week": ("recalibrate", 1),
}
PAGE = ROOT / "docs" / "measurements" / "updates.md"
TABLE = ("<!-- measured -->", "<!-- /measured -->")


@dataclass
class Way:
    """A way of updating, its model of the day, and what it has cost so far. `learnt`: partitions, of the trees."""

    model: Model
    learnt: set[str]
    updates: int = 0
    cpu_s: float = 0.0
    read: int = 0


def year(problem: Problem) -> pa.Table:
    """Every event with features, label and weight, in time's order: as they were known, since nothing was corrected."""
    events, labels = store.dataset(problem, "events"), store.dataset(problem, "labels")
    keys = store.partition_keys(problem, "events")
    later = problem.partitions.end(keys[-1]) + timedelta(days=365)
    rows = targets(events, later)
    known = labelled(problem, rows, events, labels, later, dict.fromkeys(keys, "train"))
    features = pa.Table.from_batches(list(featurize(problem, rows, events, labels)))
    key = sql.quote(problem.key)
    return sql.query(
        f"""SELECT f.*, l.label, CAST(1 AS DOUBLE) AS weight FROM f JOIN l USING ({key}, partition)
            WHERE l.label IS NOT NULL ORDER BY f.event_time, f.{key}""",
        {"f": features, "l": known.select([problem.key, "partition", "label"])},
    )


class Bench:
    """The year's rows, and fits from scratch as of the end of a week, which several ways share."""

    def __init__(self, problem: Problem, cache: Path) -> None:
        self.problem, self.cache, self.rows = problem, cache, year(problem)
        self.keys = sorted(set(self.rows["partition"].to_pylist()))

    def of(self, keys: set[str]) -> pa.Table:
        return self.rows.filter(pc.is_in(self.rows["partition"], pa.array(sorted(keys), pa.string())))

    def split(self, as_of: str) -> dict[str, set[str]]:
        found = splits(self.problem, as_of, self.keys, are_cut=False)
        return {name: {key for key, its in found.items() if its == name} for name in ("train", "validation")}

    def scratch(self, as_of: str) -> tuple[Model, float]:
        """The model, and the CPU seconds that its fit took (when it was made)."""
        file = self.cache / f"{self.problem.config_hash[:12]}-{as_of}"
        if not file.with_suffix(".json").exists():
            parts = self.split(as_of)
            train, validation = self.of(parts["train"]), self.of(parts["validation"])
            start = time.process_time()
            model = fit(self.problem, CANDIDATE, train, validation)
            taken = time.process_time() - start
            skops.io.dump(model, file.with_suffix(".skops"))
            file.with_suffix(".json").write_text(json.dumps(taken))
        model = skops.io.load(file.with_suffix(".skops"), trusted=TRUSTED_TYPES)
        return model, float(json.loads(file.with_suffix(".json").read_text()))

    def update(self, way: Way, how: str, as_of: str) -> None:
        """Train as the DAG would at the end of the week `as_of`."""
        parts = self.split(as_of)
        newest = max(way.learnt)
        new = {key for key in parts["train"] if key > newest}
        if how == "never" or (how != "scratch" and not new):
            return
        validation, problem = self.of(parts["validation"]), self.problem
        if how == "scratch":
            given = parts["train"]
            way.model, taken = self.scratch(as_of)
            way.learnt = given
        else:
            given = new if how == "continue" else set(sorted(new)[-problem.training.update.recalibrate_partitions :])
            rows = self.of(given)
            start = time.process_time()
            if how == "continue":
                way.model = continued(problem, CANDIDATE, way.model, rows, validation)
                way.learnt = way.learnt | given
            else:
                way.model = recalibrated(problem, way.model, pa.concat_tables([rows, validation]))
            taken = time.process_time() - start
        way.updates, way.cpu_s = way.updates + 1, way.cpu_s + taken
        way.read += self.of(given | parts["validation"]).nbytes


def play(bench: Bench, show: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for each way: means over the weeks, and what it cost."""
    parts = bench.problem.partitions
    weeks = parts.between(parts.shift(HISTORY_UNTIL, 1), LAST)
    found = []
    for name, (how, every) in WAYS.items():
        first, _ = bench.scratch(HISTORY_UNTIL)
        way, measured = Way(first, bench.split(HISTORY_UNTIL)["train"]), []
        for number, week in enumerate(weeks):
            if number and number % every == 0:
                bench.update(way, how, parts.shift(week, -1))
            rows = bench.of({week})
            its = scored(bench.problem, rows["label"].to_numpy(), way.model.scores(rows), threshold=way.model.threshold)
            measured.append(measure(its))
        means = {metric: float(np.mean([one[metric] for one in measured])) for metric in ("auc", "log_loss", "cost")}
        size = len(skops.io.dumps(way.model)) / 1e6
        found.append(
            {
                "way": name,
                "updates": way.updates,
                **means,
                "cpu_s": way.cpu_s,
                "read_mb": way.read / 1e6,
                "size_mb": size,
                "rounds": way.model.estimator.rounds_,
            }
        )
        show(json.dumps(found[-1]))
    return found


def table(found: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [
        "| update | updates | mean AUC | mean log loss | mean cost of a row | CPU s | rows read, MB | model at the end "
        "(MB) | its rounds |",
        "| --- " + "| ---: " * 8 + "|",
    ]
    for one in found:
        numbers = (
            one["updates"],
            f"{one['auc']:.4f}",
            f"{one['log_loss']:.4f}",
            f"{one['cost']:.4f}",
            f"{one['cpu_s']:.0f}",
            f"{one['read_mb']:,.0f}",
            f"{one['size_mb']:.2f}",
            one["rounds"],
        )
        lines.append(f"| {one['way']} | " + " | ".join(map(str, numbers)) + " |")
    return "\n".join(lines)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--folder", type=Path)
    asked.add_argument("--cache", type=Path)
    asked.add_argument("--write", action="store_true")
    options = asked.parse_args()
    with TemporaryDirectory(prefix="evergreen-") as made:
        folder = (options.folder or Path(made)).resolve()
        cache = (options.cache or Path(made) / "cache").resolve()
        cache.mkdir(parents=True, exist_ok=True)
        os.environ["EVERGREEN_STORE_URI"] = (folder / "store").as_uri()
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # threads that wait count no CPU seconds
        problem = load_problem(NAME)
        if not store.partition_keys(problem, "events"):
            local_run.ingest(NAME, problem.partitions.first_key, str(problem.partitions.last_key))
        text = table(play(Bench(problem, cache), lambda line: print(line, flush=True)))
    print(text)
    if options.write:
        before, _, rest = PAGE.read_text().partition(TABLE[0])
        _, _, after = rest.partition(TABLE[1])
        PAGE.write_text(f"{before}{TABLE[0]}\n{text}\n{TABLE[1]}{after}")


if __name__ == "__main__":
    main()
