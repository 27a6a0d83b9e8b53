"""What happened, partition by partition, and what served each: read from the tables alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import pyarrow.compute as pc

from pipelines import deliveries, ledger, quarantine, store
from pipelines.artifacts import TableName
from pipelines.asof.as_known import holds_now
from pipelines.asof.ingested import empty, ingested
from pipelines.ledger import Decision
from pipelines.problem import Problem
from pipelines.release import ladder
from pipelines.release.assign import champions_predictions
from pipelines.release.ladder import ENDS, Rollout


@dataclass(frozen=True)
class PartitionSummary:
    """`quality` is the task's `headline` metric, None until the partition's labels are in; `outcome` says what came of
    an action; `release` what became of a release then."""

    partition: str
    rows: int
    quarantined: int
    scored: int
    quality: float | None
    verdict: str
    action: str
    outcome: str
    release: str
    champion: str


def headline(problem: Problem) -> Literal["rmse", "auc"]:
    """The metric that a partition's line shows."""
    return "rmse" if problem.task == "regression" else "auc"


def partitions(problem: Problem) -> list[PartitionSummary]:
    """One row per ingested partition, oldest first."""
    events, scored, bad = (_count(problem, name) for name in ("events", "predictions", "quarantine"))
    watched = {row["partition"]: row for row in ledger.decisions(problem, "monitoring")}
    quality: dict[str, float | None] = {}
    for row in watched.values():  # the newest look at a partition knows most of its labels
        quality |= {
            performance["partition"]: performance.get(headline(problem)) for performance in row["evidence"]["realised"]
        }
    gates = {row["partition"]: row for row in ledger.decisions(problem, "gate")}
    promoted = {
        row["partition"]: row["model_version"]
        for row in ledger.decisions(problem, "promotion")
        if row["action"] == "promoted"
    }
    versions, released = _versions(problem), _released(problem)
    rows_by_partition = []
    for key in sorted({*events, *empty(problem)}):
        outcome = ""
        if key in gates:
            passed = f"gate {gates[key]['verdict']}"
            outcome = f"v{promoted[key]} promoted" if key in promoted and key not in released else passed
        judged = watched.get(key)
        rows_by_partition.append(
            PartitionSummary(
                key,
                events.get(key, 0),
                bad.get(key, 0),
                scored.get(key, 0),
                quality.get(key),
                judged["verdict"] if judged else "",
                judged["action"] if judged else "",
                outcome,
                released.get(key, ""),
                versions.get(key, ""),
            )
        )
    return rows_by_partition


@dataclass(frozen=True)
class ServedBy:
    """A version that served rows of a partition. `share`: chance that a row had of it; None: no release was under way.

    `since`: partition whose decision let it serve; `reason`: of that decision; `approved_by`: empty where nobody was
    asked.
    """

    version: str
    variant: str
    rows: int
    share: float | None
    since: str
    reason: str
    approved_by: str


def served(problem: Problem, partition: str) -> list[ServedBy]:
    """Which versions served a partition, as its rows and the ledger have it: those that served most first."""
    columns = ["model_version", "variant", "propensity"]
    rows = store.dataset(problem, "predictions").to_table(columns, filter=pc.field("partition") == partition)
    groups = rows.group_by(columns).aggregate([([], "count_all")]).to_pylist()
    promotions = _let_serve(ledger.decisions(problem, "promotion"), partition)
    releases = {rollout.challenger: rollout for rollout in ladder.read(problem).rollouts}
    by_version = []
    for group in sorted(groups, key=lambda group: -group["count_all"]):
        version, since, reason, approved = group["model_version"], "", "", ""
        if group["variant"] == "challenger" and version in releases:
            release = releases[version]
            since, reason = _serves_since(release), f"release {release.name}: {release.assigned[partition].kind}"
            approved = _approved(release, partition)
        elif row := promotions.get(version):
            since, reason = row["partition"], row["reason"]
            approved = row["evidence"].get("approved_by") or ""
        by_version.append(
            ServedBy(version, group["variant"], group["count_all"], group["propensity"], since, reason, approved)
        )
    return by_version


def _let_serve(promotions: Iterable[Decision], partition: str) -> dict[str, Decision]:
    """The newest decision by which each version serves, of those until a partition: it may serve again later on."""
    return {str(row["model_version"]): row for row in promotions if row["partition"] <= partition}


def _serves_since(release: Rollout) -> str:
    """Partition whose decision let a challenger serve its first rows: in its shadow it served none."""
    rungs = release.settings.rungs
    steps = (row for row in release.rows if row["action"] == "stepped")
    first = next((row["partition"] for row in steps if rungs[int(row["evidence"]["to"])].share), release.began)
    return release.began if rungs[0].share else first


def _approved(release: Rollout, partition: str) -> str:
    """Who approved the newest step before a partition."""
    answers = [row for row in release.rows if row["action"] == "answered" and row["partition"] < partition]
    return str(answers[-1]["evidence"].get("user") or "") if answers else ""


def missed(problem: Problem, now: datetime, done: Collection[str] | None = None) -> list[str]:
    """Partitions that should have been ingested by `now` and were not, nor refused: their time came while nobody ran.

    Counted from the oldest that was ingested on: a history that begins later than `partitions.first` is a choice. Of a
    problem whose data lies in the past, what is newer than the newest is still to be played. `done`: what has been
    ingested; None: as the store says.
    """
    done = set(ingested(problem) if done is None else done)
    if not done:
        return []
    if problem.partitions.by_delivery:
        return sorted(set(deliveries.registered(problem)) - done - quarantine.held(problem))
    due = problem.partitions.due(problem.present(max(done), now))
    accounted_for, oldest = done | quarantine.held(problem), min(done)
    return [key for key in due if key > oldest and key not in accounted_for]


def missed_in_words(problem: Problem, keys: Sequence[str]) -> str | None:
    """Which partitions were missed, and the commands that load them; None: none was."""
    if not keys:
        return None
    first, last, name = min(keys), max(keys), problem.name
    if problem.partitions.by_delivery:
        come = "1 delivery has come and was" if len(keys) == 1 else f"{len(keys)} deliveries have come and were"
        spans = problem.partitions.spans(keys)
        return f"{come} not ingested: {spans}. To load what is missing: evergreen run ingest {name}"
    every, since, until = problem.partitions.every, first, last
    if every == "hour":  # Airflow takes what clocks of the zone show
        since, until = (f"{problem.partitions.start(key):%Y-%m-%dT%H:%M}" for key in (first, last))
    what = f"1 {every} closed and was" if len(keys) == 1 else f"{len(keys)} {problem.partitions.plural} closed and were"
    return (
        f"{what} not ingested: {problem.partitions.spans(keys)}. To load what is missing, with all that follows: "
        f"airflow backfill create --dag-id {name}.ingest --from-date {since} --to-date {until}; "
        f"without: evergreen run ingest {name} --first {first} --last {last}"
    )


def unscored(problem: Problem) -> list[str]:
    """Partitions that have rows and no scores although one before them has, and one after them has scores or rows:
    their event came while `score` was paused, its run failed and nobody cleared it, or no event told of them.

    The newest that was ingested may be on its way. What is older than the first scores is history to learn from.
    """
    scored = set(store.partition_keys(problem, "predictions"))
    if not scored:
        return []
    events = store.partition_keys(problem, "events")
    first, last = min(scored), max(scored.union(events))
    return [key for key in events if first < key < last and key not in scored]


def unscored_in_words(problem: Problem, keys: Sequence[str]) -> str | None:
    """Which partitions were not scored, and what scores them; None: all were."""
    if not keys:
        return None
    name, were = problem.name, "was" if len(keys) == 1 else "were"
    what = f"1 {problem.partitions.every}" if len(keys) == 1 else f"{len(keys)} {problem.partitions.plural}"
    others = ", and each other" if len(keys) > 1 else ""
    return (
        f"{what} {were} ingested and not scored: {problem.partitions.spans(keys)}. To score and monitor what is "
        f"missing: trigger {name}.score with partition key {keys[0]}{others}; without Airflow: "
        f"evergreen run score {name} --partition {keys[0]}"
    )


def _released(problem: Problem) -> dict[str, str]:
    """What became of releases at the end of each partition, in a few words."""
    words: dict[str, str] = {}
    for rollout in ladder.read(problem).rollouts:
        for row in rollout.rows:
            if row["action"] == "started":
                words[row["partition"]] = f"v{rollout.challenger} to {rollout.settings.rungs[0].in_words}"
            elif row["action"] == "stepped":
                words[row["partition"]] = f"v{rollout.challenger} to {row['verdict']}"
            elif row["action"] in ENDS:
                words[row["partition"]] = f"v{rollout.challenger} {row['action']}"
    return words


def _count(problem: Problem, name: TableName) -> dict[str, int]:
    rows = store.dataset(problem, name)
    if name == "events":
        rows = rows.filter(holds_now())
    counts = pc.value_counts(rows.to_table(columns=["partition"])["partition"])
    return {str(group["values"]): int(group["counts"]) for group in counts.to_pylist()}


def _versions(problem: Problem) -> dict[str, str]:
    """The champion of each partition's time."""
    rows = champions_predictions(problem).to_table(columns=["partition", "model_version"])
    pairs: list[dict[str, Any]] = rows.group_by(["partition", "model_version"]).aggregate([]).to_pylist()
    return {pair["partition"]: pair["model_version"] for pair in pairs}
