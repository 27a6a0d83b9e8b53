"""What goes of a problem that has been at work, and that what its versions rest on stays."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from pipelines import local_run, store, tracking
from pipelines.cli.app import app
from pipelines.errors import DataError
from pipelines.maintenance.pins import Pins, pins
from pipelines.maintenance.vacuum import Leftover, leftovers
from pipelines.paths import train_staging_uri, version_uri
from pipelines.problem import Problem, load_problem
from pipelines.release.reproduce import reproduce
from pipelines.release.versions import version_lineage
from pipelines.usage import Try
from pipelines.usage.table import append, tries
from tests.conftest import ToyProblem
from tests.stages.conftest import HISTORY, WEEKS
from tests.stages.conftest import after as after
from tests.stages.conftest import loop_after as loop_after

AT_ONCE = timedelta(0)


def kinds(problem: Problem, older_than: timedelta = AT_ONCE, reports: timedelta | None = None) -> dict[str, int]:
    """How many leftovers of each kind there are, an hour from now."""
    counts: dict[str, int] = {}
    for leftover in leftovers(problem, time.time() + 3600, older_than, reports):
        counts[leftover.kind] = counts.get(leftover.kind, 0) + 1
    return counts


def rewrite(problem: Problem, times: int) -> None:
    """Partitions of the history as a repeated ingest writes them: the same rows, in files of their own."""
    for _ in range(times):
        rows = store.dataset(problem, "events").to_table(filter=pa.compute.field("partition") == HISTORY[0])
        store.write_table(problem, "events", rows, [HISTORY[0]])


@pytest.mark.slow
def test_what_goes_and_that_a_version_can_be_made_again_afterwards(loop_after: Callable[..., str]) -> None:
    problem = load_problem(loop_after(1, is_scored=False))
    rewrite(problem, 2)
    pinned = store.dataset(problem, "events", version_lineage(problem, "1")["tables"]["events"]).count_rows()
    store.write_bytes(f"{train_staging_uri(problem, 'gone')}/labelled/only.arrow", b"rows")
    store.write_bytes(store.store_uri(problem.name, "features", "0123456789ab", "part.parquet"), b"rows")
    tags = {"training": "gone", "partition": HISTORY[1]}
    lost, failed = (tracking.start_candidate(problem, name, tags) for name in ("rule", "xgboost"))
    tracking.annotate(failed, files={"model_card.md": b"what it can"})
    tracking.fail(failed, "too few rows")
    # The newest training is kept whole, whatever came of it.
    newest = tracking.start_candidate(problem, "rule", {"training": "newest", "partition": HISTORY[1]})
    tracking.annotate(newest, files={"model_card.md": b"what it can"})
    tracking.fail(newest, "too few rows")

    assert kinds(problem, timedelta(days=1)) == {}, "it was written just now"
    found = kinds(problem)
    expected = {"table files": 1, "features": 1, "unfinished run": 1, "model files": 2}
    assert found | expected == found and found["staging"] >= 1 and "reports" not in found
    assert kinds(problem, reports=AT_ONCE)["reports"] >= 1
    files = {file.uri for file in store.listing(store.store_uri(problem.name, "models"))}
    for leftover in list(leftovers(problem, time.time() + 3600, AT_ONCE, AT_ONCE)):
        leftover.remove()
    assert kinds(problem, reports=AT_ONCE) == {}
    assert list(store.listing(store.store_uri(problem.name, "staging"))) == []
    assert files == {file.uri for file in store.listing(store.store_uri(problem.name, "models"))}
    assert tracking.run_files(failed).files == 0 and tracking.run_files(newest).files == 1
    assert tracking.run_tag(lost, "error") == "it began, and nobody has ended it"

    made = reproduce(problem.name, "1")
    assert made.identical and made.rows > 0
    events = version_lineage(problem, "1")["tables"]["events"]
    assert store.dataset(problem, "events", events).to_table().num_rows == pinned
    assert local_run.score(problem.name, WEEKS[0]).rows > 0
    for baseline in tracking.run_evaluation(tracking.serving(problem).run_id)["baselines"].values():
        assert tracking.run_files(baseline["run_id"]).files > 5, "it may be fallen back to"


def test_nothing_goes_where_a_lineage_cannot_be_read(
    toy: ToyProblem, store_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = toy()
    monkeypatch.setattr(tracking, "versions", lambda problem: [])
    store.write_bytes(version_uri(problem, "3", "lineage.json"), b'{"tables": ')
    with pytest.raises(DataError, match="lineage cannot be read") as error:
        next(leftovers(problem, time.time(), AT_ONCE, None))
    assert "backup" in error.value.cure


def test_what_a_version_that_the_registry_has_lost_rests_on_stays_too(
    toy: ToyProblem, store_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = toy()
    made_of = {"run_id": "b", "feature_set": "f0", "beside_sha256": {"c": "1f"}, "parent_run": "d"}
    made_of |= {"tables": {"events": 3, "labels": None, "features": 5}, "refit": {"of": "e", "base": None}}
    monkeypatch.setattr(tracking, "versions", lambda problem: [tracking.Registered("1", "a", 0.0)])
    monkeypatch.setattr(tracking, "run_lineage", lambda run_id: {**made_of, "tables": {"events": 1}})
    monkeypatch.setattr(tracking, "run_evaluation", lambda run_id: {"baselines": {"prior": {"run_id": "p"}}})
    store.write_json(version_uri(problem, "2", "lineage.json"), made_of)
    found = pins(problem)
    events, features = store.table_uri(problem, "events"), store.store_uri(problem.name, "features", "f0")
    assert found.tables == {events: {1, 3}, features: {5}}
    assert found.runs == {"a", "b", "c", "d", "e", "p"}


@pytest.mark.slow
def test_the_command_says_what_would_go(loop_after: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    loop = loop_after(0)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 40 * 86_400)
    store.write_bytes(f"{train_staging_uri(load_problem(loop), 'gone')}/labelled/only.arrow", b"rows")
    run = CliRunner().invoke
    said = run(app, ["vacuum", loop, "--dry-run"])
    assert said.exit_code == 0 and "staging/train/gone" in said.output and "without --dry-run it does" in said.output
    assert "are gone" in run(app, ["vacuum", loop]).output
    assert run(app, ["vacuum", loop]).output.strip() == "nothing that could go"


def test_months_of_what_tasks_used_go_once_they_have_ended_long_ago(
    toy: ToyProblem, store_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(store_folder.parent))
    monkeypatch.setattr("pipelines.maintenance.vacuum.pins", lambda _: Pins({}, set()))
    monkeypatch.setattr("pipelines.maintenance.vacuum._runs", lambda *_: iter(()))
    problem, now = toy(), datetime(2026, 11, 30, tzinfo=UTC)
    for month in (8, 9, 11):
        began = datetime(2026, month, 30, tzinfo=UTC)
        append(problem, [Try(id=str(month), stage="score.plan", run="r", host="h", started_time=began, outcome="done")])

    def gone(days: int | None) -> list[Leftover]:
        runs = None if days is None else timedelta(days=days)
        found = leftovers(problem, now.timestamp(), timedelta(days=1), None, runs)
        return [leftover for leftover in found if leftover.kind == "runs"]

    assert gone(None) == gone(365) == []
    assert [leftover.where[-7:] for leftover in gone(61)] == ["2026-08"], "September ended 60 days ago"
    for leftover in gone(59):
        assert leftover.files == 1 and leftover.bytes > 0
        leftover.remove()
    assert [attempt.id for attempt in tries(problem)] == ["11"]
    assert gone(59) == []
