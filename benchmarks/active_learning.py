"""Active learning: how many labels a model needs until it is good, when it may choose which events people label.

    python -m benchmarks.active_learning [seeds]

The default problem, as if nobody had labelled it: the pool is its first three months, the test the three after them.
A small model starts from 100 random labels and asks for 50 at a time, out of 15,000 that are drawn anew for each
round (out of all, a batch is 50 times nearly the same flight). The strategies are those of labels.hand.choose; margin
ranks as uncertainty does where there are two classes, and is not run again. For disagreement the committee is the
model on bootstraps of the labels. History features are left out: they count labels that nobody has given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.arguments import one_number
from pipelines import sql
from pipelines.features.featurize import featurize
from pipelines.ingest.extract import extract
from pipelines.ingest.sources import opened
from pipelines.labeling.choose import Strategy, choose
from pipelines.metrics.metrics import auc
from pipelines.problem import Problem, load_problem
from pipelines.training.prepare import Preparation

POOL, TEST = ("2012-12-31", "2013-03-25"), ("2013-04-01", "2013-06-24")  # first and last weeks
STRATEGIES: tuple[Strategy, ...] = ("random", "uncertainty", "disagreement")
START, BATCH, ROUNDS, CONSIDERED, COMMITTEE = 100, 50, 24, 15_000, 5
TARGET = 0.66  # the AUC to reach: all 78,000 labels of the pool give 0.70


@dataclass(frozen=True)
class Task:
    pool: np.ndarray
    pool_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    kinds: list[str]

    def fit(self, rows: np.ndarray, seed: int) -> Any:
        from xgboost import XGBClassifier

        model = XGBClassifier(
            n_estimators=60,
            max_depth=3,
            learning_rate=0.1,
            min_child_weight=5,
            subsample=0.8,
            colsample_bytree=0.5,
            n_jobs=1,
            random_state=seed,
            enable_categorical=True,
            feature_types=self.kinds,
        )
        return model.fit(self.pool[rows], self.pool_labels[rows])

    def test_auc(self, model: Any) -> float:
        found = auc(self.test_labels, model.predict_proba(self.test)[:, 1])
        assert found is not None
        return found


def read_task() -> Task:
    problem = load_problem("flight_delay")
    problem = problem.model_copy(update={"features": problem.features.model_copy(update={"history": {}})})
    pool, test = _labelled(problem, *POOL), _labelled(problem, *TEST)
    prepare = Preparation(problem.feature_names, problem.categorical_features, {}, problem.task, seed=0).fit(pool)
    kinds = ["c" if is_category else "q" for is_category in prepare.is_category_]
    return Task(
        prepare.transform(pool), pool["label"].to_numpy(), prepare.transform(test), test["label"].to_numpy(), kinds
    )


def _labelled(problem: Problem, first: str, last: str) -> pa.Table:
    """Features and label of the weeks' flights; a label may arrive two weeks after the flight."""
    until = problem.partitions.shift(last, 2)
    with opened(problem, first, until) as sources:
        events = pa.Table.from_batches(extract(problem, "events", sources.database, first, last))
        labels = pa.Table.from_batches(extract(problem, "labels", sources.database, first, until))
    features = pa.Table.from_batches(list(featurize(problem, *_statements(events, labels))))
    key = sql.quote(problem.key)
    return sql.query(
        f"SELECT f.*, l.label FROM f JOIN l USING ({key}, event_time) ORDER BY f.event_time, {key}",
        {"f": features, "l": labels},
    )


def _statements(events: pa.Table, labels: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Targets, events and labels as `featurize` takes them: each said once, never corrected."""
    never = ", CAST(NULL AS TIMESTAMPTZ) AS superseded_time, CAST(NULL AS TIMESTAMPTZ) AS withdrawn_time"
    events = sql.query(f"SELECT *, 0 AS statement {never} FROM events", {"events": events})
    source = "'natural' AS source, 1.0 AS confidence, '' AS labeler"
    return events, events, sql.query(f"SELECT *, {source} {never} FROM labels", {"labels": labels})


def curve(task: Task, strategy: Strategy, seed: int) -> list[float]:
    """Test AUC after each round."""
    rng = np.random.default_rng(seed)
    labelled = rng.choice(len(task.pool), START, replace=False)
    found = []
    for turn in range(ROUNDS + 1):
        model = task.fit(labelled, seed)
        found.append(task.test_auc(model))
        if turn < ROUNDS:
            left = rng.choice(np.setdiff1d(np.arange(len(task.pool)), labelled), CONSIDERED, replace=False)
            chosen = choose(
                _scores(task, strategy, model, labelled, left, rng), strategy, BATCH, int(rng.integers(2**31))
            )
            labelled = np.concatenate([labelled, left[chosen]])
    return found


def _scores(
    task: Task, strategy: Strategy, model: Any, labelled: np.ndarray, left: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    if strategy == "random":
        return np.zeros(len(left))
    if strategy != "disagreement":
        return np.asarray(model.predict_proba(task.pool[left])[:, 1])
    members = [task.fit(rng.choice(labelled, len(labelled)), one) for one in range(COMMITTEE)]
    return np.stack([member.predict_proba(task.pool[left])[:, 1] for member in members], axis=1)


def labels_needed(aucs: np.ndarray) -> int | None:
    """Labels at which a curve reaches the target first."""
    reached = np.flatnonzero(aucs >= TARGET)
    return START + BATCH * int(reached[0]) if len(reached) else None


def main(seeds: int, show: Callable[[str], None] = print) -> None:
    task = read_task()
    everything = task.test_auc(task.fit(np.arange(len(task.pool)), 0))
    show(f"{len(task.pool):,} flights to choose from, {len(task.test):,} to test on; all labels: AUC {everything:.3f}")
    means = {}
    for strategy in STRATEGIES:
        runs = np.array([curve(task, strategy, seed) for seed in range(seeds)])
        means[strategy] = runs.mean(axis=0)
        each = [labels_needed(run) for run in runs]
        reached = sorted(one for one in each if one is not None)
        show(
            f"{strategy:12} AUC {TARGET} with {labels_needed(means[strategy])} labels (mean curve); "
            f"{len(reached)} of {seeds} seeds reach it, with {reached[0] if reached else '-'} to "
            f"{reached[-1] if reached else '-'}; standard error at the end {runs[:, -1].std() / seeds**0.5:.4f}"
        )
    show("labels  " + "  ".join(f"{strategy:>12}" for strategy in STRATEGIES))
    for turn in range(0, ROUNDS + 1, 2):
        show(f"{START + turn * BATCH:6}  " + "  ".join(f"{means[one][turn]:12.4f}" for one in STRATEGIES))


if __name__ == "__main__":
    main(one_number(__doc__, "seeds", 10))
