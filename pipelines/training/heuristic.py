"""The rule that one would write by hand: an SQL expression over the features, as a baseline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.base import BaseEstimator

from pipelines import sql
from pipelines.errors import ConfigError
from pipelines.problem import Problem
from pipelines.training.checks import place
from pipelines.training.estimators import Prior

ROW = "evergreen row"  # no feature can be called so


def heuristic(problem: Problem, name: str) -> Heuristic:
    """The candidate's expression, yet to be fitted."""
    expression = problem.training.candidates[name].sql or "NULL"
    return Heuristic(expression, problem.task, problem.classes, problem.feature_names, place(problem, name))


class Heuristic(BaseEstimator):  # type: ignore[misc]
    """Scores by a DuckDB expression over the features (Huyen, ch. 6: a simple heuristic as a baseline).

    Binary: the probability of class 1, or a boolean. Multiclass: the name of the class, which gets probability 1.
    Regression: the value. Where it gives null a row scores as the prior does.
    """

    takes_rows = True

    def __init__(self, expression: str, task: str, classes: list[str], features: list[str], where: str) -> None:
        self.expression = expression
        self.task = task
        self.classes = classes
        self.features = features
        self.where = where

    def fit(self, rows: pa.Table, y: np.ndarray, weight: np.ndarray) -> Heuristic:
        """Learns the prior, and tries the expression on the rows.

        Raises:
            ConfigError: the expression is wrong, or what it gives is no score.
        """
        self.prior_ = Prior(self.task, len(self.classes)).fit(y, weight)
        # In a condition DuckDB refuses what looks at other rows, which would score a row by its company.
        self._run(f"SELECT count(*) FROM rows WHERE ({self.expression}\n) IS NULL", rows)
        self.scores(rows)
        return self

    def scores(self, rows: Any) -> np.ndarray:
        """Scores of the rows, in their order.

        Raises:
            ConfigError: the expression is wrong for these rows, or what it gives is no score.
        """
        kind = "VARCHAR" if self.task == "multiclass" else "DOUBLE"
        answers = self._run(
            f"SELECT CAST(({self.expression}\n) AS {kind}) AS score FROM rows ORDER BY {sql.quote(ROW)}", rows
        )["score"]
        prior = self.prior_.scores(answers)
        is_missing = answers.is_null().to_numpy()
        if self.task == "multiclass":
            codes = pc.index_in(answers, value_set=pa.array(self.classes, pa.string()), skip_nulls=True)
            unknown = answers.filter(pc.and_(codes.is_null(), answers.is_valid()))
            if len(unknown):
                raise self._wrong(f"{unknown[0].as_py()!r} is no class", f"known classes: {', '.join(self.classes)}")
            certain = codes.fill_null(0).to_numpy()[:, None] == np.arange(len(self.classes))
            return np.where(is_missing[:, None], prior, certain.astype(np.float64))
        values = answers.fill_null(0.0).to_numpy()
        if not np.isfinite(values).all():
            raise self._wrong(f"{values[~np.isfinite(values)][0]} is no number to work with", "let it give null there")
        is_outside = (values < 0) | (values > 1)
        if self.task == "binary" and is_outside.any():
            raise self._wrong(
                f"{values[is_outside][0]:g} is no probability", "let it give 0 to 1, such as least(1, greatest(0, ...))"
            )
        return np.where(is_missing, prior, values)

    def _run(self, query: str, rows: Any) -> pa.Table:
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_pandas(rows, preserve_index=False)
        table = table.select(self.features)
        table = table.append_column(ROW, pa.array(np.arange(table.num_rows)))
        try:
            with sql.explained(self.where), sql.connection({"rows": table}, is_private=True, is_new=True) as database:
                # The expression comes with the model's file, and may read the rows and nothing else.
                database.execute("SET enable_external_access = false")
                return database.sql(query).to_arrow_table()
        except ConfigError as error:
            cure = f"{error.cure}; features: {', '.join(self.features)}"
            what = f"the heuristic {self.expression!r} fails: {error.what}"
            raise ConfigError(what, where=self.where, cure=cure) from error

    def _wrong(self, what: str, cure: str) -> ConfigError:
        what = f"the heuristic {self.expression!r} gives what is no score: {what}"
        return ConfigError(what, where=self.where, cure=cure)
