"""Differences between groups are Fairlearn's, and the sums behind their intervals give the same."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fairlearn.metrics import (
    demographic_parity_difference,
    equal_opportunity_difference,
    equalized_odds_difference,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.evaluation.report.fairness import fairness
from pipelines.metrics.block_sums import intervals_of_sums, summed_blocks
from pipelines.metrics.scored import Scored
from pipelines.problem import Problem
from tests.conftest import ToyProblem
from tests.examples import dear

FAIRLEARN = {
    "demographic_parity": demographic_parity_difference,
    "equal_opportunity": equal_opportunity_difference,
    "equalised_odds": equalized_odds_difference,
}


def problem(toy: ToyProblem, min_rows: int = 10, **changes: Any) -> Problem:
    fair = {"evaluation.fairness": {"groups": ["shelf"], "min_rows": min_rows}, "evaluation.bootstrap.resamples": 100}
    return toy(**fair, **changes)


def biased(seed: int, count: int = 2000) -> tuple[np.ndarray, Scored]:
    """Group b gets higher scores than it deserves."""
    random = np.random.default_rng(seed)
    groups = random.choice(["a", "b", "c"], count, p=[0.5, 0.3, 0.2])
    truth = random.random(count)
    scores = np.clip(truth + 0.2 * (groups == "b"), 0, 1)
    labels = (random.random(count) < truth).astype(int)
    return groups, Scored("binary", ("0", "1"), labels, scores, random.random(count))


@pytest.mark.parametrize("seed", range(3))
def test_values_are_fairlearns_and_intervals_hold_them(toy: ToyProblem, seed: int) -> None:
    groups, scored = biased(seed)
    result = fairness(problem(toy), pa.table({"shelf": groups}), scored, np.arange(2000) // 100)["shelf"]
    for measure, function in FAIRLEARN.items():
        expected = function(scored.labels, scored.decisions, sensitive_features=groups, sample_weight=scored.weights)
        assert result[measure]["value"] == pytest.approx(expected)
        assert result[measure]["low"] < expected < result[measure]["high"]
    assert result["demographic_parity"]["value"] > 0.1
    selected = {one["group"]: one["selection_rate"] for one in result["groups"]}
    assert max(selected, key=lambda group: selected[group]) == "b"


@settings(max_examples=dear(25))
@given(seed=st.integers(0, 10_000), count=st.integers(30, 80), classes=st.integers(2, 4))
def test_the_sums_of_blocks_give_fairlearns_value(toy: ToyProblem, seed: int, count: int, classes: int) -> None:
    """Beside the value there is one from sums, that the interval is about."""
    from pipelines.evaluation.report.fairness import _differences, _rates_of, _sums

    random = np.random.default_rng(seed)
    groups = random.integers(0, 2, count)
    groups[:24] = np.repeat([0, 1], 12)
    weights = random.random(count) + 0.1
    if classes == 2:
        scored = Scored("binary", ("0", "1"), random.integers(0, 2, count), random.random(count), weights)
    else:
        scores = random.dirichlet(np.ones(classes), count)
        names = tuple("abcd"[:classes])
        scored = Scored("multiclass", names, random.integers(0, classes, count), scores, weights)
    blocks = random.integers(0, 7, count)
    codes = [1] if classes == 2 else list(range(classes))
    sums = _sums(scored, codes, groups, 2, blocks).sum(axis=0)
    result = fairness(problem(toy), pa.table({"shelf": groups.astype(str)}), scored, blocks)["shelf"]
    values = [result[measure]["value"] for measure in FAIRLEARN]
    assert values == pytest.approx([None if np.isnan(one) else one for one in _differences(_rates_of(sums))])


def test_several_classes_count_by_their_worst(toy: ToyProblem) -> None:
    random = np.random.default_rng(0)
    groups = random.choice(["a", "b"], 3000)
    scores = random.dirichlet([1, 1, 1], 3000)
    scores[groups == "b"] = scores[groups == "b"] * 0.4 + [0.0, 0.0, 0.6]
    labels = random.integers(0, 3, 3000)
    scored = Scored("multiclass", ("u", "v", "w"), labels, scores, np.ones(3000))
    result = fairness(problem(toy), pa.table({"shelf": groups}), scored, np.arange(3000) // 100)["shelf"]
    each = [
        demographic_parity_difference(labels == one, scored.decisions == one, sensitive_features=groups)
        for one in range(3)
    ]
    assert result["demographic_parity"]["value"] == pytest.approx(max(each))
    assert result["class"] == "w"
    rates = {one["group"]: one["selection_rate"] for one in result["groups"]}
    assert rates["b"] - rates["a"] == pytest.approx(each[2])


def test_small_groups_are_reported_and_not_compared_and_the_missing_are_a_group(toy: ToyProblem) -> None:
    groups, scored = biased(1)
    groups = np.where(np.arange(2000) < 30, "tiny", groups)
    table = pa.table({"shelf": pa.array(groups, mask=(np.arange(2000) >= 30) & (np.arange(2000) < 300))})
    result = fairness(problem(toy, min_rows=100), table, scored, np.arange(2000) // 100)["shelf"]
    is_compared = {one["group"]: one["is_compared"] for one in result["groups"]}
    assert is_compared == {"a": True, "b": True, "c": True, "missing": True, "tiny": False}
    assert next(one["rows"] for one in result["groups"] if one["group"] == "missing") == 270
    named = np.array(table["shelf"].fill_null("missing"))
    kept = named != "tiny"
    expected = demographic_parity_difference(
        scored.labels[kept], scored.decisions[kept], sensitive_features=named[kept], sample_weight=scored.weights[kept]
    )
    assert result["demographic_parity"]["value"] == pytest.approx(expected)
    alone = fairness(problem(toy, min_rows=1500), table, scored, np.arange(2000) // 100)["shelf"]
    assert alone["demographic_parity"] == {"value": None, "low": None, "high": None}
    assert len(alone["groups"]) == 5


def test_a_group_without_positives_has_no_rate_rather_than_0(toy: ToyProblem) -> None:
    groups, scored = biased(2)
    scored = Scored("binary", ("0", "1"), np.where(groups == "c", 0, scored.labels), scored.scores, scored.weights)
    result = fairness(problem(toy), pa.table({"shelf": groups}), scored, np.arange(2000) // 100)["shelf"]
    assert next(one for one in result["groups"] if one["group"] == "c")["true_positive_rate"] is None
    kept = groups != "c"
    expected = equal_opportunity_difference(
        scored.labels[kept], scored.decisions[kept], sensitive_features=groups[kept], sample_weight=scored.weights[kept]
    )
    assert result["equal_opportunity"]["value"] == pytest.approx(expected)


def test_numbers_are_grouped_by_quarters(toy: ToyProblem) -> None:
    _, scored = biased(0)
    result = fairness(problem(toy), pa.table({"age": np.arange(2000)}), scored, np.arange(2000) // 100)["age"]
    assert sorted(one["rows"] for one in result["groups"]) == [500] * 4
    few = fairness(problem(toy), pa.table({"age": np.arange(2000) % 2}), scored, np.arange(2000) // 100)["age"]
    assert [one["group"] for one in few["groups"]] == ["0", "1"]


def test_intervals_widen_where_blocks_depend(toy: ToyProblem) -> None:
    random = np.random.default_rng(0)
    days = np.repeat(np.arange(20), 100)
    scored = Scored(
        "binary", ("0", "1"), random.integers(0, 2, 2000), np.clip(random.random(20)[days], 0, 1), np.ones(2000)
    )
    groups = pa.table({"shelf": np.where(random.random(2000) < random.random(20)[days], "a", "b")})
    by_day, by_row = (
        fairness(problem(toy), groups, scored, blocks)["shelf"]["demographic_parity"]
        for blocks in (days, np.arange(2000))
    )
    assert by_day["value"] == by_row["value"]
    assert by_day["high"] - by_day["low"] > 2 * (by_row["high"] - by_row["low"])


@pytest.mark.parametrize("count", [0, 1, 2, 12])
def test_a_handful_of_rows_compares_nothing(toy: ToyProblem, count: int) -> None:
    groups, scored = biased(0)
    result = fairness(problem(toy), pa.table({"shelf": groups[:count]}), scored.take(slice(0, count)), np.arange(count))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert [result["shelf"][measure]["value"] for measure in FAIRLEARN] == [None] * 3


def test_rows_of_weight_0_are_no_rows_and_nothing_is_asked_without_the_section(toy: ToyProblem) -> None:
    groups, scored = biased(0)
    half, blocks = np.arange(2000) % 2 == 0, np.arange(2000) // 100
    weighed = Scored("binary", ("0", "1"), scored.labels, scored.scores, half * 1.0)
    plain = Scored("binary", ("0", "1"), scored.labels[half], scored.scores[half], np.ones(1000))
    table = pa.table({"shelf": groups})
    assert fairness(problem(toy), table, weighed, blocks) == fairness(
        problem(toy), table.filter(pa.array(half)), plain, blocks[half]
    )
    assert fairness(toy(), table, scored, blocks) == {}


def test_bundles_of_rows_give_the_interval_of_rows(toy: ToyProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=3000)
    rule = toy().evaluation.bootstrap
    widths = []
    for most in (5_000, 1_000):
        monkeypatch.setattr("pipelines.metrics.block_sums.MOST_BLOCKS", most)
        place, count = summed_blocks(np.arange(3000))
        assert count == min(most, 3000)
        sums = np.stack([np.bincount(place, values, count), np.bincount(place, minlength=count)], axis=1)
        (interval,) = intervals_of_sums(sums, lambda found: found[..., :1] / found[..., 1:], rule)
        assert interval["value"] == pytest.approx(values.mean())
        widths.append(interval["high"] - interval["low"])  # type: ignore[operator]
    assert widths[0] == pytest.approx(2 * 1.96 / np.sqrt(3000), rel=0.15)
    assert widths[1] == pytest.approx(widths[0], rel=0.15)
