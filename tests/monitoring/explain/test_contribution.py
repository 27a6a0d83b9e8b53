"""Parts of a shift of scores, of models whose answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.monitoring.explain.contribution import pooled, score_shift, slots
from pipelines.problem import Problem
from pipelines.profiles.column import ColumnProfile
from pipelines.profiles.profile import Reference, profile, reference
from pipelines.training.fit import fit
from pipelines.training.model import Model
from tests.conftest import ToyProblem
from tests.profiles.conftest import binary

CANDIDATES: dict[str, Any] = {
    "prior": {"model": "prior"},
    "logistic": {"model": "logistic"},
    "xgboost": {"model": "xgboost", "parameters": {"n_estimators": 30, "max_depth": 3, "learning_rate": 0.3}},
    "stumps": {
        "model": "xgboost",
        "parameters": {"n_estimators": 40, "max_depth": 1, "learning_rate": 0.3, "max_bin": 8},
    },
    "forest": {"model": "forest", "parameters": {"n_estimators": 10, "max_depth": 4}},
}
COUNT = 1500


def kettles(seed: int, top: float = 0.5, litres: float = 2.0, missing: float = 0.0) -> pa.Table:
    """The shelf helps, litres help more, counts are noise."""
    random = np.random.default_rng(seed)
    is_top, amount = random.random(COUNT) < top, random.normal(litres, 1, COUNT).round()
    return pa.table(
        {
            "shelf": np.where(is_top, "top", "bottom"),
            "litres": pa.array(amount, mask=random.random(COUNT) < missing),
            "shelf_rate_3d": np.full(COUNT, 0.5),
            "shelf_count_2d": random.integers(0, 3, COUNT),
            "label": (random.random(COUNT) < 1 / (1 + np.exp(2 - amount - 1.5 * is_top))).astype(np.int64),
            "weight": np.ones(COUNT),
            "partition": np.where(np.arange(COUNT) < COUNT // 2, "2024-01-01", "2024-01-02"),
        }
    )


def compared(toy: ToyProblem, name: str, now: pa.Table, **changes: Any) -> tuple[Problem, Model, Any]:
    """What carries the shift from rows like those learnt from to `now`."""
    problem = toy(**{"training.candidates": CANDIDATES, "training.threads": 1, **changes})
    before = kettles(1)
    model = fit(problem, name, before, before)
    features = before.select(problem.feature_names)
    known = reference(features, before["label"].to_numpy(), binary(model.scores(before), before["label"].to_numpy()))
    sides = [scored(model, known, rows) for rows in (before, now)]
    rows = pa.concat_tables(
        [side.select(problem.feature_names) for side in (before, now)], promote_options="permissive"
    )
    found = score_shift(known, *sides, model, rows, np.arange(len(rows)) >= before.num_rows, seed=0)
    return problem, model, found


def scored(model: Model, known: Reference, rows: pa.Table) -> dict[str, ColumnProfile]:
    with_scores = rows.append_column("score", pa.array(model.scores(rows)))
    return profile(with_scores.to_batches(), known)[0]


def test_parts_of_an_additive_model_are_exact(toy: ToyProblem) -> None:
    """Where each bin holds one value and no features act together, nothing is left over."""
    now = kettles(2, top=0.9)
    _, model, (shift, parts) = compared(toy, "logistic", now)
    assert shift.method == "linear"
    before = kettles(1)
    coefficient = {}
    for value in ("top", "bottom"):
        rows = before.set_column(0, "shelf", pa.array([value] * COUNT))
        scores = model.scores(rows)
        coefficient[value] = float(np.mean(np.log(scores / (1 - scores))))
    moved = np.mean(np.asarray(now["shelf"]) == "top") - np.mean(np.asarray(before["shelf"]) == "top")
    shelf = next(one for one in parts if one.feature == "shelf")
    assert shelf.margin == pytest.approx(moved * (coefficient["top"] - coefficient["bottom"]), rel=1e-6)
    assert parts[0].feature == "shelf" and shelf.category in ("top", "bottom")
    assert shift.remainder_margin == pytest.approx(0, abs=2e-3), "litres are rounded to whole numbers: one to a bin"


@pytest.mark.parametrize("name", ["logistic", "xgboost", "stumps", "forest"])
def test_parts_and_remainder_add_up(toy: ToyProblem, name: str) -> None:
    _, _, (shift, parts) = compared(toy, name, kettles(3, top=0.6, litres=3.5))
    assert parts[0].feature == "litres" and parts[0].score > 0 and parts[0].share > 0.5
    assert parts[0].after - parts[0].before == pytest.approx(1.5, abs=0.2)
    total = sum(one.score for one in parts) + shift.remainder_score
    assert total == pytest.approx(shift.after - shift.before)
    assert sum(one.margin for one in parts) + shift.remainder_margin == pytest.approx(shift.margin)
    assert [abs(one.margin) for one in parts] == sorted((abs(one.margin) for one in parts), reverse=True)


def test_what_pulls_the_other_way_is_negative(toy: ToyProblem) -> None:
    _, _, (_, parts) = compared(toy, "stumps", kettles(4, top=0.1, litres=3))
    share = {one.feature: one.share for one in parts}
    assert share["litres"] > 0 > share["shelf"]


def test_values_that_went_missing_are_told(toy: ToyProblem) -> None:
    _, _, (_, parts) = compared(toy, "xgboost", kettles(5, missing=0.6))
    litres = next(one for one in parts if one.feature == "litres")
    assert litres.missing_before == 0 and litres.missing_after == pytest.approx(0.6, abs=0.05)
    assert parts[0].feature == "litres"


def test_a_model_that_looks_at_nothing_has_no_parts(toy: ToyProblem) -> None:
    _, _, (shift, parts) = compared(toy, "prior", kettles(6, litres=4))
    assert shift.method == "none" and shift.slope == 0
    assert all(one.margin == 0 and one.share is None for one in parts)


def test_of_several_classes_the_one_that_moved_most(toy: ToyProblem) -> None:
    problem = toy(
        **{
            "task": "multiclass",
            "labels.classes": ["a", "b", "c"],
            "features.history": {},
            "training.candidates": CANDIDATES,
            "training.threads": 1,
            "gate.limits": {"log_loss": {"max": 9}},
            "gate.gain_over_baselines": {"log_loss": 0},
        }
    )

    def classed(rows: pa.Table) -> pa.Table:
        classes = np.digitize(rows["litres"].to_numpy(), [1.5, 3.5])
        return rows.set_column(rows.schema.get_field_index("label"), "label", pa.array(classes))

    before, now = classed(kettles(1)), classed(kettles(2, litres=4))
    model = fit(problem, "xgboost", before, before)
    names = problem.feature_names
    known = reference(before.select(names), before["label"].to_numpy(), binary(np.linspace(0, 1, 50), np.ones(50)))
    shown = [rows.append_column("score", pa.array(model.scores(rows).max(axis=1))) for rows in (before, now)]
    sides = [profile(rows.to_batches(), known)[0] for rows in shown]
    rows = pa.concat_tables([before.select(names), now.select(names)])
    found = score_shift(known, *sides, model, rows, np.arange(len(rows)) >= COUNT, seed=0)
    assert found is not None
    shift, parts = found
    assert shift.label == "c" and shift.after > shift.before and parts[0].feature == "litres"
    assert sum(one.score for one in parts) + shift.remainder_score == pytest.approx(shift.after - shift.before)


def test_nothing_to_compare(toy: ToyProblem) -> None:
    problem, model, _ = compared(toy, "logistic", kettles(2))
    rows = kettles(1)
    known = reference(rows.select(problem.feature_names), rows["label"].to_numpy(), binary(np.ones(9), np.ones(9)))
    side = scored(model, known, rows)
    assert score_shift(known, side, side, model, rows, np.ones(COUNT, bool), seed=0) is None
    assert score_shift(known, side, side, model, rows.slice(0, 0), np.zeros(0, bool), seed=0) is None
    assert pooled([], known)["score"].rows == 0


def test_places_are_those_that_profiles_count_in(trained: Reference, training: pa.Table) -> None:
    strange = pa.table(
        {
            "temp": [None, np.inf, np.nan, 1e9, -1e9],
            "seats": [None, 1, 2, 99, 3],
            "carrier": ["AA", "ZZ", None, "UA", "B6"],
            "is_holiday": [True, None, False, True, True],
            "score": np.linspace(0, 1, 5),
        }
    )
    for rows in (training.append_column("score", pa.array(np.linspace(0, 1, len(training)))), strange):
        found = profile(rows.to_batches(), trained)[0]
        for name, column in trained.columns.items():
            counted = np.bincount(slots(rows[name], column.bins), minlength=column.bins.slots)
            assert counted.tolist() == list(found[name].counts), name
