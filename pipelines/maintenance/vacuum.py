"""vacuum: what a problem has left behind and nobody needs: what it is, how much it takes, and away with it.

Nothing goes that a registered version rests on (`pins`), and nothing younger than `older_than`: whatever is at work now
has written since. A run of tasks that takes longer than that is for nobody to interrupt: give more days.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from pipelines import store, tracking
from pipelines.artifacts import TABLES, table_schema
from pipelines.maintenance.pins import Pins, pins
from pipelines.problem import Problem
from pipelines.store.staging import DONE
from pipelines.store.vacuum import unneeded, vacuum

LEAST = timedelta(days=1)  # a task may run that long


class Leftover(NamedTuple):
    """Something that nobody needs."""

    kind: str
    """table files, features, staging, model files, trial, unfinished run, reports or runs"""
    where: str
    files: int
    bytes: int
    reason: str
    remove: Callable[[], object]


def leftovers(
    problem: Problem, now: float, older_than: timedelta, reports: timedelta | None, runs: timedelta | None = None
) -> Iterator[Leftover]:
    """All that may go, and how to make it go.

    Args:
        now: Unix seconds.
        older_than: nothing that is younger is among it.
        reports: pages that are older are among it; None: all pages stay.
        runs: months of `runs` that ended longer ago are among it; None: all stay.

    Raises:
        DataError: a lineage cannot be read, so nobody knows what it pins.
    """
    pinned, before = pins(problem), now - older_than.total_seconds()
    yield from _table_files(problem, pinned, older_than)
    yield from _features(problem, pinned, before)
    yield from _staging(problem, before)
    yield from _runs(problem, pinned, before)
    if reports is not None:
        yield from _reports(problem, now - reports.total_seconds(), reports)
    if runs is not None:
        yield from _months(problem, now - runs.total_seconds(), runs)


def _table_files(problem: Problem, pinned: Pins, older_than: timedelta) -> Iterator[Leftover]:
    names = [name for name in TABLES if name != "features"]
    for uri in [*(store.table_uri(problem, name) for name in names), *_feature_sets(problem)]:
        versions = pinned.tables.get(uri, set())
        files = unneeded(uri, versions, older_than)
        if files:
            reason = f"replaced more than {_days(older_than)} ago, or of no version"
            if versions:
                reason += f"; versions {', '.join(map(str, sorted(versions)))} are pinned and stay readable"
            yield _leftover("table files", uri, files, reason, partial(vacuum, uri, versions, older_than))


def _features(problem: Problem, pinned: Pins, before: float) -> Iterator[Leftover]:
    """Tables of feature sets that neither the problem has nor a version was made with."""
    for uri, files in _feature_sets(problem).items():
        is_used = uri in pinned.tables or uri == store.table_uri(problem, "features")
        if not is_used and all(file.modified < before for file in files):
            reason = "neither the problem nor a version has this feature set"
            yield _leftover("features", uri, files, reason, partial(store.delete_folder, uri))


def _feature_sets(problem: Problem) -> dict[str, list[store.Stored]]:
    return _grouped(store.store_uri(problem.name, "features"), depth=1)


def _staging(problem: Problem, before: float) -> Iterator[Leftover]:
    for uri, files in staging(problem).items():
        if all(file.modified < before for file in files):
            reason = "what its run handed on between two tasks; it has written nothing since"
            yield _leftover("staging", uri, files, reason, partial(store.delete_folder, uri, DONE))


def staging(problem: Problem) -> dict[str, list[store.Stored]]:
    """What each run has in staging, by the run's folder; the note of a run that has ended lies beside it."""
    grouped: dict[str, list[store.Stored]] = defaultdict(list)
    for uri, files in _grouped(store.store_uri(problem.name, "staging"), depth=2).items():
        grouped[uri.removesuffix(DONE)] += files
    return dict(grouped)


def _runs(problem: Problem, pinned: Pins, before: float) -> Iterator[Leftover]:
    """Files and trials of candidates that no version was made of. The newest training's stay: people may be asked
    about what its candidates disagree on."""
    runs = list(tracking.training_runs(problem))
    newest = next((run.training for run in runs if run.training), "").removesuffix("-refit")
    kept = {run.run_id for run in runs if run.training.removesuffix("-refit") == newest} | pinned.runs
    for run in runs:
        where = f"MLflow run {run.run_id}, {run.name}"
        if run.started >= before:
            continue
        if run.status == "RUNNING":
            reason = "it began, and nobody has ended it"
            yield Leftover("unfinished run", where, 0, 0, reason, partial(tracking.fail, run.run_id, reason))
        if (run.candidate or run.run_id) in kept:
            continue
        if run.candidate is not None:
            reason = "a trial of a candidate that no version was made of"
            yield Leftover("trial", where, 0, 0, reason, partial(tracking.delete_run, run.run_id))
        elif run.has_files:
            size = tracking.run_files(run.run_id)
            reason = "no version was made of this candidate; its parameters and metrics stay"
            yield Leftover(
                "model files",
                where,
                size.files,
                size.bytes,
                reason,
                partial(tracking.delete_run_files, run.run_id, reason),
            )


def _reports(problem: Problem, before: float, older_than: timedelta) -> Iterator[Leftover]:
    for uri, files in _grouped(store.store_uri(problem.name, "reports"), depth=1).items():
        if all(file.modified < before for file in files):
            reason = f"pages of more than {_days(older_than)} ago"
            yield _leftover("reports", uri, files, reason, partial(store.delete_folder, uri))


def _months(problem: Problem, before: float, older_than: timedelta) -> Iterator[Leftover]:
    """Rows of `runs`: their files are table files from then on, and go as those do."""
    nothing = table_schema(problem, "runs").empty_table()
    for month in store.partition_keys(problem, "runs"):
        following = datetime.fromisoformat(f"{month}-01T00:00:00+00:00") + timedelta(days=31)
        if following.replace(day=1).timestamp() < before:
            uri = f"{store.table_uri(problem, 'runs')}/month={month}"
            remove = partial(store.write_table, problem, "runs", nothing, [month])
            reason = f"what tasks used, of more than {_days(older_than)} ago"
            yield _leftover("runs", uri, store.listing(uri), reason, remove)


def _grouped(folder: str, depth: int) -> dict[str, list[store.Stored]]:
    """The files below a folder, by what lies `depth` steps below it."""
    grouped: dict[str, list[store.Stored]] = defaultdict(list)
    for file in store.listing(folder):
        steps = file.uri.removeprefix(f"{folder}/").split("/")
        grouped["/".join([folder, *steps[:depth]])].append(file)
    return dict(grouped)


def _leftover(
    kind: str, uri: str, files: Iterable[store.Stored], reason: str, remove: Callable[[], object]
) -> Leftover:
    sizes = [file.size for file in files]
    return Leftover(kind, uri, len(sizes), sum(sizes), reason, remove)


def _days(span: timedelta) -> str:
    return f"{span.days} day" if span.days == 1 else f"{span.days} days"
