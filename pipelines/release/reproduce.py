"""reproduce: make a registered version again from its lineage, and see whether it predicts the same."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from pipelines import sql, store
from pipelines.artifacts import table_schema
from pipelines.dataset.assemble import assembled
from pipelines.dataset.fingerprint import fingerprint
from pipelines.dataset.label import SPLITS, Sizes, splits
from pipelines.documents.lineage import Lineage, PinnedTable, Refit, VersionLineage
from pipelines.errors import ConfigError, DataError
from pipelines.paths import version_uri
from pipelines.problem import Problem, load_problem
from pipelines.release.lineage import query_hashes, setting_changes, surroundings, surroundings_changes
from pipelines.release.versions import find_version_lineage, load_version, version_problem
from pipelines.temporary import temporary_folder

if TYPE_CHECKING:
    from pipelines.training.model import Model

BATCH_ROWS = 65_536  # as `stored.stream` gives them


@dataclass(frozen=True)
class Reproduced:
    """`rows`: test rows that both models scored; `max_difference`: of their scores; `differences`: one line each;
    `builds_on`: version that it went on from, which was taken as it is kept; None: it was made from scratch."""

    identical: bool
    rows: int
    max_difference: float
    differences: list[str]
    builds_on: str | None = None


def reproduce(problem_name: str, version: str, tell: Callable[[str], None] = lambda step: None) -> Reproduced:
    """Fit a version's candidate again, on the rows that it learnt from, and score the rows that its gate looked at.

    Rows come from the tables as they were, the settings are those that were recorded, the code and the packages those
    of today. A version that went on from another one is made again from that one's model, as MLflow keeps it: whether
    that can be made again is a question about that version. On the same machine with the same code and packages the
    scores are equal to the last bit. Whatever differs from what was recorded is named, whether or not it changed a
    score. Nothing is written. Of a version that was fitted again after its gate both models are made again and
    compared, the one that was tested and the one that serves. `tell` is told what begins.

    Raises:
        DataError: the version has no lineage, or its tables cannot be read as they were.
        ConfigError: the code of today does not take the recorded settings.
    """
    from pipelines.training.checkpoint import NoCheckpoint
    from pipelines.training.fit import fit
    from pipelines.training.update import updated

    tell("reading its rows as they were")
    today = load_problem(problem_name)
    recorded = _recorded(today, version)
    problem = _problem(today, version, recorded)
    refit = recorded.get("refit")
    model = load_version(today, version, refit["of"] if refit else None)
    rows, parent = _rows(problem, recorded), recorded.get("parent")
    before = None
    if parent is not None:
        before = load_version(today, parent, recorded.get("parent_run"))
    served, refit_differences = None, list[str]()
    tell("fitting")
    with temporary_folder() as folder:
        train = on_disk(rows["train"], folder) if recorded["is_streamed"] else rows["train"]
        state = NoCheckpoint(problem.training.rounds_between_states)
        if before is None:
            again = fit(
                problem,
                recorded["candidate"],
                train,
                rows["validation"],
                parameters=recorded["parameters"],
                checkpoint=state,
            )
        else:
            again = updated(problem, recorded["candidate"], recorded["how"], before, rows["train"], rows["validation"])
        if refit:
            served, refit_differences = _refitted(problem, recorded, refit, again, before, folder)
    tell("comparing predictions")
    ours, theirs = again.scores(rows["test"]), model.scores(rows["test"])
    if served is not None:
        ours = np.concatenate([ours, served.scores(rows["test"])])
        theirs = np.concatenate([theirs, load_version(today, version).scores(rows["test"])])
    differences = _row_changes(problem, recorded, rows) + refit_differences
    if again.threshold != model.threshold:
        differences.append(f"threshold: {model.threshold!r} -> {again.threshold!r}")
    then, now = (each.model_dump(mode="json", exclude={"release"}) for each in (problem, today))
    settings = setting_changes(then, now)
    differences += [f"config {line} (made again with what it was)" for line in settings]
    differences += _query_changes(recorded, today) + surroundings_changes(recorded["surroundings"], surroundings())
    return Reproduced(
        identical=bool(np.array_equal(ours, theirs, equal_nan=True)),
        rows=rows["test"].num_rows,
        max_difference=max_difference(ours, theirs),
        differences=differences,
        builds_on=parent,
    )


def training_rows(
    problem: Problem,
    events: ds.Dataset,
    labels: ds.Dataset,
    partition: str,
    as_of: datetime,
    window_from: str | None = None,
    held: Collection[str] = (),
    sizes: Sizes | None = None,
) -> dict[str, pa.Table]:
    """Rows of each split as the stages label, sample and featurize make them, in memory: what `stored.split` reads.

    `events` and `labels` are the tables at the versions that were learnt from.
    """
    available = sql.query("SELECT DISTINCT partition FROM events", {"events": events})["partition"].to_pylist()
    split = splits(problem, partition, sorted(available), window_from, held, sizes=sizes)
    return assembled(problem, events, labels, as_of, split)


def on_disk(rows: pa.Table, folder: str) -> ds.Dataset:
    """The rows in a file, to be read in batches of as many rows as the stages write: other batches, other bits."""
    with pa.ipc.new_file(f"{folder}/rows.arrow", rows.schema) as writer:
        writer.write_table(rows.combine_chunks(), max_chunksize=BATCH_ROWS)
    return ds.dataset(f"{folder}/rows.arrow", format="ipc")


def max_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The greatest absolute difference of two arrays; infinite where they have other shapes, or nan in other places.

    >>> max_difference(np.array([0.25, 0.5]), np.array([0.25, 0.75])), max_difference(np.array([1.0]), np.array([]))
    (0.25, inf)
    """
    if ours.shape != theirs.shape or not np.array_equal(np.isnan(ours), np.isnan(theirs)):
        return float("inf")
    return float(np.max(np.abs(ours - theirs), initial=0.0, where=~np.isnan(ours)))


def _refitted(
    problem: Problem, recorded: Lineage, then: Refit, tested: Model, before: Model | None, folder: str
) -> tuple[Model, list[str]]:
    """The model that serves, made again from the tested one, and what differs in the rows that it learnt from."""
    from pipelines.release.refit import refit_model, refit_rows
    from pipelines.training.checkpoint import NoCheckpoint

    tables = (_pinned(problem, recorded, "events"), _pinned(problem, recorded, "labels"))
    rows = refit_rows(problem, recorded, *tables, then["after"], folder)
    parent, bases = recorded.get("parent"), None
    if parent is not None and before is not None and then["base"] is not None:
        bases = (before, load_version(problem, parent, then["base"]))
    state = NoCheckpoint(problem.training.rounds_between_states)
    model = refit_model(problem, recorded, tested, rows, bases, state)
    now = fingerprint(problem, rows)
    if now["hash"] == then["rows"]["hash"]:
        return model, []
    difference = f"rows of the refit: {then['rows']['rows']} with hash {then['rows']['hash'][:12]} -> "
    return model, [difference + f"{now['rows']} with hash {now['hash'][:12]}"]


def _recorded(problem: Problem, version: str) -> VersionLineage:
    recorded = find_version_lineage(problem, version)
    if recorded is None:
        raise DataError(
            f"{problem.name} has no version {version} whose lineage is known",
            where=version_uri(problem, version, "lineage.json"),
            cure="name a registered version; those from before lineages were kept cannot be made again",
        )
    return recorded


def _problem(today: Problem, version: str, recorded: Lineage) -> Problem:
    try:
        return version_problem(today, version)
    except ConfigError as error:
        commit = recorded["surroundings"].get("git_commit") or "that it was trained with"
        raise ConfigError(
            f"the code of today does not take the settings of version {version}: {error.what}",
            where=error.where,
            cure=f"check out the code {commit} and reproduce there",
        ) from error


def _rows(problem: Problem, recorded: Lineage) -> dict[str, pa.Table]:
    events, labels = _pinned(problem, recorded, "events"), _pinned(problem, recorded, "labels")
    as_of = datetime.fromisoformat(recorded["as_of"])
    try:
        window, held = recorded.get("window_from"), {*recorded.get("held", ()), *recorded.get("waiting", ())}
        held_out = recorded.get("held_out")
        sizes = Sizes(**held_out) if held_out else None
        return training_rows(problem, events, labels, recorded["partition"], as_of, window, held, sizes)
    except (OSError, duckdb.Error) as error:
        if "not found" not in str(error).lower() and "no such file" not in str(error).lower():
            raise
        versions = recorded["tables"]
        named = f"events {versions['events']}, labels {versions['labels']}"
        raise _gone(problem, f"files of the tables as they were ({named}) are gone") from error


def _pinned(problem: Problem, recorded: Lineage, name: PinnedTable) -> ds.Dataset:
    version = recorded["tables"][name]
    if version is None:  # it was not there: neither is what has been written since
        return ds.dataset(table_schema(problem, name).empty_table())
    try:
        return store.dataset(problem, name, version)
    except DataError as error:
        raise _gone(problem, f"table {name} has no version {version} any more: {error.what}") from error


def _gone(problem: Problem, what: str) -> DataError:
    return DataError(
        what,
        where=store.store_uri(problem.name),
        cure="they were vacuumed, or the log was cleaned up: such a version cannot be made again. To be able to, keep "
        "table versions (delta.logRetentionDuration, delta.deletedFileRetentionDuration) as long as models",
    )


def _row_changes(problem: Problem, recorded: Lineage, rows: dict[str, pa.Table]) -> list[str]:
    """Which splits hold other rows than those that were learnt from."""
    versions = " and ".join(f"{name} {recorded['tables'][name]}" for name in ("events", "labels"))
    lines = []
    for name in SPLITS:
        then, now = recorded["splits"][name], fingerprint(problem, rows[name])
        if now["hash"] != then["hash"]:
            lines.append(
                f"rows of {name}, made from {versions}: {then['rows']} with hash {then['hash'][:12]} -> "
                f"{now['rows']} with hash {now['hash'][:12]}"
            )
    return lines


def _query_changes(recorded: Lineage, today: Problem) -> list[str]:
    changes = setting_changes(recorded["queries"], query_hashes(today))
    return [
        f"{line.partition(':')[0]}.sql is another text than then (the rows are those it gave then)" for line in changes
    ]
