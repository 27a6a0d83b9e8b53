"""Estimated performance against what came: the default problem's champion of March, in the weeks from April to June.

    python -m benchmarks.estimates [folder]

The first quarter is ingested and one model trained; then each week is ingested, scored and estimated as the monitor
DAG does it, and its realised metrics are filled in once its labels are mature. No week is retrained after: the
champion grows old on purpose. The estimates are held against two guesses that need no labels of the week: that it does
as in its test, and as in the newest week whose labels are in (the one before). With a folder what was done there is
kept, and not done again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.arguments import parser
from pipelines import local_run, store
from pipelines.handoffs.monitoring import Profiled
from pipelines.monitoring.estimate.estimate import metrics_of
from pipelines.monitoring.estimate.held_out import from_parquet
from pipelines.paths import version_uri
from pipelines.problem import Problem, load_problem
from pipelines.release.versions import version_problem
from pipelines.stages.monitor import evidence
from pipelines.stages.monitor.estimate import Estimation, estimate

NAME = "flight_delay"
WEEKS, LABELLED = ("2013-04-01", "2013-06-24"), "2013-07-08"
METRICS = ("auc", "log_loss", "brier", "positive_rate", "precision", "recall")


def play(problem: Problem) -> None:
    """History, the first champion, and the weeks until June's labels are in, scored and estimated."""
    if not store.partition_keys(problem, "predictions"):
        local_run.ingest(NAME, problem.partitions.first_key, problem.partitions.shift(WEEKS[0], -1))
        local_run.train(NAME)
    done = {name: store.partition_keys(problem, name) for name in ("predictions", "estimates")}
    for week in problem.partitions.between(WEEKS[0], LABELLED):
        if week not in done["predictions"]:
            local_run.ingest(NAME, week, week)
            local_run.score(NAME, week)
        if week not in done["estimates"]:
            estimated = estimate(NAME, Profiled(partition=week, version="1"))
            estimation = evidence.read(Estimation, estimated.estimation)
            print(f"{week}  {estimation.verdict}; {estimation.method}: {estimation.note}", flush=True)


def compare(problem: Problem, show: Callable[[str], None] = print) -> None:
    """Mean absolute errors of the estimates and of both guesses, and how often the interval held what came."""
    table = store.dataset(problem, "estimates").to_table()
    table = table.filter(pc.less_equal(table["partition"], WEEKS[1])).sort_by("partition")
    its = version_problem(problem, "1")
    held_out = from_parquet(its, store.read_bytes(version_uri(problem, "1", "held_out.parquet")))
    tested = {name: metric(held_out.scored) for name, metric in metrics_of(held_out.scored).items()}
    show(f"tested on {', '.join(sorted(set(held_out.rows['partition'].to_pylist())))}")
    for name in ("auc", "log_loss"):
        show(f"\n{name}: {tested[name]:.3f} in its test\nweek        estimated (interval)        realised  domain AUC")
        for row in _of(table, name).to_pylist():
            told = f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
            show(f"{row['partition']}  {told}      {row['realised']:.3f}     {row['domain_auc']:.2f}")
    show("\nmean absolute error       estimated  as in its test  as in the newest labelled week  interval held")
    for name in METRICS:
        rows = _of(table, name)
        value, low, high, truth = (rows[one].to_numpy() for one in ("value", "low", "high", "realised"))
        before = np.concatenate([[tested[name]], truth[:-1]])
        errors = [np.abs(guess - truth).mean() for guess in (value, tested[name], before)]
        held = f"{np.sum((low <= truth) & (truth <= high))} of {len(truth)}"
        show(f"{name:24}  {errors[0]:9.4f}  {errors[1]:14.4f}  {errors[2]:30.4f}  {held:>13}")


def _of(table: pa.Table, metric: str) -> pa.Table:
    return table.filter(pc.equal(table["metric"], metric))


def main(folder: Path) -> None:
    os.environ |= {
        "EVERGREEN_STORE_URI": (folder / "store").as_uri(),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    os.chdir(folder)  # MLflow keeps artifacts beside its database
    problem = load_problem(NAME)
    play(problem)
    compare(problem)


if __name__ == "__main__":
    asked = parser(__doc__)
    asked.add_argument("folder", nargs="?", type=Path, help="default: one that goes when it ends")
    if folder := asked.parse_args().folder:
        main(folder.resolve())
    else:
        with TemporaryDirectory(prefix="evergreen-") as made:
            main(Path(made))
