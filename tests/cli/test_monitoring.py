"""`evergreen decide`, as a person runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pipelines import ledger
from pipelines.cli.app import app
from pipelines.problem import parse_problem
from tests.conftest import TOY
from tests.policies.conftest import CHANGES, fill, key

run = CliRunner().invoke


@pytest.fixture
def kettle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    raw = json.loads(json.dumps(TOY))
    for path, value in CHANGES.items():
        *parents, last = path.split(".")
        place = raw
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    folder = tmp_path / "problems" / "kettle"
    folder.mkdir(parents=True)
    (folder / "problem.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(folder.parent))
    monkeypatch.setenv("EVERGREEN_STORE_URI", (tmp_path / "store").as_uri())
    problem = parse_problem(raw, folder)
    fill(problem, days=18, turn=9)
    return problem


def test_a_replay_is_told_and_costs_follow_the_file(kettle: Any, tmp_path: Path) -> None:
    asked = {}
    for every in (1, 3):
        path = tmp_path / f"{every}.yaml"
        path.write_text(yaml.safe_dump({"updates": "scheduled", "every_partitions": every, "cool_down_partitions": 0}))
        done = run(app, ["decide", "kettle", "--replay", "--first", key(12), "--policy", str(path), "--json"])
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        rows = {row["policy"]: row for row in told["policies"]}
        assert {"never", "always", "policy of problem.yaml"} <= set(rows)
        asked[every] = rows["policy of problem.yaml"]["trainings"]
        assert [step["partition"] for step in told["decisions"]] == [key(n) for n in range(12, 17)]
    assert asked == {1: 5, 3: 1}
    shown = run(app, ["decide", "kettle", "--replay", "--first", key(12), "--last", key(13)])
    assert shown.exit_code == 0 and "always" in shown.stdout and "2024-01-13 to 2024-01-14" in shown.stdout
    assert [line.split("  ")[0] for line in shown.stderr.splitlines()] == [row["policy"] for row in told["policies"]]
    assert done.stderr == "", "a program is told of no progress"


def test_what_was_decided_is_told(kettle: Any) -> None:
    assert "nothing was decided yet" in run(app, ["decide", "kettle"]).stdout
    option = {"action": "retrain", "gain": 0.25, "cost": 0.04, "low": None, "high": None, "why_not": ""}
    for number, partition in enumerate((key(1), key(2))):
        ledger.record(
            kettle,
            decision=f"monitoring:{number}",
            kind="monitoring",
            partition=partition,
            verdict="staleness",
            action="retrain",
            reason="old",
            evidence={"options": [option]},
            model_version="1",
        )
    shown = run(app, ["decide", "kettle"])
    assert "staleness" in shown.stdout and "retrain +0.250 for 0.04" in shown.stdout
    (row,) = json.loads(run(app, ["decide", "kettle", "--first", key(2), "--json"]).stdout)
    assert row["partition"] == key(2) and row["options"] == [{**option, "cost_from": "", "window_from": None}]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--policy", "x.yaml"], "only tried in a replay"),
        (["--replay", "--policy", "/nowhere.yaml"], "No such file"),
        (["--replay", "--candidate", "xgbost"], "is not a candidate"),
        (["--replay", "--first", "2024-01-99"], "names no partition"),
    ],
)
def test_what_is_wrong_is_said(kettle: Any, arguments: list[str], told: str) -> None:
    done = run(app, ["decide", "kettle", *arguments])
    assert done.exit_code == 1 and told in str(done.exception)


def test_a_policy_file_with_a_wrong_setting_is_refused(kettle: Any, tmp_path: Path) -> None:
    for number, text in enumerate(("updates: often", "costs: {retrain: -1}", "worth: {auc: -1}", "unknown: 1", "[1]")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        done = run(app, ["decide", "kettle", "--replay", "--policy", str(path)])
        assert done.exit_code == 1 and "no policy" in str(done.exception), text
