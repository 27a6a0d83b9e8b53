"""The judging of the benchmark of real tables: when an alarm is right, and when a champion is as good."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.tables.judge import AtGate, compared, has_shifted, is_off, plain_scores
from pipelines.config import Policy
from pipelines.metrics.scored import Scored
from pipelines.profiles.profile import Reference
from tests.tables.conftest import problem_of

POLICY = Policy()


def binary(labels: np.ndarray, scores: np.ndarray) -> Scored:
    return Scored("binary", ("0", "1"), labels, scores, np.ones(len(labels)))


def numbers(labels: np.ndarray, scores: np.ndarray) -> Scored:
    return Scored("regression", (), labels, scores, np.ones(len(labels)))


def ranked(rows: int, auc: float, seed: int = 0) -> Scored:
    """Rows of which a tenth is positive, ranked about as well as `auc` says, with scores that are calibrated."""
    random = np.random.default_rng(seed)
    labels = (np.arange(rows) % 10 == 0).astype(np.int64)
    is_known = random.random(rows) < 2 * auc - 1
    scores = np.where(is_known, np.where(labels == 1, 0.2, 0.09), random.random(rows) * 0.2)
    return binary(labels, scores)


def test_a_fall_that_chance_explains_makes_no_alarm_right() -> None:
    few = ranked(60, 0.7)
    off, said = is_off(few, AtGate(0.8, None), POLICY)
    assert not off
    assert "tested at 0.800" in said


def test_a_fall_beyond_chance_and_limit_makes_an_alarm_right() -> None:
    off, said = is_off(ranked(20_000, 0.6), AtGate(0.8, None), POLICY)
    assert (off, said.startswith("auc 0.6")) == (True, True)
    assert not is_off(ranked(20_000, 0.78), AtGate(0.8, None), POLICY)[0]  # below the policy's limit


def test_a_mean_score_that_misses_the_labels_makes_an_alarm_right() -> None:
    labels = (np.arange(1_000) % 5 == 0).astype(np.int64)
    assert is_off(binary(labels, np.full(1_000, 0.3)), AtGate(None, None), POLICY) == (
        True,
        "mean score less mean label +0.1",
    )
    assert not is_off(binary(labels, np.full(1_000, 0.22)), AtGate(None, None), POLICY)[0]
    assert not is_off(binary(labels[:10], np.full(10, 0.3)), AtGate(None, None), POLICY)[0]


def test_a_class_that_comes_more_often_than_scored_makes_an_alarm_right() -> None:
    labels = np.repeat([0, 1, 2], [500, 300, 200])
    scores = np.tile([0.7, 0.1, 0.2], (1_000, 1))
    off, said = is_off(
        Scored("multiclass", ("a", "b", "c"), labels, scores, np.ones(1_000)), AtGate(None, None), POLICY
    )
    assert (off, said) == (True, "mean probability of a less its share +0.2")


def test_a_regression_is_off_by_its_bias_in_spreads_of_its_labels() -> None:
    labels = np.random.default_rng(0).normal(0, 10, 1_000)
    assert is_off(numbers(labels, labels + 9), AtGate(None, 10.0), POLICY)[0]
    assert not is_off(numbers(labels, labels + 9), AtGate(None, 1_000.0), POLICY)[0]


@pytest.mark.parametrize("better", ["champion", "plain", "neither"])
def test_a_gain_is_positive_where_the_champion_is_better(better: str) -> None:
    random = np.random.default_rng(0)
    labels, partitions = random.normal(0, 1, 2_000), np.repeat([f"w{week}" for week in range(10)], 200)
    near, far = labels + random.normal(0, 0.5, 2_000), labels + random.normal(0, 1.0, 2_000)
    ours, theirs = {"champion": (near, far), "plain": (far, near), "neither": (near, near)}[better]
    gain = compared(numbers(labels, ours), numbers(labels, theirs), partitions)[0]
    assert gain.metric == "rmse"
    assert gain.gain == pytest.approx(gain.plain - gain.champion)
    assert gain.is_good == (better != "plain")
    assert np.sign(gain.gain) == {"champion": 1, "plain": -1, "neither": 0}[better]


def test_the_plain_model_learns_from_all_labelled_rows_and_takes_a_new_text_as_missing() -> None:
    problem = problem_of("paid: {type: float, available: cutoff}", "country: {type: string, available: cutoff}")
    count = 400
    known = pa.table(
        {
            "paid": [float(n % 20) for n in range(count)],
            "country": ["DE" if n % 2 else "FR" for n in range(count)],
            "label": pa.array([None if n % 7 == 0 else int(n % 20 >= 10) for n in range(count)], pa.int8()),
        }
    )
    asked = pa.table({"paid": [1.0, 18.0, 18.0], "country": ["DE", "FR", "XX"]})
    low, high, unseen = plain_scores(problem, known, asked)
    assert low < 0.1 < 0.9 < high
    assert unseen > 0.9


@pytest.mark.parametrize(("share", "is_shifted"), [(0.45, True), (0.35, False)])
def test_labels_that_came_say_whether_their_mix_has_shifted(share: float, is_shifted: bool) -> None:
    """The limit is a change of 0.1; whether it harms the scores is another question."""
    labels = (np.arange(1_000) < 1_000 * share).astype(np.int64)
    trained = reference(label_rate=0.3)
    shifted, said = has_shifted(binary(labels, labels * 1.0), trained, POLICY)
    assert shifted == is_shifted
    assert said == ("positive rate 0.45, 0.3 in training" if is_shifted else "")
    few = binary(labels[::100], labels[::100] * 1.0)
    assert not has_shifted(few, trained, POLICY)[0], "ten rows show nothing"


def test_of_several_classes_any_share_may_have_shifted() -> None:
    labels = np.repeat([0, 1, 2], [600, 200, 200])
    scores = np.eye(3)[labels]
    measured = Scored("multiclass", ("a", "b", "c"), labels, scores, np.ones(1_000))
    trained = reference(class_rates={"a": 0.3, "b": 0.5, "c": 0.2})
    assert has_shifted(measured, trained, POLICY) == (True, "share of a 0.6, 0.3 in training")
    assert not has_shifted(numbers(labels * 1.0, labels * 1.0), reference(label_mean=3.0), POLICY)[0]


def reference(**known: Any) -> Reference:
    """What is known of a training's labels, and nothing else."""
    return Reference.model_construct(**{"label_rate": None, "class_rates": {}, "label_mean": None, **known})
