"""What serves, and what served a day: a release's versions too."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipelines import ledger, store, summary
from pipelines.artifacts import table_schema
from pipelines.health.state import health_of
from pipelines.maintenance import tables
from pipelines.maintenance.finding import Finding
from pipelines.problem import Problem
from pipelines.release import ladder
from pipelines.release.ladder import Contender
from tests.conftest import ToyProblem
from tests.release.under_release import DAYS, START, binary_day, lay_out, write

BEGAN = "2024-01-10"


@pytest.fixture
def kettle(toy: ToyProblem, store_folder: Path) -> Problem:
    """Version 3 serves; version 4 has been in its shadow for a day, and in a canary for the next."""
    problem = toy(**{"release.path": ["shadow", "canary", "full"], "release.canary": {"shares": [0.5]}})
    promoted(problem, "3", "2024-01-05", "promoted", "passed its gate")
    ladder.start(problem, Contender("4", "run of 4", BEGAN, "better"), "3", "run of 3", BEGAN)
    for day in DAYS[:2]:
        (rollout,) = ladder.read(problem).rollouts
        ladder.assign(problem, rollout, day)
        if day == DAYS[0]:
            ladder.record(problem, "v3-v4", "stepped", day, "no harm", verdict="canary", version="4", turn="1", to=1)
    (rollout,) = ladder.read(problem).rollouts
    lay_out(problem, rollout, {day: binary_day(0) for day in DAYS[:2]})
    return problem


def promoted(problem: Problem, version: str, partition: str, action: str, reason: str) -> None:
    ledger.record(
        problem,
        decision=f"{action}:{version}:{partition}",
        kind="promotion",
        partition=partition,
        verdict="",
        action=action,
        reason=reason,
        model_version=version,
        evidence={},
    )


def test_a_challenger_serves_since_it_left_its_shadow(kettle: Problem) -> None:
    by_version = {version.version: version for version in summary.served(kettle, DAYS[1])}
    assert (by_version["4"].variant, by_version["4"].since) == ("challenger", DAYS[0])
    assert by_version["3"].since == "2024-01-05"


def test_why_a_version_served_a_day_is_not_why_it_serves_again_later(kettle: Problem) -> None:
    before = summary.served(kettle, DAYS[0])
    promoted(kettle, "4", DAYS[2], "promoted", "passed its release")
    promoted(kettle, "3", DAYS[4], "rolled back", "version 4 does harm")
    assert summary.served(kettle, DAYS[0]) == before
    assert [version.reason for version in before] == ["passed its gate"]


def test_a_partition_that_was_never_scored_is_named_once_a_later_one_was_ingested(kettle: Problem) -> None:
    for day in DAYS[2:4]:
        ladder.assign(kettle, ladder.read(kettle).rollouts[0], day)
    (rollout,) = ladder.read(kettle).rollouts
    lay_out(kettle, rollout, {day: binary_day(0) for day in DAYS[2:4]})
    for day in DAYS[:4]:
        times = dict.fromkeys(("event_time", "known_time", "cutoff_time"), kettle.partitions.start(day))
        row = {"kettle_id": day, "partition": day, "statement": 0, "shelf": "top", **times}
        write(kettle, "events", pa.Table.from_pylist([row]), day)
    assert summary.unscored(kettle) == [] and summary.unscored_in_words(kettle, []) is None
    nothing = table_schema(kettle, "predictions").empty_table()
    for day, missing in ((DAYS[3], []), (DAYS[2], [DAYS[2]]), (DAYS[1], DAYS[1:3])):
        store.write_table(kettle, "predictions", nothing, [day])
        assert summary.unscored(kettle) == missing, "the newest may be on its way, those before it are not"
    assert [finding.name for finding in tables.events(kettle) if isinstance(finding, Finding)].count(
        "partition not scored"
    ) == 2
    lay_out(kettle, rollout, {DAYS[3]: binary_day(0)})
    assert summary.unscored(kettle) == DAYS[1:3]
    words = health_of(kettle, START).missed
    assert words == (
        "2 days were ingested and not scored: 2024-01-12 to 2024-01-13. To score and monitor what is missing: trigger "
        "kettle.score with partition key 2024-01-12, and each other; without Airflow: evergreen run score kettle "
        "--partition 2024-01-12"
    )
