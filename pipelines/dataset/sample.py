"""sample: which labelled rows of the training split are used, and with what weight."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import Sampling
from pipelines.errors import DataError


def sample(rows: pa.Table, sampling: Sampling) -> pa.Table:
    """Draw from the training split; validation and test keep every row. Adds `weight` (1 each).

    `rows` come from `label`; those without a label are left out. Simple random sampling without
    replacement (Huyen, ch. 4): each row of the split has the same chance `fraction`; the seed and the
    order of the rows alone decide which.

    Raises:
        DataError: a split is left with rows of one class only.
    """
    rows = rows.filter(pc.is_valid(rows["label"]))
    if sampling.method == "random":
        in_train = pc.indices_nonzero(pc.equal(rows["split"], "train")).to_numpy()
        rest = pc.indices_nonzero(pc.not_equal(rows["split"], "train")).to_numpy()
        size = max(1, round(len(in_train) * sampling.fraction))
        drawn = np.random.default_rng(sampling.seed).choice(in_train, size=size, replace=False)
        rows = rows.take(pa.array(np.sort(np.concatenate([drawn, rest]))))
    for split in ("train", "validation", "test"):
        classes = rows.filter(pc.equal(rows["split"], split))["label"].unique()
        if len(classes) < 2:
            raise DataError(
                f"the {split} split has {'no rows' if not len(classes) else 'one class only'}",
                where="training set",
                cure="give it more partitions (dataset.split), or look at the labels",
            )
    return rows.append_column("weight", pa.array(np.ones(rows.num_rows), pa.float64()))
