"""A problem's tables, manifests and ledger: whether each says what the others say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa

from pipelines import sql, store, summary
from pipelines.artifacts import TABLES, TableName
from pipelines.asof.as_known import holds_now
from pipelines.asof.ingested import ingested
from pipelines.errors import EvergreenError
from pipelines.ingest.publish import identity
from pipelines.ingest.validate import some
from pipelines.maintenance.finding import Finding, Said, examined
from pipelines.maintenance.pins import lineages, table_uris
from pipelines.paths import manifest_uri
from pipelines.problem import Problem
from pipelines.store.explained import explained
from pipelines.store.tables import opened
from pipelines.usage.table import write_noted

if TYPE_CHECKING:
    from deltalake import DeltaTable

SCORED: tuple[TableName, ...] = ("predictions", "shadow_predictions")
RESTORE = "bring it back from a backup (`evergreen restore`)"


class Manifest(NamedTuple):
    """What says that a partition has been scored."""

    partition: str
    rows: int
    versions: dict[str, int]
    """Rows by version."""
    files: list[str]


def files(problem: Problem) -> Iterator[Said]:
    """Whether the files are there, and whole, that the newest versions of the tables are made of."""
    names = [name for name in TABLES if name != "features"]
    for name, uri in [*((name, store.table_uri(problem, name)) for name in names), *_feature_tables(problem)]:
        yield from examined(partial(_files, problem, name, uri), uri)


def _files(problem: Problem, name: str, uri: str) -> Iterator[Said]:
    with explained(uri):
        table = opened(uri).at()
        lost = [] if table is None else _lost(table, uri)
    if lost:
        what = f"{len(lost)} files of its newest version are gone or cut short: {some(lost)}"
        yield Finding("table file lost", uri, what, _cure_of_lost(problem, name, lost))


def pinned_files(problem: Problem) -> Iterator[Said]:
    """Whether the tables can still be read as they were when each version was made."""
    versions: dict[tuple[str, int], list[str]] = {}
    for number, made_of in lineages(problem).items():
        for uri, version in table_uris(problem, made_of).items():
            versions.setdefault((uri, version), []).append(number)
    for (uri, version), numbers in versions.items():
        with explained(uri):
            table = opened(uri).at(version)
            lost = ["its log"] if table is None else _lost(table, uri)
        if lost:
            what = f"version {version} of the table cannot be read whole, of which version {', '.join(numbers)} of the "
            what += f"model was made: {some(lost)} lost, so that it cannot be made again"
            yield Finding("training data lost", uri, what, f"{RESTORE}, or live with it: scoring goes on")


def manifests(problem: Problem, now: float) -> Iterator[Said]:
    """Whether each manifest says what the predictions say, and each scored partition has one."""
    scored = _by_version(problem, "predictions")
    noted = set()
    for file in store.listing(store.store_uri(problem.name, "predictions_manifest")):
        key = file.uri.rpartition("/")[2].removesuffix(".json")
        cure = f"evergreen run score {problem.name} --partition {key}"
        noted.add(key)
        try:
            manifest = _manifest(store.read_json(file.uri))
        except (ValueError, KeyError, TypeError) as error:
            yield Finding("manifest unreadable", file.uri, f"it is not what it has to be: {error!r}", cure)
            continue
        rows = sum(scored.get(key, Counter()).values())
        if manifest.rows != rows:
            what = f"the manifest says {manifest.rows:,} rows, and predictions has {rows:,} of {key}"
            yield Finding("manifest against table", file.uri, what, cure)
        elif dict(scored.get(key, {})) != manifest.versions:
            what = f"rows by version: {manifest.versions} in the manifest, {dict(scored[key])} in predictions"
            yield Finding("manifest against table", file.uri, what, cure)
        elif _names(manifest.files) != _names(store.partition_files(problem, "predictions", key)):
            what = f"the manifest of {key} names other files than the table has now"
            yield Finding("manifest against table", file.uri, what, cure)
    for key in sorted(set(scored) - noted):
        if not _is_being_scored(problem, key, now):
            what = f"{sum(scored[key].values()):,} predictions of {key} have no manifest: who waits for it waits on"
            cure = f"evergreen run score {problem.name} --partition {key}"
            yield Finding("manifest missing", manifest_uri(problem, key), what, cure)


def events(problem: Problem) -> Iterator[Said]:
    """Whether what has been scored or decided about has its events, and nothing is there twice."""
    name, uri = problem.name, store.table_uri(problem, "events")
    there = set(ingested(problem))
    scored = {key for table in SCORED for key in store.partition_keys(problem, table)}
    judged = _partitions_of(problem, "monitoring")
    if gone := sorted((scored | judged) - there):
        what = f"{some(gone)} {_was(gone)} scored, and events has no row of {'it' if len(gone) == 1 else 'them'}"
        yield Finding("partition without events", uri, what, _ingest(name, gone))
    if missed := summary.missed(problem, datetime.now(UTC)):
        missed = [key for key in missed if key not in gone]
    if missed:
        what = f"{some(missed)} should have been ingested, and {_was(missed)} not"
        yield Finding("partition not ingested", uri, what, _ingest(name, missed))
    for key in summary.unscored(problem):
        what, cure = f"{key} was ingested, and not scored", f"evergreen run score {name} --partition {key}"
        yield Finding("partition not scored", store.table_uri(problem, "predictions"), what, cure)
    keys, all_events = sql.quote(problem.key), store.dataset(problem, "events")
    for table in SCORED:
        rows = store.dataset(problem, table)
        lost = sql.query(
            f"""SELECT partition, count(*) AS rows FROM p WHERE partition NOT IN (SELECT unnest($gone))
                AND NOT EXISTS (SELECT 1 FROM e WHERE e.{keys} = p.{keys} AND e.partition = p.partition)
                GROUP BY 1 ORDER BY 1""",
            {"p": rows, "e": all_events},
            {"gone": gone},
        ).to_pylist()
        if lost:
            rows_of = [f"{row['rows']:,} of {row['partition']}" for row in lost]
            what = f"predictions have no event: {some(rows_of)}"
            yield Finding("prediction without event", uri, what, _ingest(name, [row["partition"] for row in lost]))
    yield from _twice(problem)


def ledger(problem: Problem) -> Iterator[Said]:
    """Whether each decision is on the ledger once."""
    twice = sql.query(
        "SELECT decision, count(*) AS times FROM l GROUP BY 1 HAVING times > 1 ORDER BY 1",
        {"l": store.dataset(problem, "ledger")},
    ).to_pylist()
    if twice:
        what = f"decisions stand on the ledger more than once: {some([row['decision'] for row in twice])}"
        cure = "nothing reads the second one otherwise than the first; find out who wrote to the table by hand"
        yield Finding("decision twice", store.table_uri(problem, "ledger"), what, cure)


def runs(problem: Problem) -> Iterator[Said]:
    """Whether each try of a task is there once, once those are that this machine has noted."""
    with suppress(EvergreenError):  # who may only read is told of what is there
        write_noted(problem)
    text = "SELECT id FROM r GROUP BY 1 HAVING count(*) > 1 ORDER BY 1"
    twice = sql.query(text, {"r": store.dataset(problem, "runs")})["id"].to_pylist()
    if twice:
        what = f"tries stand in runs more than once: {some(twice)}"
        cure = "what they cost counts twice; find out who wrote to the table by hand"
        yield Finding("try twice", store.table_uri(problem, "runs"), what, cure)


def _twice(problem: Problem) -> Iterator[Said]:
    identities: dict[TableName, list[str]] = {"events": identity(problem, "events")}
    identities |= {table: ["partition", problem.key] for table in SCORED}
    for table, columns in identities.items():
        rows = store.dataset(problem, table)
        rows = rows.filter(holds_now()) if table == "events" else rows
        who = ", ".join(map(sql.quote, columns))
        twice = sql.query(f"SELECT min(partition) AS partition FROM t GROUP BY {who} HAVING count(*) > 1", {"t": rows})[
            "partition"
        ]
        if len(twice):
            counts = Counter(twice.to_pylist())
            what = f"{counts.total():,} keys stand in {table} more than once: {some(sorted(counts))}"
            key = min(counts)
            command = f"ingest {problem.name} --first {key} --last {key}"
            command = command if table == "events" else f"score {problem.name} --partition {key}"
            yield Finding("row twice", store.table_uri(problem, table), what, f"evergreen run {command}")


def _lost(table: DeltaTable, uri: str) -> list[str]:
    """Files of a table's version that are not there, or are not as large as its log says."""
    there = {unquote(file.uri.removeprefix(f"{uri}/")): file.size for file in store.listing(uri)}
    added = pa.table(table.get_add_actions(flatten=True))
    sizes = zip(added["path"].to_pylist(), added["size_bytes"].to_pylist(), strict=True)
    return sorted(path for path, size in sizes if there.get(unquote(path)) != size)


def _cure_of_lost(problem: Problem, name: str, lost: list[str]) -> str:
    """The first of the partitions whose rows are lost is written again by the stage that wrote it."""
    key = unquote(lost[0].partition("/")[0].partition("=")[2])
    again = {
        "events": f"evergreen run ingest {problem.name} --first {key} --last {key} --restate",
        "labels": f"evergreen run ingest {problem.name} --first {key} --last {key} --restate",
        "predictions": f"evergreen run score {problem.name} --partition {key}",
        "profiles": f"evergreen run monitor {problem.name} --partition {key}",
    }.get(name)
    return f"{RESTORE}; or write it again: {again}" if again else RESTORE


def _feature_tables(problem: Problem) -> list[tuple[str, str]]:
    folder = store.store_uri(problem.name, "features")
    sets = {file.uri.removeprefix(f"{folder}/").partition("/")[0] for file in store.listing(folder)}
    return [("features", f"{folder}/{feature_set}") for feature_set in sorted(sets)]


def _manifest(content: dict[str, Any]) -> Manifest:
    rows = int(content["rows"])
    # Before there were releases a manifest named one version, and no rows by version.
    versions = content.get("versions", {content["model_version"]: rows})
    return Manifest(content["partition"], rows, dict(versions), list(content["files"]))


def _by_version(problem: Problem, table: TableName) -> dict[str, Counter[str]]:
    """Rows of each partition, by the version that gave them."""
    text = "SELECT partition, model_version AS version, count(*) AS rows FROM p GROUP BY ALL"
    counted: dict[str, Counter[str]] = {}
    for row in sql.query(text, {"p": store.dataset(problem, table)}).to_pylist():
        counted.setdefault(row["partition"], Counter())[row["version"]] = row["rows"]
    return counted


def scored_versions(problem: Problem) -> dict[str, list[str]]:
    """Partitions that each version has given a row of, sorted."""
    by_version: dict[str, set[str]] = {}
    for table in SCORED:
        for key, versions in _by_version(problem, table).items():
            for version in versions:
                by_version.setdefault(version, set()).add(key)
    return {version: sorted(keys) for version, keys in by_version.items()}


def _is_being_scored(problem: Problem, key: str, now: float) -> bool:
    """Whether the stages of `score` are at work on it: the manifest is deleted first, and comes back last."""
    folder = store.store_uri(problem.name, "staging", "score", key)
    return any(now - file.modified < 3600 for file in store.listing(folder))


def _partitions_of(problem: Problem, kind: str) -> set[str]:
    text = "SELECT DISTINCT partition FROM l WHERE kind = $kind"
    rows = sql.query(text, {"l": store.dataset(problem, "ledger")}, {"kind": kind})
    return {str(key) for key in rows["partition"].to_pylist()}


def _ingest(name: str, keys: list[str]) -> str:
    return f"evergreen run ingest {name} --first {min(keys)} --last {max(keys)}"


def _names(uris: list[str]) -> set[str]:
    return {uri.rpartition("/")[2] for uri in uris}


def _was(words: list[str]) -> str:
    return "was" if len(words) == 1 else "were"
