"""The smallest problem of the README, as it stands there: ingested, trained, scored and watched."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pytest
import yaml

from benchmarks.left_out import draw_nothing, judge_by_duckdb
from pipelines import ledger, local_run, store
from pipelines.errors import NothingToDo
from pipelines.ingest.look import check_sources, look
from pipelines.paths import manifest_uri
from pipelines.problem import ROOT, Problem, load_problem, parse_problem
from tests.mlflow_database import mlflow_in

OWN_TABLE = "docs/howto/own_table.md"
WEEKS, A_WEEK = 11, 250
FIRST = datetime(2024, 1, 1, tzinfo=UTC)


def smallest_problem() -> str:
    """The YAML of the README that has a `time`."""
    (text,) = [block for block in yaml_blocks() if re.search(r"^time:", block, re.MULTILINE)]
    return text


def yaml_blocks(page: str = "README.md") -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def test_what_is_shown_of_a_problem_over_several_tables_is_right(tmp_path: Path) -> None:
    (text,) = [block for block in yaml_blocks(OWN_TABLE) if "history:" in block]
    problem = parse_problem({"description": "Will it come back?", "owner": "shop", **yaml.safe_load(text)}, tmp_path)
    assert problem.feature_names == ["paid", "country", "return_rate_14d"]
    assert problem.columns["paid"].type == "float"


def test_the_page_shows_the_same_as_the_readme() -> None:
    assert smallest_problem() in yaml_blocks(OWN_TABLE)


@pytest.mark.parametrize("block", ["time:", "history:"])
def test_an_editor_finds_nothing_wrong_with_what_is_shown(block: str) -> None:
    """The schema is of what people write, from which much may be left out."""
    (text,) = [text for text in yaml_blocks(OWN_TABLE) if f"\n{block}" in text or f"  {block}" in text]
    settings = {"description": "Will it come back?", "owner": "shop", **yaml.safe_load(text)}
    schema = jsonschema.Draft202012Validator(Problem.model_json_schema())
    as_json = json.loads(json.dumps(settings, default=str))
    assert [error.message for error in schema.iter_errors(as_json)] == []
    misspelt = as_json | {"features": {"columns": "al"}, "lable": "x"}
    assert {error.json_path for error in schema.iter_errors(misspelt)} == {"$", "$.features.columns"}


def pots() -> pa.Table:
    random, count = np.random.default_rng(4), WEEKS * A_WEEK
    clay = random.choice(["red", "white", "grog"], count)
    grams = random.normal(600, 150, count).round(1)
    is_thick, is_white = grams > 650, clay == "white"
    return pa.table(
        {
            "pot_id": [f"p{n}" for n in range(count)],
            "fired_at": [FIRST + timedelta(weeks=n // A_WEEK, minutes=40 * (n % A_WEEK)) for n in range(count)],
            "clay": clay,
            "glaze": random.choice(["ash", "salt", "none"], count),
            "grams": grams,
            "cracked": random.random(count) < 0.1 + 0.5 * is_thick + 0.2 * is_white,
        }
    )


@pytest.fixture
def pottery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    folder = tmp_path / "problems" / "pots"
    (folder / "data").mkdir(parents=True)
    (folder / "problem.yaml").write_text(smallest_problem())
    csv.write_csv(pots(), folder / "data" / "pots.csv")
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(folder.parent))
    monkeypatch.setenv("EVERGREEN_STORE_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_in(tmp_path))
    monkeypatch.chdir(tmp_path)  # MLflow keeps artifacts beside its database
    judge_by_duckdb(monkeypatch.setattr)
    draw_nothing(monkeypatch.setattr)
    yield "pots"


def test_it_has_a_dozen_lines() -> None:
    lines = [line for line in smallest_problem().splitlines() if line.strip()]
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 120


@pytest.mark.slow
def test_it_is_a_whole_problem(pottery: str) -> None:
    problem = load_problem(pottery)
    assert problem.feature_names == ["clay", "glaze", "grams"]
    keys = problem.partitions.between("2024-01-01", problem.partitions.shift("2024-01-01", WEEKS - 1))
    assert check_sources(problem) == []
    assert [remark.text for remark in look(problem, keys[-1]) if remark.level == "wrong"] == []

    history = local_run.ingest(pottery, keys[0], keys[-2])
    assert (history.events, history.quarantined) == (len(keys[:-1]) * A_WEEK, 0)
    local_run.train(pottery)
    local_run.ingest(pottery, keys[-1], keys[-1])
    local_run.score(pottery, keys[-1])
    with suppress(NothingToDo):  # no training is asked for
        local_run.monitor(pottery, keys[-1])

    assert store.read_json(manifest_uri(problem, keys[-1]))["rows"] == A_WEEK
    predictions = store.dataset(problem, "predictions").to_table(columns=["score"])["score"]
    assert predictions.null_count == 0 and len(set(predictions.to_pylist())) > A_WEEK / 2
    assert [row["verdict"] for row in ledger.decisions(problem, "gate")] == ["passed"]
    watched = {row["partition"]: row["verdict"] for row in ledger.decisions(problem, "monitoring")}
    assert list(watched) == keys[-1:]
    assert not {"data fault", "not judged"} & set(watched.values())
