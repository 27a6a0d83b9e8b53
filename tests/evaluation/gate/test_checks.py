from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import Bootstrap, Gate, Limit, SliceGate
from pipelines.evaluation.gate.checks import gate
from pipelines.metrics.bootstrap import gains, intervals
from pipelines.metrics.metrics import measure
from pipelines.metrics.scored import Scored

THRESHOLDS = Gate(
    limits={"auc": Limit(min=0.6), "brier": Limit(max=0.25), "ece": Limit(max=0.1)},
    gain_over_baselines={"auc": 0.05, "log_loss": 0.0},
    gain_over_champion={"auc": -0.01, "log_loss": -0.02},
    slices=SliceGate(metric="log_loss", max_loss=0.05),
    max_jump=0.1,
    max_champion_fall=0.5,
    max_forgotten=0.05,
    min_learnt_share=0.5,
    max_bias=0.05,
    max_calibration_error=0.1,
    max_unfairness={"demographic_parity": 0.2},
    max_latency_ms=20,
    max_size_mb=5,
    max_age_days=30,
    max_prediction_shift=0.5,
    min_rows=100,
)


def span(value: float, half: float = 0.005) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


EVALUATION: dict[str, Any] = {
    "training": "2024-01-10-1",
    "judged": {"training": "2024-01-10-1", "run_id": "new"},
    "serves": "3",
    "task": "binary",
    "train_split": {"rows": 2_000, "hash": "7"},
    "makes_rows": False,
    "learnt": {
        "from": {"rows": 2_000, "hash": "7"},
        "fitted_rows": 1_900,
        "bias": 0.01,
        "shared": {"rows": 900, "champion": 0.75, "gain": span(-0.01)},
    },
    "test_rows": 500,
    "test_partitions": ["2024-01-08", "2024-01-09"],
    "test_end": "2024-01-10T00:00:00+00:00",
    "as_of": "2024-01-20T00:00:00+00:00",
    "leaks": {"checked": True, "findings": []},
    "challenger": {
        "candidate": "xgboost",
        "run_id": "new",
        "partitions": ["2024-01-08", "2024-01-09"],
        "declared": {"baselines": ["prior", "rule"], "behaviours": ["noise"], "groups": ["shelf"]},
        "metrics": {"auc": span(0.7), "log_loss": span(0.5), "brier": span(0.2), "ece": span(0.03)},
        "distinct_scores": 400,
        "calibration": {"bins": [], "ece": 0.03, "brier": 0.2},
        "slices": {
            "declared": [{"name": "shelf = top", "metrics": {"log_loss": span(0.6)}}],
            "found": [{"name": "litres > 2", "metrics": {"log_loss": span(0.7)}}],
            "looked_at": 9,
        },
        "fairness": {"shelf": {"groups": [], "demographic_parity": span(0.1)}},
        "behaviours": [{"name": "noise", "kind": "perturbation", "passed": True, "value": 0.01, "wanted": "< 0.02"}],
        "drift": {"columns": {"litres": 0.1}, "prediction": 0.1},
        "latency_ms": 3.5,
        "size_bytes": 200_000,
    },
    "baselines": {
        "prior": {
            "run_id": "b1",
            "metrics": {"auc": 0.5, "log_loss": 0.6},
            "gain": {"auc": span(0.2), "log_loss": span(0.1)},
        },
        "rule": {
            "run_id": "b2",
            "metrics": {"auc": 0.6, "log_loss": 0.55},
            "gain": {"auc": span(0.1), "log_loss": span(0.05)},
        },
    },
    "champion": {
        "version": "3",
        "run_id": "old",
        "trained_until": "2024-01-05",
        "fitted_rows": 2_500,
        "metrics": {"auc": 0.69, "log_loss": 0.5},
        "promoted": {
            "metrics": {"auc": 0.7},
            "baselines": {"prior": {"metrics": {"auc": 0.5}}, "rule": {"metrics": {"auc": 0.6}}},
        },
        "gain": {"auc": span(0.01), "log_loss": span(0.0)},
        "slices": [
            {"name": "shelf = top", "rows": 200, "metric": "log_loss", "gain": span(-0.06, 0.02)},
            {"name": "litres > 2", "rows": 100, "metric": "log_loss", "gain": span(0.1)},
        ],
    },
}

# No check needs these: what says how the champion is called, and what the pages show.
NOT_NEEDED = (
    "baselines.prior.run_id",
    "baselines.rule.run_id",
    "challenger.slices.looked_at",
    "learnt.shared.rows",
    "champion.promoted.baselines.prior",
    "champion.promoted.baselines.rule",  # the other one is there
    "challenger.calibration.bins",
    "challenger.calibration.brier",
    "challenger.fairness.shelf.groups",
    "challenger.drift.columns",
    "challenger.behaviours.0.kind",
    "challenger.behaviours.0.value",
    "challenger.behaviours.0.wanted",
    "champion.slices.0.rows",
    "champion.slices.1.rows",
    "challenger.metrics.log_loss.low",
    "challenger.metrics.log_loss.high",
    "challenger.metrics.auc.low",
    "challenger.metrics.auc.high",
    "challenger.metrics.brier.low",
    "challenger.metrics.brier.high",
    "challenger.metrics.ece.low",
    "challenger.metrics.ece.high",
    "challenger.slices.declared.0.metrics",
    "challenger.slices.found.0.metrics",  # the gains are there
    "challenger.slices.declared.0",
    "challenger.slices.found.0",
    "leaks.findings.0",
    "challenger.declared.groups.0",
    "challenger.declared.behaviours.0",  # found all the same
    "challenger.declared.baselines.0",
    "challenger.declared.baselines.1",
)
SAY_THAT_THERE_IS_NONE = (("learnt", "bias"), ("learnt", "shared"))
GONE = object()
BROKEN = [GONE, None, math.nan, math.inf, "", [None], {"": None}]


def broken(value: Any) -> list[Any]:
    """What can be wrong with a value: it is not there, is none, or is another thing."""
    others = {str: [True, 5], bool: ["x", 1], list: ["x", 5], dict: ["x", 5]}
    return BROKEN + others.get(type(value), ["x", True, 10**400])


def paths(tree: Any, start: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*start, str(key))
        yield from paths(value, (*start, str(key)))


def changed(path: tuple[str, ...] | str, value: Any, of: dict[str, Any] = EVALUATION) -> dict[str, Any]:
    evaluation = copy.deepcopy(of)
    *parents, last = path.split(".") if isinstance(path, str) else path
    place: Any = evaluation
    for parent in parents:
        place = place[int(parent) if isinstance(place, list) else parent]
    key = int(last) if isinstance(place, list) else last
    if value is GONE:
        del place[key]
    else:
        place[key] = value
    return evaluation


ALL_PATHS = list(paths(EVALUATION))
NEEDED = [path for path in ALL_PATHS if not ".".join(path).startswith(NOT_NEEDED)]


def test_a_good_challenger_passes_and_every_check_says_why() -> None:
    verdict = gate(EVALUATION, THRESHOLDS)
    assert verdict.passed, verdict.reason
    assert all(check.reason for check in verdict.checks)
    assert len({check.name for check in verdict.checks}) == len(verdict.checks)


def test_the_first_model_needs_no_champion() -> None:
    verdict = gate({**changed("champion", None), "serves": None}, THRESHOLDS)
    assert verdict.passed
    assert "no champion serves yet" in verdict.reason


FAULTS = [
    ("test_rows", 99, "99 test rows, wanted at least 100"),
    ("leaks.findings", ["litres knows the label"], "1 leaks: litres knows the label"),
    ("leaks.checked", False, "nobody looked for leaks"),
    ("challenger.candidate", "prior", "the challenger prior is a baseline"),
    ("challenger.distinct_scores", 1, "1 different scores, wanted at least 2"),
    ("challenger.metrics.auc.value", 0.59, "auc 0.5900, wanted at least 0.6"),
    ("challenger.metrics.brier.value", 0.26, "brier 0.2600, wanted at most 0.25"),
    ("challenger.metrics.ece.value", 0.11, "ece 0.1100, wanted at most 0.1"),
    ("baselines.prior.gain.auc.low", 0.04, "auc over prior: gain +0.2000 (+0.0400 to +0.2050), wanted at least 0.05"),
    ("baselines.rule.gain.log_loss.low", -0.001, "log_loss over rule: gain +0.0500 (-0.0010 to +0.0550)"),
    ("champion.gain.auc.low", -0.011, "auc over champion: gain +0.0100 (-0.0110 to +0.0150), wanted at least -0.01"),
    ("champion.gain.log_loss.low", -0.021, "log_loss over champion: gain +0.0000 (-0.0210 to +0.0050)"),
    ("champion.run_id", "new", "challenger and champion are the same run"),
    ("champion.trained_until", "2024-01-08", "learnt from data until 2024-01-08, the test starts at 2024-01-08"),
    ("champion.gain", {name: span(0, 0) for name in ("auc", "log_loss")}, "give the same scores"),
    ("judged.run_id", "other", "the evidence has to be about run other, not new"),
    ("judged.training", "other", "the evidence has to be about training other, not 2024-01-10-1"),
    ("serves", "4", "version 4 serves, compared was version 3"),
    ("champion.metrics.auc", 0.63, "gain +0.0100 is not 0.7000 against 0.6300"),
    ("champion.promoted.metrics.auc", 0.9, "+0.0900 auc above the baselines, at its promotion +0.3000: more than 50%"),
    ("learnt.from.rows", 40, "the challenger was given 40 rows, the training split has 2000"),
    ("learnt.from.hash", "8", "the challenger was given 2000 rows, the training split has 2000, with other values"),
    ("learnt.fitted_rows", 2_001, "the challenger learnt from 2001 rows, the training split has 2000"),
    ("learnt.fitted_rows", 1_249, "learnt from 1249 rows, the champion from 2500; wanted at least 50% as many"),
    ("learnt.bias", -0.06, "mean score less mean label on training rows -0.0600, wanted within 0.05"),
    ("learnt.shared.gain", span(-0.06), "both have learnt from: -0.0600 (-0.0650 to -0.0550), may lose at most 0.0500"),
    ("champion.slices.0.gain", span(-0.06), "in the worst slice, shelf = top: -0.0600 (-0.0650 to -0.0550)"),
    ("challenger.calibration.ece", 0.11, "calibration error 0.1100, wanted at most 0.1"),
    ("challenger.behaviours.0.passed", False, "behaviours that failed: noise"),
    ("challenger.fairness.shelf.demographic_parity.high", 0.21, "demographic_parity of shelf at most 0.2100, wanted"),
    ("challenger.latency_ms", 20.1, "latency in ms 20.1000, wanted at most 20"),
    ("challenger.size_bytes", 5_000_001, "size in MB 5.0000, wanted at most 5"),
    ("test_end", "2023-12-20T23:59:59+00:00", "days since the test rows 30.0000, wanted at most 30"),
    ("challenger.drift.prediction", 0.51, "shift of the scores (PSI) 0.5100, wanted at most 0.5"),
]


@pytest.mark.parametrize(("path", "value", "told"), FAULTS)
def test_each_fault_fails_with_its_reason(path: str, value: Any, told: str) -> None:
    verdict = gate(changed(path, value), THRESHOLDS)
    assert not verdict.passed
    assert told in verdict.reason


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("champion", GONE, "no evidence about the champion"),
        ("champion.trained_until", None, "champion learnt from data until None"),
        ("champion.trained_until", "", "champion learnt from data until "),
        ("champion.slices", GONE, "no evidence about slices"),
        ("champion.slices.1", GONE, "no log_loss gain over the champion in 1 slices, such as litres > 2"),
        ("test_partitions.0", GONE, "missing or contradicts itself"),
        ("baselines", {}, "auc over prior: gain missing (0.7000 against missing)"),
        ("baselines.rule", GONE, "auc over rule: gain missing"),
        ("baselines.prior.metrics.auc", 0.4, "auc over prior: gain +0.2000 is not 0.7000 against 0.4000"),
        ("challenger", None, "no evidence about the challenger"),
        ("challenger.behaviours", [], "behaviours that failed: noise"),
        ("challenger.fairness", None, "demographic_parity of shelf missing"),
        ("as_of", "2024-01-09T00:00:00+00:00", "days since the test rows -1.0000"),
        ("as_of", "2024-01-20T00:00:00", "days since the test rows missing"),
    ],
)
def test_evidence_that_is_missing_or_contradicts_itself_fails(path: str, value: Any, told: str) -> None:
    verdict = gate(changed(path, value), THRESHOLDS)
    assert not verdict.passed
    assert told in verdict.reason


def value_at(path: tuple[str, ...], of: dict[str, Any]) -> Any:
    place: Any = of
    for part in path:
        place = place[int(part) if isinstance(place, list) else part]
    return place


@pytest.mark.parametrize("path", NEEDED, ids=".".join)
def test_nothing_that_a_check_needs_may_be_missing_or_broken(path: tuple[str, ...]) -> None:
    """Every leaf and every branch of the evidence, gone or replaced by nonsense."""
    wrong = broken(value_at(path, EVALUATION))
    passed = [value for value in wrong if gate(changed(path, value), THRESHOLDS).passed]
    assert passed == ([None] if path in SAY_THAT_THERE_IS_NONE else [])


@settings(max_examples=300, deadline=None)
@given(fault=st.sampled_from(FAULTS), data=st.data())
def test_breaking_evidence_never_lets_a_bad_challenger_pass(fault: Any, data: st.DataObject) -> None:
    failing = changed(fault[0], fault[1])
    path = data.draw(st.sampled_from([path for path in paths(failing) if path != ("leaks", "findings", "0")]))
    value = data.draw(st.sampled_from(broken(value_at(path, failing))))
    if path not in SAY_THAT_THERE_IS_NONE or value is not None:
        assert not gate(changed(path, value, failing), THRESHOLDS).passed


@pytest.mark.parametrize("evaluation", [None, {}, [], 5, {"challenger": {"metrics": []}}, {"champion": "x"}])
def test_any_evidence_gets_a_verdict(evaluation: Any) -> None:
    verdict = gate(evaluation, THRESHOLDS)
    assert not verdict.passed
    assert len(verdict.checks) > 8


@pytest.mark.parametrize(
    ("threshold", "path", "bad"),
    [
        ("max_calibration_error", "challenger.calibration.ece", 0.9),
        ("max_latency_ms", "challenger.latency_ms", 900),
        ("max_size_mb", "challenger.size_bytes", 10**9),
        ("max_age_days", "test_end", "2020-01-01T00:00:00+00:00"),
        ("max_prediction_shift", "challenger.drift.prediction", 9.0),
        ("max_forgotten", "learnt.shared.gain", span(-0.3)),
        ("min_learnt_share", "champion.fitted_rows", 10_000),
        ("max_bias", "learnt.bias", 0.2),
        (
            "max_champion_fall",
            "champion.promoted",
            {"metrics": {"auc": 0.99}, "baselines": {"prior": {"metrics": {"auc": 0.5}}}},
        ),
        ("max_unfairness", "challenger.fairness", {"shelf": {"demographic_parity": span(0.9)}}),
        ("slices", "champion.slices.0.gain", span(-3)),
    ],
)
def test_a_threshold_that_is_not_set_makes_no_check(threshold: str, path: str, bad: Any) -> None:
    evaluation = changed(path, bad)
    assert not gate(evaluation, THRESHOLDS).passed
    unset = THRESHOLDS.model_copy(update={threshold: {} if threshold == "max_unfairness" else None})
    assert gate(evaluation, unset).passed
    assert gate(changed(path, None), unset).passed


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"limits": {"auc": Limit(max=0.65)}}, "auc 0.7000, wanted at most 0.65"),
        ({"gain_over_baselines": {"auc": 0.19}}, "auc over rule"),
        ({"gain_over_champion": {"auc": 0.006}}, "auc over champion"),
        ({"slices": SliceGate(max_loss=0.03)}, "may lose at most 0.03"),
        ({"slices": SliceGate(metric="auc")}, "no auc gain over the champion in 2 slices"),
        ({"min_learnt_share": 0.9}, "wanted at least 90%"),
        ({"max_bias": 0.001}, "wanted within 0.001"),
        ({"max_jump": 0.004}, "more than 0.004 at once"),
        ({"max_champion_fall": 0.05}, "more than 5% lost"),
        ({"min_rows": 501}, "500 test rows, wanted at least 501"),
    ],
)
def test_a_stricter_threshold_counts(change: dict[str, Any], told: str) -> None:
    verdict = gate(EVALUATION, THRESHOLDS.model_copy(update=change))
    assert not verdict.passed
    assert told in verdict.reason


def test_a_slice_in_which_the_metric_is_not_defined_is_not_asked_for() -> None:
    without = changed("champion.slices.1", GONE)
    nothing = {"value": None, "low": None, "high": None}
    assert gate(changed("challenger.slices.found.0.metrics.log_loss", nothing, without), THRESHOLDS).passed


def test_a_sudden_gain_is_looked_at_first() -> None:
    much = changed("challenger.metrics.auc", span(0.9))
    much["champion"]["gain"]["auc"] = span(0.21)
    for one, before in much["baselines"].items():
        before["gain"]["auc"] = span({"prior": 0.4, "rule": 0.3}[one])
    verdict = gate(much, THRESHOLDS)
    assert [check.name for check in verdict.checks if not check.passed] == ["no jump"]
    assert gate(much, THRESHOLDS.model_copy(update={"max_jump": None})).passed


def test_over_a_fallback_any_skill_is_a_jump_and_no_leak() -> None:
    much = changed("champion.metrics.auc", 0.5)
    much["champion"]["gain"]["auc"] = span(0.2)
    assert [check.name for check in gate(much, THRESHOLDS).checks if check.name == "no jump" and not check.passed]
    assert all(
        check.passed
        for check in gate(changed("champion.is_fallback", True, much), THRESHOLDS).checks
        if check.name == "no jump"
    )


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"how": "continue", "builds_on": "3"}, "the challenger goes on from version 3"),
        ({"how": "recalibrate", "builds_on": "3"}, "the challenger goes on from version 3"),
        ({"how": "scratch", "window_from": "2024-01-05"}, "was to learn from 2024-01-05 on"),
        ({"how": "scratch", "window_from": None}, None),
        ({"window_from": "the start"}, None),
    ],
)
def test_who_was_asked_to_learn_from_less_may(asked: dict[str, Any], told: str | None) -> None:
    few = {**changed("champion.fitted_rows", 10_000), **asked}
    (check,) = [one for one in gate(few, THRESHOLDS).checks if one.name == "learnt from enough"]
    assert check.passed == (told is not None)
    assert (told or "wanted at least 50% as many") in check.reason


def test_a_champion_without_skill_has_nothing_to_lose() -> None:
    poor = changed("champion.promoted.metrics.auc", 0.5)
    assert gate(poor, THRESHOLDS).passed
    assert not gate(changed("task", "ranking"), THRESHOLDS).passed


RULE = Bootstrap(resamples=60)
BLOCKS = np.arange(2_000) % 20


def model(signal: float) -> Scored:
    """Scores of always the same 2,000 rows: the more signal, the nearer to their labels."""
    random = np.random.default_rng(0)
    labels = (random.random(2_000) < 0.3).astype(int)
    noise = random.normal(size=2_000)
    scores = 1 / (1 + np.exp(1 - signal * labels - noise / 2))
    return Scored("binary", ("0", "1"), labels, scores, np.ones(2_000))


def faced(challenger: Scored, champion: Scored) -> dict[str, Any]:
    evaluation = changed("challenger.metrics", intervals(challenger, BLOCKS, RULE))
    evaluation["champion"] |= {"metrics": measure(champion), "gain": gains(challenger, champion, BLOCKS, RULE)}
    return evaluation


JUST_CHAMPION = Gate(
    limits={"auc": Limit(min=0.5)},
    gain_over_baselines={"f_beta": -9},
    slices=None,
    gain_over_champion={"auc": -0.01, "log_loss": -0.01},
    max_prediction_shift=None,
    max_jump=None,
    max_champion_fall=None,
    max_forgotten=None,
)


def reasons(evaluation: dict[str, Any]) -> str:
    """What speaks against the challenger; nothing is known of baselines here."""
    checks = gate(evaluation, JUST_CHAMPION).checks
    return "; ".join(check.reason for check in checks if not check.passed and not check.name.startswith("f_beta"))


def test_champion_and_challenger_are_not_confused() -> None:
    weak, strong = model(0.5), model(2.0)
    assert reasons(faced(strong, weak)) == ""
    assert "log_loss over champion: gain -" in reasons(faced(weak, strong))
    one, other = faced(strong, weak), faced(weak, strong)
    told = reasons(changed("champion.gain", other["champion"]["gain"], one))
    assert "auc over champion: gain -" in told and "is not" in told  # gains of the other way round
    told = reasons(changed("challenger.metrics", other["challenger"]["metrics"], one))
    assert "is not" in told  # another model's metrics
    assert "same scores" in reasons(faced(strong, strong))
    same = changed("challenger.run_id", "old", changed("judged.run_id", "old", one))
    assert reasons(same) == "challenger and champion are the same run"
    stale = changed("champion.trained_until", "2024-01-09", one)
    assert reasons(stale) == "champion learnt from data until 2024-01-09, the test starts at 2024-01-08"


METRIC = st.floats(0, 1)


@given(auc=METRIC, log_loss=METRIC, champion_auc=METRIC, champion_loss=METRIC, half=st.floats(0, 0.1))
def test_a_worse_challenger_never_passes(
    auc: float, log_loss: float, champion_auc: float, champion_loss: float, half: float
) -> None:
    evaluation = changed("challenger.metrics", {"auc": span(auc), "log_loss": span(log_loss)})
    evaluation["champion"]["metrics"] = {"auc": champion_auc, "log_loss": champion_loss}
    gain = {"auc": span(auc - champion_auc, half), "log_loss": span(champion_loss - log_loss, half)}
    evaluation["champion"]["gain"] = gain
    if reasons(evaluation) == "":
        assert auc - half - champion_auc >= -0.01 - 1e-9
        assert champion_loss - half - log_loss >= -0.01 - 1e-9


def test_the_verdict_survives_json() -> None:
    verdict = gate(EVALUATION, THRESHOLDS).document()
    assert json.loads(json.dumps(verdict)) == verdict


def test_what_a_slice_may_lose_is_in_the_unit_of_the_label_where_the_metric_is() -> None:
    """A twentieth of the champion's error of 40: 2, whatever the unit; of a loss without a unit 0.05."""
    thresholds = THRESHOLDS.model_copy(update={"slices": SliceGate(metric="rmse")})
    evaluation = changed("champion.metrics.rmse", 40.0)
    for one in evaluation["champion"]["slices"]:
        one |= {"metric": "rmse", "gain": span(-1.9)}
    for kind in ("declared", "found"):
        for one in evaluation["challenger"]["slices"][kind]:
            one["metrics"] = {"rmse": span(40.0)}
    assert next(check for check in gate(evaluation, thresholds).checks if check.name == "slices").passed
    evaluation["champion"]["slices"][0]["gain"] = span(-2.1)
    (failed,) = [check for check in gate(evaluation, thresholds).checks if check.name == "slices"]
    assert not failed.passed and "may lose at most 2" in failed.reason
    del evaluation["champion"]["metrics"]["rmse"]
    (failed,) = [check for check in gate(evaluation, thresholds).checks if check.name == "slices"]
    assert not failed.passed and "is missing" in failed.reason
    by_default = THRESHOLDS.model_copy(update={"slices": SliceGate()})
    assert "may lose at most 0.05" in gate(changed("champion.slices.0.gain", span(-0.06)), by_default).reason


def tied(value: float, half: float, **change: Any) -> Any:
    """An evaluation whose AUC is measured at `value` over the champion, give or take `half`, and that says how sure."""
    gain = {"value": value, "low": value - half, "high": value + half}
    evaluation = changed("champion.gain.auc", gain) | {"confidence": 0.95}
    evaluation["champion"]["metrics"]["auc"] = 0.7 - value
    evaluation["champion"]["slices"] = []
    evaluation["challenger"]["slices"] = {"declared": [], "found": [], "looked_at": 0}
    rule = THRESHOLDS.model_copy(update={"gain_over_champion": {"auc": -0.01}, **change})
    (check,) = [one for one in gate(evaluation, rule).checks if one.name == "auc over champion"]
    return check


def test_a_tie_with_the_champion_passes_and_is_called_one() -> None:
    """Half an interval of 0.03 is 1.96 standard errors; nine of ten equals lie above -1.28 of them, -0.0196."""
    tie = tied(-0.015, 0.03)
    assert tie.passed and tie.is_tie
    assert "a tie: these rows cannot tell the challenger from the champion (at least -0.0196)" in tie.reason
    better = tied(0.03, 0.03)
    assert better.passed and not better.is_tie, "within the margin for sure: no tie is needed"
    worse = tied(-0.021, 0.03)
    assert not worse.passed and not worse.is_tie
    assert "wanted at least -0.01, or -0.0196 for a tie" in worse.reason


def test_rows_that_show_nothing_let_nothing_much_worse_in() -> None:
    """Intervals as wide as one likes: a loss of a quarter of the champion's advantage over the baselines is no tie."""
    assert tied(-0.02, 0.4).passed, "the best baseline has 0.6, the champion 0.72"
    assert not tied(-0.06, 0.4).passed
    assert not tied(-0.02, 0.4, max_tie_loss=0.1).passed


def test_a_tie_is_not_enough_where_more_is_asked_for() -> None:
    assert tied(0.0, 0.03, gain_over_champion={"auc": 0.0}).is_tie
    assert not tied(0.0, 0.03, gain_over_champion={"auc": 0.001}).passed, "a gain is to be shown"
    assert not tied(-0.015, 0.03, ties_pass=None).passed, "the interval alone decides"
    assert not tied(-0.015, 0.03, ties_pass=0.8).passed, "a stricter test of being as good"


@pytest.mark.parametrize("path", ["confidence", "baselines.prior.metrics.auc", "champion.metrics.auc"])
@pytest.mark.parametrize("value", BROKEN)
def test_without_the_evidence_for_a_tie_there_is_none(path: str, value: Any) -> None:
    evaluation = changed("champion.gain.auc", {"value": 0.0, "low": -0.03, "high": 0.03}) | {"confidence": 0.95}
    evaluation["champion"]["metrics"]["auc"] = 0.7
    rule = THRESHOLDS.model_copy(update={"gain_over_champion": {"auc": -0.01}})
    assert gate(evaluation, rule).passed
    assert not gate(changed(path, value, evaluation), rule).passed


@pytest.mark.parametrize(
    ("learnt", "passed", "message"),
    [
        (0, True, "of the test rows, which are drawn, the champion has learnt from 0"),
        (3, False, "the champion has learnt from 3; a changed seed, share or group of dataset.split draws other rows"),
        (None, False, "whether the champion has learnt from test rows is missing"),
        (GONE, False, "whether the champion has learnt from test rows is missing"),
    ],
)
def test_of_drawn_rows_it_counts_those_that_the_champion_has_learnt_from(
    learnt: Any, passed: bool, message: str
) -> None:
    """Its partitions are those of the test, as of every delivery some rows are in it."""
    drawn = changed("is_drawn", True, changed("champion.trained_until", "2024-01-09"))
    evaluation = changed("champion.learnt_test_rows", 1, drawn)
    verdict = gate(changed("champion.learnt_test_rows", learnt, evaluation), THRESHOLDS)
    assert verdict.passed is passed and message in verdict.reason
