"""Publishing what two versions have staged: rows of every kind, tiny partitions, categories that one does not know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from pipelines import store
from pipelines.artifacts import table_schema
from pipelines.handoffs.releases import Assignment, Variant
from pipelines.handoffs.scoring import ScoredPartition, ScoredShard
from pipelines.paths import score_staging_uri
from pipelines.problem import Problem, load_problem
from pipelines.release import ladder
from pipelines.release.ladder import Contender
from pipelines.release.versions import write_version_files
from pipelines.stages import stage
from tests.conftest import TOY
from tests.stages.score.conftest import table, variants

DAY = "2024-01-10"
RELEASE = {"path": ["canary", "full"], "canary": {"shares": [0.5], "max_decision_gap": 0.05}}


@pytest.fixture
def problems(tmp_path: Path, store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path / "problems"))
    return tmp_path / "problems" / "kettle"


def released(folder: Path, **changes: Any) -> tuple[Problem, Assignment]:
    """The problem, of which version 2 is under release for half of the rows of a day."""
    folder.mkdir(parents=True)
    (folder / "problem.yaml").write_text(yaml.safe_dump(TOY | {"release": RELEASE} | changes))
    problem = load_problem("kettle")
    for version in "12":
        write_version_files(problem, version, {"problem.json": problem.model_dump(mode="json", exclude={"folder"})})
    ladder.start(problem, Contender("2", "b", "2024-01-09", "better"), "1", "a", "2024-01-09")
    rollout = ladder.read(problem).current
    assert rollout is not None
    return problem, ladder.assign(problem, rollout, DAY)


def staged(
    problem: Problem,
    assignment: Assignment,
    variant: Variant,
    scores: np.ndarray,
    *,
    decisions: list[str] | None = None,
    probabilities: list[list[float]] | None = None,
    unseen: dict[str, int] | None = None,
) -> ScoredShard:
    count = len(scores)
    predicted = table_schema(problem, "predictions")
    own = [predicted.field(name) for name in ("score", "decision", "probabilities")]
    schema = pa.schema([*table_schema(problem, "features"), *own])
    values: dict[str, Any] = {
        "kettle_id": [f"k{number}" for number in range(count)],
        "partition": [DAY] * count,
        "event_time": [problem.partitions.start(DAY)] * count,
        "shelf": ["top"] * count,
        "score": scores,
        "decision": decisions or [str(int(score >= 0.5)) for score in scores],
        "probabilities": probabilities or [None] * count,
    }
    columns = {field.name: pa.array(values.get(field.name, [None] * count), field.type) for field in schema}
    uri = score_staging_uri(problem, DAY, variant)
    store.stage(uri, pa.table(columns, schema=schema), schema)
    return ScoredShard(
        partition=DAY,
        variant=variant,
        assignment=assignment,
        version=assignment.version(variant),
        as_of="2024-01-11T00:00:00+00:00",
        uri=uri,
        rows=count,
        events=count,
        events_version=None,
        unseen=unseen or {},
    )


def published(*shards: ScoredShard) -> ScoredPartition:
    result: ScoredPartition = stage("score.publish")("kettle", DAY, list(shards))
    return result


def test_the_probabilities_of_several_classes_are_those_of_the_version_that_serves(problems: Path) -> None:
    gate = {"limits": {"log_loss": {"max": 1.0}}, "gain_over_baselines": {"log_loss": 0.0}}
    gate["gain_over_champion"] = {"log_loss": 0.0}
    features = {"columns": ["shelf", "litres"]}
    labels = {"classes": ["dry", "wet", "gone"]}
    problem, assignment = released(problems, task="multiclass", labels=labels, gate=gate, features=features)
    count, scores = 400, np.full(400, 0.7)
    champion, challenger = [0.7, 0.2, 0.1], [0.68, 0.22, 0.1]
    own = staged(problem, assignment, "champion", scores, decisions=["dry"] * count, probabilities=[champion] * count)
    other = staged(
        problem, assignment, "challenger", scores, decisions=["dry"] * count, probabilities=[challenger] * count
    )
    assert published(own, other).taken_back is None
    served, shadow = table(problem, "predictions", DAY), table(problem, "shadow_predictions", DAY)
    said = {"champion": champion, "challenger": challenger}
    for rows in (served, shadow):
        assert rows["probabilities"].to_pylist() == [said[variant] for variant in rows["variant"].to_pylist()]
        assert set(rows["decision"].to_pylist()) == {"dry"} and rows.num_rows == count
    assert set(served["variant"].to_pylist()) == {"champion", "challenger"}


def test_of_a_tiny_partition_the_champion_may_serve_no_row(problems: Path) -> None:
    problem, assignment = released(problems)
    scores = np.linspace(0.1, 0.9, 40)
    published(*(staged(problem, assignment, variant, scores) for variant in ("champion", "challenger")))
    first = next(key for key, variant in variants(problem, DAY).items() if variant == "challenger")

    def only(variant: Variant) -> ScoredShard:
        shard = staged(problem, assignment, variant, scores)
        kept = store.staged(shard.uri).to_table().filter(pc.field("kettle_id") == first)
        store.stage(shard.uri, kept, kept.schema)
        return shard.model_copy(update={"rows": 1, "events": 1})

    again = published(only("champion"), only("challenger"))
    assert (again.rows, again.challenger_rows) == (1, 1)
    profiled = stage("monitor.profile")("kettle", DAY)
    assert (profiled.version, profiled.rows) == ("1", 0), "there is nothing of the champion's to look at"


def test_a_challenger_that_does_not_know_what_its_champion_knows_is_taken_back(problems: Path) -> None:
    problem, assignment = released(problems)
    scores = np.linspace(0.1, 0.9, 400)
    own = staged(problem, assignment, "champion", scores, unseen={"shelf": 3})
    other = staged(problem, assignment, "challenger", scores, unseen={"shelf": 90})
    reason = published(own, other).taken_back
    assert reason == "on the same rows: share of rows with an unknown shelf 0.225 where the champion has 0.0075"
    assert set(variants(problem, DAY).values()) == {"champion"}
    (row,) = [row for row in ladder.read(problem).rollouts[0].rows if row["action"] == "rolled back"]
    assert [gap["measure"] for gap in row["evidence"]["guard"]["gaps"]][-1] == "share of rows with an unknown shelf"


def test_a_partition_without_rows_is_assigned_and_empty(problems: Path) -> None:
    problem, assignment = released(problems)
    none = np.zeros(0)
    result = published(*(staged(problem, assignment, variant, none) for variant in ("champion", "challenger")))
    assert (result.rows, result.challenger_rows, result.taken_back) == (0, 0, None)
    assert result.line() == "0 predictions by version 1"
