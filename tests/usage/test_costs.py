"""Prices and tries come to costs; a training that was measured is what the policy goes by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import COSTS, Policy
from pipelines.errors import ConfigError
from pipelines.problem import Problem
from pipelines.usage import Try
from pipelines.usage.costs import by_partition, of_partition, of_predictions, summed
from pipelines.usage.prices import GIB, Prices, load_prices
from pipelines.usage.table import append, tries
from pipelines.usage.trainings import Costing, costings, failed_training, paid_by_kind, priced
from tests.conftest import ToyProblem

BEGAN = datetime(2026, 11, 30, 12, tzinfo=UTC)
PRICES = Prices(currency="EUR", cpu_hour=1.0, gib_hour=0.0, thousand_requests=0.0)


def attempt(number: int, stage: str, **more: Any) -> Try:
    """That took an hour of CPU."""
    about = {"run": "r", "host": "h", "outcome": "done", "cpu_s": 3600.0, "wall_s": 60.0}
    return Try(id=f"{number}:{stage}", stage=stage, started_time=BEGAN + timedelta(minutes=number), **{**about, **more})


def test_each_price_counts_what_it_is_of() -> None:
    used = attempt(0, "score.score", cpu_s=1800, wall_s=7200, grown_bytes=3 * GIB, requests=500, bytes_read=GIB)
    prices = Prices(cpu_hour=2, gib_hour=0.5, thousand_requests=4, gib_moved=0.25)
    assert prices.of(used) == pytest.approx(1 + 3 + 2 + 0.25)
    in_a_folder = used.model_copy(update={"requests": 0})
    assert prices.of(in_a_folder) == pytest.approx(1 + 3), "bytes of a folder cost nothing to move"


def test_of_partitions_and_predictions() -> None:
    chain = ["ingest.publish", "score.publish", "monitor.act"]
    done = [
        attempt(10 * week + place, stage, partition=f"2013-04-0{week}", run=f"{week}", rows=500)
        for week in (1, 2)
        for place, stage in enumerate(chain)
    ]
    others = [
        attempt(0, "ingest.extract", run="history"),
        attempt(30, "train.train", partition="2013-04-02", run="t"),
        attempt(31, "monitor.report", partition="2013-04-02", run="2", outcome="killed"),
    ]
    every = [*done, *others]
    assert [(total.name, total.cost, total.killed) for total in by_partition(every, PRICES)] == [
        ("2013-04-01", 3, 0),
        ("2013-04-02", 4, 1),
    ]
    each = of_partition(every, PRICES)
    assert each is not None and (each.cost, each.partitions) == (3.5, 2)
    predictions = of_predictions(every, PRICES)
    assert predictions is not None and predictions == (7, 9, 1000)
    assert [total.name for total in summed(every, PRICES, lambda one: one.dag)] == [
        "ingest",
        "score",
        "monitor",
        "train",
    ]
    assert sum(total.cost for total in summed(every, PRICES, lambda one: one.run)) == len(every)


def test_nothing_was_scored(toy: ToyProblem) -> None:
    assert of_partition([attempt(0, "ingest.publish", partition="2024-01-01")], PRICES) is None
    assert of_predictions([], PRICES) is None


def test_prices_are_read_from_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = load_prices()
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path))
    assert load_prices() == Prices() == shipped
    (tmp_path / "prices.yaml").write_text("currency: EUR\ncpu_hour: 0.1\n")
    assert load_prices() == Prices(currency="EUR", cpu_hour=0.1)
    for text in ("cpu_hours: 1", "cpu_hour: -1", "cpu_hour: .nan", "- 1", "cpu_hour: [", "currency: ''"):
        (tmp_path / "prices.yaml").write_text(text)
        with pytest.raises(ConfigError, match="prices") as caught:
            load_prices()
        assert caught.value.where == str(tmp_path / "prices.yaml")


def training(number: int, how: str, hours: float, outcome: str = "done") -> list[Try]:
    run = f"t{number}"
    return [
        attempt(number, "train.label", run=run, cpu_s=0),
        attempt(number, "train.train", run=run, how=how, cpu_s=0, outcome="killed"),
        attempt(number, "train.evaluate", run=run, how=how, cpu_s=3600 * hours, outcome=outcome),
        attempt(number, "train.gate", run=run, how=how, cpu_s=0, outcome="failed"),
    ]


def test_what_trainings_cost_that_made_a_model() -> None:
    every = [*training(1, "scratch", 2), *training(2, "scratch", 4), *training(3, "continue", 1)]
    every += training(4, "scratch", 100, outcome="failed")
    assert paid_by_kind(every, PRICES) == {"scratch": [2, 4], "continue": [1]}


def measured(toy: ToyProblem, **costs: Any) -> Problem:
    return toy(**{"monitoring.policy.costs": costs})


def test_a_policy_that_wants_costs_measured_gets_the_median_of_the_newest_and_its_source(
    toy: ToyProblem, store_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    problem = measured(toy, retrain="measured", recalibrate="measured", fall_back=7)
    policy = problem.monitoring.policy
    default = "the default, as none was measured yet"
    assert costings(problem, policy) == {
        "retrain": Costing(COSTS["retrain"], default),
        "recalibrate": Costing(COSTS["recalibrate"], default),
    }
    for number, hours in enumerate((100, 1, 2, 3, 4, 5)):
        append(problem, training(number, "scratch", hours))
    assert len(tries(problem)) == 24
    each = Prices().cpu_hour
    costs = costings(problem, policy)
    assert costs["retrain"].cost == pytest.approx(3 * each)
    assert costs["retrain"].source == "measured in USD: the median of the last 5 trainings"
    assert costs["recalibrate"].source == default
    assert priced(problem, policy).costs == {**COSTS, "retrain": pytest.approx(3 * each), "fall_back": 7}


def test_only_trainings_are_measured_and_others_cost_what_they_did(toy: ToyProblem) -> None:
    for way in ("roll_back", "fall_back"):
        with pytest.raises(ConfigError, match=f"{way}: only what a training costs is measured"):
            measured(toy, **{way: "measured"})
    with pytest.raises(ConfigError, match=r"costs"):
        measured(toy, retrain="guessed")
    plain = toy().monitoring.policy
    assert plain.costs == COSTS and plain.measured == [] and costings(toy(), plain) == {}
    assert priced(toy(), plain) == plain == Policy()


def test_the_newest_training_has_failed_where_no_retry_made_it_good() -> None:
    fails: dict[str, Any] = {"outcome": "failed", "reason": "ConfigError"}
    label, fit = attempt(0, "train.label"), attempt(1, "train.train", part="trees", **fails)
    again = attempt(2, "train.train", part="trees", try_number=2)
    assert failed_training([]) is failed_training([attempt(0, "ingest.extract", **fails)]) is None
    assert failed_training([label, fit]) == fit
    assert failed_training([label, fit, attempt(2, "train.train", part="other")]) == fit
    assert failed_training([label, fit, again]) is None
    assert failed_training([label, fit, attempt(3, "train.label", run="s")]) is None, "a newer one has begun"
