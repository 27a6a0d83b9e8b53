"""Alarms of monitoring on half a year of the default problem as it was, and on the same weeks harmed on purpose.

    python -m benchmarks.drift [folder] [--write]

One champion, made from the weeks to the end of March, scores each of the 26 weeks from April to September and is never
trained again. Each week is profiled and judged after those before it, at the default policy and without labels: what
alarms is a false alarm, as far as anybody knows. Then every third week is harmed, in many ways, one at a time, and
scored again. A fixed limit on PSI judges the very same profiles, and Evidently's DataDriftPreset a few of the weeks.
With a folder what was done there (also by benchmarks.estimates) is kept, and not done again.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.drift.judge import Judged, judge
from benchmarks.drift.page import Results, page, shown
from benchmarks.drift.plants import Plant, plants
from pipelines import inline, sql, store, tracking
from pipelines.config import Policy
from pipelines.monitoring.profile import SCORE, Profiles, Reference, profile
from pipelines.monitoring.report import sample
from pipelines.problem import ROOT, Problem, load_problem
from pipelines.release.versions import reference_uri
from pipelines.training.model import Model

NAME, WEEKS = "flight_delay", ("2013-04-01", "2013-09-23")
HARMED = slice(1, None, 3)  # places of the weeks that are harmed
EVIDENTLY_WEEKS, EVIDENTLY_ROWS = slice(None, None, 6), 5_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift")
    parser.add_argument(
        "folder", nargs="?", type=Path, help="keeps what was ingested and trained; else a temporary one"
    )
    parser.add_argument("--no-evidently", action="store_true", help="without the second reference")
    parser.add_argument("--write", action="store_true", help="write docs/drift.md")
    given = parser.parse_args()
    with TemporaryDirectory(prefix="evergreen-drift-") as made:
        folder = (given.folder or Path(made)).resolve()
        os.environ |= {
            "EVERGREEN_STORE_URI": (folder / "store").as_uri(),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        }
        os.chdir(folder)  # MLflow keeps its files beside its database
        problem = load_problem(NAME)
        play(problem)
        found = measured(problem, with_evidently=not given.no_evidently)
        os.chdir(ROOT)
    print(shown(found))
    if given.write:
        (ROOT / "docs" / "drift.md").write_text(page(found))


def play(problem: Problem) -> None:
    """The first quarter, its champion, and the weeks after it, ingested and scored."""
    if not store.partition_keys(problem, "predictions"):
        inline.ingest(NAME, problem.partitions.first.isoformat(), problem.partitions.shift(WEEKS[0], -1))
        inline.train(NAME)
    done = store.partition_keys(problem, "predictions")
    for week in problem.partitions.between(*WEEKS):
        if week not in done:
            inline.ingest(NAME, week, week)
            inline.score(NAME, week)


def measured(problem: Problem, *, with_evidently: bool) -> Results:
    policy = Policy()
    reference = Reference.model_validate(store.read_json(reference_uri(problem, "1"))["reference"])
    version = tracking.serving(problem)
    assert str(version.version) == "1"
    model = tracking.load_model(version.run_id)
    weeks = {week: scored(problem, week) for week in problem.partitions.between(*WEEKS)}
    profiles = {week: look(reference, rows) for week, rows in weeks.items()}
    keys = list(weeks)

    def judged(place: int, found: Profiles) -> Judged:
        return judge(policy, reference, found, {key: profiles[key] for key in keys[:place]})

    unharmed = {key: judged(place, profiles[key]) for place, key in enumerate(keys)}
    harmed: dict[Plant, list[tuple[Judged, Judged]]] = {}
    for plant in plants(reference):
        harmed[plant] = []
        for place in range(*HARMED.indices(len(keys))):
            rows = plant.harm(weeks[keys[place]], weeks[keys[place - 1]])
            rows = rescored(model, rows) if plant.is_scored_after else rows
            harmed[plant].append((judged(place, look(reference, rows)), unharmed[keys[place]]))
    return Results(
        policy=policy,
        partitions=len(reference.partitions),
        columns=len(reference.columns) - 1,
        unharmed=unharmed,
        harmed=harmed,
        evidently=dict(evidently(problem, {key: weeks[key] for key in keys[EVIDENTLY_WEEKS]}))
        if with_evidently
        else {},
    )


def scored(problem: Problem, week: str) -> pa.Table:
    """A week's features and scores, in the order of the key."""
    predictions = store.dataset(problem, "predictions").to_table(filter=pc.field("partition") == week)
    key = sql.quote(problem.key)
    return sql.query(
        f"SELECT f.*, p.score FROM f JOIN p USING ({key}) WHERE f.partition = $week ORDER BY {key}",
        {"f": store.dataset(problem, "features"), "p": predictions},
        {"week": week},
    )


def rescored(model: Model, rows: pa.Table) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(SCORE), SCORE, pa.array(model.scores(rows)))


def look(reference: Reference, rows: pa.Table) -> Profiles:
    return profile(rows.to_batches(), reference)[0]


def evidently(problem: Problem, weeks: dict[str, pa.Table]) -> Iterator[tuple[str, tuple[int, float]]]:
    """(drifted columns, CPU seconds) of DataDriftPreset as it comes, on samples of the week and the training rows."""
    from evidently import Dataset, Report
    from evidently.presets import DataDriftPreset

    names, until = problem.feature_names, store.read_json(reference_uri(problem, "1"))["trained_until"]
    seen = store.dataset(problem, "features").to_table(columns=names, filter=pc.field("partition") <= until)
    known = Dataset.from_pandas(sample(seen, EVIDENTLY_ROWS, problem.training.seed).to_pandas())
    for key, rows in weeks.items():
        start = time.process_time()
        current = Dataset.from_pandas(sample(rows.select(names), EVIDENTLY_ROWS, problem.training.seed).to_pandas())
        report = Report([DataDriftPreset()]).run(current, known)
        yield key, (int(report.dict()["metrics"][0]["value"]["count"]), time.process_time() - start)


if __name__ == "__main__":
    main()
