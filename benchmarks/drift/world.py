"""A problem's real partitions, scored by one champion that is never trained again, with the labels that came."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import local_run, sql, store, tracking
from pipelines.asof.as_known import labels_as_known
from pipelines.metrics.scored import Scored, scored
from pipelines.monitoring.estimate.held_out import HeldOut, from_parquet
from pipelines.paths import reference_uri, version_uri
from pipelines.problem import Problem, load_problem
from pipelines.profiles.profile import SCORE, Profiles, Reference, profile
from pipelines.training.model import Model

HERE = Path(__file__).parent
LABEL = "label"
LATEST = timedelta(days=60)  # after a partition no label of it comes any more


@dataclass(frozen=True)
class Stretch:
    """Which problem, and which of its partitions are played. `problems` is its folder; None: include/problems."""

    name: str
    first: str
    last: str
    onsets: tuple[int, ...]
    problems: Path | None = None


STRETCHES = (
    Stretch("flight_delay", "2013-04-01", "2013-12-23", (3, 13, 23, 33)),
    Stretch("poor_visibility", "2013-04-01", "2013-12-16", (3, 13, 23, 33), HERE / "problems"),
    Stretch("doctor_visits", "2020-03-16", "2020-05-11", (1, 3, 5), HERE / "problems"),
    Stretch("arrival_delay", "2013-04-01", "2013-12-16", (3, 13, 23, 33), HERE / "problems"),
    Stretch("hourly_temperature", "2013-04-01", "2013-12-16", (3, 13, 23, 33), HERE / "problems"),
)


@dataclass(frozen=True)
class World:
    """What monitoring has: `weeks` by partition, with features, `score`, `label` (null: none came) and event_time."""

    problem: Problem
    reference: Reference
    model: Model
    held_out: HeldOut
    weeks: Mapping[str, pa.Table]
    seen: pa.Table

    def look(self, rows: pa.Table) -> Profiles:
        return profile(rows.to_batches(), self.reference)[0]

    def rescored(self, rows: pa.Table) -> pa.Table:
        return rows.set_column(rows.schema.get_field_index(SCORE), SCORE, pa.array(self.model.scores(rows)))

    def truth(self, rows: pa.Table) -> HeldOut:
        """The rows that have a label and a score, and how the scores turned out."""
        labelled = rows.filter(pc.and_(pc.is_valid(rows[LABEL]), pc.is_finite(rows[SCORE])))
        return HeldOut(labelled, self.turned_out(labelled))

    def turned_out(self, labelled: pa.Table) -> Scored:
        labels = labelled[LABEL].to_numpy()
        if self.problem.task != "regression":
            labels = labels.astype(np.int64)
        return scored(self.problem, labels, labelled[SCORE].to_numpy(), threshold=self.model.threshold)


@contextmanager
def folder_of(folder: Path, stretch: Stretch) -> Iterator[None]:
    """Store, registry and problems of this stretch, for as long as it lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "EVERGREEN_STORE_URI": (folder / "store").as_uri(),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    if stretch.problems:
        settings["EVERGREEN_PROBLEMS"] = str(stretch.problems)
    before, here = {name: os.environ.get(name) for name in [*settings, "EVERGREEN_PROBLEMS"]}, Path.cwd()
    os.environ.pop("EVERGREEN_PROBLEMS", None)
    os.environ |= settings
    os.chdir(folder)  # MLflow keeps its files beside its database
    try:
        yield
    finally:
        os.chdir(here)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def play(stretch: Stretch) -> World:
    """Ingest the past and train its champion, then ingest and score partition by partition; what is done is kept."""
    problem = load_problem(stretch.name)
    if not store.partition_keys(problem, "predictions"):
        local_run.ingest(stretch.name, problem.partitions.first_key, problem.partitions.shift(stretch.first, -1))
        local_run.train(stretch.name)
    done = store.partition_keys(problem, "predictions")
    keys = problem.partitions.between(stretch.first, stretch.last)
    for key in keys:
        if key not in done:
            local_run.ingest(stretch.name, key, key)
            local_run.score(stretch.name, key)
    told = store.read_json(reference_uri(problem, "1"))
    features = store.dataset(problem, "features")
    return World(
        problem=problem,
        reference=Reference.model_validate(told["reference"]),
        model=tracking.load_model(tracking.serving(problem).run_id),
        held_out=from_parquet(problem, store.read_bytes(version_uri(problem, "1", "held_out.parquet"))),
        weeks={key: _rows(problem, key) for key in keys},
        seen=features.to_table(columns=problem.feature_names, filter=pc.field("partition") <= told["trained_until"]),
    )


def _rows(problem: Problem, key: str) -> pa.Table:
    """A partition's features, scores and labels (as known much later), in the order of the events' key."""
    predictions = store.dataset(problem, "predictions").to_table(filter=pc.field("partition") == key)
    name, end = sql.quote(problem.key), problem.partitions.end(key)
    return sql.query(
        f"""WITH known AS ({labels_as_known(problem)})
            SELECT f.*, p.score, known.label::DOUBLE AS {LABEL}
            FROM f JOIN p USING ({name}, partition)
            LEFT JOIN known ON known.{name} = f.{name} AND known.event_time = f.event_time
            WHERE f.partition = $key ORDER BY f.{name}""",
        {"f": store.dataset(problem, "features"), "p": predictions, "labels": store.dataset(problem, "labels")},
        {"key": key, "as_of": end + LATEST},
    )
