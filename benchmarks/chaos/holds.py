"""What must hold of a problem whatever has happened to its loop, once every run has ended."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from pydantic import BaseModel

COMPARED: dict[str, tuple[str, ...]] = {
    # By table, columns that say when it was done, or name what differs each time: runs of MLflow, and versions of
    # tables, of which there are more where a write was repeated.
    "events": (),
    "labels": (),
    "quarantine": (),
    "predictions": ("scored_time",),
    "shadow_predictions": ("scored_time",),
    "features": (),
    "training_sets": ("training_set",),
    "profiles": (),
    "estimates": (),
    "votes": (),
    "ledger": ("decided_time", "evidence", "decision", "reason"),
}


DIGITS = 12


class State(BaseModel):
    """A problem as its store and its registry have it."""

    rows: dict[str, dict[str, int]]
    """By table: how often each row is there, as JSON."""
    read: dict[str, int]
    """Readable rows of the source by partition."""
    events: dict[str, list[str]]
    """Keys by partition, of events that hold."""
    quarantined: dict[str, int]
    """Rows by partition that were readable, and broke a rule."""
    predictions: dict[str, list[str]]
    versions: dict[str, dict[str, int]]
    """By partition: predictions by the version that they are of."""
    manifests: dict[str, dict[str, Any]]
    decisions: list[str]
    """Ids on the ledger."""
    promoted: list[str]
    """Versions by their promotions, oldest first."""
    champion: str | None
    challenger: str | None
    under_release: str | None
    """Challenger of the release that is under way."""
    registered: dict[str, str]
    """Run by version."""
    described: list[str]
    """Versions with all files that scoring and monitoring read."""
    runs: dict[str, int]
    """Finished runs by training and candidate."""
    running: list[str]
    """Runs of MLflow that have not ended."""
    staged: list[str]
    """Objects in staging that `evergreen vacuum` would not clear either, once they are old."""
    left_to_vacuum: int = 0
    """Folders in staging that it would: of a task that was killed after it had staged rows, and began anew."""
    missing_files: list[str]
    """Files that a manifest names and that are not there."""


class Breach(NamedTuple):
    """A rule that does not hold, and of what."""

    rule: str
    what: str


def breaches(state: State, ingested: Sequence[str], scored: Sequence[str]) -> list[Breach]:
    """What does not hold; `ingested` and `scored` are partitions whose runs have ended well."""
    return [Breach(rule, what) for rule, what in _breaches(state, ingested, scored)]


def _breaches(state: State, ingested: Sequence[str], scored: Sequence[str]) -> Iterable[tuple[str, str]]:
    for key in ingested:
        published, held = len(state.events.get(key, [])), state.quarantined.get(key, 0)
        if published + held != state.read[key]:
            yield "published + quarantined = read", f"{key}: {published} + {held}, of {state.read[key]}"
        if doubled := _doubled(state.events.get(key, [])):
            yield "an event is published once", f"{key}: {doubled[:3]}"
    for key in scored:
        predictions = state.predictions.get(key, [])
        if sorted(predictions) != sorted(state.events.get(key, [])):
            yield "one prediction an event", f"{key}: {len(predictions)} of {len(state.events.get(key, []))} events"
        manifest = state.manifests.get(key)
        if manifest is None or manifest["rows"] != len(predictions) or manifest["versions"] != state.versions.get(key):
            yield "the manifest says what the table has", f"{key}: {manifest}"
    if doubled := _doubled(state.decisions):
        yield "a ledger's row is there once", str(doubled[:3])
    if state.champion != (state.promoted[-1] if state.promoted else None):
        yield "the alias champion is the ledger's last promotion", f"{state.champion} of {state.promoted}"
    if state.under_release is not None and state.challenger != state.under_release:
        yield "the alias challenger is under release", f"{state.challenger}, not {state.under_release}"
    for version, run in state.registered.items():
        if version not in state.described:
            yield "a version has its files", f"version {version}"
        if list(state.registered.values()).count(run) > 1:
            yield "a run is registered once", f"run {run}"
    for name, count in state.runs.items():
        if count > 1:
            yield "a candidate is fitted once a training", f"{name}: {count} runs"
    if state.running:
        yield "no run of MLflow goes on for ever", str(state.running)
    if state.staged:
        yield "nothing is left in staging for ever", f"{len(state.staged)}: {state.staged[:3]}"
    if state.missing_files:
        yield "a manifest's files are there", str(state.missing_files[:3])


class Difference(NamedTuple):
    """Rows of a table that the undisturbed loop has and this one lacks, and those that only this one has."""

    table: str
    lost: int
    more: int
    example: str


def differences(expected: State, state: State) -> list[Difference]:
    """Row by row, tables as they should be against those that are there."""
    different = []
    for table, rows in expected.rows.items():
        there, here = (_compared(table, side) for side in (rows, state.rows[table]))
        lost, more = there - here, here - there
        if lost or more:
            example = f"lost {next(iter(lost), '')[:300]} more {next(iter(more), '')[:300]}"
            different.append(Difference(table, lost.total(), more.total(), example))
    return different


def _compared(table: str, rows: Mapping[str, int]) -> Counter[str]:
    """Rows without what differs each time, and with DIGITS of each number: sums of floats differ in the last one with
    the order in which files are read."""
    counts: Counter[str] = Counter()
    for text, count in rows.items():
        row = json.loads(text, parse_float=lambda number: float(f"{float(number):.{DIGITS}g}"))
        counts[json.dumps({name: value for name, value in row.items() if name not in COMPARED[table]})] += count
    return counts


def _doubled(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def look(problem_name: str, read: Mapping[str, int]) -> State:
    """The state of a problem, from its store and MLflow; `read`: rows of its source by partition."""
    from pipelines import ledger, store, tracking
    from pipelines.artifacts import TABLES
    from pipelines.asof.as_known import holds_now
    from pipelines.maintenance.vacuum import leftovers
    from pipelines.paths import manifest_uri, version_uri
    from pipelines.problem import load_problem
    from pipelines.release import ladder
    from pipelines.store import objects
    from pipelines.tracking.client import client

    problem = load_problem(problem_name)
    tables = {name: store.dataset(problem, name).to_table() for name in TABLES if name in COMPARED}
    events: dict[str, list[str]] = {}
    for row in store.dataset(problem, "events").to_table(["partition", problem.key], filter=holds_now()).to_pylist():
        events.setdefault(row["partition"], []).append(row[problem.key])
    predictions: dict[str, list[str]] = {}
    versions: dict[str, Counter[str]] = {}
    for row in tables["predictions"].select(["partition", problem.key, "model_version"]).to_pylist():
        predictions.setdefault(row["partition"], []).append(row[problem.key])
        versions.setdefault(row["partition"], Counter())[row["model_version"]] += 1
    manifests = {key: store.find_json(manifest_uri(problem, key)) for key in predictions}
    is_far = store.store_uri().startswith("s3://")
    assert is_far, "the loop's store is an S3 server"
    staged = [entry.key for entry in objects.listing(store.store_uri(problem_name, "staging") + "/")]
    in_a_year = time.time() + timedelta(days=365).total_seconds()
    doomed = [
        leftover.where.removeprefix("s3://").partition("/")[2]
        for leftover in leftovers(problem, in_a_year, timedelta(days=1), None)
        if leftover.kind == "staging"
    ]
    champion = tracking.champion(problem)
    registry = client()
    registered = {
        str(version.version): str(version.run_id)
        for version in registry.search_model_versions(f"name = '{problem_name}'")
    }
    challenger = None
    if registered:
        challenger = registry.get_registered_model(problem_name).aliases.get("challenger")
    files = ("problem.json", "reference.json", "held_out.parquet", "lineage.json", "card.html")
    experiment = registry.get_experiment_by_name(problem_name)
    runs = registry.search_runs([experiment.experiment_id], max_results=1000) if experiment else []
    top = [run for run in runs if "mlflow.parentRunId" not in run.data.tags and "training" in run.data.tags]
    rollout = ladder.read(problem).current
    named = [file for manifest in manifests.values() if manifest for file in manifest["files"]]
    return State(
        rows={name: _rows(problem_name, table) for name, table in tables.items()},
        read=dict(read),
        events=events,
        quarantined=dict(
            Counter(row["partition"] for row in tables["quarantine"].to_pylist() if row["source"] == "events")
        ),
        predictions=predictions,
        versions={key: dict(counts) for key, counts in versions.items()},
        manifests={key: manifest for key, manifest in manifests.items() if manifest is not None},
        decisions=tables["ledger"]["decision"].to_pylist(),
        promoted=[str(row["model_version"]) for row in ledger.decisions(problem, "promotion")],
        champion=None if champion is None else str(champion.version),
        challenger=None if challenger is None else str(challenger),
        under_release=None if rollout is None else rollout.challenger,
        registered=registered,
        described=[
            version
            for version in registered
            if all(store.exists(version_uri(problem, version, name)) for name in files)
        ],
        runs=dict(
            Counter(
                f"{run.data.tags['training']} {run.data.tags.get('candidate')}"
                for run in top
                if run.info.status == "FINISHED"
            )
        ),
        running=[run.info.run_name for run in runs if run.info.status not in ("FINISHED", "FAILED")],
        staged=[key for key in staged if not key.startswith(tuple(doomed))],
        left_to_vacuum=sum(any(key.startswith(f"{folder}/") for key in staged) for folder in doomed),
        missing_files=[file for file in named if not store.exists(file)],
    )


def _rows(problem_name: str, table: Any) -> dict[str, int]:
    texts = (
        json.dumps(row, sort_keys=True, default=str).replace(problem_name, "<problem>") for row in table.to_pylist()
    )
    return dict(Counter(texts))
