"""The problems that come with Evergreen beside the demo's: their history, a first model, and a partition after it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pyarrow.compute as pc
import pytest

from pipelines import ledger, local_run, store
from pipelines.errors import NothingToDo
from pipelines.problem import load_problem
from pipelines.problem_folders import problem_names
from tests.mlflow_database import mlflow_in
from tests.stages.conftest import undrawn as undrawn

LEARNT_FROM = {"hourly_delay": "2013-03-04", "strike_reports": "1993-10-01"}
"""Of each the last partition of the history that is learnt from."""


def test_each_is_played_here() -> None:
    assert set(problem_names()) == {"flight_delay", *LEARNT_FROM}, "flight_delay is played through Airflow"


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNT_FROM)
def test_a_first_model_serves_and_is_watched(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_STORE_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_in(tmp_path))
    problem, last = load_problem(name), LEARNT_FROM[name]
    key = problem.partitions.shift(last, 1)
    # At once, as each look at the data costs seconds: a training up to `last` knows nothing of what comes after.
    assert local_run.ingest(name, problem.partitions.first_key, key).quarantined == 0, "the shipped data is sound"
    assert local_run.train(name, last).version == "1"
    events = store.dataset(problem, "events").count_rows(filter=pc.field("partition") == key)
    assert local_run.score(name, key).rows == events > 0
    with suppress(NothingToDo):  # no training is asked for
        local_run.monitor(name, key)
    (watched,) = ledger.decisions(problem, "monitoring")
    assert watched["verdict"] in ("stable", "feature change", "staleness")
