"""What a replay measures is what the monitor DAG measures: the same store, the same readings, the same decisions."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import ledger, local_run, quarantine, tracking
from pipelines.errors import NothingToDo
from pipelines.monitoring.decide.readings import Reading
from pipelines.policies.history import History, Recipe
from pipelines.policies.played import PlayedVersion, State, Watch
from pipelines.policies.rules import by_policy
from pipelines.problem import Problem, load_problem
from pipelines.stages import stage
from tests.conftest import TOY
from tests.mlflow_database import mlflow_in
from tests.policies.conftest import CHANGES, TURN, fill, key
from tests.stages.conftest import undrawn as undrawn

pytestmark = pytest.mark.slow

NAME = "kettle"
TRAINED, LAST = 16, 26  # days: the first champion is of the one, and all after it are scored and judged to the other
# The models are the same, bit for bit. What is left is in which order the same numbers are added up: a profile of a
# partition is merged from batches in the store, and is made in one piece in a replay.
CLOSE = 1e-9
GATE = {
    "limits": {"auc": {"min": 0.0}},
    "gain_over_baselines": {"auc": -1.0},
    "gain_over_champion": {"auc": -1.0},
    "slices": None,
    "max_prediction_shift": None,
    "max_champion_fall": None,
    "max_forgotten": 0.9,
    "max_bias": None,
    "max_jump": None,
    "min_learnt_share": None,
    "min_rows": 20,
}
COSTS = dict.fromkeys(("recalibrate", "retrain", "continue", "roll_back", "fall_back"), 9.0)  # nothing is worth it
SCENES: dict[str, dict[str, Any]] = {
    "labels at once, and a champion that is not fitted again": {"labels.delay_days": 0, "training.refit": False},
    "fitted again after its gate, and labels a day late": {"labels.delay_days": 1, "training.refit": True},
}


def write_problem(folder: Path, changes: dict[str, Any]) -> None:
    raw = copy.deepcopy(TOY)
    leaks = {"dataset.leaks": {"accepted": ["litres"]}}
    costs = {"monitoring.policy": {**CHANGES["monitoring.policy"], "costs": COSTS}}
    for path, value in {**CHANGES, "gate": GATE, **leaks, **costs, **changes}.items():
        *parents, last = path.split(".")
        place = raw
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    (folder / NAME).mkdir(parents=True)
    (folder / NAME / "problem.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    for name in ("events", "labels"):
        (folder / NAME / f"{name}.sql").write_text("SELECT * FROM kettles")


class Both:
    """The store of the monitor DAG, and a replay of it, a day at a time."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.history = History(problem, "xgboost")
        self.watch = Watch(self.history)
        champion = Recipe(key(TRAINED))
        self.state = State(champion, {*self.history.plan(champion).keys})

    def hold(self, partition: str) -> None:
        quarantine.hold(self.problem, partition, "a broken feed", {"by": "a test"})
        self.state.held.append(partition)

    def train(self, partition: str, how: str) -> None:
        """A training by hand, whose model serves from the next day on."""
        local_run.train(NAME, partition, how=how)
        champion, held = self.state.champion, tuple(self.state.held)
        base = None if how == "scratch" else champion
        after = self.history.trained_until(champion)
        recipe = Recipe(partition, how, base=base, held=held, after=after)  # type: ignore[arg-type]
        self.state.featured.update(self.history.plan(recipe).keys)
        self.state.previous, self.state.champion = champion, recipe

    def play(self, partition: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the DAG and the replay each decide at the end of a day, and what they had measured for it."""
        local_run.score(NAME, partition)
        detected = stage("monitor.detect")(NAME, stage("monitor.profile")(NAME, partition))
        explained = stage("monitor.explain")(NAME, stage("monitor.diagnose")(NAME, detected))
        decided = stage("monitor.decide")(NAME, explained)
        with suppress(NothingToDo):
            stage("monitor.act")(NAME, decided)
        row = ledger.decisions(self.problem, "monitoring")[-1]
        state = self.state
        state.scored[partition] = state.champion
        before = len(state.readings)
        decision = by_policy(PlayedVersion(self.watch, self.problem, state, state.champion, partition))
        by_dag = {name: row[name] for name in ("action", "verdict", "reason")} | {
            "readings": [told(Reading.model_validate(reading)) for reading in row["evidence"]["readings"]],
            "options": {option["action"]: option["gain"] for option in row["evidence"]["options"]},
        }
        by_replay = {name: getattr(decision, name) for name in ("action", "verdict", "reason")} | {
            "readings": [told(reading) for reading in state.readings[before:]],
            "options": {option.action: option.gain for option in decision.options},
        }
        return by_dag, by_replay


def told(reading: Reading) -> dict[str, Any]:
    """A reading without its version, whose name is another one in a replay."""
    return {**reading.model_dump(mode="json", exclude={"version", "metrics"}), **reading.metrics}


@pytest.fixture(params=SCENES)
def both(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Both]:
    write_problem(tmp_path / "problems", SCENES[request.param])
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path / "problems"))
    monkeypatch.setenv("EVERGREEN_STORE_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_in(tmp_path))
    monkeypatch.chdir(tmp_path)
    problem = load_problem(NAME)
    fill(problem)
    assert local_run.train(NAME, key(TRAINED)).version == "1"
    yield Both(problem)


def test_the_dag_and_a_replay_measure_and_decide_the_same(both: Both) -> None:
    """Up to two weeks after the training, through the turn of the world: a partition is held on the way, and the
    champion is continued."""
    measured: dict[str, set[int]] = {}
    for day in range(TRAINED + 1, LAST + 1):
        by_dag, by_replay = both.play(key(day))
        assert by_replay["readings"] == [pytest.approx(reading, abs=CLOSE) for reading in by_dag["readings"]], day
        assert by_replay["options"] == pytest.approx(by_dag["options"], abs=CLOSE), day
        for name in ("action", "verdict", "reason"):
            assert by_replay[name] == by_dag[name], day
        for reading in by_dag["readings"]:
            measured.setdefault(reading["way"], set()).add(reading["age"])
            assert reading["partition"] not in both.state.held
        if day == TRAINED + 4:
            both.hold(key(day))
        if day == TURN + 1:
            both.train(key(day), "continue")
            assert str(tracking.serving(both.problem).version) == "2"
    assert {*measured} >= {"retrain", "continue", "recalibrate", "fall_back"}
    if both.problem.labels.delay_days:
        assert "roll_back" in measured, "of what was continued the newest labels are bad again"
    assert max(measured["retrain"]) == LAST - TRAINED, "the champion grew old"
    assert max(measured["continue"]) < LAST - TRAINED, "and learnt on"
