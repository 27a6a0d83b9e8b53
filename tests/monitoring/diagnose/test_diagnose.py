"""Each kind of shift is named for its own evidence and for nothing else."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from pipelines.config import Policy
from pipelines.monitoring.detect.detection import Drift, LabelledPartition
from pipelines.monitoring.diagnose.diagnose import diagnose
from pipelines.monitoring.diagnose.finding import Diagnosis, Kind
from pipelines.profiles.profile import Reference

POLICY = Policy(max_auc_drop=0.05, max_calibration_gap=0.05, max_label_rate_shift=0.1, min_labels=200, of_last=3)
QUIET: dict[str, Any] = {
    "psi": 0.01,
    "js": 0.01,
    "null_share": 0.0,
    "usual_null_share": 0.1,
    "unseen_share": 0.0,
    "new": {},
    "non_finite_share": 0.0,
    "usual_non_finite_share": 0.0,
    "std": 5.0,
    "usual_std": 4.0,
    "levels": {"js": {"far": 0.1, "far_level": 1.0, "step": 0.1, "step_level": 1.0}},
}


def levels(step: float = 0.1, far: float = 0.1, distance: str = "wasserstein") -> dict[str, Any]:
    """Distances whose alarm level is 1."""
    return {"levels": {distance: {"far": far, "far_level": 1.0, "step": step, "step_level": 1.0}}}


def detected(
    rows: int = 1_000,
    prediction: dict[str, Any] | None = None,
    same_as: str | None = None,
    **columns: dict[str, Any],
) -> Drift:
    """What `detect` gives for a partition like the training data, but for what is named."""
    names = ("temp", "seats", "carrier", "is_holiday")
    return Drift.model_validate(
        {
            "rows": rows,
            "columns": {name: QUIET | columns.get(name, {}) for name in names},
            "prediction": QUIET | {"mean": 0.5, "reference_mean": 0.5} | (prediction or {}),
            "same_as": same_as,
        }
    )


def realised(
    partition: str, auc: float | None = 1.0, score: float = 0.2, rate: float = 0.2, rows: int = 1_000
) -> LabelledPartition:
    """What `performance` gives; the reference's AUC is 1 and its label rate .2."""
    return LabelledPartition(
        partition=partition,
        rows=rows,
        auc=auc,
        mean_score=score,
        positive_rate=rate,
        calibration_gap=score - rate,
    )


def kinds(trained: Reference, found: Drift, *labelled: LabelledPartition) -> tuple[str, ...]:
    return diagnose(POLICY, trained, found, labelled).kinds


def test_nothing_moved(trained: Reference) -> None:
    diagnosis = diagnose(POLICY, trained, detected(), [realised("w1"), realised("w2")])
    assert diagnosis == Diagnosis(findings=(), labelled=("w1", "w2"), bad=())


def test_covariate_shift_names_the_columns_that_moved_most(trained: Reference) -> None:
    moved = {
        name: levels(step) for name, step in [("temp", 3.2), ("seats", 1.3), ("carrier", 1.4), ("is_holiday", 1.5)]
    }
    moved["temp"]["levels"] |= levels(9.9, distance="js")["levels"]
    (finding,) = diagnose(POLICY, trained, detected(**moved), []).findings
    assert finding.kind == "covariate shift"
    assert finding.evidence == (
        "unlike the partitions before: temp by 9.90 JS (usual: up to 1.00), is_holiday by 1.50 sd (usual: up to 1.00), "
        "carrier by 1.40 sd (usual: up to 1.00) and 1 more"
    )
    assert finding.numbers == {"temp": 9.9, "seats": 1.3, "carrier": 1.4, "is_holiday": 1.5}


def test_what_came_in_usual_steps_is_a_feature_change(trained: Reference) -> None:
    found = detected(temp=levels(far=3), seats=levels(step=2, far=2), prediction=levels(far=2))
    shift, change = diagnose(POLICY, trained, found, []).findings
    assert (shift.kind, shift.numbers) == ("covariate shift", {"seats": 2})
    assert (change.kind, change.numbers) == ("feature change", {"temp": 3, "score": 2})
    assert change.evidence.startswith("away from training in usual steps: temp by 3.00 sd (usual: up to 1.00), score")


@pytest.mark.parametrize("level", [None, 1.0])
def test_what_is_not_known_is_no_shift(trained: Reference, level: float | None) -> None:
    unknown = {"levels": {"js": {"far": 9.0, "far_level": None, "step": None if level else 9.0, "step_level": level}}}
    assert kinds(trained, detected(temp=unknown, prediction=unknown)) == ()


def test_fixed_limits(trained: Reference) -> None:
    policy = POLICY.model_copy(update={"max_column_psi": 0.25, "max_prediction_psi": 0.25})
    moved = detected(
        temp={"psi": 3.2} | levels(step=9),
        seats={"psi": 0.3},
        carrier=levels(9, 9),
        prediction={"psi": 0.3, "mean": 0.7} | levels(9, 9),
    )
    scores, columns = diagnose(policy, trained, moved, []).findings
    assert (scores.kind, scores.evidence) == ("prediction drift", "mean score 0.70 instead of 0.50 (PSI 0.30)")
    assert (columns.evidence, columns.numbers) == ("PSI 3.20 of temp, 0.30 of seats", {"temp": 3.2, "seats": 0.3})


@pytest.mark.parametrize(("moved", "found"), [(0.01, ()), (0.1, ("prediction drift",)), (None, ("prediction drift",))])
def test_scores_that_hardly_moved_are_no_drift_however_sure_it_is(
    trained: Reference, moved: float | None, found: tuple[str, ...]
) -> None:
    """Labels spread by .4 where a fifth is positive; a tenth of that is the least that counts."""
    both = {"mean": 0.51, "moved": moved, "pooled moved": 0.0} | levels(step=9)
    assert kinds(trained, detected(prediction=both)) == found
    pooled = {"mean": 0.51, "moved": 0.9, "pooled moved": moved} | levels(step=9, distance="pooled js")
    assert kinds(trained, detected(prediction=pooled)) == found


def test_numbers_have_the_digits_that_tell_them_apart(trained: Reference) -> None:
    close = {"mean": 0.0582, "reference_mean": 0.0578, "moved": 0.2} | levels(step=9)
    (finding,) = diagnose(POLICY, trained, detected(prediction=close), []).findings
    assert finding.evidence.startswith("mean score 0.0582 instead of 0.0578, ")


def test_prediction_drift(trained: Reference) -> None:
    (finding,) = diagnose(POLICY, trained, detected(prediction={"mean": 0.7} | levels(step=1.5)), []).findings
    assert (finding.kind, finding.evidence) == (
        "prediction drift",
        "mean score 0.70 instead of 0.50, moved by 1.50 sd (usual: up to 1.00) at once",
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
        ({"null_share": 0.8}, "80% of carrier is empty (usual: up to 10%)"),
        ({"unseen_share": 0.9, "new": {"ZZ": 9, "YY": 3}}, "90% of carrier is new to the model such as ZZ, YY"),
        ({"non_finite_share": 0.05}, "5.0% of carrier is NaN or infinite (usual: up to 0.0%)"),
        ({"std": 0.01}, "carrier is frozen (standard deviation 0.01, usual: 4 or more)"),
    ],
)
def test_data_fault(trained: Reference, column: dict[str, Any], evidence: str) -> None:
    diagnosis = diagnose(POLICY, trained, detected(carrier=column), [])
    assert diagnosis.kinds == ("data fault",)
    assert diagnosis.findings[0].evidence == evidence


@pytest.mark.parametrize(
    "column",
    [
        {"null_share": 0.3},
        {"unseen_share": 0.4},
        {"non_finite_share": 0.05, "usual_non_finite_share": 0.05},
        {"std": 0.05},
        {"std": 0.0, "usual_std": 0.0},
        {"std": 0.0, "usual_std": None},
        {"std": None},
        {"std": 0.0, "null_share": 0.99, "usual_null_share": 0.99},
    ],
)
def test_no_data_fault(trained: Reference, column: dict[str, Any]) -> None:
    assert kinds(trained, detected(carrier=column)) == ()


def test_the_same_rows_again_are_a_data_fault(trained: Reference) -> None:
    (finding,) = diagnose(POLICY, trained, detected(same_as="w3"), []).findings
    assert (finding.kind, finding.evidence) == ("data fault", "the same rows as in w3")


@pytest.mark.parametrize(
    ("prediction", "evidence"),
    [
        ({"non_finite_share": 0.001}, "0.1% of score is NaN or infinite (usual: up to 0.0%)"),
        ({"edge_share": 0.7, "usual_edge_share": 0.1}, "70% of the scores is exactly 0 or 1"),
    ],
)
def test_numerical_trouble_of_the_scores(trained: Reference, prediction: dict[str, Any], evidence: str) -> None:
    (finding,) = diagnose(POLICY, trained, detected(prediction=prediction), []).findings
    assert (finding.kind, finding.evidence) == ("data fault", evidence)


def test_scores_can_be_at_fault_too(trained: Reference) -> None:
    assert kinds(trained, detected(prediction={"null_share": 1.0, "psi": 5.0, "mean": None})) == ("data fault",)


def test_the_most_harmful_comes_first(trained: Reference) -> None:
    everything = detected(prediction=levels(2), temp=levels(2), seats=levels(1, 2), carrier={"null_share": 1.0})
    labels = realised("w1", auc=0.5, score=0.2, rate=0.5).model_copy(update={"unknown_labels": {"2": 3}})
    later = ("concept drift", "feedback loop", "staleness")
    assert kinds(trained, everything, labels) == tuple(kind for kind in get_args(Kind) if kind not in later)


def test_only_the_newest_labels_count(trained: Reference) -> None:
    history = [realised(f"w{week}", auc=0.5 if week in (1, 2, 4) else 1) for week in range(1, 6)]
    diagnosis = diagnose(POLICY, trained, detected(), history)
    assert (diagnosis.labelled, diagnosis.bad) == (("w3", "w4", "w5"), ("w4",))
    assert not diagnosis.is_newest_bad and diagnosis.kinds == ()  # it recovered


def test_few_labels_prove_nothing(trained: Reference) -> None:
    diagnosis = diagnose(POLICY, trained, detected(), [realised("w1"), realised("w2", auc=0.5, rate=0.9, rows=199)])
    assert diagnosis == Diagnosis(findings=(), labelled=("w1",), bad=())


def test_too_few_labels_of_all_leave_the_performance_unjudged(trained: Reference) -> None:
    diagnosis = diagnose(POLICY, trained, detected(), [realised("w1", auc=0.5, rate=0.9, rows=120)])
    assert diagnosis.findings == () and diagnosis.labelled == ()
    assert diagnosis.unjudged == {"performance": "performance not judged: 120 rows of 200 with labels"}
    assert diagnose(POLICY, trained, detected(), []).unjudged == {}, "that labels take their time is no lack of rows"


@pytest.mark.parametrize(("count", "judged_rows", "unjudged"), [(120, 120, "120 rows of 200"), (120, 240, None)])
def test_quiet_inputs_are_judged_once_there_are_rows_enough(
    trained: Reference, count: int, judged_rows: int, unjudged: str | None
) -> None:
    pooled = {"levels": QUIET["levels"] | {"pooled js": QUIET["levels"]["js"]}}
    drift = detected(count, temp=pooled).model_copy(update={"judged_rows": judged_rows})
    diagnosis = diagnose(POLICY, trained, drift, [])
    assert diagnosis.unjudged == ({"inputs": f"inputs not judged: {unjudged}"} if unjudged else {})


def test_inputs_without_a_past_are_not_judged(trained: Reference) -> None:
    unknown = {"levels": {"js": {"far": 0.1, "far_level": None, "step": None, "step_level": None}}}
    columns = dict.fromkeys(("temp", "seats", "carrier", "is_holiday"), unknown)
    without = detected(prediction=unknown, **columns)
    assert diagnose(POLICY, trained, without, []).unjudged == {
        "inputs": "inputs not judged: fewer than 4 partitions tell what is usual"
    }
    fixed = POLICY.model_copy(update={"max_column_psi": 0.2, "max_prediction_psi": 0.2})
    assert diagnose(fixed, trained, without, []).unjudged == {}, "a fixed limit needs no past"


def test_faults_and_drift_do_not_wait_for_many_rows(trained: Reference) -> None:
    moved = levels(9, 9) | {"null_share": 1.0}
    found = kinds(trained, detected(rows=60, prediction=levels(9, 9), temp=moved, same_as="w1"))
    assert found == ("data fault", "prediction drift", "covariate shift")


@pytest.mark.parametrize(("count", "null_share", "is_fault"), [(3, 1.0, False), (12, 1.0, True), (12, 1 / 3, False)])
def test_a_share_of_few_rows_is_a_fault_only_beyond_chance(
    trained: Reference, count: int, null_share: float, is_fault: bool
) -> None:
    found = kinds(trained, detected(rows=count, carrier={"null_share": null_share}))
    assert found == (("data fault",) if is_fault else ())


def test_a_pool_that_moved_is_told_as_one(trained: Reference) -> None:
    pooled = {"levels": QUIET["levels"] | {"pooled js": {"far": 0.1, "far_level": 1.0, "step": 2.0, "step_level": 1.0}}}
    (finding,) = diagnose(POLICY, trained, detected(rows=60, temp=pooled), []).findings
    assert finding.evidence == (
        "unlike the partitions before: temp by 2.00 JS (usual: up to 1.00, with the partitions before it)"
    )


@pytest.mark.parametrize(("error", "is_bad"), [(0.02, True), (0.06, False)])
def test_a_drop_within_chance_is_none(trained: Reference, error: float, is_bad: bool) -> None:
    errors = {"auc": error, "calibration_gap": error}
    uncertain = realised("w1", auc=0.9, score=0.3).model_copy(update={"errors": errors})
    diagnosis = diagnose(POLICY, trained, detected(), [uncertain])
    assert diagnosis.kinds == (("performance drop", "calibration drift") if is_bad else ())


def test_one_class_alone_has_no_auc_but_a_calibration(trained: Reference) -> None:
    none = [realised(week, auc=None, rate=0.0) for week in ("w1", "w2")]
    assert diagnose(POLICY, trained, detected(), none[:1]).kinds == ("calibration drift", "label shift"), "a quiet week"
    assert diagnose(POLICY, trained, detected(), none).kinds == (
        "calibration drift",
        "label schema change",
        "label shift",
    )


@pytest.fixture
def of_classes(trained: Reference) -> Reference:
    """The reference of a model of three classes."""
    rates = {"a": 0.5, "b": 0.3, "c": 0.2}
    return trained.model_copy(update={"label_rate": None, "class_rates": rates, "metrics": {"auc": 0.9}})


def of_several(partition: str, auc: float | None, **rates: float) -> LabelledPartition:
    return LabelledPartition(partition=partition, rows=1_000, auc=auc, mean_score=0.7, class_rates=rates)


def test_several_classes_shift_and_are_told_apart_worse(of_classes: Reference) -> None:
    assert kinds(of_classes, detected(), of_several("w1", 0.88, a=0.45, b=0.33, c=0.22)) == ()
    diagnosis = diagnose(POLICY, of_classes, detected(), [of_several("w1", 0.8, a=0.3, b=0.3, c=0.4)])
    assert diagnosis.kinds == ("performance drop", "label shift") and diagnosis.bad == ("w1",)
    assert diagnosis.findings[1].evidence in (
        "share of a 0.30 in w1, 0.50 in training",
        "share of c 0.40 in w1, 0.20 in training",
    )
    assert kinds(of_classes, detected(), of_several("w1", None, a=0.5, b=0.3, c=0.2)) == ()


def test_a_class_that_is_new_or_has_vanished(of_classes: Reference) -> None:
    new = of_several("w1", 0.9, a=0.5, b=0.3, c=0.2).model_copy(update={"unknown_labels": {"d": 7}})
    (finding,) = diagnose(POLICY, of_classes, detected(), [new]).findings
    assert (finding.kind, finding.numbers) == ("label schema change", {"labels d": 7})
    assert finding.evidence == "7 labels d in w1, a class that the model does not know"
    gone = of_several("w1", 0.9, a=0.55, b=0.38, c=0.0)
    again = gone.model_copy(update={"partition": "w2"})
    schema, shift = diagnose(POLICY, of_classes, detected(), [gone, again]).findings
    assert (schema.evidence, shift.kind) == ("no label c in w1 and w2, 20% in training", "label shift")
    assert diagnose(POLICY, of_classes, detected(), [gone]).kinds == ("label shift",)
    few = [part.model_copy(update={"rows": 20}) for part in (gone, again)]
    assert diagnose(POLICY.model_copy(update={"min_labels": 20}), of_classes, detected(), few).kinds == ("label shift",)


def of_numbers(r2: float, bias: float) -> LabelledPartition:
    metrics = {"rmse": 8.0, "r2": r2, "bias": bias}
    return LabelledPartition(partition="w1", rows=1_000, mean_score=4.0 + bias, mean_label=4.0, **metrics)


@pytest.fixture
def of_a_number(trained: Reference) -> Reference:
    return trained.model_copy(
        update={"label_rate": None, "label_mean": 3.0, "label_std": 2.0, "metrics": {"r2": 0.8, "bias": 0.1}}
    )


def test_a_regression_that_explains_less_or_is_off_is_bad(of_a_number: Reference) -> None:
    assert kinds(of_a_number, detected(), of_numbers(0.75, 0.1)) == ()
    diagnosis = diagnose(POLICY, of_a_number, detected(), [of_numbers(0.4, -1.5)])
    assert diagnosis.kinds == ("performance drop", "calibration drift") and diagnosis.bad == ("w1",)
    assert [finding.evidence for finding in diagnosis.findings] == [
        "R2 0.40 in w1, 0.80 when it was tested",
        "mean score 2.5 but mean label 4 in w1 (bias -0.75 sd of the labels)",
    ]


@pytest.mark.parametrize(("limit", "value"), [("max_r2_drop", 0.5), ("max_bias_sd", 1.0)])
def test_the_limits_of_a_regression_count(of_a_number: Reference, limit: str, value: float) -> None:
    found = of_numbers(0.4, 0.0) if limit == "max_r2_drop" else of_numbers(0.8, 1.0)
    assert diagnose(POLICY, of_a_number, detected(), [found]).bad == ("w1",)
    assert diagnose(POLICY.model_copy(update={limit: value}), of_a_number, detected(), [found]).bad == ()


def test_labels_without_a_spread_have_no_bias_in_its_units(of_a_number: Reference) -> None:
    for std in (None, 0.0):
        former = of_a_number.model_copy(update={"label_std": std})
        assert kinds(former, detected(), of_numbers(0.8, 9.0)) == ()


def test_a_diagnosis_survives_json(trained: Reference) -> None:
    diagnosis = diagnose(POLICY, trained, detected(temp=levels(2, 2)), [realised("w1", auc=0.5)])
    assert (
        Diagnosis.model_validate(json.loads(json.dumps(diagnosis.model_dump(mode="json"), allow_nan=False)))
        == diagnosis
    )
