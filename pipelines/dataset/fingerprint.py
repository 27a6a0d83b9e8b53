"""fingerprint: what rows a model was fitted on, in a line that says whether others are the same."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.documents.lineage import Fingerprint
from pipelines.problem import Problem

if TYPE_CHECKING:
    import pyarrow.dataset as ds


def fingerprint(problem: Problem, rows: pa.Table | ds.Dataset | Iterable[pa.RecordBatch]) -> Fingerprint:
    """What the rows of a split are, as a fit is given them.

    The hash is of partition, features, label and weight, in the order of the rows, as that decides over bits of a
    model. Batches may be cut anywhere, further columns change nothing. One pass, a batch in memory at a time.
    """
    columns = {name: _Column() for name in ("partition", *problem.feature_names, "label", "weight")}
    counts: Counter[str] = Counter()
    batches = rows.to_batches() if hasattr(rows, "to_batches") else rows
    for batch in batches:
        for name, column in columns.items():
            column.update(batch[name])
        for group in pc.value_counts(batch["partition"]).to_pylist():
            counts[group["values"]] += group["counts"]
    whole = hashlib.sha256()
    for name, column in columns.items():
        whole.update(f"{name}:{column.digest()};".encode())
    return {"rows": counts.total(), "partitions": sorted(counts), "hash": whole.hexdigest()}


class _Column:
    """Values, lengths of texts and what is null are hashed apart: so it does not matter where a batch ends."""

    def __init__(self) -> None:
        self.parts = [hashlib.sha256() for _ in range(3)]

    def update(self, values: pa.Array) -> None:
        content, lengths, is_null = self.parts
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if pa.types.is_list(values.type):
            lengths.update(pc.fill_null(pc.list_value_length(values), 0).cast(pa.int64()).to_numpy().tobytes())
            is_null.update(values.is_null().to_numpy(zero_copy_only=False).tobytes())
            self.update(pc.list_flatten(values))
            return
        is_null.update(values.is_null().to_numpy(zero_copy_only=False).tobytes())
        if pa.types.is_boolean(values.type) or pa.types.is_integer(values.type):
            content.update(values.cast(pa.int64()).fill_null(0).to_numpy().tobytes())
        elif pa.types.is_floating(values.type):
            content.update(values.cast(pa.float64()).fill_null(0.0).to_numpy().tobytes())
        else:
            texts = values.cast(pa.large_string()).fill_null("")
            lengths.update(pc.binary_length(texts).to_numpy().tobytes())
            _, offsets, data = texts.buffers()
            ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
            if data is not None and len(ends):
                content.update(memoryview(data)[ends[0] : ends[-1]])

    def digest(self) -> str:
        return " ".join(part.hexdigest() for part in self.parts)
