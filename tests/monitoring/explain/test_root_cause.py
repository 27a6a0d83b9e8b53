"""The paragraph says what the numbers say, in words that claim no more."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.monitoring.detect.detection import LabelledPartition
from pipelines.monitoring.diagnose.finding import Diagnosis, Finding
from pipelines.monitoring.explain.change_point import ChangePoint
from pipelines.monitoring.explain.contribution import Contribution, ScoreShift
from pipelines.monitoring.explain.error_slices import ErrorSlice
from pipelines.monitoring.explain.root_cause import (
    Change,
    Explanation,
    changes_of,
    nothing_to_explain,
    paragraph,
    scores_since,
    sides,
)
from pipelines.monitoring.explain.series import Series, column_series, metric_series, series_of
from pipelines.profiles.profile import Reference, profile
from tests.handed_on import example

WEEKS = tuple(f"2013-05-{day:02}" for day in (6, 13, 20, 27))


def finding(kind: Any = "prediction drift", evidence: str = "mean score 0.3", **numbers: float) -> Finding:
    return Finding(kind=kind, evidence=evidence, numbers=numbers)


def diagnosis(*findings: Finding) -> Diagnosis:
    return Diagnosis(findings=findings, labelled=(), bad=())


def series(name: str = "mean of the scores", column: str = "score") -> Series:
    return Series(name=name, table="profiles", column=column, measure="mean", keys=WEEKS, values=(0.4, 0.4, 0.3, 0.3))


def changed(shape: Any = "step", first: str = WEEKS[2], last: str = WEEKS[2]) -> ChangePoint:
    return ChangePoint(
        since=WEEKS[2], shape=shape, before=0.42, after=0.31, p_value=0.01, first=first, last=last, partitions=4
    )


def part(feature: str, share: float | None, **more: Any) -> Contribution:
    values = {"margin": -0.1, "score": -0.01, "share": share, "before": 71.2, "after": 22.0, **more}
    return Contribution(feature=feature, **values)


def shift(**more: Any) -> ScoreShift:
    values = {
        "before": 0.42,
        "after": 0.31,
        "label": None,
        "method": "xgboost",
        "rows": 100,
        "slope": 0.2,
        "margin": -0.5,
        "remainder_margin": 0.0,
        "remainder_score": 0.0,
    }
    return ScoreShift.model_validate(values | more)


def told(*findings: Finding, **more: Any) -> str:
    explained = Explanation(**{"before": WEEKS[:2], "after": WEEKS[2:], "paragraph": "", **more})
    units = {"temp": "degF", "carrier": None}
    return paragraph(diagnosis(*(findings or (finding(),))), explained, every="week", units=units, loss="log loss")


def test_a_whole_paragraph() -> None:
    slice_ = ErrorSlice(
        name="carrier = EV",
        conditions=(),
        rows_before=3000,
        rows=1812,
        loss_before=0.48,
        loss=0.61,
        excess=0.1,
        low=0.05,
        high=0.15,
    )
    text = told(
        changes=(Change(series=series(), change=changed(first=WEEKS[1], last=WEEKS[2])),),
        shift=shift(),
        contributions=(
            part("temp", 0.66),
            part("carrier", 0.42, category="EV", before=0.1, after=0.3),
            part("x", -0.2),
        ),
        slices=(slice_,),
        slices_looked_at=900,
    )
    assert text == (
        "Prediction drift: mean score 0.3. Since the week of 2013-05-20 (it may have begun between the week of "
        "2013-05-13 and that of 2013-05-20), the mean of the scores is 0.31 on average; before, it was 0.42. The mean "
        "score is lower: 0.31 since 2013-05-20 and 0.42 in the 2 weeks before. Of that difference two thirds go "
        "along with temp (mean 22 instead of 71.2 degF) and 42 % with carrier (EV in 30 % of the rows instead of "
        "10 %); x (mean 22 instead of 71.2) pulls the other way. Errors rose most, beyond those of all other rows, "
        "where carrier = EV (log loss 0.61, before 0.48; 1,812 rows)."
    )


def test_the_shift_of_the_scores_is_told_once() -> None:
    change = Change(series=series(), change=changed())
    text = told(changes=(change,), since=WEEKS[2], shift=shift(), contributions=(part("temp", 0.5),))
    assert text.endswith(
        "before, it was 0.42. Of that difference half goes along with temp (mean 22 instead of 71.2 degF)."
    )
    other = told(changes=(change,), since=WEEKS[2], shift=shift(label="cat"), contributions=(part("temp", 0.5),))
    assert "mean probability of cat is lower" in other


def test_gradually_and_not_at_all() -> None:
    slow = told(changes=(Change(series=series(), change=changed("gradual")),))
    assert "Gradually since the week of 2013-05-20, the mean of the scores fell, from 0.42 to 0.31 by now." in slow
    none = told(changes=(Change(series=series(), change=None),))
    assert "4 partitions that are known" in none and "cannot be said since when" in none
    assert "cannot be said since when" in told()


def test_small_and_scattered_shifts_are_called_so() -> None:
    assert "hardly moved" in told(shift=shift(after=0.4201))
    assert "No single feature" in told(shift=shift(), contributions=(part("temp", 0.05), part("seats", None)))
    alone = told(shift=shift(), contributions=(part("temp", -0.4),))
    assert "in the 2 weeks before. The feature temp (mean 22 instead of 71.2 degF) pulls the other way." in alone
    assert "in this week and" in told(shift=shift(), after=WEEKS[3:], before=WEEKS[:3])
    assert "mean probability of cat" in told(shift=shift(label="cat"))


def test_what_went_missing_is_told_as_that() -> None:
    gone = part("temp", 0.8, missing_after=0.5, missing_before=0.1, after=None)
    assert "temp (missing in 50 % instead of 10 %)" in told(shift=shift(), contributions=(gone,))
    alike = part("temp", 0.8, before=71.000001, after=71.0)
    assert "mean still 71 degF, but differently distributed" in told(shift=shift(), contributions=(alike,))


def test_no_slice_is_told_only_when_one_was_looked_for() -> None:
    assert "No part of the rows got worse" in told(slices_looked_at=5)
    assert "part of the rows" not in told()


def test_nothing_is_claimed_to_be_a_cause() -> None:
    text = told(changes=(Change(series=series(), change=changed()),), shift=shift(), contributions=(part("temp", 0.9),))
    assert not any(word in text.lower() for word in ("because", "caused", "due to", "reason"))


def test_since_when_of_the_scores_stands_in(trained: Reference) -> None:
    gap = Change(series=series("gap", "score").model_copy(update={"measure": "calibration_gap"}), change=None)
    other = Change(series=series("mean of temp", "temp"), change=changed())
    scores = Change(series=series(), change=changed())
    assert scores_since((gap, other)) is None, "another column says nothing of the scores"
    assert scores_since((gap, other, scores)) == WEEKS[2] and scores_since((other, gap)) == WEEKS[2]
    assert sides(WEEKS, WEEKS[2]) == (list(WEEKS[:2]), list(WEEKS[2:])) and sides(WEEKS, "2012-01-01") == ([], [])
    assert nothing_to_explain().contributions == () and sides([], None) == ([], [])


def test_each_finding_shows_in_its_series(trained: Reference, rows: Any) -> None:
    profiles = {key: profile(rows(300, seed).to_batches(), trained)[0] for seed, key in enumerate(WEEKS)}
    numbers = {"auc": 0.7, "log_loss": 0.5, "calibration_gap": 0.1, "positive_rate": 0.2}
    labelled = [example(LabelledPartition, partition=key, **numbers) for key in WEEKS]
    expected = {
        "performance drop": "AUC",
        "concept drift": "AUC",
        "calibration drift": "mean score less positive rate",
        "label shift": "positive rate",
        "prediction drift": "mean of the scores",
        "feedback loop": "standard deviation of the scores",
    }
    for kind, name in expected.items():
        found = series_of(finding(kind), trained, profiles, labelled)
        assert found is not None and found.name == name and found.keys == WEEKS
    moved = series_of(finding("covariate shift", temp=1.2, carrier=3.0), trained, profiles, labelled)
    assert moved is not None and moved.name == "Jensen-Shannon distance of carrier to training"
    empty = series_of(finding("data fault", **{"temp null share": 0.5}), trained, profiles, labelled)
    assert empty is not None and empty.name == "share of temp that is empty" and all(empty.values)
    assert series_of(finding("data fault", rows=300), trained, profiles, labelled) is None
    assert series_of(finding("label shift"), trained, profiles, []) is None
    assert metric_series([example(LabelledPartition, auc=None, r2=0.5)]).name == "R2"  # type: ignore[union-attr]
    assert column_series(trained, profiles, "temp").name == "mean of temp"


def test_changes_are_those_of_all_findings_each_once(trained: Reference, rows: Any) -> None:
    profiles = {key: profile(rows(300, seed).to_batches(), trained)[0] for seed, key in enumerate(WEEKS)}
    both = diagnosis(finding("performance drop"), finding("concept drift"), finding("covariate shift", temp=2.0))
    labelled = [example(LabelledPartition, partition="a", auc=0.6)]
    names = [changed.series.name for changed in changes_of(both, trained, profiles, labelled)]
    assert names == ["AUC", "mean of temp", "mean of the scores"]


@pytest.mark.parametrize("every", ["day", "week"])
def test_the_partition_is_called_what_it_is(every: str) -> None:
    explained = Explanation(changes=(Change(series=series(), change=changed()),), paragraph="")
    text = paragraph(diagnosis(finding()), explained, every=every, units={}, loss="log loss")
    assert f"Since the {every} of 2013-05-20," in text
