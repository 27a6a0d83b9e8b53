from __future__ import annotations

from datetime import UTC, datetime, timedelta
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import METRICS_OF, Bootstrap
from pipelines.errors import DataError
from pipelines.metrics import bootstrap
from pipelines.metrics.bootstrap import blocks_of, drawn_blocks, gains, intervals
from pipelines.metrics.metrics import METRICS, measure
from pipelines.metrics.scored import Scored
from tests.config.test_deliveries import read as deliveries
from tests.conftest import ToyProblem

RULE = Bootstrap(resamples=100)


def binary(rows: int = 1_000, seed: int = 0, noise: float = 1.0) -> Scored:
    random = np.random.default_rng(seed)
    labels = random.random(rows) < 0.3
    scores = 1 / (1 + np.exp(-(labels * 1.5 - 1.5 + noise * random.normal(size=rows))))
    weights = random.choice([0.0, 1.0, 2.0], rows)
    return Scored("binary", ("0", "1"), labels.astype(int), scores, weights, costs=np.array([[0, 1], [4, 0]]))


def multiclass(rows: int = 600) -> Scored:
    random = np.random.default_rng(1)
    labels = random.integers(0, 3, rows)
    scores = 0.8 * random.dirichlet(np.ones(3), rows) + 0.2 * np.eye(3)[labels]
    return Scored("multiclass", ("a", "b", "c"), labels, scores, random.random(rows), costs=1 - np.eye(3))


def regression(rows: int = 600) -> Scored:
    random = np.random.default_rng(2)
    labels = random.normal(100, 5, rows)
    return Scored("regression", (), labels, labels + random.normal(1, 2, rows), random.random(rows), over=1, under=3)


@pytest.mark.parametrize("one", [binary(), multiclass(), regression()], ids=lambda one: one.task)
def test_all_metrics_have_an_interval_around_their_value(one: Scored) -> None:
    found = intervals(one, np.arange(len(one.labels)) % 30, RULE)
    assert {name: interval["value"] for name, interval in found.items()} == measure(one)
    assert found.keys() == METRICS_OF[one.task]
    for interval in found.values():
        assert interval["low"] is not None and interval["high"] is not None and interval["value"] is not None
        assert interval["low"] <= interval["value"] <= interval["high"]
        assert interval["low"] < interval["high"]


@pytest.mark.parametrize("one", [binary(400), multiclass(300), regression(300)], ids=lambda one: one.task)
@pytest.mark.parametrize("blocks", [7, 300])
def test_a_resample_from_sums_is_the_metric_of_the_resampled_rows(one: Scored, blocks: int) -> None:
    """What makes it fast changes nothing: the metric of rows that were really drawn again is the same."""
    one = one.take(one.weights > 0)
    block = drawn_blocks(np.arange(len(one.labels)) % blocks)
    draws = np.concatenate(list(bootstrap.draws(int(block.max()) + 1, Bootstrap(resamples=50))))
    found = bootstrap._resampled([one], list(METRICS_OF[one.task] - {"ece"}), block, Bootstrap(resamples=50))[0]
    for resample in (0, 49):
        times = draws[resample][block].astype(int)
        again = one.take(np.repeat(np.arange(len(block)), times))
        wanted = {name: METRICS[name].function(again) for name in found}
        assert {name: values[resample] for name, values in found.items()} == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("name", ["auc", "average_precision"])
def test_binned_ranks_come_close_to_exact_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = binary(20_000)
    blocks = np.arange(20_000) % 40
    binned = intervals(one, blocks, RULE, [name])[name]
    monkeypatch.setattr(bootstrap, "SCORE_BINS", 30_000)
    exact = intervals(one, blocks, RULE, [name])[name]
    assert binned == pytest.approx(exact, abs=2e-4)
    assert binned != exact


def coverage(blocks: int, of_rows: bool) -> float:
    """Share of 300 data sets whose 95 % interval holds the truth, with days that differ from each other."""
    rule, hits, per_block = Bootstrap(resamples=200), 0, 20
    for seed in range(300):
        random = np.random.default_rng(seed)
        day = np.repeat(np.arange(blocks), per_block)
        labels = random.normal(size=blocks)[day] + random.normal(size=len(day))
        one = Scored("regression", (), labels, np.zeros(len(day)), np.ones(len(day)))
        found = intervals(one, np.arange(len(day)) if of_rows else day, rule, ["bias"])["bias"]
        hits += found["low"] <= 0 <= found["high"]  # type: ignore[operator]
    return hits / 300


@pytest.mark.parametrize("blocks", [6, 30])
def test_intervals_of_blocks_hold_the_truth_as_often_as_they_say(blocks: int) -> None:
    # 0.95, give or take three standard errors of 300 data sets, and what percentiles are off by.
    assert 0.90 <= coverage(blocks, of_rows=False) <= 0.99


def test_rows_that_depend_on_each_other_need_blocks() -> None:
    assert coverage(30, of_rows=True) < 0.7


def test_the_interval_of_an_auc_holds_the_truth_as_often_as_it_says() -> None:
    truth, hits = NormalDist().cdf(1 / np.sqrt(2)), 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        labels = random.random(300) < 0.3
        scores = 1 / (1 + np.exp(-(labels + random.normal(size=300))))
        one = Scored("binary", ("0", "1"), labels.astype(int), scores, np.ones(300))
        found = intervals(one, np.arange(300), Bootstrap(resamples=100, block="row"), ["auc"])["auc"]
        hits += found["low"] <= truth <= found["high"]  # type: ignore[operator]
    assert 0.90 <= hits / 300 <= 0.985


def width(interval: dict[str, Any]) -> float:
    return float(interval["high"] - interval["low"])


def test_paired_gains_are_much_surer_than_the_difference_of_two_intervals() -> None:
    ours, blocks = binary(5_000), np.arange(5_000) % 50
    random = np.random.default_rng(3)
    moved = np.clip(ours.scores + 0.01 * random.normal(size=5_000), 0, 1)
    theirs = Scored("binary", ("0", "1"), ours.labels, moved, ours.weights)
    names = ["auc", "log_loss", "brier"]
    gain = gains(ours, theirs, blocks, RULE, names)
    for name in names:
        unpaired = np.hypot(*(width(intervals(one, blocks, RULE, [name])[name]) for one in (ours, theirs)))
        assert width(gain[name]) < unpaired / 4


@pytest.mark.parametrize("one", [binary(), multiclass(), regression()], ids=lambda one: one.task)
def test_a_gain_is_positive_where_ours_is_better_and_turns_its_sign_when_swapped(one: Scored) -> None:
    blocks = np.arange(len(one.labels)) % 30
    if one.task == "regression":
        worse = one.scores + 4
    else:
        worse = np.full_like(one.scores, 0.3 if one.task == "binary" else 1 / 3)
    theirs = Scored(one.task, one.classes, one.labels, worse, one.weights, costs=one.costs, over=1, under=1)
    gain, loss = gains(one, theirs, blocks, RULE), gains(theirs, one, blocks, RULE)
    for name in {"auc", "log_loss", "brier", "rmse", "bias", "mae", "r2"} & gain.keys():
        assert gain[name]["low"] > 0  # type: ignore[operator]
        assert loss[name]["high"] == pytest.approx(-gain[name]["low"], abs=1e-12)  # type: ignore[operator]
    assert gains(one, one, blocks, RULE) == {name: {"value": 0, "low": 0, "high": 0} for name in gain}


@pytest.mark.parametrize("change", ["labels", "weights", "classes", "rows"])
def test_gains_on_other_rows_are_refused(change: str) -> None:
    ours = binary(100)
    theirs = {
        "labels": Scored("binary", ("0", "1"), 1 - ours.labels, ours.scores, ours.weights),
        "weights": Scored("binary", ("0", "1"), ours.labels, ours.scores, ours.weights + 1),
        "classes": Scored("binary", ("no", "yes"), ours.labels, ours.scores, ours.weights),
        "rows": ours.take(np.arange(50)),
    }[change]
    with pytest.raises(DataError, match="different rows"):
        gains(ours, theirs, np.arange(100), RULE)
    with pytest.raises(DataError, match="50 blocks"):
        intervals(ours, np.arange(50), RULE)


def test_each_setting_counts() -> None:
    one, blocks = binary(), np.arange(1_000) % 30
    base = intervals(one, blocks, RULE, ["auc"])["auc"]
    assert intervals(one, blocks, RULE, ["auc"])["auc"] == base
    assert intervals(one, blocks, Bootstrap(resamples=100, seed=1), ["auc"])["auc"] != base
    assert intervals(one, blocks, Bootstrap(resamples=101), ["auc"])["auc"] != base
    assert width(intervals(one, blocks, Bootstrap(resamples=100, confidence=0.6), ["auc"])["auc"]) < width(base) / 1.5


def test_the_calibration_error_has_the_bins_that_were_asked_for() -> None:
    one = binary()
    few = Scored("binary", one.classes, one.labels, one.scores, one.weights, bins=2)
    found = [intervals(each, np.arange(1_000) % 30, RULE, ["ece"])["ece"] for each in (one, few)]
    assert found[0] != found[1]


def test_four_blocks_are_too_few_and_rows_are_drawn() -> None:
    assert drawn_blocks(np.repeat([3, 5, 7, 9], 5)).tolist() == list(range(20))
    assert drawn_blocks(np.repeat([3, 5, 7, 9, 11], 2)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    one = binary(200)
    assert intervals(one, np.arange(200) % 4, RULE) == intervals(one, np.arange(200), RULE)


def test_rows_without_weight_are_not_drawn() -> None:
    one = binary(500)
    assert intervals(one, np.arange(500), RULE) == intervals(
        one.take(one.weights > 0), np.arange((one.weights > 0).sum()), RULE
    )


def test_what_most_resamples_cannot_measure_has_no_interval() -> None:
    labels = np.zeros(100, int)
    labels[0] = 1  # more than a third of the resamples have no positive
    one = Scored("binary", ("0", "1"), labels, np.linspace(1, 0, 100), np.ones(100))
    found = intervals(one, np.arange(100), RULE)
    assert found["auc"] == {"value": 1.0, "low": None, "high": None}
    assert found["brier"]["low"] is not None


@settings(max_examples=30, deadline=None)
@given(
    task=st.sampled_from(["binary", "multiclass", "regression"]),
    rows=st.integers(0, 12),
    blocks=st.integers(1, 12),
    weight=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 5),
)
def test_any_few_rows_give_numbers_or_none(task: Any, rows: int, blocks: int, weight: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = np.full((rows, 3), 1 / 3) if task == "multiclass" else random.choice([0.0, 0.5, 1.0], rows)
    classes = {"binary": ("0", "1"), "multiclass": ("a", "b", "c"), "regression": ()}[task]
    weights = np.where(random.random(rows) < 0.5, weight, 1.0)
    one = Scored(task, classes, random.integers(0, 2, rows), scores, weights)
    block = random.integers(0, blocks, rows)
    found = intervals(one, block, Bootstrap(resamples=50))
    assert {name: interval["value"] for name, interval in found.items()} == measure(one)
    for interval in [*found.values(), *gains(one, one, block, Bootstrap(resamples=50)).values()]:
        assert (interval["low"] is None) == (interval["high"] is None)
        numbers = [number for number in interval.values() if number is not None]
        assert np.isfinite(numbers).all()
        if interval["low"] is not None:
            assert interval["low"] <= interval["value"] <= interval["high"]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("block", "wanted"), [("row", [0, 1, 2, 3]), ("day", [0, 0, 1, 1]), ("partition", [0, 0, 0, 1])]
)
def test_blocks_are_rows_local_days_or_partitions(toy: ToyProblem, block: str, wanted: list[int]) -> None:
    problem = toy(**{"evaluation.bootstrap": {"block": block}, "partitions.timezone": "America/New_York"})
    midnight = datetime(2024, 3, 2, 5, tzinfo=UTC)  # in New York
    times = [midnight + timedelta(hours=hours) for hours in (-20, -1, 0, 23)]
    for zone in ("UTC", "Asia/Tokyo"):
        rows = pa.table(
            {
                "event_time": pa.array(times, pa.timestamp("us", zone)),
                "partition": ["2024-03-01", "2024-03-01", "2024-03-01", "2024-03-02"],
            }
        )
        assert blocks_of(problem, rows).tolist() == wanted
    assert blocks_of(problem, rows.slice(0, 0)).tolist() == []


def test_blocks_of_deliveries_are_what_stands_on_one_side_of_a_split() -> None:
    rows = pa.table({"customer": ["a", "b", "a", "c"], "age": [1, 1, 2, 2], "event_time": [None] * 4})
    assert blocks_of(deliveries(), rows).tolist() == [0, 1, 0, 2]
    grouped = deliveries(dataset={"split": {"group_by": "age"}})
    assert blocks_of(grouped, rows).tolist() == [0, 0, 1, 1]
    assert blocks_of(grouped, rows.select(["customer"])).tolist() == [0, 1, 0, 2]
    assert blocks_of(grouped, rows.select(["event_time"])).tolist() == [0, 1, 2, 3]
