"""A run ends with the config that it began with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipelines import store
from pipelines.errors import ConfigError
from pipelines.handoffs.config import pin, problem_of
from pipelines.handoffs.monitoring import Requested
from pipelines.paths import config_uri
from pipelines.problem import load_problem, resolve
from tests.conftest import TOY, ToyProblem

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def kettle(tmp_path: Path, store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a problem, with its queries."""
    folder = tmp_path / "problems" / "kettle"
    folder.mkdir(parents=True)
    (folder / "problem.yaml").write_text(yaml.safe_dump(TOY, sort_keys=False))
    for query in ("events", "labels"):
        (folder / f"{query}.sql").write_text(f"SELECT * FROM {query}")
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(folder.parent))
    return folder


def edit(folder: Path, change: Edit) -> None:
    path = folder / "problem.yaml"
    raw = yaml.safe_load(path.read_text())
    change(raw)
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


def handed_on() -> Requested:
    """A hand-off of a run that begins now."""
    return Requested(config=pin(load_problem("kettle")), partition="p", action="retrain", verdict="v", reason="r")


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw["features"]["columns"].append("age"),
        lambda raw: raw["features"]["columns"].reverse(),
        lambda raw: raw["training"]["candidates"].pop("xgboost"),
        lambda raw: raw["gate"].update(min_rows=99),
        lambda raw: raw.update(no_such_section=1),
    ],
    ids=["a feature more", "features in another order", "a candidate less", "another gate", "a mistake"],
)
def test_an_edit_takes_effect_with_the_next_run(kettle: Path, change: Edit) -> None:
    before, run = load_problem("kettle"), handed_on()
    edit(kettle, change)
    during = problem_of("kettle", run)
    assert during.resolved() == before.resolved()
    assert list(during.features.columns) == list(before.features.columns)
    assert (during.feature_set, during.config_hash, during.folder) == (
        before.feature_set,
        before.config_hash,
        before.folder,
    )


def test_the_text_of_a_query_is_part_of_it(kettle: Path) -> None:
    run = handed_on()
    (kettle / "events.sql").write_text("SELECT 1")
    (kettle / "labels.sql").unlink()
    during = problem_of("kettle", run)
    assert (during.queries, during.sql("events")) == (("events", "labels"), "SELECT * FROM events")
    assert handed_on().config != run.config, "the next run begins with another"


def test_whom_to_tell_is_no_part_of_it(kettle: Path) -> None:
    run = handed_on()
    edit(kettle, lambda raw: raw.update(alerts={"channels": [{"webhook": "ops", "min_severity": "info"}]}))
    assert handed_on().config == run.config
    assert problem_of("kettle", run).alerts.channels, "an alert goes where it is wanted now"


def test_a_run_of_before_configs_were_pinned_goes_by_the_file(kettle: Path) -> None:
    run = Requested(partition="p", action="retrain", verdict="v", reason="r")
    edit(kettle, lambda raw: raw["gate"].update(min_rows=99))
    assert problem_of("kettle", run).gate.min_rows == 99
    edit(kettle, lambda raw: raw.update(no_such_section=1))
    with pytest.raises(ConfigError, match="no_such_section"):
        problem_of("kettle", run)


def test_a_config_is_kept_once(kettle: Path) -> None:
    one = handed_on().config
    assert one is not None
    kept = store.read_bytes(config_uri("kettle", one))
    assert handed_on().config == one and store.read_bytes(config_uri("kettle", one)) == kept


@given(
    rounds=st.integers(1, 500),
    window=st.integers(1, 30),
    order=st.permutations(["shelf", "litres", "age"]),
)
def test_what_is_kept_is_the_same_problem(toy: ToyProblem, rounds: int, window: int, order: list[str]) -> None:
    problem = toy(
        **{
            "features.columns": order,
            "features.history.shelf_rate_3d.window_days": window,
            "training.candidates.xgboost.parameters.n_estimators": rounds,
        }
    )
    again = resolve(problem.resolved(), problem.name)
    assert again.resolved() == problem.resolved()
    assert (again.feature_names, again.config_hash) == (problem.feature_names, problem.config_hash)
