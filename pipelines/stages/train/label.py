"""The stage `train.label`: what a training was asked for, and the rows that it may learn from.

A training learns from scratch or goes on from the champion, and may have to begin at some partition.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import NamedTuple, get_args

from pipelines import ledger, sql, store
from pipelines.asof.clock import INSTANT, present
from pipelines.config import Action, How
from pipelines.dataset.drawn import DRAWN
from pipelines.dataset.label import pooled, splits
from pipelines.dataset.waiting import waiting
from pipelines.errors import ConfigError, DataError, NothingToDo
from pipelines.handoffs.config import pin
from pipelines.handoffs.training import BuildsOn, HeldOut, Labelled, Planned
from pipelines.paths import labelled_uri, train_staging_uri
from pipelines.problem import Problem, load_problem
from pipelines.release.versions import find_version_lineage, load_version, measured_run, taught, version_problem


def label(
    problem_name: str,
    partition: str | None = None,
    requested: bool = False,
    how: str | None = "scratch",
    window_from: str | None = None,
) -> Labelled:
    """Stage the events that a model may learn from, with their labels as known at the end of `partition`.

    Without a partition: the newest that has been ingested, and all that is known by now. `requested`: the monitor
    asked for this training, and it is done once, however often it asked. `how`: scratch, continue or recalibrate (the
    champion); None: as the monitor asked for this partition. `window_from`: first partition to learn from.
    Raises:
        NothingToDo: the request has been carried out or a newer one waits; or there is nothing new to learn from.
        ConfigError: the champion is none that can be updated.
        DataError: nothing was ingested, or too little for all three splits.
    """
    from pipelines.asof.as_known import targets
    from pipelines.dataset.label import excluded, label_batches, labelled_counts, require_usable, young
    from pipelines.quarantine import held, unlabelled

    problem = load_problem(problem_name)
    available = store.partition_keys(problem, "events")
    asked_for, partition = partition, partition or max(available, default=None)
    if partition is None:
        raise DataError(
            "no events have been ingested", where=f"problem {problem_name}", cure=f"run {problem_name}.ingest first"
        )
    if requested:
        require_open(problem, partition)
    wanted = by_monitor(problem, partition) if how is None else by_hand(problem, how, window_from)
    as_of = problem.partitions.end(partition) if asked_for else present(problem) + INSTANT
    events_version, labels_version = (store.table_version(problem, name) for name in ("events", "labels"))
    events = store.dataset(problem, "events", events_version)
    labels = store.dataset(problem, "labels", labels_version)
    late = waiting(problem, partition, available, as_of, events, labels)
    late |= unlabelled(problem).intersection(available)
    whole = [key for key in available if key not in late]
    counts = labelled_counts(problem, events, labels, as_of)
    split, plan = planned(problem, wanted, partition, whole, held(problem), counts)
    # Where rows are drawn one by one, partitions are in all splits: no one of them is held out as a whole.
    tested = [key for key, name in split.items() if name == "test"]
    trained_until = problem.partitions.shift(min(tested), -1) if tested else max(split)
    training = f"{partition}-{uuid.uuid4().hex[:8]}"
    schema, batches = label_batches(problem, events, labels, as_of, split)
    count = store.stage(labelled_uri(problem, training), batches, schema)
    rows = store.staged(labelled_uri(problem, training))
    try:
        require_usable(problem, rows, split)
    except DataError:
        store.delete_folder(train_staging_uri(problem, training))
        raise
    is_held = sql.is_among("partition", plan.held)
    passed_over = targets(events.filter(is_held), as_of).count_rows()
    return Labelled(
        **plan.model_dump(),
        config=pin(problem),
        partition=partition,
        as_of=as_of.isoformat(),
        training=training,
        trained_until=trained_until,
        events_version=events_version,
        labels_version=labels_version,
        waiting=sorted(late),
        rows=count,
        left_out={**excluded(rows), "quarantined partition": passed_over},
        too_young=sorted({*young(problem, partition, available), *late}),
    )


class Request(NamedTuple):
    """`window_from`: first partition to learn from; None: as far back as dataset.window_partitions allows."""

    how: How
    window_from: str | None


def by_hand(problem: Problem, how: str, window_from: str | None) -> Request:
    """Raises:
    ConfigError: there is no such way to train, or no such partition.
    """
    if how not in get_args(How):
        raise ConfigError(f"how: {how!r} is no way to train", where="train", cure=f"one of {', '.join(get_args(How))}")
    if window_from is not None:
        problem.partitions.parse(window_from)
    return Request(how, window_from)  # type: ignore[arg-type]


def by_monitor(problem: Problem, partition: str) -> Request:
    """What the monitor's newest decision about a partition asks for; from scratch where there is none."""
    asked = [
        row
        for row in ledger.decisions(problem, "monitoring")
        if row["partition"] == partition and Action(row["action"]).trains
    ]
    if not asked:
        return Request("scratch", None)
    newest = asked[-1]
    return by_hand(problem, str(Action(newest["action"]).trains), newest["evidence"].get("window_from"))


def require_open(problem: Problem, partition: str) -> None:
    """A request of the monitor is carried out once, and not at all where a newer one waits in line behind it.

    Raises:
        NothingToDo: it has been carried out, or is outdated.
    """
    where = f"{problem.name}, {partition}"
    if ledger.has_gate(problem, partition):
        raise NothingToDo(
            "a model has been trained for this request already",
            where=where,
            cure=f"trigger {problem.name}.train by hand, without a partition key, for another one",
        )
    newer = {
        row["partition"]
        for row in ledger.decisions(problem, "monitoring")
        if Action(row["action"]).trains and row["partition"] > partition
    }
    waiting = sorted(key for key in newer if not ledger.has_gate(problem, key))
    if waiting:
        raise NothingToDo(
            f"a newer request, {waiting[-1]}, waits", where=where, cure="its run knows all that this one would"
        )


def planned(
    problem: Problem,
    request: Request,
    partition: str,
    available: list[str],
    held: set[str],
    counts: Mapping[str, int],
) -> tuple[dict[str, str], Planned]:
    """Split of each partition, and what a training carries along. `counts`: labelled rows of each partition.

    Where the champion was fitted again after its gate, it is its tested twin that is updated and tested, and the update
    is done to the champion itself when it is refitted: what the champion has learnt from can test nothing.

    Raises:
        NothingToDo: nothing is newer than what the champion has learnt from.
        ConfigError: the champion is none that can be updated.
        DataError: too few partitions for all three splits.
    """
    after = _champion_knows_until(problem)
    sizes = pooled(problem, partition, available, counts, request.window_from, held, after)
    split = splits(problem, partition, available, request.window_from, held, sizes=sizes)
    passed_over = sorted(key for key in held if key in splits(problem, partition, available))
    plan = Planned(
        how=request.how, window_from=request.window_from, held=passed_over, held_out=HeldOut(**sizes._asdict())
    )
    if request.how == "scratch":
        return split, plan
    champion = _champion(problem, request.how)
    new = [key for key, name in split.items() if name in ("train", DRAWN) and key > champion.learnt_until]
    if not new:
        raise NothingToDo(
            f"version {champion.version} has learnt from partitions up to {champion.learnt_until}, and of newer "
            "ones none may be learnt from yet: the newest are held out for validation and test",
            where=f"{problem.name}, at the end of {partition}",
            cure="wait for the labels of the next partitions",
        )
    if request.how == "recalibrate":
        new = sorted(new)[-problem.training.update.recalibrate_partitions :]
    plan = plan.model_copy(update={"builds_on": champion, "window_from": min(new)})
    return splits(problem, partition, available, min(new), held, sizes=sizes), plan


def _champion_knows_until(problem: Problem) -> str | None:
    """Last partition before the test split of the version that was promoted last: what it may have learnt from."""
    promoted = ledger.decisions(problem, "promotion")
    made_of = find_version_lineage(problem, str(promoted[-1]["model_version"])) if promoted else None
    tested = made_of["splits"]["test"]["partitions"] if made_of else []
    return problem.partitions.shift(min(tested), -1) if tested else None


def _champion(problem: Problem, how: How) -> BuildsOn:
    from pipelines import tracking
    from pipelines.training.update import why_not_continued, why_not_recalibrated

    where, cure = f"{problem.name}.train, how: {how}", "train from scratch (how: scratch)"
    version = tracking.champion(problem)
    if version is None:
        raise ConfigError("no champion serves yet", where=where, cure=cure)
    number, name = str(version.version), str(version.tags["candidate"])
    if version_problem(problem, number).feature_set != problem.feature_set:
        raise ConfigError(f"version {number} has other features than the problem has today", where=where, cure=cure)
    if name not in problem.training.candidates or problem.training.candidates[name].is_baseline:
        raise ConfigError(f"version {number} is {name}, which is no candidate to go on with", where=where, cure=cure)
    tested = measured_run(problem, number) if problem.training.refit else None
    run_id = tested or version.run_id
    model = load_version(problem, number, run_id)
    reason = why_not_continued(problem, name, model) if how == "continue" else why_not_recalibrated(model)
    if reason:
        raise ConfigError(f"version {number} cannot be updated so: {reason}", where=where, cure=cure)
    known = taught(problem, number, is_tested=tested is not None)
    return BuildsOn(version=number, run_id=run_id, candidate=name, sets=known.sets, learnt_until=max(known.partitions))
