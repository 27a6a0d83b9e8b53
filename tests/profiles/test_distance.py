"""Distances have the properties that alarm levels lean on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency, wasserstein_distance

from pipelines.profiles.column import Categories, Numbers, number_bins, profile_values
from pipelines.profiles.distance import (
    chi_square,
    cramers_v,
    deciding,
    jensen_shannon,
    kolmogorov_smirnov,
    psi,
    wasserstein,
)

HISTOGRAMS = st.integers(1, 12).flatmap(
    lambda bins: st.tuples(*[st.lists(st.integers(0, 10**9), min_size=bins, max_size=bins)] * 2)
)


@given(HISTOGRAMS)
def test_psi_is_symmetric_finite_and_0_for_equals(pair: tuple[list[int], list[int]]) -> None:
    one, other = pair
    assert psi(one, other) == pytest.approx(psi(other, one))
    assert 0 <= psi(one, other) < 100
    assert psi(one, one) == 0


@given(HISTOGRAMS.filter(lambda pair: sum(pair[0]) > 0 and sum(pair[1]) > 0))
def test_jensen_shannon_equals_scipy(pair: tuple[list[int], list[int]]) -> None:
    # the root makes a distance of 1e-8 out of the last bit of a sum
    assert jensen_shannon(*pair) == pytest.approx(np.nan_to_num(jensenshannon(*pair, base=2)), abs=1e-7)


def test_psi_of_a_worked_example() -> None:
    expected = sum((p - q) * np.log(p / q) for p, q in [(0.2, 0.4), (0.3, 0.3), (0.5, 0.3)])
    assert psi([2_000_000, 3_000_000, 5_000_000], [4_000_000, 3_000_000, 3_000_000]) == pytest.approx(
        expected, rel=1e-5
    )


def test_a_bin_that_is_empty_on_both_sides_says_nothing() -> None:
    assert psi([10, 20, 0, 0], [3, 7, 0, 0]) == psi([10, 20], [3, 7])


@pytest.mark.parametrize("distance", [psi, jensen_shannon])
def test_no_rows_prove_nothing(distance: object) -> None:
    assert callable(distance) and distance([1, 2], [0, 0]) == 0


# Values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.5, 1.0), (3.0, 1.0), (0.0, 2.0), (-5.0, 0.5)])
def test_wasserstein_from_a_histogram_is_that_of_the_rows(shift: float, scale: float) -> None:
    random = np.random.default_rng(0)
    one, other = random.normal(50, 10, 5_000), random.normal(50 + 10 * shift, 10 * scale, 5_000)
    bins = number_bins(one, 10)
    counts = [profile_values(values, bins, 5_000).counts for values in (one, other)]
    expected = wasserstein_distance(one, other) / 10
    assert wasserstein(bins, *counts) == pytest.approx(expected, rel=0.1, abs=0.05)


def counted(values: list[float], bins: Numbers) -> tuple[int, ...]:
    return profile_values(np.array(values), bins, len(values)).counts


VALUES = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30)


@given(VALUES, VALUES, VALUES)
def test_wasserstein_is_a_metric_and_linear_in_the_scale(
    one: list[float], two: list[float], three: list[float]
) -> None:
    bins = number_bins(np.linspace(-10, 10, 50), 10)
    a, b, c = (counted(values, bins) for values in (one, two, three))
    assert wasserstein(bins, a, a) == 0
    assert wasserstein(bins, a, b) == pytest.approx(wasserstein(bins, b, a))
    assert wasserstein(bins, a, c) <= wasserstein(bins, a, b) + wasserstein(bins, b, c) + 1e-9
    wider = bins.model_copy(update={"scale": bins.scale * 2})
    assert wasserstein(wider, a, b) == pytest.approx(wasserstein(bins, a, b) / 2)
    assert 0 <= kolmogorov_smirnov(bins, a, b) <= 1


@given(HISTOGRAMS.filter(lambda pair: sum(pair[0]) > 0 and sum(pair[1]) > 0))
def test_chi_square_equals_scipy(pair: tuple[list[int], list[int]]) -> None:
    table = np.array(pair)[:, np.any(pair, axis=0)]
    expected = chi2_contingency(table, correction=False).statistic if table.shape[1] > 1 else 0
    assert chi_square(*pair) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert 0 <= cramers_v(*pair) <= 1


def test_cramers_v_is_a_strength_whatever_the_number_of_rows() -> None:
    assert cramers_v([10, 20], [20, 10]) == pytest.approx(cramers_v([1_000, 2_000], [20, 10])) == pytest.approx(1 / 3)


@pytest.mark.parametrize("bins", [Numbers(edges=(), scale=0), Numbers(edges=(1.0,), scale=0)])
def test_a_number_without_a_spread_has_no_distance_but_a_share(bins: Numbers) -> None:
    counts = np.eye(bins.slots)[0]
    assert wasserstein(bins, counts, counts) == 0 and kolmogorov_smirnov(bins, counts, counts) == 0
    assert list(deciding(bins, counts, counts)) == ["js"]


@pytest.mark.parametrize("distance", [psi, jensen_shannon, chi_square, cramers_v])
def test_many_histograms_at_once_are_each_by_itself(distance: Callable[..., Any]) -> None:
    many = np.random.default_rng(0).integers(0, 9, (4, 6))
    pairs = distance(many[:, None], many[None])
    for one in range(4):
        for other in range(4):
            assert pairs[one, other] == pytest.approx(distance(many[one], many[other]))


def test_what_is_not_known_is_no_distance_of_nothing() -> None:
    bins = Categories(kept=("a",), known=("a",))
    assert np.isnan(deciding(bins, [0, 0, 0, 0], [1, 0, 0, 0])["js"])
    numbers = number_bins(np.arange(10.0), 4)
    empty, full = np.zeros(numbers.slots), np.ones(numbers.slots)
    empty[-1] = 5  # rows, but none has a value
    found = deciding(numbers, empty, full)
    assert np.isnan(found["wasserstein"]) and found["js"] > 0
