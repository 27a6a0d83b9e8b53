"""Weeks of the default problem: `evergreen decide --replay` comes to what the monitor DAG has put on the ledger.

A shorter history than the demo's, and weeks before the demo's: those that the tests of the stages share.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from typer.testing import CliRunner

from pipelines import ledger
from pipelines.cli.app import app
from pipelines.errors import NothingToDo
from pipelines.problem import load_problem
from pipelines.stages import stage
from tests.stages.conftest import WEEKS, configure

pytestmark = pytest.mark.slow

COSTS = dict.fromkeys(("recalibrate", "retrain", "continue", "roll_back", "fall_back"), 9.0)  # nothing is worth it
CLOSE = 1e-9  # the same models on the same rows: numbers are added up in another order


def test_a_replay_agrees_with_the_ledger(loop_after: Callable[..., str]) -> None:
    loop = loop_after(4)
    configure(loop, lambda raw: raw["monitoring"]["policy"].update(costs=COSTS, max_calibration_gap=0.01, at_least=1))
    for week in WEEKS[:3]:
        detected = stage("monitor.detect")(loop, stage("monitor.profile")(loop, week))
        explained = stage("monitor.explain")(loop, stage("monitor.diagnose")(loop, detected))
        with suppress(NothingToDo):
            stage("monitor.act")(loop, stage("monitor.decide")(loop, explained))
    rows = {row["partition"]: row for row in ledger.decisions(load_problem(loop), "monitoring")}
    command = ["decide", loop, "--replay", "--json", "--first", WEEKS[0], "--last", WEEKS[2]]
    answer = CliRunner().invoke(app, command, catch_exceptions=False)
    assert answer.exit_code == 0
    steps: list[dict[str, Any]] = json.loads(answer.stdout)["decisions"]
    assert [step["partition"] for step in steps] == list(WEEKS[:3])
    for step in steps:
        row = rows[step["partition"]]
        assert {name: row[name] for name in ("action", "verdict", "reason")} == {
            name: step[name] for name in ("action", "verdict", "reason")
        }
        gains, of_replay = (
            {option["action"]: option["gain"] for option in options}
            for options in (row["evidence"]["options"], step["options"])
        )
        assert of_replay == pytest.approx(gains, abs=CLOSE)
    assert {action for action, gain in gains.items() if gain is not None} >= {"retrain", "recalibrate", "fall_back"}
