"""Texts and embeddings from a file to the alarm that they have moved, and back to the bit."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipelines import ledger, local_run, store
from pipelines.errors import NothingToDo
from pipelines.problem import load_problem
from pipelines.release.reproduce import reproduce
from tests.mlflow_database import mlflow_in
from tests.stages.conftest import judged_by_both

ROWS = 300
WEEKS = ["2024-01-01", "2024-01-08", "2024-01-15", "2024-01-22", "2024-01-29", "2024-02-05", "2024-02-12", "2024-02-19"]
SETTINGS = {
    "description": "Is the pot on the photo cracked?",
    "owner": "kiln",
    "key": "pot",
    "time": "taken",
    "label": {"value": "bad", "known": "taken + INTERVAL 1 DAY"},
    "partitions": {"every": "week", "first": WEEKS[0], "last": WEEKS[-1]},
    "sources": {
        "photos": {
            "path": "photos.jsonl",
            "columns": {
                "pot": "string",
                "taken": "timestamp",
                "fired": "timestamp",
                "photo": "list<float>",
                "note": "string",
                "bad": "integer",
            },
        }
    },
    "available": "cutoff",
    "columns": {"photo": {"type": "embedding", "length": 6}, "note": {"type": "text", "min_length": 1}},
    "features": {"columns": "all", "datetime": {"days_old": {"of": "fired", "part": "age"}}},
    "training": {
        "candidates": {"prior": {"model": "prior"}, "logistic": {"model": "logistic"}},
        "refit": False,
        "threads": 1,
    },
    "gate": {"min_rows": 100},
    "evaluation": {"bootstrap": {"resamples": 100}},
    "validation": {"expectation_rows": 100, "shape": None},
    "monitoring": {"report_rows": 200, "policy": {"min_labels": 100}},
    "replay": {"history_until": WEEKS[5], "until": WEEKS[-1]},
}


def photos() -> str:
    """Of the last week's pots other things are said, and their photos are of another kind."""
    random, lines = np.random.default_rng(4), []
    for number in range(ROWS * len(WEEKS)):
        week, place = divmod(number, ROWS)
        taken = datetime.fromisoformat(WEEKS[week]).replace(tzinfo=UTC) + place * timedelta(days=7) / ROWS
        is_bad, is_last = random.random() < 0.4, week == len(WEEKS) - 1
        words = random.choice(("invoice paid on time" if is_last else "red blue old new small large").split(), 4)
        photo = (random.normal(size=6) + is_bad * np.eye(6)[0] * 1.5 + is_last * 2).round(4).tolist()
        lines.append(
            {
                "pot": f"p{number}",
                "taken": taken.isoformat(),
                "fired": (taken - timedelta(days=float(random.exponential(30)))).isoformat(),
                "photo": photo[:3] if number == 7 else None if number % 40 == 0 else photo,
                "note": " ".join([*words, *(["cracked"] if is_bad and random.random() < 0.6 else [])]),
                "bad": int(is_bad),
            }
        )
    return "".join(json.dumps(line) + "\n" for line in lines)


@pytest.mark.slow
def test_texts_and_embeddings_are_learnt_scored_and_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "problems" / "pots"
    folder.mkdir(parents=True)
    (folder / "problem.yaml").write_text(yaml.safe_dump(SETTINGS))
    (folder / "photos.jsonl").write_text(photos())
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path / "problems"))
    monkeypatch.setenv("EVERGREEN_STORE_URI", f"file://{tmp_path}/store")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_in(tmp_path))
    monkeypatch.chdir(tmp_path)  # MLflow keeps artifacts beside its database
    with judged_by_both():
        assert local_run.ingest("pots", WEEKS[0], WEEKS[5]).quarantined == 1
    problem = load_problem("pots")
    (rejected,) = store.dataset(problem, "quarantine").to_table().to_pylist()
    assert rejected["rules"] == ["photo: not 6 numbers"]
    assert local_run.train("pots", WEEKS[5]).version == "1"
    assert reproduce("pots", "1").identical
    for week in WEEKS[6:]:
        local_run.ingest("pots", week, week)
        local_run.score("pots", week)
        with suppress(NothingToDo):  # nothing was asked for
            local_run.monitor("pots", week)
    verdicts = {row["partition"]: row["verdict"] for row in ledger.decisions(problem, "monitoring")}
    assert verdicts == {WEEKS[6]: "stable", WEEKS[7]: "calibration drift"}
    seen = set(store.dataset(problem, "profiles").to_table()["column"].to_pylist())
    assert {"photo (norm)", "photo (distance)", "note (unseen words)", "note (direction 1)", "days_old"} <= seen
    pages = (tmp_path / "store" / "pots" / "reports" / WEEKS[7]).glob("*.html")
    for page in pages:
        text = page.read_text()
        assert "note (" in text
        assert "invoice" not in text and "cracked" not in text
