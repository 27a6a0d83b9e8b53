"""Distances have the properties that the policy's limits lean on."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from pipelines.evaluation.scored import Scored
from pipelines.monitoring.detect import detect, jensen_shannon, performance, psi
from pipelines.monitoring.profile import Reference, profile
from tests.monitoring.conftest import binary

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


def test_the_same_distribution_is_quiet_and_another_is_not(trained: Reference, rows: Callable[..., pa.Table]) -> None:
    table = rows(2_000)
    found = detect(trained, profile(table.to_batches(), trained))
    assert found["rows"] == 2_000
    assert list(found["columns"]) == ["temp", "seats", "carrier", "is_holiday"]
    assert all(column["psi"] < 0.03 for column in found["columns"].values())
    assert found["prediction"]["psi"] < 0.05
    assert found["prediction"]["mean"] == pytest.approx(0.5, abs=0.03)
    assert found["prediction"]["reference_mean"] == trained.mean_score

    warmer = table.set_column(0, "temp", pa.array(np.full(2_000, 90.0))).set_column(
        2, "carrier", pa.array(["ZZ"] * 2_000)
    )
    found = detect(trained, profile(warmer.to_batches(), trained))
    assert found["columns"]["temp"]["psi"] > 1 and found["columns"]["temp"]["null_share"] == 0
    assert found["columns"]["carrier"] == {
        "psi": pytest.approx(found["columns"]["carrier"]["psi"]), "js": 1.0, "null_share": 0.0, "unseen_share": 1.0,
    }  # fmt: skip


def test_nothing_detected_of_no_rows_is_json(trained: Reference) -> None:
    found = json.loads(json.dumps(detect(trained, profile([], trained)), allow_nan=False))
    assert found["rows"] == 0 and found["prediction"]["mean"] is None and found["prediction"]["psi"] == 0


def test_performance() -> None:
    found = performance(binary(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])))
    assert found["rows"] == 4 and found["auc"] == 0.75
    assert (
        found["calibration_gap"]
        == pytest.approx(found["mean_score"] - found["positive_rate"])
        == pytest.approx(-0.0875)
    )
    assert found.keys() >= {"log_loss", "brier", "average_precision"}


@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1]])
def test_undefined_performance_is_json(labels: list[int]) -> None:
    found = performance(binary(np.full(len(labels), 0.5), np.array(labels)))
    assert json.loads(json.dumps(found, allow_nan=False))["auc"] is None


def test_performance_of_several_classes() -> None:
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.1, 0.8, 0.1], [0.5, 0.25, 0.25]])
    found = performance(Scored("multiclass", ("a", "b", "c"), np.array([0, 2, 1, 2]), probabilities, np.ones(4)))
    assert found["rows"] == 4 and found["accuracy"] == 0.75 and found["auc"] is not None
    assert found["class_rates"] == {"a": 0.25, "b": 0.25, "c": 0.5}
    assert found["mean_score"] == pytest.approx(0.6)
    assert found["positive_rate"] is None and found["calibration_gap"] is None
    json.dumps(found, allow_nan=False)


def test_performance_of_numbers() -> None:
    found = performance(Scored("regression", (), np.array([1.0, 2, 6]), np.array([2.0, 3, 4]), np.ones(3)))
    assert found["bias"] == pytest.approx(0) and found["mae"] == pytest.approx(4 / 3)
    assert found["mean_label"] == found["mean_score"] == 3
    assert (found["auc"], found["positive_rate"], found["calibration_gap"]) == (None, None, None)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("test", [
    Scored("multiclass", ("a", "b", "c"), np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros(0)),
    Scored("regression", (), np.zeros(0), np.zeros(0), np.zeros(0)),
])  # fmt: skip
def test_undefined_performance_of_other_tasks_is_json(test: Scored) -> None:
    found = json.loads(json.dumps(performance(test), allow_nan=False))
    assert found["rows"] == 0 and found["mean_score"] is None
