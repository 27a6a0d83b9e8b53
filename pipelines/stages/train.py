"""`<problem>.train`: label, sample, featurize, check, train (mapped), evaluate, gate, refit, register, promote."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import store
from pipelines.config import Candidate
from pipelines.dataset import training_sets
from pipelines.errors import ConfigError, EvergreenError, NothingToDo
from pipelines.paths import datasheet_uri
from pipelines.problem import Problem, load_problem
from pipelines.stages.checkpoints import StoredCheckpoint
from pipelines.stages.label import label
from pipelines.stages.label import labelled_uri as _labelled
from pipelines.stages.label import staging_uri as _staging
from pipelines.stages.refit import refit
from pipelines.stages.release import evaluate, gate, promote, register

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from pipelines.dataset.leaks import Finding
    from pipelines.training.model import Model

__all__ = ["check", "evaluate", "featurize", "gate", "label", "promote", "refit", "register", "sample", "train"]

log = logging.getLogger(__name__)
MEASURED_ROWS = 100_000  # training rows, at most, that a run's training metrics are measured on


def sample(problem: str, labelled: dict[str, Any]) -> dict[str, Any]:
    """Write the training set: the rows that are used, their split and weight.

    Its id is the hash of all it is made of, so equal sets are one set. Validation and test hold what happened, and
    never what somebody guessed. Result: what `label` gave, and {"training_set", "training_set_version", "splits":
    {split: rows}, "not_drawn": rows}.
    """
    config = load_problem(problem)
    if done := store.finished(_staging(config, labelled["training"])):
        return {name: value for name, value in done.items() if name not in ("leaks", "power")}
    pool = store.staged(_labelled(config, labelled["training"]))
    rows = training_sets.sampled(config, pool)
    usable = training_sets.usable(config, pool)
    pinned = ("partition", "as_of", "events_version", "labels_version", "window_from", "held", "held_out", "waiting")
    made_of = [labelled[name] for name in pinned]
    made_of += [config.dataset.model_dump(mode="json"), config.labels.model_dump(mode="json")]
    training_set = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]
    rows = rows.append_column("training_set", pa.array([training_set] * rows.num_rows, pa.string()))
    version = store.write_table(config, "training_sets", rows, [training_set])
    counts = {str(row["values"]): int(row["counts"]) for row in rows["split"].value_counts().to_pylist()}
    return {**labelled, "training_set": training_set, "training_set_version": version, "splits": counts,
            "not_drawn": len(usable) - usable["label"].null_count - len(rows)}  # fmt: skip


def featurize(problem: str, sampled: dict[str, Any]) -> dict[str, Any]:
    """Compute the features of every event in the training set's partitions.

    Result: what `sample` gave, and {"feature_set", "features_version"}.
    """
    config = load_problem(problem)
    keys = sorted(set(training_sets.training_set(config, sampled)["partition"].to_pylist()))
    version = training_sets.write_features(config, sampled, keys)
    return {**sampled, "feature_set": config.feature_set, "features_version": version}


def check(problem: str, featurized: dict[str, Any]) -> dict[str, Any]:
    """Look for leaks before anything learns from the set, and write its datasheet and its feature schema.

    Result: what `featurize` gave, and {"datasheet": URI of the page, "leaks": {"checked": True, "findings": [what was
    found and is accepted]}, "power": what the held-out rows can show, `evaluation.power.told`}.

    Raises:
        DataError: a feature knows too much, or a row stands on both sides of a split; the datasheet is written anyway.
    """
    from pipelines.dataset import leaks
    from pipelines.dataset.datasheet import datasheet
    from pipelines.evaluation.gate import power
    from pipelines.features.schema import feature_schema

    config = load_problem(problem)
    staging = _staging(config, featurized["training"])
    uri = datasheet_uri(config, featurized["training_set"])
    if done := store.finished(staging):
        return {**featurized, "datasheet": uri, "leaks": done["leaks"], "power": done.get("power")}
    labelled = store.staged(_labelled(config, featurized["training"]))
    rows = training_sets.with_features(config, featurized, labelled)
    as_of = datetime.fromisoformat(featurized["as_of"])
    findings = [*leaks.check(config, rows, as_of, labelled), *_audit(config, featurized, as_of, labelled)]
    features = feature_schema(config, rows.filter(pc.equal(rows["split"], "train")))
    shows = power.told(config, rows)
    for warning in shows["warnings"]:
        log.warning("%s: %s", problem, warning)
    facts = training_sets.facts(config, featurized, rows, features, findings, shows)
    sheet = datasheet(config, facts)
    store.write_json(training_sets.facts_uri(config, featurized["training_set"]), asdict(facts))
    store.write_json(store.store_uri(config.name, "feature_sets", f"{config.feature_set}.json"), features)
    store.write_bytes(uri.replace(".html", ".md"), sheet.markdown.encode())
    store.write_bytes(uri, sheet.html)
    leaks.require_clean(config, findings)
    seen = {"checked": True, "findings": [one.reason for one in findings if not one.passed]}
    sampled = {name: value for name, value in featurized.items() if not name.startswith("feature")}
    store.finish(staging, {**sampled, "leaks": seen, "power": shows})
    return {**featurized, "datasheet": uri, "leaks": seen, "power": shows}


def _audit(config: Problem, pins: dict[str, Any], as_of: datetime, labelled: ds.Dataset) -> list[Finding]:
    from pipelines.dataset.audit import audit
    from pipelines.dataset.label import Sizes, splits

    rows = config.dataset.leaks.audit_rows
    if rows is None:
        return []
    made = {
        "labelled": labelled,
        "training_sets": training_sets.training_set(config, pins),
        "features": store.dataset(config, "features", pins["features_version"]),
    }
    events = store.dataset(config, "events", pins["events_version"])
    labels = store.dataset(config, "labels", pins["labels_version"])
    available = store.partition_keys(config, "events", pins["events_version"])
    sizes = Sizes(**pins["held_out"])
    passed_over = {*pins["held"], *pins["waiting"]}
    split = splits(config, pins["partition"], available, pins["window_from"], passed_over, sizes=sizes)
    return audit(config, events, labels, as_of, split, made, rows)


def train(problem: str, featurized: dict[str, Any], candidate: str) -> dict[str, Any]:
    """Search, fit and log one candidate. A retry goes on where an earlier try was: trials, rounds, or the finished run.

    Where the champion is updated, that is done with its candidate alone; the baselines are fitted on the same rows.
    Result: {"candidate", "run_id", "validation": {metric: value}}.

    Raises:
        NothingToDo: another candidate is updated; or the new rows make the champion no better.
    """
    from pipelines import tracking
    from pipelines.dataset.fingerprint import fingerprint
    from pipelines.metrics.metrics import measure
    from pipelines.metrics.scored import scored
    from pipelines.release.lineage import lineage, surroundings
    from pipelines.training.fit import fit
    from pipelines.training.search import search, searched_metric
    from pipelines.training.update import updated

    config = load_problem(problem)
    spec, champion = config.training.of(candidate), _updated(config, featurized, candidate)
    tags = {"training": featurized["training"], "candidate": candidate}
    done = tracking.find_run(config, tags)
    if done is not None:
        run_id, metrics = done
        found = {n.removeprefix("validation_"): v for n, v in metrics.items() if n.startswith("validation_")}
        return {"candidate": candidate, "run_id": run_id, "validation": found}

    tags |= {"partition": featurized["partition"], "training_set": featurized["training_set"],
             "feature_set": featurized["feature_set"], "config_hash": config.config_hash,
             "trained_until": featurized["trained_until"], "how": featurized["how"] if champion else "scratch",
             **({"builds_on": champion["version"]} if champion else {})}  # fmt: skip
    run_id = tracking.start_candidate(config, candidate, tags)
    try:
        learnt_from, validation = (
            _training_rows(config, featurized),
            training_sets.split(config, featurized, "validation"),
        )
        searched: dict[str, Any] = {}
        state = StoredCheckpoint(f"{_staging(config, featurized['training'])}/{candidate}.checkpoint", config)
        if champion:
            searched = tracking.run_file(champion["run_id"], "lineage.json")["parameters"]
            learnt_from = _in_memory(config, learnt_from, f"how: {featurized['how']}", "update")
            before = tracking.load_model(champion["run_id"])
            model = updated(config, candidate, featurized["how"], before, learnt_from, validation)
            _require_new(config, before, model, champion["version"])
        else:
            if spec.search:
                trials = tracking.RunTrials(run_id, searched_metric(config))
                rows = _in_memory(config, learnt_from, f"training.candidates.{candidate}.search", "search parameters")
                searched = search(config, candidate, rows, trials).parameters
            model = fit(config, candidate, learnt_from, validation, parameters=searched, checkpoint=state)
    except EvergreenError as error:
        tracking.fail(run_id, error.what)
        raise
    measured = {}
    seen = {"train": _evenly(learnt_from, MEASURED_ROWS)} if isinstance(learnt_from, pa.Table) else {}
    for split, rows in {**seen, "validation": validation}.items():
        labels, weights = rows["label"].to_numpy(), rows["weight"].to_numpy()
        measured[split] = measure(scored(config, labels, model.scores(rows), weights, model.threshold))
    test = training_sets.split(config, featurized, "test")
    taught = fingerprint(config, learnt_from) if champion else model.learnt_from
    prints = {"train": taught, "validation": fingerprint(config, validation),
              "test": fingerprint(config, test)}  # fmt: skip
    made_of = lineage(config, featurized, prints, candidate, searched, surroundings(),
                      is_streamed=not isinstance(learnt_from, pa.Table))  # fmt: skip
    tracking.log_candidate(
        config,
        candidate,
        model,
        tags=tags,
        parameters={"model": spec.model, **spec.parameters, **searched, "seed": config.training.seed,
                    "threshold": model.threshold, "sampling": config.dataset.sampling.method,
                    "resampling": config.dataset.resampling.method,
                    "augmentation": config.dataset.augmentation.method, "train_rows": prints["train"]["rows"],
                    "fitted_rows": model.fitted_rows,
                    **_settings(spec), **{name: featurized[name] for name in
                       ("events_version", "labels_version", "features_version")}},
        metrics={f"{split}_{name}": value for split, found in measured.items() for name, value in found.items()
                 if value is not None},
        dataset_uri=store.table_uri(config, "training_sets"),
        dataset_version=featurized["training_set_version"],
        example=validation.select(config.feature_names).slice(0, 5),
        files=training_sets.training_files(config, featurized) | {
            "lineage.json": json.dumps(made_of, indent=1).encode(),
            "dropped_features.json": json.dumps(model.dropped, indent=1).encode(),
        },
        run_id=run_id,
    )  # fmt: skip
    store.delete(state.uri)
    return {"candidate": candidate, "run_id": run_id, "validation": measured["validation"]}


def _training_rows(config: Problem, pins: dict[str, Any]) -> pa.Table | ds.Dataset:
    """The training split: in memory, or on disk where its matrix would pass training.memory_limit_mb."""
    needed_mb = pins["splits"]["train"] * len(config.feature_names) * 4 / 2**20
    if needed_mb <= config.training.memory_limit_mb:
        group = config.dataset.split.group_by  # folds keep groups together
        return training_sets.split(config, pins, "train", extra=[group] if group else [])
    uri = f"{_staging(config, pins['training'])}/train"
    schema, batches = training_sets.stream(config, pins, "train")
    store.stage(uri, batches, schema)
    return store.staged(uri)


def _updated(config: Problem, pins: dict[str, Any], candidate: str) -> dict[str, Any] | None:
    """The champion, where it is this candidate that goes on from it; None: it is fitted from scratch."""
    champion: dict[str, Any] | None = pins["builds_on"]
    if champion is None or config.training.candidates[candidate].is_baseline:
        return None
    if candidate != champion["candidate"]:
        raise NothingToDo(
            f"version {champion['version']} is updated, which is {champion['candidate']}",
            where=f"candidate {candidate}",
            cure="train from scratch (how: scratch) to have all candidates compete",
        )
    return champion


def _require_new(config: Problem, before: Model, model: Model, version: str) -> None:
    rounds = [getattr(one.estimator, "rounds_", None) for one in (before, model)]
    if model.calibration is None and rounds[0] == rounds[1]:
        raise NothingToDo(
            f"the new rows make version {version} no better on the validation split, so that nothing was learnt",
            where=f"{config.name}.train, how: continue",
            cure="train from scratch (how: scratch), or wait for more rows",
        )


def _in_memory(config: Problem, rows: pa.Table | ds.Dataset, where: str, what: str) -> pa.Table:
    if isinstance(rows, pa.Table):
        return rows
    raise ConfigError(
        f"the training rows are too many to {what} on ({config.training.memory_limit_mb} MB are allowed)",
        where=where,
        cure="take a sample (dataset.sampling), or raise training.memory_limit_mb",
    )


def _evenly(rows: pa.Table, most: int) -> pa.Table:
    """`most` rows, or all if there are fewer, in their order and evenly apart: all of the time that they span.

    >>> _evenly(pa.table({"n": range(10)}), 4)["n"].to_pylist()
    [0, 2, 5, 7]
    """
    if rows.num_rows <= most:
        return rows
    is_taken = np.zeros(rows.num_rows, dtype=bool)
    is_taken[np.arange(most) * rows.num_rows // most] = True
    return rows.filter(pa.array(is_taken))


def _settings(spec: Candidate) -> dict[str, Any]:
    """What else a candidate was given, as far as it is not the default: for comparing runs in MLflow."""
    sections = {"preprocessing": spec.preprocessing, "selection": spec.selection, "imbalance": spec.imbalance,
                "calibration": spec.calibration}  # fmt: skip
    return {name: one.model_dump(mode="json", exclude_defaults=True) or "default"
            for name, one in sections.items() if one is not None}  # fmt: skip
