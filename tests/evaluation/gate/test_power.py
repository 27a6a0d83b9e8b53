from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from pipelines.evaluation.gate.champion_checks import over_champion
from pipelines.evaluation.gate.power import equals, held_out_power, power, provable
from pipelines.metrics.bootstrap import gains
from pipelines.metrics.metrics import measure
from pipelines.metrics.scored import scored
from pipelines.problem import Problem, parse_problem
from tests.required import OF_TASK, REQUIRED

METRIC = {"binary": "auc", "multiclass": "auc", "regression": "rmse"}


def problem_of(task: str, resamples: int = 100) -> Problem:
    quick = {"evaluation": {"bootstrap": {"resamples": resamples}}}
    gains = {METRIC[task]: 0.0}
    limits = {METRIC[task]: {"min": 0.0}}
    of_gate = {"gate": {"limits": limits, "gain_over_baselines": gains, "gain_over_champion": gains}}
    return parse_problem(REQUIRED | OF_TASK[task] | of_gate | quick, Path("kettle"))


def labels_of(task: str, rows: int, random: np.random.Generator) -> Any:
    if task == "regression":
        return random.gamma(2, 10, rows)
    return random.integers(0, 2 if task == "binary" else 3, rows)


def held_out(task: str, rows: int, days: int) -> pa.Table:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    return pa.table(
        {
            "label": labels_of(task, rows, np.random.default_rng(1)),
            "weight": np.ones(rows),
            "partition": ["2024-01-01"] * rows,
            "event_time": pa.array(
                [start + timedelta(days=days) * n / rows for n in range(rows)], pa.timestamp("us", "UTC")
            ),
        }
    )


@pytest.mark.parametrize("task", METRIC)
def test_four_times_the_rows_show_half_the_difference(task: str) -> None:
    metric = METRIC[task]
    few, many = (power(problem_of(task), held_out(task, rows, 28), [metric]) for rows in (500, 2_000))
    assert (few.rows, many.rows, many.blocks) == (500, 2_000, 28)
    assert many.detectable[metric] == pytest.approx(few.detectable[metric] / 2, rel=0.25)
    assert few.detectable[metric] / few.error[metric] == pytest.approx(1.96 + 0.84, abs=0.01)


def test_an_equal_models_gain_has_the_error_that_was_said(task: str = "regression") -> None:
    problem, random = problem_of(task), np.random.default_rng(2)
    labels, weights = labels_of(task, 600, random), np.ones(600)
    found = []
    for seed in range(100, 200):
        one, other = equals(problem, labels, weights, seed)
        found.append(float(measure(one)["rmse"] or 0) - float(measure(other)["rmse"] or 0))
    rows = held_out(task, 600, 30).set_column(0, "label", pa.array(labels))
    assert power(problem, rows, ["rmse"]).error["rmse"] == pytest.approx(np.std(found), rel=0.25)


def test_rows_that_show_nothing_say_nothing() -> None:
    for rows in (held_out("binary", 1, 1), held_out("binary", 0, 1)):
        assert power(problem_of("binary"), rows, ["auc"]).detectable == {}
    alike = held_out("binary", 200, 14).set_column(0, "label", pa.array(np.zeros(200, np.int64)))
    assert "auc" not in power(problem_of("binary"), alike, ["auc", "log_loss"]).detectable


def test_a_margin_of_two_half_intervals_is_what_an_equal_model_can_show() -> None:
    half = NormalDist().inv_cdf(0.975) * 0.01
    assert provable(-2 * half, 0.01, 0.95) == pytest.approx(0.975, abs=1e-6)
    assert provable(-half, 0.01, 0.95) == pytest.approx(0.5)


@pytest.mark.slow
@pytest.mark.parametrize("task", METRIC)
def test_nine_of_ten_equals_pass_the_gate_on_few_rows_and_what_is_clearly_worse_does_not(task: str) -> None:
    """300 rows of a week. Worse: half of what the champion knows above the baseline is lost."""
    problem, random = problem_of(task), np.random.default_rng(3)
    rule, metric, blocks = problem.evaluation.bootstrap, METRIC[task], np.arange(300) // 43
    passed: dict[str, list[bool]] = {"equal": [], "worse": [], "equal, by its interval": []}
    for seed in range(150):
        labels, weights = labels_of(task, 300, random), np.ones(300)
        champion, equal = equals(problem, labels, weights, seed)
        chance = np.full_like(equal.scores, labels.mean() if task != "multiclass" else 1 / 3)
        scores = equal.scores / 2 + chance / 2
        if task != "regression":
            lost = random.permutation(300)[:150]
            scores = equal.scores.copy()
            scores[lost] = scores[random.permutation(lost)]
        for name, ours in (("equal", equal), ("worse", scored(problem, labels, scores, weights))):
            evaluation: dict[str, Any] = {
                "confidence": rule.confidence,
                "serves": "1",
                "baselines": {"prior": {"metrics": measure(scored(problem, labels, chance, weights))}},
                "champion": {
                    "version": "1",
                    "metrics": measure(champion),
                    "gain": gains(ours, champion, blocks, rule, [metric]),
                },
            }
            report = {"metrics": {metric: {"value": measure(ours)[metric]}}}
            checks = over_champion(evaluation, report, problem.gate)
            passed[name].append(next(one.passed for one in checks if one.name == f"{metric} over champion"))
            if name == "equal":
                passed["equal, by its interval"].append(evaluation["champion"]["gain"][metric]["low"] >= 0)
    assert np.mean(passed["equal"]) > 0.8
    assert np.mean(passed["worse"]) < 0.03
    assert np.mean(passed["equal, by its interval"]) < 0.1, "what the gate asked for before it knew ties"


def in_splits(task: str, rows: int, days: int) -> pa.Table:
    """Rows as a training set has them: labels as the tables keep them, an unlabelled one among them."""
    parts = []
    for split in ("train", "validation", "test"):
        part = held_out(task, rows, days)
        if task == "multiclass":
            part = part.set_column(0, "label", pa.array(np.array(["fast", "slow", "never"])[part["label"].to_numpy()]))
        parts.append(part.append_column("split", pa.array([split] * rows)))
    unlabelled = parts[0].slice(0, 1).set_column(0, "label", pa.nulls(1, parts[0]["label"].type))
    return pa.concat_tables([*parts, unlabelled.set_column(4, "split", pa.array(["test"]))])


@pytest.mark.parametrize("task", METRIC)
def test_before_training_it_is_said_what_the_rows_can_show(task: str) -> None:
    shows = held_out_power(problem_of(task), in_splits(task, 300, 14))
    loss = "rmse" if task == "regression" else "log_loss"
    assert (shows.test.rows, shows.test.blocks) == (300, 14)
    assert set(shows.validation.detectable) == {loss}, "what the challenger is picked by"
    assert set(shows.test.detectable) == {METRIC[task]}, "what the gate compares by"
    (warning,) = shows.warnings
    assert "300 test rows in 14 blocks show a difference of" in warning
    assert "exactly as good as the champion" in warning and "pass as ties down to -" in warning


def test_rows_on_disk_show_the_same() -> None:
    problem, rows = problem_of("binary"), in_splits("binary", 300, 14)
    assert held_out_power(problem, ds.dataset(rows)) == held_out_power(problem, rows)


def test_what_the_gate_asks_beyond_what_the_rows_show_is_warned_of() -> None:
    def warned(margin: float, rows: int = 300, **gate: Any) -> list[str]:
        thresholds = {"limits": {"auc": {"min": 0.5}}, "gain_over_baselines": {"auc": 0.0}}
        of_gate = {"gate": {**thresholds, "gain_over_champion": {"auc": margin}, **gate}}
        quick = {"evaluation": {"bootstrap": {"resamples": 100}}}
        problem = parse_problem(REQUIRED | OF_TASK["binary"] | of_gate | quick, Path("kettle"))
        return held_out_power(problem, in_splits("binary", rows, 14)).warnings

    assert warned(-0.2) == [], "an equal challenger can be shown to be within 0.2"
    assert "no equal challenger passes" in warned(0.02)[0]
    assert "the others fail (gate.ties_pass is null)" in warned(-0.001, ties_pass=None)[0]
    assert "give no interval of a gain in auc: no challenger passes" in warned(0.0, rows=1)[0]
