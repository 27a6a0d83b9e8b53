"""Texts of a feature row to columns of the model's matrix: latent semantic analysis of their terms, or hashes of them.

Neither skrub's encoders nor scikit-learn's vectorizers are used: what is fitted is plain values here, which a model's
file can hold without code of theirs, and terms are counted in Arrow, in a fifth of the time (docs/preprocessing.md).
"""

from __future__ import annotations

from typing import Literal, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import TextEncoding
from pipelines.vectors.terms import Counts, among, batches, counts, hashed, weighted

FITTED_ROWS = 50_000  # that the terms and their directions are learnt from, drawn by the seed


class TextPlan(TypedDict):
    """How to prepare a text; a plain mapping, as it is part of every model file.

    Of svd: `weights` of the terms that it knows, (terms,), and the `directions` they are brought down to,
    (terms, components), less `shift`, (components,): columns of mean 0 and standard deviation 1, which linear models
    are fitted on in a third of the time. All float32; empty of hashing. The terms are the Preparation's `terms_`.
    """

    kind: Literal["text"]
    method: Literal["svd", "hashing"]
    by: Literal["words", "characters"]
    shortest: int
    longest: int
    components: int
    weights: np.ndarray
    directions: np.ndarray
    shift: np.ndarray
    has_missing: bool


class FittedText(TypedDict):
    """A plan, and the terms that it knows, in its order."""

    plan: TextPlan
    terms: list[str]


def fit_text(column: pa.ChunkedArray, encoding: TextEncoding, seed: int) -> FittedText | str:
    """How to prepare a column of texts; or why it says nothing."""
    shortest, longest = encoding.lengths
    plan: TextPlan = {
        "kind": "text",
        "method": encoding.method,
        "by": encoding.by,
        "shortest": shortest,
        "longest": longest,
        "components": encoding.components,
        "weights": np.zeros(0, np.float32),
        "directions": np.zeros((0, encoding.components), np.float32),
        "shift": np.zeros(0, np.float32),
        "has_missing": column.null_count > 0,
    }
    texts = column.drop_null()
    if not len(texts):
        return "all values are missing"
    if encoding.method == "hashing":
        return {"plan": plan, "terms": []}
    if len(texts) > FITTED_ROWS:
        drawn = np.random.default_rng(seed).choice(len(texts), FITTED_ROWS, replace=False, shuffle=False)
        texts = texts.take(pa.array(np.sort(drawn)))
    parts = [_counted(plan, part) for _, part in batches(texts)]
    terms, rows = _frequent(parts, encoding)
    if not len(terms):
        return f"no term is in {encoding.min_rows} of the texts"
    plan["weights"] = (np.log((1 + len(texts)) / (1 + rows)) + 1).astype(np.float32)
    plan["directions"], plan["shift"] = _directions(parts, terms, plan, seed)
    plan["components"] = plan["directions"].shape[1]
    return {"plan": plan, "terms": terms.to_pylist()}


def text_names(plan: TextPlan, feature: str) -> list[str]:
    """Names of the columns, in their order."""
    return [f"{feature} #{place}" for place in range(plan["components"])] + [f"{feature} is missing"] * plan[
        "has_missing"
    ]


def write_text(plan: TextPlan, column: pa.ChunkedArray, terms: pa.Array | None, out: np.ndarray) -> None:
    """Fill `out`, float32 of shape (rows, columns of this feature); all texts without a known term are alike."""
    for place, part in batches(column):
        counted = _counted(plan, part)
        if plan["method"] == "hashing":
            out[place, : plan["components"]] = hashed(counted, plan["components"]).toarray()
        else:
            assert terms is not None, "svd knows its terms"
            known = weighted(among(counted, terms), plan["weights"])
            out[place, : plan["components"]] = known @ plan["directions"] - plan["shift"]
    if plan["has_missing"]:
        out[:, -1] = pc.is_null(column).to_numpy()


def _counted(plan: TextPlan, texts: pa.ChunkedArray) -> Counts:
    return counts(texts, plan["by"], plan["shortest"], plan["longest"])


def _frequent(parts: list[Counts], encoding: TextEncoding) -> tuple[pa.Array, np.ndarray]:
    """The terms that most texts have, sorted, and how many have each."""
    tables = [
        pa.table({"term": part.terms, "rows": np.bincount(part.matrix.indices, minlength=len(part.terms))})
        for part in parts
    ]
    added = pa.concat_tables(tables).group_by("term").aggregate([("rows", "sum")])
    common = added.filter(pc.greater_equal(added["rows_sum"], encoding.min_rows))
    kept = common.sort_by([("rows_sum", "descending"), ("term", "ascending")]).slice(0, encoding.max_terms)
    kept = kept.sort_by("term").combine_chunks()
    return pa.concat_arrays(kept["term"].chunks), kept["rows_sum"].to_numpy()


def _directions(parts: list[Counts], terms: pa.Array, plan: TextPlan, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Leading right singular vectors of the weighted counts, (terms, components), and the mean of each.

    Both are in standard deviations of the texts along it.

    One thread: the sums of several end in another order, and differ in their last bits.
    """
    from scipy.sparse import vstack
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    matrix = vstack([weighted(among(part, terms), plan["weights"]) for part in parts], format="csr")
    width = min(plan["components"], *matrix.shape)
    with threadpool_limits(1):
        _, _, right = randomized_svd(matrix, width, random_state=seed)
    placed = (matrix @ right.T).astype(np.float64)
    spread = placed.std(axis=0)
    # Where no two texts differ there is no direction: what rounding leaves of one would be blown up.
    scale = np.where(spread > 1e-6 * np.abs(placed).max(initial=0), spread, np.inf)
    directions = np.ascontiguousarray(right.T / scale, dtype=np.float32)
    return directions, (placed.mean(axis=0) / scale).astype(np.float32)
