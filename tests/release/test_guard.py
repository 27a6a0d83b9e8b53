"""How far two versions are apart on the same rows, without labels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from pipelines.release.guard import Gap, gaps, unseen_gaps
from tests.conftest import ToyProblem

ROWS = 4_000
MULTICLASS: dict[str, object] = {"task": "multiclass", "labels.classes": ["a", "b", "c"], "features.history": {}}
MULTICLASS |= {f"gate.{name}": {"log_loss": 0.0} for name in ("gain_over_baselines", "gain_over_champion")}
MULTICLASS["gate.limits"] = {"log_loss": {"max": 1.0}}
REGRESSION: dict[str, object] = {"task": "regression"}
REGRESSION |= {f"gate.{name}": {"rmse": 0.0} for name in ("gain_over_baselines", "gain_over_champion")}
REGRESSION["gate.limits"] = {"rmse": {"max": 1.0}}
BINARY = (["0", "1"], ["0", "1"])


def side(scores: np.ndarray, decisions: list[str | None] | None = None, probabilities: object = None) -> ds.Dataset:
    """Rows in an order of their own: who compares them goes by the key."""
    count = len(scores)
    if decisions is None:
        decisions = [str(int(score >= 0.5)) for score in scores]
    rows = pa.table(
        {
            "kettle_id": [f"{number}" for number in range(count)],
            "score": pa.array(scores, pa.float64()),
            "decision": pa.array(decisions, pa.string()),
            "probabilities": pa.array(probabilities or [None] * count, pa.list_(pa.float64())),
        }
    )
    return ds.dataset(rows.take(np.random.default_rng(count).permutation(count)))


def by_measure(apart: list[Gap]) -> dict[str, Gap]:
    return {gap.measure: gap for gap in apart}


def test_of_two_classes_it_is_the_mean_score_and_the_share_decided_for_one(toy: ToyProblem) -> None:
    scores = np.linspace(0, 1, ROWS)
    apart = by_measure(gaps(toy(), BINARY, side(scores), side(np.minimum(scores + 0.1, 1.0))))
    mean, share = apart["mean score"], apart["share of rows decided 1"]
    assert (mean.champion, mean.challenger) == pytest.approx((0.5, 0.595), abs=1e-3)
    assert share.difference == pytest.approx(0.1, abs=1e-3)
    assert share.error == pytest.approx(np.sqrt(0.1 * 0.9 / ROWS), rel=0.01)
    assert mean.is_beyond(0.05) and not mean.is_beyond(0.1)
    assert not by_measure(gaps(toy(), BINARY, side(scores), side(scores)))["mean score"].is_beyond(1e-9)


def test_of_several_classes_it_is_each_whatever_their_order_is(toy: ToyProblem) -> None:
    problem = toy(**MULTICLASS)
    classes = (["a", "b", "c"], ["c", "b", "a"])
    champion = side(np.full(ROWS, 0.7), ["a"] * ROWS, [[0.7, 0.2, 0.1]] * ROWS)
    same = side(np.full(ROWS, 0.7), ["a"] * ROWS, [[0.1, 0.2, 0.7]] * ROWS)
    turned = side(np.full(ROWS, 0.7), ["c"] * ROWS, [[0.7, 0.2, 0.1]] * ROWS)
    assert all(gap.difference == pytest.approx(0) for gap in gaps(problem, classes, champion, same))
    apart = by_measure(gaps(problem, classes, champion, turned))
    assert apart["mean probability of a"].difference == pytest.approx(-0.6)
    assert apart["share of rows decided c"].difference == 1.0
    one_less = by_measure(
        gaps(
            problem,
            (["a", "b", "c"], ["a", "b"]),
            champion,
            side(np.full(ROWS, 0.7), ["a"] * ROWS, [[0.7, 0.3]] * ROWS),
        )
    )
    assert one_less["mean probability of c"].difference == pytest.approx(-0.1)


def test_of_a_regression_it_is_in_standard_deviations_of_the_champions_scores(toy: ToyProblem) -> None:
    problem = toy(**REGRESSION)
    scores = np.random.default_rng(1).normal(300, 20, ROWS)
    none: list[str | None] = [None] * ROWS
    (gap,) = gaps(problem, ([], []), side(scores, none), side(scores - 10, none))
    assert gap.difference == pytest.approx(-0.5, rel=0.05)
    (constant,) = gaps(problem, ([], []), side(np.full(ROWS, 300.0), none), side(scores, none))
    assert abs(constant.difference) < 0.1, "a champion that always says the same has no spread: the challenger's counts"


def test_a_few_rows_prove_nothing(toy: ToyProblem) -> None:
    scores = np.linspace(0.01, 0.99, 12)
    other = scores.copy()
    other[5] = 0.9  # a row of twelve, decided otherwise
    share = by_measure(gaps(toy(), BINARY, side(scores), side(other)))["share of rows decided 1"]
    assert share.difference == pytest.approx(1 / 12) and not share.is_beyond(0.05)
    assert gaps(toy(), BINARY, side(scores[:1]), side(other[:1])) == []
    assert gaps(toy(), BINARY, side(scores[:0]), side(other[:0])) == []


def test_categories_that_the_champion_knows_and_the_challenger_does_not() -> None:
    (gap,) = unseen_gaps({"carrier", "dest"}, {"carrier": 10, "dest": 500}, {"carrier": 400, "dest": 500}, 1_000)
    assert gap.measure == "share of rows with an unknown carrier"
    assert gap.difference == pytest.approx(0.39) and gap.is_beyond(0.05)
    assert unseen_gaps({"carrier"}, {}, {"dest": 400}, 1_000) == [], "the champion does not know this column at all"
    assert unseen_gaps({"carrier"}, {}, {}, 0) == []
