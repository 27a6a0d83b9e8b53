"""What is asked about a release whose promotion was begun, and killed before the ledger had it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from pipelines import ledger, store, tracking
from pipelines.errors import NothingToDo
from pipelines.handoffs.releases import Answer
from pipelines.problem import Problem, load_problem
from pipelines.release import enter, evidence, ladder, page
from pipelines.release.ladder import Contender
from pipelines.stages.release import assess as module
from pipelines.stages.release.assess import assess
from pipelines.stages.release.step import step
from tests.aliases import Aliases
from tests.conftest import TOY

DAYS = ("2024-01-10", "2024-01-12", "2024-01-13")


@pytest.fixture
def kettle(store_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Problem:
    """Labels say that version 4 may serve, and people are asked before it does."""
    folder = tmp_path / "problems" / "kettle"
    folder.mkdir(parents=True)
    release = {"path": ["canary", "full"], "canary": {"shares": [0.2]}, "approval": {"when": "promote"}}
    (folder / "problem.yaml").write_text(yaml.safe_dump({**TOY, "release": release}))
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path / "problems"))
    Aliases().install(monkeypatch)
    comparison = SimpleNamespace(judged=[], share=None, model_dump=lambda mode: {})
    monkeypatch.setattr(evidence, "compare", lambda *_: comparison)
    monkeypatch.setattr(page, "page", lambda *_: b"")
    monkeypatch.setattr(module, "judged", lambda *_: ("promote", "it is no worse"))
    monkeypatch.setattr(tracking, "annotate", lambda *_, **__: None)
    problem = load_problem("kettle")
    enter.begin(problem, Contender("4", "run of 4", DAYS[0], "better on the test"))
    return problem


def test_a_promotion_that_was_approved_and_killed_is_ended_without_another_question(
    kettle: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    approved = Answer(is_approved=True, user="ada", time="2024-01-13T09:00:00+00:00")
    asked = assess("kettle", DAYS[1])
    assert asked.asks
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        promote = tracking.promote

        def killed(problem: Problem, version: str) -> None:
            promote(problem, version)
            raise KeyboardInterrupt

        patch.setattr(tracking, "promote", killed)
        step("kettle", asked, approved)
    assert tracking.serving(kettle).version == "4" and not ledger.decisions(kettle, "promotion")

    later = assess("kettle", DAYS[2])  # the run was not cleared, and the next partition came
    assert (later.verdict, later.asks) == ("promote", False)
    assert step("kettle", later).action == "promoted"
    (row,) = ledger.decisions(kettle, "promotion")
    assert (row["model_version"], row["evidence"]["approved_by"]) == ("4", "ada")
    assert ladder.read(kettle).rollouts[-1].state == "promoted"
    with pytest.raises(NothingToDo, match="no release is under way"):
        assess("kettle", "2024-01-14")
    assert sum(row["action"] == "asked" for row in ladder.read(kettle).rollouts[-1].rows) == 1
    decided = store.dataset(kettle, "ledger").to_table()["decision"].to_pylist()
    assert len(decided) == len(set(decided))
