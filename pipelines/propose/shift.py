"""How far labels move by themselves from what came before: a season is no fault of a model."""

from __future__ import annotations

import numpy as np

from pipelines.profiles.distance import psi
from pipelines.propose.table import ROWS, Table
from pipelines.propose.target import Target
from pipelines.propose.times import EventTime

BINS = 10
SLICES = 24  # of the rows, in the order of time
TESTED = 2  # newest slices, as a gate tests on them
HISTORY = 8  # slices that come before the first comparison


def usual_shift(table: Table, target: Target, time: EventTime) -> float:
    """The largest PSI of two slices' labels against those of all rows before them; 0 where there are too few rows."""
    label = target.of_rows if target.task != "multiclass" else f"hash({target.of_rows}) % 1000"
    rows = table.database.sql(
        f"SELECT ({label})::DOUBLE AS label, ntile({SLICES}) OVER (ORDER BY {time.of_rows}, rowid) AS slice "
        f"FROM {ROWS} WHERE {target.of_rows} IS NOT NULL AND {time.of_rows} IS NOT NULL"
    ).fetchnumpy()
    labels, slices = np.asarray(rows["label"]), np.asarray(rows["slice"])
    if len(labels) < 10 * SLICES:
        return 0.0
    shifts = []
    for newest in range(HISTORY + TESTED, SLICES + 1):
        before, now = labels[slices <= newest - TESTED], labels[(slices > newest - TESTED) & (slices <= newest)]
        if target.task == "regression":
            edges = np.unique(np.quantile(before, np.linspace(0, 1, BINS + 1)[1:-1]))
        else:
            edges = np.unique(labels)[1:]
        counts = [
            np.bincount(np.searchsorted(edges, side, "right"), minlength=len(edges) + 1) for side in (before, now)
        ]
        shifts.append(float(psi(counts[0], counts[1])))
    return max(shifts)
