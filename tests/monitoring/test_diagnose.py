"""Each kind of shift is named for its own evidence and for nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipelines.config import Policy
from pipelines.monitoring.diagnose import Diagnosis, diagnose
from pipelines.monitoring.profile import Reference

POLICY = Policy(max_auc_drop=0.05, max_calibration_gap=0.05, max_label_rate_shift=0.1, min_labels=200, of_last=3)
QUIET = {"psi": 0.01, "js": 0.1, "null_share": 0.0, "unseen_share": 0.0}


def detected(rows: int = 1_000, prediction: dict[str, Any] | None = None, **columns: dict[str, Any]) -> dict[str, Any]:
    """What `detect` gives for a partition like the training data, but for what is named."""
    names = ("temp", "seats", "carrier", "is_holiday")
    return {
        "rows": rows,
        "columns": {name: QUIET | columns.get(name, {}) for name in names},
        "prediction": QUIET | {"mean": 0.5, "reference_mean": 0.5} | (prediction or {}),
    }


def realised(
    partition: str, auc: float | None = 1.0, score: float = 0.2, rate: float = 0.2, rows: int = 1_000
) -> dict[str, Any]:
    """What `performance` gives; the reference's AUC is 1 and its label rate .2."""
    return {"partition": partition, "rows": rows, "auc": auc, "mean_score": score, "positive_rate": rate,
            "calibration_gap": score - rate}  # fmt: skip


def kinds(trained: Reference, found: dict[str, Any], *labelled: dict[str, Any]) -> tuple[str, ...]:
    return diagnose(POLICY, trained, found, labelled).kinds


def test_nothing_moved(trained: Reference) -> None:
    diagnosis = diagnose(POLICY, trained, detected(), [realised("w1"), realised("w2")])
    assert diagnosis == Diagnosis(findings=(), labelled=("w1", "w2"), bad=())


def test_covariate_shift_names_the_columns_that_moved_most(trained: Reference) -> None:
    moved: dict[str, Any] = {
        name: {"psi": psi} for name, psi in [("temp", 3.2), ("seats", 0.3), ("carrier", 0.4), ("is_holiday", 0.5)]
    }
    (finding,) = diagnose(POLICY, trained, detected(**moved), []).findings
    assert finding.kind == "covariate shift"
    assert finding.evidence == "PSI 3.20 of temp, 0.50 of is_holiday, 0.40 of carrier and 1 more"
    assert finding.numbers == {"temp": 3.2, "seats": 0.3, "carrier": 0.4, "is_holiday": 0.5}


def test_prediction_drift(trained: Reference) -> None:
    (finding,) = diagnose(POLICY, trained, detected(prediction={"psi": 0.3, "mean": 0.7}), []).findings
    assert (finding.kind, finding.evidence) == (
        "prediction drift",
        "mean score 0.70 instead of 0.50 (PSI 0.30)",
    )


def test_label_shift(trained: Reference) -> None:
    (finding,) = diagnose(POLICY, trained, detected(), [realised("w1", score=0.34, rate=0.35)]).findings
    assert (finding.kind, finding.evidence) == ("label shift", "positive rate 0.35 in w1, 0.20 in training")


def test_performance_drop(trained: Reference) -> None:
    diagnosis = diagnose(POLICY, trained, detected(), [realised("w1"), realised("w2", auc=0.9)])
    assert diagnosis.kinds == ("performance drop",) and diagnosis.bad == ("w2",) and diagnosis.is_newest_bad
    assert diagnosis.findings[0].evidence == "AUC 0.90 in w2, 1.00 when it was tested"


@pytest.mark.parametrize(("score", "gap"), [(0.1, "-0.10"), (0.3, "+0.10")])
def test_calibration_drift_either_way(trained: Reference, score: float, gap: str) -> None:
    diagnosis = diagnose(POLICY, trained, detected(), [realised("w1", score=score)])
    assert diagnosis.kinds == ("calibration drift",) and diagnosis.bad == ("w1",)
    assert diagnosis.findings[0].evidence == f"mean score {score:.2f} but positive rate 0.20 in w1 (gap {gap})"


@pytest.mark.parametrize(
    ("column", "evidence"),
    [
        ({"null_share": 0.8, "psi": 5}, "80% of carrier is empty (training: 10%)"),
        ({"unseen_share": 1.0, "psi": 5}, "every carrier is new to the model"),
        ({"unseen_share": 0.9, "null_share": 0.1, "psi": 5}, "every carrier is new to the model"),
    ],
)  # fmt: skip
def test_data_fault(trained: Reference, column: dict[str, Any], evidence: str) -> None:
    diagnosis = diagnose(POLICY, trained, detected(carrier=column), [])
    assert diagnosis.kinds == ("data fault", "covariate shift")
    assert diagnosis.findings[0].evidence == evidence


@pytest.mark.parametrize(
    "column", [{"null_share": 0.55}, {"unseen_share": 0.9}, {"unseen_share": 0.01, "null_share": 0.5}]
)
def test_no_data_fault(trained: Reference, column: dict[str, Any]) -> None:
    assert kinds(trained, detected(carrier=column)) == ()


def test_scores_can_be_at_fault_too(trained: Reference) -> None:
    assert kinds(trained, detected(prediction={"null_share": 1.0, "psi": 5.0, "mean": None})) == ("data fault",)


def test_the_most_harmful_comes_first(trained: Reference) -> None:
    everything = detected(prediction={"psi": 1}, temp={"psi": 1}, carrier={"null_share": 1.0})
    assert kinds(trained, everything, realised("w1", auc=0.5, score=0.2, rate=0.5)) == (
        "data fault", "performance drop", "calibration drift", "label shift", "prediction drift", "covariate shift",
    )  # fmt: skip


def test_only_the_newest_labels_count(trained: Reference) -> None:
    history = [realised(f"w{week}", auc=0.5 if week in (1, 2, 4) else 1) for week in range(1, 6)]
    diagnosis = diagnose(POLICY, trained, detected(), history)
    assert (diagnosis.labelled, diagnosis.bad) == (("w3", "w4", "w5"), ("w4",))
    assert not diagnosis.is_newest_bad and diagnosis.kinds == ()  # it recovered


def test_few_labels_prove_nothing(trained: Reference) -> None:
    diagnosis = diagnose(POLICY, trained, detected(), [realised("w1"), realised("w2", auc=0.5, rate=0.9, rows=199)])
    assert diagnosis == Diagnosis(findings=(), labelled=("w1",), bad=())


def test_few_rows_prove_nothing(trained: Reference) -> None:
    assert kinds(trained, detected(rows=199, prediction={"psi": 9}, temp={"psi": 9, "null_share": 1.0})) == ()


def test_one_class_alone_has_no_auc_but_a_calibration(trained: Reference) -> None:
    assert kinds(trained, detected(), realised("w1", auc=None, rate=0.0)) == (
        "calibration drift",
        "label shift",
    )


@pytest.fixture
def of_classes(trained: Reference) -> Reference:
    """The reference of a model of three classes."""
    rates = {"a": 0.5, "b": 0.3, "c": 0.2}
    return trained.model_copy(update={"label_rate": None, "class_rates": rates, "metrics": {"auc": 0.9}})


def of_several(partition: str, auc: float | None, **rates: float) -> dict[str, Any]:
    return {"partition": partition, "rows": 1_000, "auc": auc, "mean_score": 0.7, "positive_rate": None,
            "calibration_gap": None, "class_rates": rates}  # fmt: skip


def test_several_classes_shift_and_are_told_apart_worse(of_classes: Reference) -> None:
    assert kinds(of_classes, detected(), of_several("w1", 0.88, a=0.45, b=0.33, c=0.22)) == ()
    diagnosis = diagnose(POLICY, of_classes, detected(), [of_several("w1", 0.8, a=0.3, b=0.3, c=0.4)])
    assert diagnosis.kinds == ("performance drop", "label shift") and diagnosis.bad == ("w1",)
    assert diagnosis.findings[1].evidence in (
        "share of a 0.30 in w1, 0.50 in training", "share of c 0.40 in w1, 0.20 in training",
    )  # fmt: skip
    assert kinds(of_classes, detected(), of_several("w1", None, a=0.5, b=0.3, c=0.2)) == ()


def test_of_numbers_inputs_and_predictions_are_looked_at(trained: Reference) -> None:
    reference = trained.model_copy(update={"label_rate": None, "label_mean": 3.0, "metrics": {"rmse": 1.0}})
    found = {"partition": "w1", "rows": 1_000, "auc": None, "mean_score": 9.0, "positive_rate": None,
             "calibration_gap": None, "rmse": 8.0, "bias": 5.0, "mean_label": 4.0}  # fmt: skip
    assert kinds(reference, detected(), found) == ()
    moved = detected(prediction={"psi": 0.3, "mean": 9.0}, temp={"psi": 1.0})
    assert kinds(reference, moved, found) == ("prediction drift", "covariate shift")


def test_a_diagnosis_survives_json(trained: Reference) -> None:
    diagnosis = diagnose(POLICY, trained, detected(temp={"psi": 1}), [realised("w1", auc=0.5)])
    assert (
        Diagnosis.model_validate(json.loads(json.dumps(diagnosis.model_dump(mode="json"), allow_nan=False)))
        == diagnosis
    )
