"""Another version serves at once, and scoring and the gate go on with it."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from pipelines import ledger, local_run, store, tracking
from pipelines.cli.app import app
from pipelines.errors import ConfigError, DataError, NothingToDo
from pipelines.health.state import health_of
from pipelines.monitoring.estimate.held_out import from_parquet
from pipelines.paths import version_uri
from pipelines.problem import load_problem
from pipelines.release import switch
from pipelines.release.versions import version_problem
from tests.stages.conftest import after as after
from tests.stages.conftest import by_duckdb_alone as by_duckdb_alone
from tests.stages.conftest import configure, let_in
from tests.stages.conftest import loop as loop
from tests.stages.conftest import loop_after as loop_after
from tests.stages.conftest import undrawn as undrawn

pytestmark = pytest.mark.slow

WEEK = "2013-02-11"


def serves(problem: str) -> str:
    return str(tracking.serving(load_problem(problem)).version)


def test_without_a_version_before_there_is_no_way_back(loop: str) -> None:
    with pytest.raises(DataError, match="version 1 serves, and none is known that served before it") as caught:
        switch.roll_back(load_problem(loop), WEEK, "it does harm")
    assert "fall-back" in caught.value.cure
    assert serves(loop) == "1" and len(ledger.decisions(load_problem(loop), "promotion")) == 1


def test_the_version_before_serves_again_once(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_problem(loop)
    configure(loop, lambda raw: raw["training"]["candidates"]["xgboost"]["parameters"].update(max_depth=3))
    local_run.train(loop)
    assert serves(loop) == "2"
    with monkeypatch.context() as patch:  # killed after the ledger, before the registry
        patch.setattr(tracking, "roll_back", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            switch.roll_back(config, WEEK, "it does harm")
    assert serves(loop) == "2"
    done = switch.roll_back(config, WEEK, "it does harm")
    assert done == switch.Switch("1", "2") == switch.roll_back(config, WEEK, "it does harm")
    assert serves(loop) == "1"
    (row,) = [one for one in ledger.decisions(config, "promotion") if one["action"] == "rolled back"]
    assert (row["model_version"], row["partition"], row["reason"]) == ("1", WEEK, "it does harm")
    with pytest.raises(DataError, match="none is known"):
        switch.roll_back(config, "2013-02-18", "again")
    local_run.ingest(loop, WEEK, WEEK)
    assert local_run.score(loop, WEEK).version == "1"
    serving = health_of(config).champion
    assert serving is not None
    assert (serving.version, serving.how) == ("1", "rolled back")
    assert serving.trained_on == ledger.decisions(config, "promotion")[0]["partition"]


def test_the_best_baseline_serves_and_is_a_version_like_any(loop: str) -> None:
    config = load_problem(loop)
    done = switch.fall_back(config, WEEK, "nothing else is left")
    assert (done.version, done.replaced) == ("2", "1")
    metrics = tracking.run_file(tracking.serving(config).run_id, "evaluation.json")["baselines"]
    assert done.candidate == min(metrics, key=lambda name: metrics[name]["metrics"]["log_loss"]), "by select_by"
    assert switch.fall_back(config, WEEK, "nothing else is left") == done, "a retry finds it done"
    with pytest.raises(NothingToDo, match="a baseline, serves already"):
        switch.fall_back(config, "2013-02-18", "again")
    files = ("problem.json", "reference.json", "held_out.parquet", "lineage.json", "card.md", "card.html")
    assert all(store.exists(version_uri(config, "2", name)) for name in files)
    assert "because version 1 was not good enough" in store.read_bytes(version_uri(config, "2", "card.md")).decode()
    kept = from_parquet(version_problem(config, "2"), store.read_bytes(version_uri(config, "2", "held_out.parquet")))
    assert kept.rows.num_rows == len(kept.scored.scores) > 0

    local_run.ingest(loop, WEEK, WEEK)
    assert local_run.score(loop, WEEK).version == "2"
    with pytest.raises(NothingToDo):
        local_run.monitor(loop, WEEK)
    assert ledger.decisions(config, "monitoring")[-1]["model_version"] == "2"

    with pytest.raises(ConfigError, match="which is no candidate to go on with"):
        local_run.train(loop, how="recalibrate")
    let_in(loop)
    promoted = local_run.train(loop)
    assert (promoted.version, promoted.replaced) == ("3", "2"), "until a challenger passes the gate, which it can"
    told = {one["name"]: one["reason"] for one in ledger.decisions(config, "gate")[-1]["evidence"]["checks"]}
    assert told["no jump"].startswith("a baseline serves")


def test_a_random_baseline_never_serves(loop: str) -> None:
    config = load_problem(loop)
    champion = tracking.serving(config)
    its = store.read_json(version_uri(config, "1", "problem.json"))
    for name in its["training"]["baselines"]:
        its["training"]["candidates"][name] = {"model": "random"}
    store.write_json(version_uri(config, "1", "problem.json"), its)
    with pytest.raises(ConfigError, match="no baseline has a log_loss that it could serve by"):
        switch.fall_back(config, WEEK, "nothing else is left")
    assert serves(loop) == str(champion.version)


def test_people_switch_by_a_command_that_wants_a_reason(loop: str) -> None:
    run = CliRunner().invoke
    assert "needs a reason" in str(run(app, ["fall-back", loop]).exception)
    told = run(app, ["fall-back", loop, "--reason", "it does harm"])
    assert told.exit_code == 0 and "serves in place of 1" in told.output
    told = run(app, ["roll-back", loop, "--reason", "it did none"])
    assert told.exit_code == 0 and "version 1 serves again, in place of 2" in told.output
    assert serves(loop) == "1"
