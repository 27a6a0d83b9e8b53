"""A planted slice is found with its own conditions; where there is none, hardly ever one is found."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.evaluation.report.slices import compared_slices, mask, slices
from pipelines.metrics.scored import Scored
from tests.conftest import ToyProblem

BINARY = ("0", "1")


def features(random: np.random.Generator, count: int) -> pa.Table:
    return pa.table(
        {
            "shelf": random.choice(["top", "bottom", "mid"], count),
            "litres": random.random(count) * 5,
            "shelf_rate_3d": random.random(count),
            "shelf_count_2d": random.integers(0, 9, count),
        }
    )


def planted(
    seed: int, count: int = 6000, days: int = 14, is_bad: str = "top and above 4"
) -> tuple[pa.Table, Scored, np.ndarray]:
    """Scores that are right but where it is bad; there they are the wrong way round."""
    random = np.random.default_rng(seed)
    rows = features(random, count)
    logit = random.normal(size=count) * 1.5 - 1
    bad = {
        "top and above 4": (np.array(rows["shelf"]) == "top") & (rows["litres"].to_numpy() > 4),
        "six and more": rows["shelf_count_2d"].to_numpy() >= 6,
        "none": np.zeros(count, dtype=bool),
    }[is_bad]
    labels = random.random(count) < 1 / (1 + np.exp(np.where(bad, logit, -logit)))
    scored = Scored("binary", BINARY, labels.astype(int), 1 / (1 + np.exp(-logit)), np.ones(count))
    return rows, scored, np.arange(count) * days // count


def found(toy: ToyProblem, seed: int, is_bad: str, **changes: Any) -> list[list[dict[str, Any]]]:
    return [one["conditions"] for one in slices(toy(**changes), *planted(seed, is_bad=is_bad))["found"]]


@pytest.mark.parametrize("seed", range(5))
def test_a_slice_of_two_features_is_found_and_not_its_parents(toy: ToyProblem, seed: int) -> None:
    (conditions,) = found(toy, seed, "top and above 4")
    assert [(one["feature"], one["op"]) for one in conditions] == [("shelf", "="), ("litres", ">")]
    assert conditions[0]["value"] == "top"
    assert conditions[1]["value"] == pytest.approx(4, abs=0.15)


@pytest.mark.parametrize("seed", range(5))
def test_a_slice_of_one_feature_is_found_without_children(toy: ToyProblem, seed: int) -> None:
    assert found(toy, seed, "six and more") == [[{"feature": "shelf_count_2d", "op": ">", "value": 5.0}]]


@pytest.mark.parametrize("min_t", [3, 1])
def test_where_all_rows_are_alike_hardly_anything_is_found(
    toy: ToyProblem, monkeypatch: pytest.MonkeyPatch, min_t: int
) -> None:
    monkeypatch.setattr(
        "pipelines.evaluation.report.slice_search.MIN_T", min_t
    )  # 1: the search brings whatever it sees
    problem, hits = toy(**{"evaluation.bootstrap.resamples": 50, "evaluation.slices.min_rows": 30}), 0
    for seed in range(40):
        rows, scored, blocks = planted(seed, 2000, is_bad="none")
        shelf = np.random.default_rng(seed).integers(0, 25, 2000).astype(str)  # many slices to be misled by
        hits += bool(slices(problem, rows.set_column(0, "shelf", pa.array(shelf)), scored, blocks)["found"])
    assert hits <= 6  # the rate is 0.05: more than 6 of 40 have a chance below 0.005


def test_bad_days_are_not_taken_for_a_slice(toy: ToyProblem) -> None:
    problem, hits = toy(**REGRESSION), 0
    for seed in range(30):
        random = np.random.default_rng(seed)
        days = np.arange(2800) // 200
        rows = features(random, 2800).set_column(1, "litres", pa.array(random.random(14)[days]))  # as the weather is
        labels = random.normal(size=2800) * np.exp(0.7 * random.normal(size=14))[days]
        hits += bool(
            slices(problem, rows, Scored("regression", (), labels, np.zeros(2800), np.ones(2800)), days)["found"]
        )
    assert hits <= 4  # the rate is 0.05; Welch's test alone would find slices in nine


@pytest.mark.parametrize("task", ["regression", "multiclass"])
def test_other_tasks(toy: ToyProblem, task: str) -> None:
    random = np.random.default_rng(5)
    rows = features(random, 6000)
    bad = np.array(rows["shelf"]) == "mid"
    if task == "regression":
        scored = Scored(task, (), random.normal(size=6000) * np.where(bad, 2, 1), np.zeros(6000), np.ones(6000))
        problem = toy(**REGRESSION)
    else:
        scores = random.dirichlet([1, 1, 1], 6000)
        labels = np.where(
            bad, random.integers(0, 3, 6000), (random.random((6000, 1)) > scores.cumsum(axis=1)).sum(axis=1)
        )
        scored = Scored(task, ("a", "b", "c"), labels, scores, np.ones(6000))
        problem = toy(**MULTICLASS)
    result = slices(problem, rows, scored, np.arange(6000) // 300)
    assert [one["name"] for one in result["found"]] == ["shelf = mid"]


def test_a_slice_says_all_that_was_promised(toy: ToyProblem) -> None:
    problem = toy(**{"evaluation.slices.by": ["shelf", "litres"]})
    rows, scored, blocks = planted(0)
    result = slices(problem, rows, scored, blocks)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["looked_at"] > 7
    assert {one["name"] for one in result["declared"]} >= {"shelf = top", "shelf = mid", "shelf = bottom"}
    assert len(result["declared"]) == 7
    for one in result["declared"]:
        inside = mask(rows, one["conditions"])
        loss = -np.log(np.where(scored.labels == 1, scored.scores, 1 - scored.scores))
        assert one["rows"] == inside.sum()
        assert one["share"] == pytest.approx(inside.mean())
        assert one["loss"]["value"] == pytest.approx(loss[inside].mean() - loss[~inside].mean())
        assert one["loss"]["low"] < one["loss"]["value"] < one["loss"]["high"]
        assert one["metrics"]["log_loss"]["value"] == pytest.approx(loss[inside].mean())
    significant = {one["name"] for one in result["declared"] if one["is_significant"]}
    assert significant >= {"shelf = top"}
    assert "shelf = mid" not in significant
    losses = [one["loss"]["value"] for one in result["declared"]]
    assert losses == sorted(losses, reverse=True)
    one = result["found"][0]
    assert one["is_significant"]
    assert one["rows"] == mask(rows, one["conditions"]).sum()
    unseen = blocks % 2 == 1
    inside = mask(rows, one["conditions"])
    assert one["loss"]["value"] == pytest.approx(loss[inside & unseen].mean() - loss[~inside & unseen].mean())


def test_rare_values_are_counted_together_and_not_tested(toy: ToyProblem) -> None:
    random = np.random.default_rng(0)
    rows, scored, blocks = planted(0, 1000)
    shelf = np.where(np.arange(1000) < 900, "top", random.choice(["x", "y", "z"], 1000))
    rows = rows.set_column(0, "shelf", pa.array(shelf, mask=np.arange(1000) < 20))
    declared = slices(toy(**{"evaluation.slices.by": ["shelf"]}), rows, scored, blocks)["declared"]
    assert {one["name"]: one["rows"] for one in declared} == {
        "shelf = top": 880,
        "shelf = any other": 100,
        "shelf is missing": 20,
    }
    for one in declared:
        assert (one["p_value"], one["is_significant"]) == (None, False)  # even of the first: it leaves but 120 rows
        assert (one["loss"]["low"] is None) == (one["rows"] < 200)


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 1),
        ({"evaluation.slices.find": False}, 0),
        ({"evaluation.slices.min_rows": 2500}, 0),
        ({"evaluation.slices.false_discovery_rate": 1e-12}, 0),
    ],
)
def test_each_switch_of_the_search_does_something(toy: ToyProblem, changes: dict[str, Any], count: int) -> None:
    result = slices(toy(**changes), *planted(3))
    assert len(result["found"]) == count
    assert (result["looked_at"] == 0) == (changes.get("evaluation.slices.find") is False)


def test_no_more_are_found_than_asked_for(toy: ToyProblem) -> None:
    rows, scored, blocks = planted(1, is_bad="none")
    bad = (rows["shelf_count_2d"].to_numpy() == 0) | (np.array(rows["shelf"]) == "mid")
    scored = Scored(
        "binary", BINARY, np.where(bad, scored.scores < 0.5, scored.labels).astype(int), scored.scores, scored.weights
    )
    both = slices(toy(), rows, scored, blocks)["found"]
    assert {one["name"] for one in both} == {"shelf = mid", "shelf_count_2d = 0"}
    assert slices(toy(**{"evaluation.slices.max_found": 1}), rows, scored, blocks)["found"] == both[:1]


def test_rows_of_weight_0_are_no_rows(toy: ToyProblem) -> None:
    problem = toy(**{"evaluation.slices.by": ["shelf"]})
    rows, scored, blocks = planted(2, 4000)
    half = np.arange(4000) % 2 == 0
    weighed = Scored("binary", BINARY, scored.labels, scored.scores, half * 1.0)
    assert slices(problem, rows, weighed, blocks) == slices(problem, rows.filter(half), scored.take(half), blocks[half])


@pytest.mark.parametrize("count", [0, 1, 3, 30])
def test_a_handful_of_rows_gives_no_verdict(toy: ToyProblem, count: int) -> None:
    rows, scored, blocks = planted(0, 40)
    problem = toy(**{"evaluation.slices.by": ["shelf", "litres"]})
    result = slices(problem, rows.slice(0, count), scored.take(slice(0, count)), blocks[:count])
    assert result["found"] == []
    assert not any(one["is_significant"] for one in result["declared"])


def test_columns_without_anything_to_tell(toy: ToyProblem) -> None:
    _, scored, blocks = planted(0, 1000)
    rows = pa.table(
        {
            "shelf": pa.nulls(1000, pa.string()),
            "litres": pa.nulls(1000, pa.float64()),
            "shelf_rate_3d": np.full(1000, 2.0),
            "shelf_count_2d": np.zeros(1000, dtype=np.int64),
        }
    )
    one_class = Scored("binary", BINARY, np.zeros(1000, dtype=int), scored.scores, scored.weights)
    for its in (scored, one_class):
        result = slices(toy(**{"evaluation.slices.by": ["shelf", "litres", "shelf_rate_3d"]}), rows, its, blocks)
        assert (result["found"], result["looked_at"]) == ([], 0)
        assert [one["share"] for one in result["declared"]] == [1, 1, 1]


def test_slices_of_two_models_are_compared_by_the_gates_metric(toy: ToyProblem) -> None:
    problem = toy(**{"evaluation.slices.by": ["shelf"], "gate.slices": {"metric": "brier"}})
    rows, ours, blocks = planted(0)
    top = np.array(rows["shelf"]) == "top"
    theirs = Scored("binary", BINARY, ours.labels, np.where(top, 0.5, ours.scores), ours.weights)
    declared = slices(problem, rows, ours, blocks)["declared"]
    compared = {one["name"]: one for one in compared_slices(problem, declared, rows, ours, theirs, blocks)}
    assert {one["metric"] for one in compared.values()} == {"brier"}
    brier = np.square(theirs.scores - ours.labels)[top].mean() - np.square(ours.scores - ours.labels)[top].mean()
    assert compared["shelf = top"]["gain"]["value"] == pytest.approx(brier)
    assert compared["shelf = top"]["rows"] == top.sum()
    assert compared["shelf = mid"]["gain"] == {"value": 0, "low": 0, "high": 0}
    assert compared_slices(toy(**{"gate.slices": None}), declared, rows, ours, theirs, blocks) == []


def test_slices_without_an_interval_are_not_compared(toy: ToyProblem) -> None:
    rows, ours, blocks = planted(0, 3000)
    conditions = [{"feature": "shelf", "op": "=", "value": "top"}]
    labels = np.where(np.array(rows["shelf"]) == "top", 0, ours.labels)
    ours = Scored("binary", BINARY, labels, ours.scores, ours.weights)
    several = [{"name": "shelf = top", "conditions": conditions}]
    for metric, count in (("auc", 0), ("log_loss", 1)):
        problem = toy(**{"gate.slices": {"metric": metric}})
        assert len(compared_slices(problem, several, rows, ours, ours, blocks)) == count
    small = toy(**{"evaluation.slices.min_rows": 2000})
    assert compared_slices(small, several, rows, ours, ours, blocks) == []


MULTICLASS: dict[str, Any] = {
    "task": "multiclass",
    "labels.classes": ["a", "b", "c"],
    "features.history": {},
    "gate.limits": {"log_loss": {"max": 9}},
    "gate.gain_over_baselines": {"log_loss": 0},
    "evaluation.bootstrap.resamples": 50,
}
REGRESSION: dict[str, Any] = {
    "task": "regression",
    "training.select_by": "rmse",
    "evaluation.bootstrap.resamples": 50,
    "gate": {
        "limits": {"rmse": {"max": 9}},
        "gain_over_baselines": {"rmse": 0},
        "gain_over_champion": {"rmse": 0},
        "slices": {"metric": "rmse"},
    },
}
