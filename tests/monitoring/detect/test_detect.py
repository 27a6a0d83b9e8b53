"""What is detected is told in numbers, of whatever rows there are."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines.metrics.scored import Scored
from pipelines.monitoring.detect.detect import detect, performance
from pipelines.profiles.profile import Reference, profile
from tests.profiles.conftest import binary


def test_the_same_distribution_is_quiet_and_another_is_not(trained: Reference, rows: Callable[..., pa.Table]) -> None:
    table = rows(2_000)
    found = detect(trained, profile(table.to_batches(), trained)[0])
    assert found.rows == 2_000
    assert list(found.columns) == ["temp", "seats", "carrier", "is_holiday"]
    assert all(column.psi < 0.03 for column in found.columns.values())
    assert found.prediction.psi < 0.05
    assert found.prediction.mean == pytest.approx(0.5, abs=0.03)
    assert found.prediction.reference_mean == trained.mean_score

    warmer = table.set_column(0, "temp", pa.array(np.full(2_000, 90.0))).set_column(
        2, "carrier", pa.array(["ZZ"] * 2_000)
    )
    found = detect(trained, profile(warmer.to_batches(), trained)[0])
    assert found.columns["temp"].psi > 1 and found.columns["temp"].null_share == 0
    assert 3 < found.columns["temp"].wasserstein < 6
    assert found.columns["temp"].std == pytest.approx(0, abs=1e-9)
    assert found.columns["temp"].usual_std == pytest.approx(10, rel=0.1)
    carrier = found.columns["carrier"]
    assert carrier.js == pytest.approx(1) == pytest.approx(carrier.cramers_v)
    assert (carrier.null_share, carrier.unseen_share, carrier.new) == (0.0, 1.0, {"ZZ": 2_000})
    assert carrier.usual_null_share == pytest.approx(0.1, abs=0.03)


def test_numerical_trouble_and_saturation_are_counted(trained: Reference, rows: Callable[..., pa.Table]) -> None:
    table = rows(100)
    table = table.set_column(1, "seats", pa.array([np.inf, np.nan] * 10 + [2.0] * 80))
    table = table.set_column(4, "score", pa.array([0.0] * 30 + [1.0] * 30 + [0.5] * 40))
    found = detect(trained, profile(table.to_batches(), trained)[0])
    assert found.columns["seats"].non_finite_share == 0.2 and found.columns["seats"].null_share == 0
    assert found.prediction.edge_share == 0.6 and found.prediction.usual_edge_share < 0.01
    assert "edge_share" not in found.columns["temp"].model_dump()


def test_the_same_rows_again_are_named(trained: Reference, rows: Callable[..., pa.Table]) -> None:
    parts = {f"w{seed}": profile(rows(500, seed=seed).to_batches(), trained)[0] for seed in range(3)}
    again = profile(rows(500, seed=1).to_batches(), trained)[0]
    assert detect(trained, again, parts).same_as == "w1"
    assert detect(trained, again, parts, trailing_partitions=1).same_as is None
    assert detect(trained, profile(rows(500, seed=9).to_batches(), trained)[0], parts).same_as is None


@pytest.mark.parametrize(("unit", "name"), [("kg", "pounds and kilograms"), ("degF", None), ("euro", None), ("", None)])
def test_a_feature_that_moved_is_in_another_unit_if_one_of_that_kind_is_declared(
    trained: Reference, rows: Callable[..., pa.Table], unit: str, name: str | None
) -> None:
    parts = {f"w{seed}": profile(rows(500, seed=seed).to_batches(), trained)[0] for seed in range(5)}
    lighter = rows(500, seed=9)
    lighter = lighter.set_column(0, "temp", pc.multiply(pc.add(lighter["temp"], 4.5), 0.45359237))
    found = detect(trained, profile(lighter.to_batches(), trained)[0], parts, units={"temp": unit})
    assert found.columns["temp"].other_unit == name


def test_nothing_detected_of_no_rows_is_json(trained: Reference) -> None:
    found = json.loads(json.dumps(detect(trained, profile([], trained)[0]).model_dump(mode="json"), allow_nan=False))
    assert found["rows"] == 0 and found["prediction"]["mean"] is None and found["prediction"]["psi"] == 0


def test_performance() -> None:
    found = performance(binary(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])))
    assert found.rows == 4 and found.auc == 0.75
    assert found.calibration_gap == pytest.approx(found.mean_score - found.positive_rate) == pytest.approx(-0.0875)
    assert found.measured().keys() >= {"log_loss", "brier", "average_precision"}


@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1]])
def test_undefined_performance_is_json(labels: list[int]) -> None:
    found = performance(binary(np.full(len(labels), 0.5), np.array(labels)))
    assert json.loads(json.dumps(found.model_dump(mode="json"), allow_nan=False))["auc"] is None


def test_performance_of_several_classes() -> None:
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [0.1, 0.8, 0.1], [0.5, 0.25, 0.25]])
    found = performance(Scored("multiclass", ("a", "b", "c"), np.array([0, 2, 1, 2]), probabilities, np.ones(4)))
    assert found.rows == 4 and found.value("accuracy") == 0.75 and found.auc is not None
    assert found.class_rates == {"a": 0.25, "b": 0.25, "c": 0.5}
    assert found.mean_score == pytest.approx(0.6)
    assert found.positive_rate is None and found.calibration_gap is None
    json.dumps(found.model_dump(mode="json"), allow_nan=False)


def test_performance_of_numbers() -> None:
    found = performance(Scored("regression", (), np.array([1.0, 2, 6]), np.array([2.0, 3, 4]), np.ones(3)))
    assert found.value("bias") == pytest.approx(0) and found.value("mae") == pytest.approx(4 / 3)
    assert found.mean_label == found.mean_score == 3
    assert (found.auc, found.positive_rate, found.calibration_gap) == (None, None, None)
    json.dumps(found.model_dump(mode="json"), allow_nan=False)


@pytest.mark.parametrize(
    "test",
    [
        Scored("multiclass", ("a", "b", "c"), np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros(0)),
        Scored("regression", (), np.zeros(0), np.zeros(0), np.zeros(0)),
    ],
)
def test_undefined_performance_of_other_tasks_is_json(test: Scored) -> None:
    found = json.loads(json.dumps(performance(test).model_dump(mode="json"), allow_nan=False))
    assert found["rows"] == 0 and found["mean_score"] is None
