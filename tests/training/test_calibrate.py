from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import Calibration
from pipelines.errors import DataError
from pipelines.training.calibrate import Calibrator, Platt, fit_calibrator, logit, sigmoid

METHODS = ["platt", "isotonic"]


def calibrator(method: str, scores: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> Calibrator:
    rule = Calibration.model_validate({"method": method})
    return fit_calibrator(rule, scores, y, np.ones(len(y)) if weight is None else weight)


def overconfident(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores whose logits are three times too large, labels, and the true chances."""
    random = np.random.default_rng(seed)
    margin = random.normal(-0.5, 1, count)
    chance = sigmoid(margin)
    return sigmoid(3 * margin), (random.random(count) < chance).astype(int), chance


@pytest.mark.parametrize("method", METHODS)
def test_scores_come_to_mean_what_they_say(method: str) -> None:
    scores, y, _ = overconfident(20_000, 1)
    fresh, _, chance = overconfident(5_000, 2)
    before, after = (
        np.abs(fresh - chance).mean(),
        np.abs(calibrator(method, scores, y).transform(fresh) - chance).mean(),
    )
    assert before > 0.1 and after < 0.02


def test_platt_finds_the_slope_and_leaves_right_scores_alone() -> None:
    scores, y, chance = overconfident(100_000, 3)
    found = calibrator("platt", scores, y).maps[0]
    assert isinstance(found, Platt) and found.slope_ == pytest.approx(1 / 3, rel=0.03)
    right = calibrator("platt", chance, y).maps[0]
    assert isinstance(right, Platt) and right.slope_ == pytest.approx(1, rel=0.03) and abs(right.intercept_) < 0.03


@pytest.mark.parametrize("method", METHODS)
def test_weights_count_and_rows_without_weight_do_not(method: str) -> None:
    scores, y, _ = overconfident(400, 4)
    twice = np.where(np.arange(400) < 200, 2.0, 0.0)
    repeated = np.concatenate([np.arange(200), np.arange(200)])
    one = calibrator(method, scores, y, twice).transform(scores)
    other = calibrator(method, scores[repeated], y[repeated]).transform(scores)
    assert one == pytest.approx(other, abs=0.01)
    assert calibrator(method, scores[:200], y[:200], np.full(200, 50.0)).transform(scores) == pytest.approx(
        calibrator(method, scores[:200], y[:200]).transform(scores), abs=1e-6
    ), "weights that are all fifty make no row surer"


@pytest.mark.parametrize("method", METHODS)
def test_scores_that_say_the_opposite_are_levelled_not_turned_round(method: str) -> None:
    scores, y, _ = overconfident(5_000, 5)
    found = calibrator(method, 1 - scores, y).transform(np.linspace(0, 1, 11))
    assert (np.diff(found) >= 0).all()
    assert found[5] == pytest.approx(y.mean(), abs=0.05)


@settings(max_examples=40)
@given(st.data(), st.sampled_from(METHODS), st.integers(2, 40))
def test_any_scores_stay_in_their_order_and_within_0_and_1(data: st.DataObject, method: str, count: int) -> None:
    chance = st.floats(0, 1)
    scores = np.array(data.draw(st.lists(chance, min_size=count, max_size=count)))
    y = np.array([0, 1, *data.draw(st.lists(st.integers(0, 1), min_size=count - 2, max_size=count - 2))])
    weight = np.array(data.draw(st.lists(st.floats(0.01, 100), min_size=count, max_size=count)))
    asked = np.sort(np.array([0.0, *data.draw(st.lists(chance, min_size=1, max_size=20)), 1.0]))
    found = calibrator(method, scores, y, weight).transform(asked)
    assert (found > 0).all() and (found < 1).all() and (np.diff(found) >= -1e-12).all()


def test_a_slope_that_two_close_scores_make_ends_in_no_certainty() -> None:
    close = calibrator("platt", np.array([0.0, 1.2e-7]), np.array([0, 1])).transform(np.array([0.0, 0.5, 1.0]))
    assert 0 < close[0] < close[1] <= close[2] < 1


@pytest.mark.parametrize("method", METHODS)
def test_several_classes_are_calibrated_each_against_the_rest(method: str) -> None:
    random = np.random.default_rng(6)
    chance = random.dirichlet([1, 1, 1], 20_000)
    y = (random.random(20_000)[:, None] > np.cumsum(chance, axis=1)).sum(axis=1)
    sharp = chance**3 / (chance**3).sum(axis=1, keepdims=True)
    found = calibrator(method, sharp, y).transform(sharp)
    assert found.sum(axis=1) == pytest.approx(1)
    assert np.abs(found - chance).mean() < 0.6 * np.abs(sharp - chance).mean()


def test_a_class_without_rows_keeps_its_score_before_all_sum_to_1() -> None:
    scores = np.tile([[0.5, 0.3, 0.2], [0.2, 0.6, 0.2]], (50, 1))
    fitted = calibrator("isotonic", scores, np.tile([0, 1], 50))
    assert fitted.maps[2] is None
    found = fitted.transform(scores)
    assert found.sum(axis=1) == pytest.approx(1) and (found[:, 2] > 0.1).all()


@pytest.mark.parametrize("y", [[0, 0, 0], [1, 1, 1]])
def test_one_class_only_is_refused_with_a_cure(y: list[int]) -> None:
    with pytest.raises(DataError, match=r"one class only[\s\S]*calibration.partitions"):
        calibrator("platt", np.array([0.1, 0.2, 0.3]), np.array(y))
    with pytest.raises(DataError, match="no weight"):
        calibrator("platt", np.array([0.1, 0.2]), np.array([0, 1]), np.zeros(2))


def test_logits_are_finite_and_turned_back() -> None:
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
    inside = np.array([1e-6, 0.25, 0.999])
    assert sigmoid(logit(inside)) == pytest.approx(inside)
