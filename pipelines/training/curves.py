"""Learning curves: what more rows would bring, and how old they may be."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from pipelines.config import Parameters
from pipelines.errors import DataError
from pipelines.html import plots
from pipelines.html.render import render
from pipelines.html.wording import METRIC_WORDS
from pipelines.problem import Problem
from pipelines.training.folds import of_partitions
from pipelines.training.search import measured

SHARES = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
CURVE = pa.schema({"kind": pa.string(), "size": pa.float64(), "rows": pa.int64(), "value": pa.float64()})


def learning_curve(
    problem: Problem,
    name: str,
    train: pa.Table,
    validation: pa.Table,
    *,
    parameters: Parameters | None = None,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> pa.Table:
    """`training.select_by` on the validation rows, of candidate `name` fitted on parts of `train`; a row for each fit.

    kind `rows`: `size` is the share of the training rows, drawn by training.seed, each share part of the next. kind
    `window`: `size` is the number of partitions, the newest 1, 2, 4, ... and all. `rows` is how many rows that is,
    `value` the metric (of a bias its size): null where it is not defined, or a part is too little to fit on.
    `parameters` are set over the candidate's own. Fits stop and choose their threshold by the validation rows, as in
    training: the points are to be compared with each other, not with the test split. `tell` is told how many fits are
    done, of how many.

    Raises:
        ConfigError: the model refuses its parameters.
        DataError: `train` as a whole cannot be fitted on.
    """
    from pipelines.training.fit import fit

    def value(rows: pa.Table) -> float | None:
        model = fit(problem, name, rows, validation, parameters=parameters)
        return measured(problem, model, validation, problem.training.select_by)

    def value_if_any(rows: pa.Table) -> float | None:
        try:
            return value(rows)
        except DataError:
            return None

    keys = sorted(train["partition"].unique().to_pylist())
    order = np.random.default_rng(problem.training.seed).permutation(len(train))
    drawn = {share: train.take(np.sort(order[: math.ceil(share * len(train))])) for share in SHARES[:-1]}
    counts = [1 << power for power in range(len(keys).bit_length()) if 1 << power < len(keys)]
    newest = {float(count): of_partitions(train, keys[-count:]) for count in counts}
    fits = len(drawn) + len(newest) + 1
    tell(0, fits)
    whole = value(train)  # first, so that what is wrong with every fit is heard of
    tell(1, fits)
    done = 1
    points: list[tuple[str, float, int, float | None]] = []
    for kind, parts, size in (("rows", drawn, 1.0), ("window", newest, float(len(keys)))):
        for part, rows in parts.items():
            points.append((kind, part, len(rows), value_if_any(rows)))
            done += 1
            tell(done, fits)
        points.append((kind, size, len(train), whole))
    return pa.Table.from_pylist([dict(zip(CURVE.names, point, strict=True)) for point in points], CURVE)


class CurvePoint(NamedTuple):
    size: float
    rows: int
    value: float | None


class CurvesPage(NamedTuple):
    """`meaning`: of the metric. A picture of fewer than two points is None."""

    candidate: str
    metric: str
    meaning: str
    every: str
    pictures: list[Markup | None]
    by_rows: list[CurvePoint]
    by_window: list[CurvePoint]


def curve_page(table: pa.Table, problem: Problem, name: str) -> bytes:
    """The curves as one HTML page that needs nothing else; equal tables give equal bytes."""
    metric, every = problem.training.select_by, problem.partitions.every
    by_rows, by_window = _points(table, "rows"), _points(table, "window")
    of_rows = [point.rows for point in by_rows], [point.value for point in by_rows]
    of_window = [point.size for point in by_window], [point.value for point in by_window]
    page = CurvesPage(
        candidate=name,
        metric=metric,
        meaning=METRIC_WORDS[metric],
        every=every,
        pictures=[
            plots.curve("rows", "How many rows", of_rows, ("training rows, drawn at random", metric)),
            plots.curve(
                "window",
                "How far back",
                of_window,
                (f"newest {problem.partitions.plural} that are learnt from", metric),
            ),
        ],
        by_rows=by_rows,
        by_window=by_window,
    )
    return render("curves.html", f"Learning curves of {problem.name}: {name}", page)


def _points(table: pa.Table, kind: str) -> list[CurvePoint]:
    rows = table.filter(pc.equal(table["kind"], kind)).to_pylist()
    return [CurvePoint(row["size"], row["rows"], row["value"]) for row in rows]
