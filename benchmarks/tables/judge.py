"""Was an alarm right? And how good is the champion beside a plain XGBoost that knows every row before it?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.tables.played import Gain
from pipelines.config import Bootstrap, Policy
from pipelines.metrics.bootstrap import gains, intervals
from pipelines.metrics.metrics import METRICS, SKILL
from pipelines.metrics.scored import Scored

if TYPE_CHECKING:
    from pipelines.problem import Problem
    from pipelines.profiles.profile import Reference

Array = NDArray[Any]
BY_ROW = Bootstrap(block="row")
DECIDING = {"binary": "auc", "multiclass": "log_loss", "regression": "rmse"}
PLAIN = {"n_estimators": 200, "learning_rate": 0.05, "max_depth": 4, "tree_method": "hist", "n_jobs": 1}


class AtGate(NamedTuple):
    """How a champion did when its gate judged it, and how wide its labels spread."""

    skill: float | None
    label_std: float | None


def is_off(scored: Scored, tested: AtGate, policy: Policy) -> tuple[bool, str]:
    """Whether the champion really is off on these rows, all of whose labels are known by now, and by what.

    It is off where its AUC (R2) is below what it was tested at by more than the policy's limit, or where its mean score
    misses the mean label by more than that limit, and chance alone does not make it so: the 95 % interval leaves out
    "no change". Nothing else makes an alarm right, whatever the inputs did.
    """
    skill = SKILL[scored.task]
    drop = policy.max_r2_drop if skill == "r2" else policy.max_auc_drop
    found = intervals(scored, np.arange(len(scored.labels)), BY_ROW, [skill])[skill]
    said = []
    if found["value"] is not None and tested.skill is not None:
        said.append(f"{skill} {found['value']:.3f}, tested at {tested.skill:.3f}")
        if tested.skill - found["value"] > drop and (found["high"] is None or found["high"] < tested.skill):
            return True, said[-1]
    for name, gap, noise in _gaps(scored):
        limit = policy.max_calibration_gap
        if scored.task == "regression":
            limit = policy.max_bias_sd * (tested.label_std or np.inf)
        said.append(f"{name} {gap:+.3g}")
        if abs(gap) > limit and abs(gap) > 1.96 * noise:
            return True, said[-1]
    return False, ", ".join(said) or "nothing to measure"


def has_shifted(scored: Scored, reference: Reference, policy: Policy) -> tuple[bool, str]:
    """Whether the labels of these rows really are another mix than the training's, and by what: a rate (a class's
    share) is off by more than the policy's limit, and the 95 % interval of these rows leaves out "no change"."""
    if scored.task == "multiclass":
        rates = reference.class_rates
        found = {f"share of {name}": (scored.labels == at, rates[name]) for at, name in enumerate(scored.classes)}
    elif scored.task == "binary" and reference.label_rate is not None:
        found = {"positive rate": (scored.labels == 1, reference.label_rate)}
    else:
        return False, ""
    for name, (is_one, before) in found.items():
        now = float(is_one.mean())
        noise = np.sqrt(now * (1 - now) / len(is_one))
        if abs(now - before) > max(policy.max_label_rate_shift, 1.96 * noise):
            return True, f"{name} {now:.3g}, {before:.3g} in training"
    return False, ""


def _gaps(scored: Scored) -> list[tuple[str, float, float]]:
    """Mean score less mean label, of each class if there are several, with the standard error."""
    if scored.task != "multiclass":
        off = scored.scores - scored.labels
        return [("mean score less mean label", float(off.mean()), float(off.std() / np.sqrt(len(off))))]
    is_class = scored.labels[:, None] == np.arange(len(scored.classes))
    off = scored.scores - is_class
    noise = off.std(axis=0) / np.sqrt(len(off))
    return [
        (f"mean probability of {name} less its share", float(off[:, at].mean()), float(noise[at]))
        for at, name in enumerate(scored.classes)
    ]


def compared(champion: Scored, plain: Scored, partitions: Array) -> tuple[Gain, ...]:
    """Gains of the champion over the plain model on the same rows, the metric that decides first.

    `partitions`: (n,) key of the partition of each row. Whole partitions are drawn with replacement.
    """
    deciding, skill = DECIDING[champion.task], SKILL[champion.task]
    names = list(dict.fromkeys([deciding, skill]))
    codes = np.unique(partitions, return_inverse=True)[1]
    found = gains(champion, plain, codes, Bootstrap(block="partition"), names)
    values = {name: (METRICS[name].function(champion), METRICS[name].function(plain)) for name in names}
    return tuple(
        Gain(
            metric=name, champion=ours, plain=theirs, gain=interval["value"], low=interval["low"], high=interval["high"]
        )
        for name, interval in found.items()
        for ours, theirs in [values[name]]
        if ours is not None and theirs is not None and interval["value"] is not None
    )


def plain_scores(problem: Problem, known: pa.Table, asked: pa.Table) -> Array:
    """Scores of `asked` by a plain XGBoost (200 trees of depth 4, rate 0.05) fitted on all labelled rows of `known`.

    Texts are categories; one that is not in `known` is missing. Shapes as in `Scored`.
    """
    import xgboost as xgb

    categories = {
        name: known[name].unique().drop_null().to_pandas()
        for name in problem.feature_names
        if pa.types.is_string(known.schema.field(name).type)
    }
    labelled = known.filter(known["label"].is_valid())
    kind = xgb.XGBRegressor if problem.task == "regression" else xgb.XGBClassifier
    model = kind(enable_categorical=True, random_state=0, **PLAIN)
    model.fit(_frame(problem, labelled, categories), codes_of(problem, labelled["label"]))
    if problem.task == "regression":
        return np.asarray(model.predict(_frame(problem, asked, categories)), np.float64)
    probabilities = np.asarray(model.predict_proba(_frame(problem, asked, categories)), np.float64)
    return probabilities[:, 1] if problem.task == "binary" else probabilities / probabilities.sum(axis=1, keepdims=True)


def _frame(problem: Problem, rows: pa.Table, categories: Mapping[str, Any]) -> Any:
    import pandas as pd

    frame = rows.select(problem.feature_names).to_pandas()
    for name in problem.feature_names:
        if name in categories:
            frame[name] = pd.Categorical(frame[name], categories=categories[name])
        else:
            frame[name] = frame[name].astype("float64")
    return frame


def codes_of(problem: Problem, labels: pa.ChunkedArray) -> Array:
    """Labels as `Scored` has them: values, 0 and 1, or codes of the classes."""
    if problem.task == "regression":
        return labels.to_numpy().astype(np.float64)
    if problem.task == "binary":
        return labels.to_numpy().astype(np.int64)
    return pa.compute.index_in(labels, pa.array(problem.classes, pa.string())).to_numpy().astype(np.int64)
