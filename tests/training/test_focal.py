from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.training.focal import SMALLEST, curvature, derivatives, first_score, focal_objective

MARGINS = st.floats(-12, 12)
GAMMAS = st.sampled_from([0.0, 0.3, 1.0, 2.0, 5.0])
ALPHAS = st.sampled_from([None, 0.1, 0.5, 0.9])
LABELS = st.sampled_from([0, 1])


def _loss(margin: float, y: int, gamma: float, alpha: float | None) -> float:
    """As the paper writes it."""
    z = np.longdouble(margin if y == 1 else -margin)
    p = 1 / (1 + np.exp(-z))
    a = 1.0 if alpha is None else (alpha if y == 1 else 1 - alpha)
    return -a * (1 / (1 + np.exp(z))) ** np.longdouble(gamma) * np.log(p)


@given(margin=MARGINS, y=LABELS, gamma=GAMMAS, alpha=ALPHAS)
@settings(max_examples=200)
def test_derivatives_are_those_of_the_loss(margin: float, y: int, gamma: float, alpha: float | None) -> None:
    first, second = derivatives(np.array([margin]), np.array([y]), gamma, alpha)
    step = np.longdouble(1e-5)
    low, mid, high = (_loss(margin + shift, y, gamma, alpha) for shift in (-step, np.longdouble(0), step))
    assert first[0] == pytest.approx(float((high - low) / (2 * step)), rel=1e-5, abs=1e-9)
    assert second[0] == pytest.approx(float((high - 2 * mid + low) / step**2), rel=1e-3, abs=1e-6)


@given(margin=st.floats(-500, 500), y=LABELS, gamma=GAMMAS, alpha=ALPHAS, weight=st.floats(0.01, 100))
@settings(max_examples=100)
def test_what_xgboost_gets_is_finite_positive_and_never_below_the_exact_hessian(
    margin: float, y: int, gamma: float, alpha: float | None, weight: float
) -> None:
    labels, margins = np.array([y]), np.array([margin], dtype=np.float32)
    first, second = focal_objective(labels, np.array([weight]), gamma, alpha)(margins, None)
    exact_first, exact_second = derivatives(margins.astype(np.float64), labels, gamma, alpha)
    assert np.isfinite(first).all() and np.isfinite(second).all()
    assert first[0] == pytest.approx(exact_first[0] * weight)
    assert second[0] >= max(exact_second[0], SMALLEST) * weight * (1 - 1e-12) > 0


def test_a_badly_wrong_row_has_a_negative_hessian_and_the_curvature_stands_in() -> None:
    margin, y = np.array([-4.0, 4.0, 0.0]), np.array([1, 1, 1])
    _, exact = derivatives(margin, y, 2.0, None)
    assert exact[0] < 0 < exact[2]
    _, used = focal_objective(y, np.ones(3), 2.0, None)(margin.astype(np.float32), None)
    assert used[0] == pytest.approx(curvature(margin[:1], y[:1], 2.0, None)[0])
    assert used[2] == pytest.approx(exact[2])


def test_gamma_takes_weight_from_what_is_right_already_and_alpha_weighs_the_classes() -> None:
    margin, y = np.array([3.0, -3.0]), np.array([1, 1])  # right, wrong
    easy = [abs(derivatives(margin, y, gamma, None)[0]) for gamma in (0.0, 2.0)]
    assert easy[1][0] / easy[0][0] < 0.01 < 0.5 < easy[1][1] / easy[0][1]
    both = derivatives(np.zeros(2), np.array([0, 1]), 2.0, 0.9)[0]
    assert -both[1] / both[0] == pytest.approx(9)


def test_the_first_score_is_the_weighted_share_and_inside_of_0_and_1() -> None:
    y = np.array([0, 0, 1])
    assert first_score(y, np.array([1.0, 1.0, 2.0]), None) == pytest.approx(0.5)
    assert first_score(y, np.ones(3), 0.9) == pytest.approx(0.9 / 1.1)
    assert 0 < first_score(np.zeros(3), np.ones(3), None) < first_score(np.ones(3), np.ones(3), None) < 1
