"""Thirty-six days of kettles in a store: what makes them boil over turns round on day 22."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines import store
from pipelines.artifacts import table_schema
from pipelines.policies.history import History
from pipelines.problem import Problem

DAYS, A_DAY, TURN = 36, 60, 22
CHANGES: dict[str, Any] = {
    "labels.delay_days": 1,
    "features.history": {},
    "dataset.split": {"validation_partitions": 1, "test_partitions": 2, "min_rows": 1},
    "training.threads": 1,
    "training.candidates": {
        "prior": {"model": "prior"},
        "xgboost": {"model": "xgboost", "parameters": {"n_estimators": 20, "max_depth": 2, "learning_rate": 0.3}},
    },
    "gate.gain_over_champion": {"auc": -0.3},
    "evaluation.bootstrap": {"resamples": 60},
    "monitoring.policy": {"min_labels": 30, "max_auc_drop": 0.1, "prior_readings": 2, "quarantine": False},
}


def key(day: int) -> str:
    return (date(2024, 1, 1) + timedelta(days=day)).isoformat()


def fill(problem: Problem, days: int = DAYS, turn: int = TURN) -> None:
    """Events and labels of so many days; from day `turn` on full kettles are those that do not boil over. A label comes
    as many days after its event as the problem says."""
    random = np.random.default_rng(0)
    rows = days * A_DAY
    day = np.repeat(np.arange(days), A_DAY)
    time = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=int(one), minutes=n % A_DAY) for n, one in enumerate(day)]
    litres = random.uniform(0, 5, rows)
    chance = 1 / (1 + np.exp(-2 * (litres - 2.5) * np.where(day < turn, 1, -1)))
    came_after = timedelta(days=problem.labels.delay_days)
    keys, names = [key(int(one)) for one in day], [f"k{n}" for n in range(rows)]
    nothing = pa.nulls(rows, pa.timestamp("us", "UTC"))
    shared = {
        problem.key: names,
        "partition": keys,
        "event_time": time,
        "superseded_time": nothing,
        "withdrawn_time": nothing,
    }
    events = pa.table(
        {
            **shared,
            "known_time": time,
            "cutoff_time": time,
            "statement": [0] * rows,
            "shelf": random.choice(["top", "bottom"], rows),
            "litres": litres,
            "age": random.integers(0, 9, rows),
        }
    )
    labels = pa.table(
        {
            **shared,
            "known_time": [at + came_after for at in time],
            "label": (random.random(rows) < chance).astype(np.int8),
            "source": ["natural"] * rows,
            "confidence": [1.0] * rows,
            "labeler": ["boil"] * rows,
        }
    )
    for name, table in (("events", events), ("labels", labels)):
        schema = table_schema(problem, name)  # type: ignore[arg-type]
        store.write_table(problem, name, table.select(schema.names).cast(schema), sorted(set(keys)))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def filled(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Problem, str]:
    """The problem, and the URI of a store that it is filled in."""
    problem, uri = toy(**CHANGES), tmp_path_factory.mktemp("policies").as_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERGREEN_STORE_URI", uri)
        fill(problem)
    return problem, uri


@pytest.fixture(scope="session")
def shared_history(filled: tuple[Problem, str]) -> History:
    problem, uri = filled
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERGREEN_STORE_URI", uri)
        return History(problem, "xgboost")


@pytest.fixture
def history(shared_history: History, filled: tuple[Problem, str], monkeypatch: pytest.MonkeyPatch) -> History:
    """One for all tests: what it remembers, a model of a recipe and what it scores, is the same for each of them."""
    monkeypatch.setenv("EVERGREEN_STORE_URI", filled[1])
    return shared_history


@pytest.fixture
def home(filled: tuple[Problem, str]) -> Path:
    return Path(filled[1].removeprefix("file://"))
