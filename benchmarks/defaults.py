"""What a model learns when nobody sets a parameter: `model: xgboost` against scikit-learn's histogram boosting.

    OMP_NUM_THREADS=1 python -m benchmarks.defaults [table,table]

The tables are those of `benchmarks.tables`, with the columns that their problem.yaml declares as features. Of each
windows of 500 and of 3,000 rows are taken (two and one, spread over it; its newest rows are in each
kind); of a window the oldest 70 % are learnt from, the next 10 % say when to stop, the newest 20 % measure. Compared
are, on the same matrix (codes of categories, gaps as they are):

- `ours`: the candidate {model: xgboost}, through `pipelines.training.fit`;
- `refit`: the same after `pipelines.training.refit`, on the rows that said when to stop too;
- `hist` and `hist +`: HistGradientBoosting at its defaults, on the rows of `ours` and on those of `refit`;
- `plain`: XGBoost of 200 rounds, rate 0.05, depth 4, and else at its own defaults, on the rows of `refit`.

The figure is the loss (log loss; root mean squared error) less that of its reference, in percent of the latter, the
mean over the windows: below 0 is better. One thread.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import yaml

from benchmarks.arguments import parser
from benchmarks.tables.catalogue import TABLES
from pipelines import sql
from pipelines.dataset.label import label_number
from pipelines.problem import ROOT, Problem, parse_problem
from pipelines.training.fit import fit
from pipelines.training.model import Model
from pipelines.training.refit import refitted

WINDOWS = {500: 2, 3_000: 1}  # rows -> how many
CODES = 255  # of a category, the most that scikit-learn takes as one


def problem_of(name: str) -> Problem:
    """A table's problem with nothing but its columns as features, and candidates without parameters."""
    folder = ROOT / "benchmarks" / "tables" / "problems" / name
    raw = yaml.safe_load((folder / "problem.yaml").read_text())
    raw["features"] = {"columns": raw["features"]["columns"]}
    plain = {
        "n_estimators": 200,
        "learning_rate": 0.05,
        "max_depth": 4,
        "reg_lambda": 1,
        "subsample": 1,
        "colsample_bynode": 1,
        "min_child_weight": 1,
    }
    candidates = {
        "prior": {"model": "prior"},
        "ours": {"model": "xgboost"},
        "plain": {"model": "xgboost", "parameters": plain},
    }
    raw["training"] = {"baselines": ["prior"], "candidates": candidates, "threads": 1, "device": "cpu"}
    return parse_problem(raw, folder)


def rows_of(problem: Problem, table: pa.Table) -> pa.Table:
    """Rows that have a label, in time's order, as a fit takes them: what events.sql makes of the table."""
    key, source = sql.quote(problem.key), next(iter(problem.sources))
    features = ", ".join(f"e.{sql.quote(name)}" for name in problem.feature_names)
    number = label_number(problem, "t.label")
    return sql.query(
        f"""WITH e AS ({problem.sql("events")})
            SELECT {features}, '' AS partition, {number} AS label, CAST(1 AS DOUBLE) AS weight
            FROM e JOIN {sql.quote(source)} AS t USING ({key})
            WHERE t.label IS NOT NULL ORDER BY e.event_time, {key}""",
        {source: table},
    )


def windows(rows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    for size, count in WINDOWS.items():
        for number in range(count):
            if size <= rows.num_rows:
                yield size, rows.slice(rows.num_rows - size - (rows.num_rows - size) * number // count, size)


def loss(problem: Problem, labels: np.ndarray, scores: np.ndarray) -> float:
    if problem.task == "regression":
        return float(np.sqrt(np.mean((labels - scores) ** 2)))
    chance = scores[np.arange(len(labels)), labels] if scores.ndim == 2 else np.where(labels == 1, scores, 1 - scores)
    return float(-np.mean(np.log(np.clip(chance, 1e-7, 1))))


def histogram_boosting(problem: Problem, model: Model, rows: pa.Table, test: pa.Table) -> np.ndarray:
    """Scores of the test rows, on the matrix that `model` sees."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    matrix, labels = model.matrix(rows), rows["label"].to_numpy()
    highest = np.max(matrix, axis=0, initial=-1, where=~np.isnan(matrix))
    are_small = [
        bool(is_one and high < CODES) for is_one, high in zip(model.prepare.is_category_, highest, strict=True)
    ]
    kind = HistGradientBoostingRegressor if problem.task == "regression" else HistGradientBoostingClassifier
    fitted = kind(random_state=0, categorical_features=are_small).fit(matrix, labels)
    if problem.task == "regression":
        return np.asarray(fitted.predict(model.matrix(test)))
    scores = np.zeros((test.num_rows, max(2, len(problem.classes))))
    scores[:, fitted.classes_.astype(int)] = fitted.predict_proba(model.matrix(test))
    return scores[:, 1] if problem.task == "binary" else scores


def compared(problem: Problem, window: pa.Table) -> dict[str, float]:
    """Loss of each on the newest fifth of the window."""
    held_out, tested = window.num_rows * 7 // 10, window.num_rows * 8 // 10
    train, stopping, test = window.slice(0, held_out), window.slice(held_out, tested - held_out), window.slice(tested)
    both = pa.concat_tables([train, stopping])
    model = fit(problem, "ours", train, stopping)
    again = refitted(problem, "ours", model, both, {})
    scores = {
        "ours": model.scores(test),
        "refit": again.scores(test),
        "hist": histogram_boosting(problem, model, train, test),
        "hist +": histogram_boosting(problem, again, both, test),
        "plain": fit(problem, "plain", both, stopping).scores(test),
    }
    return {name: loss(problem, test["label"].to_numpy(), found) for name, found in scores.items()}


def main(names: list[str]) -> None:
    warnings.filterwarnings("ignore")
    pairs = (("ours", "hist"), ("refit", "hist +"), ("refit", "plain"))
    print(f"{'table':<14}{'task':<12}{'rows':>7}" + "".join(f"{f'{one} on {other}':>19}" for one, other in pairs))
    everywhere: dict[int, list[list[float]]] = defaultdict(list)
    for name in names:
        problem = problem_of(name)
        found: dict[int, list[list[float]]] = defaultdict(list)
        for size, window in windows(rows_of(problem, TABLES[name].load())):
            losses = compared(problem, window)
            found[size].append([100 * (losses[one] / losses[other] - 1) for one, other in pairs])
        for size, each in found.items():
            print(f"{name:<14}{problem.task:<12}{size:>7,}{_shown(each)}", flush=True)
            everywhere[size] += each
    for size, each in everywhere.items():
        print(f"{'all':<14}{'':<12}{size:>7,}{_shown(each)}")


def _shown(each: list[list[float]]) -> str:
    return "".join(f"{mean:>+18.1f}%" for mean in np.mean(np.array(each), axis=0))


if __name__ == "__main__":
    asked = parser(__doc__)
    asked.add_argument("tables", nargs="?", default=",".join(TABLES), help="some of them, by commas; default: all")
    main(asked.parse_args().tables.split(","))
