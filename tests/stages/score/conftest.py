"""A release of a second version of the small default problem, begun at the end of its history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines import local_run, store, tracking
from pipelines.artifacts import TableName
from pipelines.paths import version_uri
from pipelines.problem import Problem, load_problem
from pipelines.release import ladder
from pipelines.release.ladder import Contender
from pipelines.release.versions import version_lineage
from pipelines.stages import stage
from tests.stages.conftest import HISTORY, WEEKS, configure

RELEASE = "v1-v2"
TWIN = "twin"
"""Run of a model that is nowhere kept."""


@pytest.fixture
def released(loop_after: Callable[..., str]) -> Callable[..., Problem]:
    """Begins a release: released(1, path=["shadow", "full"]) is the problem after a week that is not scored yet, and
    released(3, scored=1) after three, of which the first has been scored.

    The challenger, version 2, is the training's rule, which decides 1 for far fewer flights than its champion; or, as
    `is_twin`, what `changed` makes of the champion's model.
    """

    def begun(weeks: int, *, scored: int = 0, is_twin: bool = False, **settings: Any) -> Problem:
        loop = loop_after(weeks, is_bulk=True) if weeks > 1 else loop_after(1, is_scored=False)
        for week in WEEKS[:scored]:
            local_run.score(loop, week)
        configure(loop, lambda raw: raw.update(release=settings))
        problem = load_problem(loop)
        champion = tracking.serving(problem)
        training = tracking.run_lineage(champion.run_id)["training"]
        other = tracking.find_run(problem, {"training": training, "candidate": "rule"})
        assert other is not None
        for name in ("problem.json", "reference.json", "held_out.parquet"):
            store.write_bytes(version_uri(problem, "2", name), store.read_bytes(version_uri(problem, "1", name)))
        run_id = TWIN if is_twin else other[0]
        lineage: dict[str, Any] = {**version_lineage(problem, "1"), "version": "2", "run_id": run_id}
        lineage.pop("model_sha256", None)
        sha256 = {} if is_twin else {"model_sha256": tracking.model_sha256(run_id)}
        store.write_json(version_uri(problem, "2", "lineage.json"), {**lineage, **sha256})
        ladder.start(problem, Contender("2", run_id, HISTORY[1], "better"), "1", champion.run_id, HISTORY[1])
        return problem

    return begun


def changed(problem: Problem, patch: pytest.MonkeyPatch, scores: Callable[[Any, Any], Any]) -> None:
    """The challenger's model gives a table of rows what `scores(score, rows)` says, of what it gave them before."""
    load = tracking.load_model
    (rollout,) = ladder.read(problem).rollouts

    def loaded(run_id: str, sha256: str | None = None) -> Any:
        model: Any = load(rollout.champion_run) if run_id == TWIN else load(run_id, sha256)
        if run_id == rollout.challenger_run:
            model.scores = lambda rows: scores(type(model).scores.__get__(model), rows)
        return model

    patch.setattr(tracking, "load_model", loaded)


def step(problem: Problem, to: int, partition: str) -> None:
    """To the next rung, as `release.step` does."""
    ladder.record(problem, RELEASE, "stepped", partition, "because", verdict="go on", version="2", turn=str(to), to=to)


def end(problem: Problem, action: ladder.Action, partition: str) -> None:
    ladder.record(problem, RELEASE, action, partition, "because", verdict="so", version="2")


def table(problem: Problem, name: TableName, partition: str) -> pa.Table:
    """Rows of a partition, in the order of their keys."""
    rows = store.dataset(problem, name).to_table(filter=pc.field("partition") == partition)
    return rows.sort_by(problem.key)


def variants(problem: Problem, partition: str) -> dict[str, str]:
    """By key: what served each row. Every key comes once."""
    rows = table(problem, "predictions", partition)
    served = dict(zip(rows[problem.key].to_pylist(), rows["variant"].to_pylist(), strict=True))
    assert len(served) == rows.num_rows
    return served


def scored(problem: Problem, partition: str) -> list[Any]:
    """What plan and score hand on to publish."""
    with store.task():
        shards = stage("score.plan")(problem.name, partition)
    handed_on = []
    for shard in shards:
        with store.task():
            handed_on.append(stage("score.score")(problem.name, shard))
    return handed_on
