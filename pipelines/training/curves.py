"""Learning curves: what more rows would bring, and how old they may be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import DataError
from pipelines.problem import Problem
from pipelines.training.folds import of_partitions
from pipelines.training.search import measured

SHARES = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
CURVE = pa.schema({"kind": pa.string(), "size": pa.float64(), "rows": pa.int64(), "value": pa.float64()})


def learning_curve(
    problem: Problem, name: str, train: pa.Table, validation: pa.Table, *, parameters: dict[str, Any] | None = None
) -> pa.Table:
    """`training.select_by` on the validation rows, of candidate `name` fitted on parts of `train`; a row for each fit.

    kind `rows`: `size` is the share of the training rows, drawn by training.seed, each share part of the next. kind
    `window`: `size` is the number of partitions, the newest 1, 2, 4, ... and all. `rows` is how many rows that is,
    `value` the metric (of a bias its size): null where it is not defined, or a part is too little to fit on.
    `parameters` are set over the candidate's own. Fits stop and choose their threshold by the validation rows, as in
    training: the points are to be compared with each other, not with the test split.

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
    whole = value(train)  # first, so that what is wrong with every fit is heard of
    points: list[tuple[str, float, int, float | None]] = []
    for kind, parts, size in (("rows", drawn, 1.0), ("window", newest, float(len(keys)))):
        points += [(kind, one, len(rows), value_if_any(rows)) for one, rows in parts.items()]
        points.append((kind, size, len(train), whole))
    return pa.Table.from_pylist([dict(zip(CURVE.names, point, strict=True)) for point in points], CURVE)


def curve_page(table: pa.Table, problem: Problem, name: str) -> bytes:
    """The curves as one HTML page that needs nothing else; equal tables give equal bytes."""
    from pipelines.html.markup import document, note, row_of
    from pipelines.html.plots import curve
    from pipelines.html.wording import METRIC_WORDS

    metric, every = problem.training.select_by, problem.partitions.every
    rows, window = (table.filter(pc.equal(table["kind"], kind)).to_pylist() for kind in ("rows", "window"))
    pictures = [
        curve("rows", "How many rows", ([one["rows"] for one in rows], [one["value"] for one in rows]),
              ("training rows, drawn at random", metric)),
        curve("window", "How far back", ([one["size"] for one in window], [one["value"] for one in window]),
              (f"newest {every}s that are learnt from", metric)),
    ]  # fmt: skip
    sections = [
        ("What was done", note(
            f"{name} was fitted on parts of the training split and measured on the validation split. {metric}: "
            f"{METRIC_WORDS[metric]}. Where the left curve is still moving at its end, more rows would help. Where the "
            f"right one turns, older {every}s do harm: see dataset.window_partitions. One validation split has chance "
            "in it: a turn no larger than the steps around it says little."
        )),
        ("Curves", row_of(*pictures) or note("there are not two points to draw")),
        ("Random parts of the rows", _numbers("share", rows, metric)),
        (f"Newest {every}s", _numbers(f"{every}s", window, metric)),
    ]  # fmt: skip
    return document(f"Learning curves of {problem.name}: {name}", sections)


def _numbers(size: str, points: list[dict[str, Any]], metric: str) -> str:
    from pipelines.html.markup import table
    from pipelines.html.wording import figure

    cells = [[f"{one['size']:g}", figure(one["rows"]), figure(one["value"])] for one in points]
    return table([f"#{size}", "#rows", f"#{metric}"], cells)
