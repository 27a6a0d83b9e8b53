"""detect: how far a partition lies from the reference, and how good its scores turned out. Numbers, no judgement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.metrics import measure
from pipelines.evaluation.scored import Scored
from pipelines.monitoring.profile import SCORE, ColumnProfile, Reference
from pipelines.scoring.score import shown


def psi(reference: Sequence[int], counts: Sequence[int]) -> float:
    """Population stability index of two histograms: 0 when they are equal, symmetric, in nats.

    The sum of (p - q) ln(p / q), Jeffreys' divergence (Siddiqi, Credit Risk Scorecards, 2006: below .1 stable, above
    .25 a major shift). Each bin that either has rows in gets one row more (Laplace), which keeps it finite. Chance
    alone gives about (bins - 1) (1/n + 1/m) for n and m rows. 0 when a side is empty: it proves nothing.

    >>> round(psi([50, 50], [80, 20]), 3), psi([5, 5, 0], [5, 5, 0])
    (0.397, 0.0)
    """
    pair = _filled(reference, counts)
    if not pair.sum(axis=1).all():
        return 0.0
    p, q = _shares(pair + 1)
    return float((p - q) @ np.log(p / q))


def jensen_shannon(reference: Sequence[int], counts: Sequence[int]) -> float:
    """Jensen-Shannon distance of two histograms, 0 (equal) to 1 (disjoint): a metric (Endres and Schindelin, 2003).

    >>> jensen_shannon([1, 1, 0], [0, 0, 2]), jensen_shannon([1, 2], [2, 4])
    (1.0, 0.0)
    """
    pair = _filled(reference, counts)
    if not pair.sum(axis=1).all():
        return 0.0
    shares = _shares(pair)
    ratio = np.divide(shares, shares.mean(axis=0), out=np.ones_like(shares), where=shares > 0)
    return float(np.sqrt(np.clip((shares * np.log2(ratio)).sum() / 2, 0, 1)))


def detect(reference: Reference, profiles: Mapping[str, ColumnProfile]) -> dict[str, Any]:
    """Distance of each column and of the scores from the reference, as {"rows", "columns", "prediction"}.

    A column has "psi", "js", "null_share", "unseen_share" (shares of all rows); "prediction" has the same, and
    "mean" and "reference_mean".
    """
    columns = {}
    for name, known in reference.columns.items():
        found = profiles[name]
        columns[name] = {
            "psi": psi(known.profile.counts, found.counts),
            "js": jensen_shannon(known.profile.counts, found.counts),
            "null_share": found.nulls / max(found.rows, 1),
            "unseen_share": found.unseen / max(found.rows, 1),
        }
    prediction = columns.pop(SCORE)
    means = {"mean": profiles[SCORE].mean, "reference_mean": reference.mean_score}
    return {"rows": profiles[SCORE].rows, "columns": columns, "prediction": prediction | means}


def performance(found: Scored) -> dict[str, Any]:
    """How good the scores turned out, given their labels: the task's metrics and what they are made of.

    Binary: positive_rate, mean_score and their difference, the calibration_gap. Multiclass: class_rates, mean_score
    (of the classes decided for). Regression: mean_label, mean_score; their difference is the metric bias. What the
    task does not have, or is not defined (AUC of one class, anything of no rows), is None.
    """
    rows = len(found.labels)
    score, label = (float(np.mean(values)) if rows else None
                    for values in (shown(found.scores, found.decisions), found.labels))  # fmt: skip
    result: dict[str, Any] = {"rows": rows, "auc": None, "positive_rate": None, "mean_score": score,
                              "calibration_gap": None, **measure(found)}  # fmt: skip
    if found.task == "binary":
        gap = None if score is None or label is None else score - label
        result |= {"positive_rate": label, "calibration_gap": gap}
    elif found.task == "multiclass":
        shares = np.bincount(found.labels, minlength=len(found.classes)) / max(rows, 1)
        result["class_rates"] = dict(zip(found.classes, shares.tolist(), strict=True)) if rows else None
    else:
        result["mean_label"] = label
    return result


def _filled(one: Sequence[int], other: Sequence[int]) -> NDArray[np.float64]:
    """(2, bins), without the bins that are empty on both sides."""
    pair = np.array([one, other], np.float64)
    return pair[:, pair.any(axis=0)]


def _shares(pair: NDArray[np.float64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = pair / pair.sum(axis=1, keepdims=True)
    return shares
