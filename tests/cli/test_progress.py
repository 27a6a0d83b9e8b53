"""What a person sees while something works, and what it came to; a program sees nothing of it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pipelines.cli import terminal
from pipelines.cli.outcome import Stages
from pipelines.cli.progress import working
from pipelines.config import Action
from pipelines.errors import DataError, GateFailed, NoTraining
from pipelines.handoffs.base import HandOff
from pipelines.handoffs.ingestion import Extracted, Published, Validated
from pipelines.handoffs.monitoring import Decided, Reported
from pipelines.handoffs.scoring import ScoredPartition, Shard
from pipelines.handoffs.training import Evaluated, Gated, Promoted, Registered
from tests.handed_on import example


@pytest.fixture
def standard_error(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    out = io.StringIO()
    monkeypatch.setattr(terminal, "notices", Console(file=out, force_terminal=False, width=80))
    return out


def test_where_nothing_moves_each_step_is_a_line_once_it_has_ended(standard_error: io.StringIO) -> None:
    with working("kettle: playing") as work:
        for policy in ("never", "always"):
            for number in range(3):
                work.step(policy, number, 3)
            assert standard_error.getvalue().count("\n") == (policy == "always")
    assert [line.split()[0] for line in standard_error.getvalue().splitlines()] == ["never", "always"]


def test_in_a_terminal_it_moves_and_is_gone_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(terminal, "notices", Console(file=out, force_terminal=True, width=80))
    with working("kettle: playing") as work:
        work.step("always", 2, 16)
        work.line("a line that stays")
    assert "kettle: playing: always" in out.getvalue() and "2 of 16" in out.getvalue()
    assert "a line that stays\n" in out.getvalue()
    assert out.getvalue().endswith("\x1b[1A\x1b[2K"), "the moving line is taken back"


def test_for_a_program_only_warnings_are_said(standard_error: io.StringIO) -> None:
    with working("kettle", quiet=True) as work:
        work.step("never", 1, 2)
        work.line("extract 0.1 s")
        work.line("two partitions are refused", is_warning=True)
    assert standard_error.getvalue() == "two partitions are refused\n"


def ran(stage: str, *results: HandOff) -> Stages:
    stages = Stages(stage, "flight_delay")
    for result in results:
        stages.ended(stage, result)
    return stages


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("EVERGREEN_STORE_URI", tmp_path_factory.mktemp("store").as_uri())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////tmp/mlflow.db")


def test_an_ingest_ends_with_rows_in_rows_set_aside_and_what_to_run_next() -> None:
    week = {"first": "2013-04-01", "last": "2013-04-01"}
    rows = ran(
        "ingest",
        example(Extracted, **week, events=6592, labels=6400),
        example(Validated, **week, quarantined=7, page="file:///reports/validation.html"),
        example(Published, **week, quarantined=7, summary="6,585 events published"),
    ).summary(None)
    assert ("rows in", "6,592 events, 6,400 labels, of 2013-04-01") in rows
    assert ("set aside", "7 rows") in rows
    assert ("look at", "file:///reports/validation.html") in rows
    assert [text for title, text in rows if title == "next"] == [
        "evergreen quarantine list flight_delay",
        "evergreen run train flight_delay",
    ]


def test_a_training_ends_with_candidate_verdict_version_and_where_mlflow_is() -> None:
    evaluated = example(
        Evaluated, partition="2013-03-25", candidate="xgboost", metrics={"auc": 0.7}, page="file:///evaluation.html"
    )
    rows = dict(
        ran(
            "train",
            evaluated,
            example(Gated, verdict="passed"),
            example(Registered, card="file:///card.html"),
            example(Promoted, version="1", how="serves"),
        ).summary(None)
    )
    assert rows["candidate"] == "xgboost is the challenger, AUC 0.700 on test"
    assert (rows["gate"], rows["serves"]) == ("passed", "version 1 serves now")
    assert rows["MLflow"] == "mlflow ui --backend-store-uri sqlite:////tmp/mlflow.db, experiment flight_delay"
    assert rows["next"] == "evergreen run ingest flight_delay --partition 2013-04-01"
    refused = dict(ran("train", evaluated).summary(GateFailed("worse than the champion")))
    assert refused["gate"] == "refused" and refused["look at"] == "file:///evaluation.html"
    assert "next" not in refused, "the error says it"


@pytest.mark.parametrize(
    ("action", "following"),
    [
        (Action.RETRAIN, "evergreen run train flight_delay --partition 2013-04-01 --how scratch"),
        (Action.NONE, "evergreen run ingest flight_delay --partition 2013-04-08"),
    ],
)
def test_monitoring_ends_with_verdict_action_and_page(action: Action, following: str) -> None:
    decided = example(
        Decided, partition="2013-04-01", version="3", verdict="staleness", action=action, reason="old", window_from=None
    )
    reason = None if action.trains else NoTraining("nothing has moved")
    rows = dict(ran("monitor", decided, example(Reported, page="file:///page.html")).summary(reason))
    assert rows["verdict"] == "staleness, on version 3"
    assert rows["action"] == f"{action}: old"
    assert rows["look at"] == "file:///page.html"
    assert rows["next"] == following


def test_scoring_ends_with_the_version_that_serves() -> None:
    scored = example(
        ScoredPartition, partition="2013-04-01", rows=10, version="3", challenger_rows=None, taken_back=None
    )
    rows = dict(ran("score", scored).summary(None))
    assert rows["scored"] == "10 predictions by version 3"
    assert rows["next"] == "evergreen run monitor flight_delay --partition 2013-04-01"


def test_a_run_that_came_to_nothing_has_no_summary() -> None:
    assert ran("train").summary(DataError("too few rows")) == []


def test_candidates_and_shards_are_counted(standard_error: io.StringIO) -> None:
    with working("flight_delay") as work:
        training = Stages("train", "flight_delay").shown_by(work)
        for _ in range(2):
            training.began("train.train")
        scoring = Stages("score", "flight_delay").shown_by(work)
        scoring.ended("score.plan", [example(Shard), example(Shard)])
        scoring.began("score.score")
    assert [line.rpartition("  ")[0].strip() for line in standard_error.getvalue().splitlines()] == [
        "train 1 of 4",
        "train 2 of 4",
        "score 1 of 2",
    ]
