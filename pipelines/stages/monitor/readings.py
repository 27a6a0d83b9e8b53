"""What each way to act would have gained on the newest labelled partition: the rows and models behind a decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql, store
from pipelines.asof.as_known import targets
from pipelines.config import Action, Way
from pipelines.dataset.label import label_number, labelled, mature, splits
from pipelines.dataset.waiting import Judgeable
from pipelines.errors import ConfigError, EvergreenError
from pipelines.metrics.bootstrap import blocks_of
from pipelines.monitoring.decide.readings import (
    CALIBRATING,
    PROXY_ROWS,
    Reading,
    as_scored,
    fresher,
    reading,
    recalibrated,
)
from pipelines.paths import version_uri
from pipelines.problem import Problem
from pipelines.release.versions import learnt_by, measured_run, version_problem

PROXY_PARTITIONS = 120  # of each side, the newest: their number would grow with the past, and the cost with it


def measure(
    version: str,
    labels_in: Judgeable,
    chain: list[dict[str, Any]],
    candidate: str,
    known: Sequence[Reading],
    *,
    is_bad: bool,
    since: str | None,
) -> tuple[list[Reading], dict[Way, str]]:
    """New readings, on the newest partition whose labels are in, and why a way has none.

    What age costs is measured every time, as it has to be known before anything is wrong; ways that need an alarm only
    where `is_bad`: the newest labelled partition is. `chain`: what `taught_by` gives of the version, whose `candidate`
    it is. `since`: a training from there on is looked at too. A partition that `known` readings are of is not measured
    again.
    """
    from pipelines.quarantine import held

    config, partition = labels_in.problem, labels_in.partition
    aside = held(config)
    keys = labels_in.among(key for key in store.partition_keys(config, "features") if key not in aside)
    if len(keys) < 2:
        return [], {}
    newest = keys[-1]
    done = {one.way for one in known if (one.partition, one.version) == (newest, version)}
    where = {"partition": newest, "version": version}
    rows = labelled_rows(config, partition, [newest])
    if not rows.num_rows:
        return [], {}
    blocks, new, why_not = blocks_of(config, rows), list[Reading](), dict[Way, str]()
    its_ages = ages(config, chain, partition)
    if candidate not in config.training.candidates or config.training.candidates[candidate].is_baseline:
        candidate = next(name for name in config.training.candidates if name not in config.training.baselines)
    if config.training.candidates[candidate].model != "xgboost":
        why_not[Action.CONTINUE] = f"only xgboost goes on from a champion, and {candidate} is none"
    if its_ages[Action.RETRAIN] >= 1 and Action.RETRAIN not in done:
        new += _fresher(config, partition, candidate, where, its_ages, rows, blocks, chain, since, aside)
    if is_bad and not done & {Action.RECALIBRATE, Action.ROLL_BACK, Action.FALL_BACK}:
        found, more = _others(config, partition, version, where, rows, blocks, keys)
        new += found
        why_not |= more
    return new, why_not


def taught_by(problem: Problem, lineage: dict[str, Any]) -> list[dict[str, Any]]:
    """Lineages of the trainings that taught a version: from scratch first, then each time that it was continued."""
    found = [] if lineage.get("how") == "recalibrate" else [lineage]
    while lineage.get("how") in ("continue", "recalibrate"):
        lineage = store.read_json(version_uri(problem, lineage["parent"], "lineage.json"))
        found = found if lineage.get("how") == "recalibrate" else [lineage, *found]
    return found


def ages(problem: Problem, chain: list[dict[str, Any]], partition: str) -> dict[Way, int]:
    """Partitions, up to `partition`, since a version was trained from scratch, and since it last learnt."""
    since: dict[Way, str] = {Action.RETRAIN: chain[0]["partition"], Action.CONTINUE: chain[-1]["partition"]}
    return {way: max(len(problem.partitions.between(one, partition)) - 1, 0) for way, one in since.items()}


def labelled_rows(problem: Problem, partition: str, keys: Sequence[str], most: int = PROXY_ROWS) -> pa.Table:
    """Rows of some partitions with features, `label` as known at the end of `partition`, and `weight` 1, in time's
    order; a part of each partition, by a hash of the key, where they are more than `most`."""
    key, as_of = sql.quote(problem.key), problem.partitions.end(partition)
    wanted = sql.is_among("partition", keys)
    features = store.dataset(problem, "features").filter(wanted)
    events, labels = store.dataset(problem, "events"), store.dataset(problem, "labels")
    predicted = targets(events.filter(wanted), as_of)
    with_labels = labelled(problem, predicted, events, labels, as_of, dict.fromkeys(keys, "train"))
    with_labels = with_labels.filter(pc.is_valid(with_labels["label"]))
    counted = sql.query("SELECT partition, count(*) AS rows FROM l GROUP BY 1", {"l": with_labels}).to_pylist()
    counts = {one["partition"]: one["rows"] for one in counted}
    if not counts:
        return with_labels.slice(0, 0)
    chosen = sql.thinned(problem.key, counts, max(most // len(counts), 1))
    return sql.query(
        f"""SELECT f.*, {label_number(problem, "l.label")} AS label, CAST(1 AS DOUBLE) AS weight
            FROM f JOIN (SELECT {key}, partition, label FROM l WHERE {chosen}) AS l USING ({key}, partition)
            ORDER BY f.event_time, f.{key}""",
        {"f": features, "l": with_labels},
    )


def _fresher(
    problem: Problem,
    partition: str,
    candidate: str,
    where: dict[str, Any],
    its_ages: dict[Way, int],
    rows: pa.Table,
    blocks: np.ndarray,
    chain: list[dict[str, Any]],
    since: str | None,
    aside: set[str],
) -> list[Reading]:
    available = store.partition_keys(problem, "features")
    try:
        split = splits(problem, partition, available, held=aside, are_cut=False)
    except EvergreenError:
        return []
    newest = where["partition"]
    fresh = [key for key, name in split.items() if name == "train"]
    if problem.training.refit:  # what could be learnt from when the newest began; nothing is held out in the end
        before = mature(problem, problem.partitions.shift(newest, -1), [key for key in available if key not in aside])
        fresh = before[-(problem.dataset.window_partitions or 0) :]
    usable = {*available} - aside - {newest}
    stale = [[key for key in _learnt(one) if key in usable] for one in chain]
    known = {key for keys in stale for key in keys}
    parts = {"fresh": fresh, "newer": [key for key in fresh if key not in known]}
    if problem.training.refit and known.issuperset(fresh):
        return []  # the champion is as fresh as a training of then would have been: what age costs does not show yet
    window = [key for key in fresh if since is not None and key >= since]
    if window and len(window) < len(fresh):
        parts["window"], where = window, {**where, "window_from": since}
    tables = {
        name: labelled_rows(problem, partition, sorted(keys)[-PROXY_PARTITIONS:]) if keys else rows.slice(0, 0)
        for name, keys in parts.items()
    }
    its = [labelled_rows(problem, partition, sorted(keys)[-PROXY_PARTITIONS:]) for keys in stale if keys]
    if not its:
        return []
    return fresher(problem, candidate, where, its_ages, its, {**tables, "newest": rows}, blocks)


def _learnt(lineage: dict[str, Any]) -> list[str]:
    """Partitions that the training behind a lineage taught what serves."""
    refit = lineage.get("refit")
    partitions: list[str] = (refit["rows"] if refit else lineage["splits"]["train"])["partitions"]
    return partitions


def _others(
    problem: Problem,
    partition: str,
    version: str,
    where: dict[str, Any],
    rows: pa.Table,
    blocks: np.ndarray,
    keys: list[str],
) -> tuple[list[Reading], dict[Way, str]]:
    """Readings of the ways that keep or replace the champion's model without a training from scratch."""
    from pipelines import tracking

    champion, previous = tracking.serving(problem), tracking.previous(problem)
    known = learnt_by(problem, version)
    # Of rows that what serves has learnt from, its tested twin says how good it is.
    twin = measured_run(problem, version) if where["partition"] in known else None
    model = tracking.load_model(twin or champion.run_id)
    trained_problem = version_problem(problem, version)
    if trained_problem.feature_set != problem.feature_set or str(champion.version) != version:
        why = "the version that served here does not serve any more, or has other features"
        return [], dict.fromkeys((Action.RECALIBRATE, Action.ROLL_BACK, Action.FALL_BACK), why)
    older = [key for key in keys[:-1] if key not in known][-CALIBRATING:]
    past = labelled_rows(problem, partition, older) if older else rows.slice(0, 0)
    keep = model.scores(rows)
    scores: dict[Way, np.ndarray | None] = {}
    why_not: dict[Way, str] = {}
    scores[Action.RECALIBRATE] = recalibrated(problem, as_scored(problem, past, model.scores(past)), keep)
    if previous is None or previous.version == champion.version:
        why_not[Action.ROLL_BACK] = "there is no version before"
    elif version_problem(problem, str(previous.version)).feature_set != problem.feature_set:
        why_not[Action.ROLL_BACK] = "the version before has other features"
    else:
        scores[Action.ROLL_BACK] = tracking.load_model(previous.run_id).scores(rows)
    baseline = None if champion.tags.get("kind") == "fallback" else _baseline(trained_problem, champion.run_id)
    if baseline is None:
        why_not[Action.FALL_BACK] = "no baseline that could serve is known"
    else:
        scores[Action.FALL_BACK] = tracking.load_model(baseline).scores(rows)
    found = [
        reading(problem, way, where, as_scored(problem, rows, ours), as_scored(problem, rows, keep), blocks)
        for way, ours in scores.items()
        if ours is not None
    ]
    return [one for one in found if one is not None], why_not


def _baseline(trained_problem: Problem, run_id: str) -> str | None:
    """MLflow run of the best baseline of the champion's training; None: none could serve."""
    from pipelines import tracking
    from pipelines.release.switch import best_baseline

    evaluation = tracking.run_file(run_id, "evaluation.json")
    try:
        return str(evaluation["baselines"][best_baseline(trained_problem, evaluation)]["run_id"])
    except ConfigError:
        return None
