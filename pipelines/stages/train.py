"""`<problem>.train`: label, sample, featurize, check, train (mapped), evaluate, gate, register, promote."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import store
from pipelines.clock import INSTANT, present
from pipelines.dataset import stored
from pipelines.errors import DataError, GateFailed, NothingToDo
from pipelines.problem import Problem, load_problem
from pipelines.release import ledger
from pipelines.release.versions import datasheet_uri, reference_uri, version_problem, write_version_files

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def label(problem: str, partition: str | None = None, requested: bool = False) -> dict[str, Any]:
    """Stage the events that a model may learn from, with their labels as known at the end of `partition`.

    Without a partition: the newest that has been ingested, and all that is known by now. `requested`: the monitor
    asked for this training, and it is done once, however often it asked. Result: {"partition", "as_of", "training":
    id of this attempt, "trained_until": last partition before the test split, "events_version", "labels_version",
    "rows", "left_out": {reason: rows}, "too_young": [partition]}.

    Raises:
        NothingToDo: the request has been carried out.
        DataError: nothing was ingested, or too little for all three splits.
    """
    from pipelines.dataset.label import excluded, splits, young
    from pipelines.dataset.label import label as label_rows

    config = load_problem(problem)
    available = store.partition_keys(config, "events")
    asked_for, partition = partition, partition or max(available, default=None)
    if partition is None:
        raise DataError("no events have been ingested", where=f"problem {problem}", cure=f"run {problem}.ingest first")
    if requested and ledger.has_gate(config, partition):
        raise NothingToDo(
            "a model has been trained for this request already",
            where=f"{problem}, {partition}",
            cure=f"trigger {problem}.train by hand, without a partition key, for another one",
        )
    as_of = config.partitions.end(partition) if asked_for else present(config) + INSTANT
    versions = {f"{name}_version": store.table_version(config, name) for name in ("events", "labels")}
    split = splits(config, partition, available)
    first_tested = min(key for key, name in split.items() if name == "test")
    rows = label_rows(
        config,
        store.dataset(config, "events", versions["events_version"]),
        store.dataset(config, "labels", versions["labels_version"]),
        as_of,
        split,
    )
    training = f"{partition}-{uuid.uuid4().hex[:8]}"
    store.stage(_labelled(config, training), rows, rows.schema)
    return {
        "partition": partition,
        "as_of": as_of.isoformat(),
        "training": training,
        "trained_until": config.partitions.shift(first_tested, -1),
        **versions,
        "rows": rows.num_rows,
        "left_out": excluded(rows),
        "too_young": young(config, partition, available),
    }


def sample(problem: str, labelled: dict[str, Any]) -> dict[str, Any]:
    """Write the training set: the rows that are used, their split and weight.

    Its id is the hash of all it is made of, so equal sets are one set. Validation and test hold what happened, and
    never what somebody guessed. Result: what `label` gave, and {"training_set", "training_set_version", "splits":
    {split: rows}, "not_drawn": rows}.
    """
    from pipelines.dataset.sample import sample as sample_rows

    config = load_problem(problem)
    if done := store.finished(_staging(config, labelled["training"])):
        return done
    usable = stored.usable(config, store.staged(_labelled(config, labelled["training"])))
    rows = sample_rows(usable, config.dataset.sampling)
    if config.labels.weigh_by_confidence:
        is_train = pc.equal(rows["split"], "train")
        weight = pc.if_else(is_train, pc.multiply(rows["weight"], rows["confidence"]), rows["weight"])
        rows = rows.set_column(rows.schema.get_field_index("weight"), "weight", weight)
    made_of = [labelled[name] for name in ("partition", "as_of", "events_version", "labels_version")]
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
    keys = sorted(set(stored.training_set(config, sampled)["partition"].to_pylist()))
    version = stored.write_features(config, sampled, keys)
    return {**sampled, "feature_set": config.feature_set, "features_version": version}


def check(problem: str, featurized: dict[str, Any]) -> dict[str, Any]:
    """Look for leaks before anything learns from the set, and write its datasheet and its feature schema.

    Result: what `featurize` gave, and {"datasheet": URI of the page}.

    Raises:
        DataError: a feature knows too much, or a row stands on both sides of a split; the datasheet is written anyway.
    """
    from pipelines.dataset import leaks
    from pipelines.dataset.datasheet import datasheet
    from pipelines.features.schema import feature_schema

    config = load_problem(problem)
    staging = _staging(config, featurized["training"])
    uri = datasheet_uri(config, featurized["training_set"])
    if store.finished(staging):
        return {**featurized, "datasheet": uri}
    rows = stored.with_features(config, featurized, store.staged(_labelled(config, featurized["training"])))
    findings = leaks.check(config, rows, datetime.fromisoformat(featurized["as_of"]))
    features = feature_schema(config, rows.filter(pc.equal(rows["split"], "train")))
    sheet = datasheet(config, stored.facts(config, featurized, rows, features, findings))
    store.write_json(store.store_uri(config.name, "feature_sets", f"{config.feature_set}.json"), features)
    store.write_bytes(uri.replace(".html", ".md"), sheet.markdown.encode())
    store.write_bytes(uri, sheet.html)
    leaks.require_clean(config, findings)
    store.finish(staging, {name: value for name, value in featurized.items() if not name.startswith("feature")})
    return {**featurized, "datasheet": uri}


def train(problem: str, featurized: dict[str, Any], candidate: str) -> dict[str, Any]:
    """Fit one candidate and log it to MLflow. A retry finds the finished run of its earlier try.

    Result: {"candidate", "run_id", "validation": {metric: value}}.
    """
    from pipelines import tracking
    from pipelines.dataset.augment import augment
    from pipelines.dataset.resample import resample
    from pipelines.evaluation.evaluate import measure
    from pipelines.training.candidates import fit_candidate, positive_scores

    config = load_problem(problem)
    tags = {"training": featurized["training"], "candidate": candidate}
    done = tracking.find_run(config, tags)
    if done is not None:
        run_id, metrics = done
        found = {n.removeprefix("validation_"): v for n, v in metrics.items() if n.startswith("validation_")}
        return {"candidate": candidate, "run_id": run_id, "validation": found}

    rows = {split: stored.split(config, featurized, split) for split in ("train", "validation")}
    spec = config.training.candidates[candidate]
    names, categories = config.feature_names, config.categorical_features
    learnt_from = resample(rows["train"], names, categories, config.dataset.resampling)
    learnt_from = augment(learnt_from, names, categories, config.dataset.augmentation)
    model = fit_candidate(config, spec, learnt_from, rows["validation"])
    measured = {
        split: measure(table["label"].to_numpy(), positive_scores(model, table), table["weight"].to_numpy())
        for split, table in rows.items()
    }
    run_id = tracking.log_candidate(
        config,
        candidate,
        model,
        tags=tags | {"partition": featurized["partition"], "training_set": featurized["training_set"],
                     "feature_set": featurized["feature_set"], "config_hash": config.config_hash,
                     "trained_until": featurized["trained_until"]},
        parameters={"model": spec.model, **spec.parameters, "seed": config.training.seed,
                    "sampling": config.dataset.sampling.method, "train_rows": rows["train"].num_rows,
                    "resampling": config.dataset.resampling.method,
                    "augmentation": config.dataset.augmentation.method, "fitted_rows": learnt_from.num_rows,
                    **{name: featurized[name] for name in ("events_version", "labels_version", "features_version")}},
        metrics={f"{split}_{name}": value for split, found in measured.items() for name, value in found.items()
                 if value is not None},
        dataset_uri=store.table_uri(config, "training_sets"),
        dataset_version=featurized["training_set_version"],
        example=rows["train"].select(config.feature_names).slice(0, 5),
        files=stored.training_files(config, featurized),
    )  # fmt: skip
    return {"candidate": candidate, "run_id": run_id, "validation": measured["validation"]}


def evaluate(problem: str, featurized: dict[str, Any], trained: list[dict[str, Any]]) -> dict[str, Any]:
    """Measure all candidates and the champion on the same test rows; the best on validation is the challenger.

    Result: {"partition", "test_rows", "test_partitions", "challenger", "baseline", "champion" (or None),
    "candidates"}: what `gate` judges. The challenger's run keeps it, with the reference for monitoring.
    """
    from pipelines import tracking
    from pipelines.evaluation.evaluate import measure, pick_challenger
    from pipelines.monitoring.profile import reference
    from pipelines.training.candidates import positive_scores

    config = load_problem(problem)
    test = stored.split(config, featurized, "test")
    labels, weights = test["label"].to_numpy(), test["weight"].to_numpy()
    runs = {one["candidate"]: one["run_id"] for one in trained}
    models = {name: tracking.load_model(run_id) for name, run_id in runs.items()}
    scores = {name: positive_scores(model, test) for name, model in models.items()}
    metrics = {name: measure(labels, found, weights) for name, found in scores.items()}
    best = pick_challenger(config.training, {one["candidate"]: one["validation"] for one in trained})
    champion = tracking.champion(config)
    evaluation = {
        "training": featurized["training"],
        "partition": featurized["partition"],
        "test_rows": test.num_rows,
        "test_partitions": sorted(set(test["partition"].to_pylist())),
        "challenger": {"candidate": best, "run_id": runs[best], "metrics": metrics[best]},
        "baseline": {"candidate": config.training.baseline, "metrics": metrics[config.training.baseline]},
        "champion": None if champion is None else _measure_champion(config, featurized, champion),
        "candidates": metrics,
    }
    for name, found in metrics.items():
        tracking.annotate(runs[name], metrics={f"test_{m}": v for m, v in found.items() if v is not None})
    seen = stored.split(config, featurized, "train")
    built = reference(
        seen.select(config.feature_names),
        float(seen["label"].to_numpy().mean()),
        scores[best],
        labels,
        config.monitoring.bins,
    )
    kept = {"trained_until": featurized["trained_until"], "reference": built.model_dump(mode="json")}
    tracking.annotate(runs[best], files={"evaluation.json": evaluation, "reference.json": kept})
    return evaluation


def gate(problem: str, evaluated: dict[str, Any]) -> dict[str, Any]:
    """Judge the challenger; the verdict goes to the ledger and to its MLflow run either way.

    Result: {"partition", "run_id", "candidate", "verdict", "reason"}.

    Raises:
        GateFailed: the challenger is not good enough; the champion goes on serving.
    """
    from pipelines import tracking
    from pipelines.evaluation.gate import gate as judge

    config = load_problem(problem)
    verdict = judge(evaluated, config.gate)
    word = "passed" if verdict.passed else "failed"
    challenger = evaluated["challenger"]
    ledger.record(
        config,
        decision=f"gate:{evaluated['training']}",
        kind="gate",
        partition=evaluated["partition"],
        verdict=word,
        action="register" if verdict.passed else "keep champion",
        reason=verdict.reason,
        evidence={"evaluation": evaluated, **verdict.to_dict()},
    )
    tracking.annotate(
        challenger["run_id"],
        files={"gate.json": verdict.to_dict()},
        tags={"gate": word, "gate_reason": verdict.reason},
    )
    if not verdict.passed:
        raise GateFailed(
            f"{challenger['candidate']} did not pass: {verdict.reason}",
            where=f"gate of {problem}, data until {evaluated['partition']}",
            cure="the champion goes on serving; compare the runs in MLflow, then change the data, the candidates or "
            "the thresholds (gate in problem.yaml)",
        )
    return {
        "partition": evaluated["partition"],
        "run_id": challenger["run_id"],
        "candidate": challenger["candidate"],
        "verdict": word,
        "reason": verdict.reason,
    }


def register(problem: str, gated: dict[str, Any]) -> dict[str, Any]:
    """Make the challenger a registry version, with the alias challenger. Result: what `gate` gave, and {"version"}."""
    from pipelines import tracking

    config = load_problem(problem)
    run_id = gated["run_id"]
    version = tracking.register(config, run_id, {"partition": gated["partition"], "candidate": gated["candidate"]})
    write_version_files(
        config,
        version,
        problem_json=tracking.run_file(run_id, "problem.json"),
        reference_json=tracking.run_file(run_id, "reference.json"),
    )
    return {**gated, "version": version}


def promote(problem: str, registered: dict[str, Any]) -> dict[str, Any]:
    """Let the version serve: alias champion, and a ledger row. Result: {"version", "replaced"}."""
    from pipelines import tracking

    config = load_problem(problem)
    version = registered["version"]
    if not store.exists(reference_uri(config, version)):
        raise DataError(
            f"version {version} has no reference to monitor it by",
            where=reference_uri(config, version),
            cure="clear the task register",
        )
    replaced = tracking.promote(config, version)
    ledger.record(
        config,
        decision=f"promotion:{version}",
        kind="promotion",
        partition=registered["partition"],
        verdict="passed its gate",
        action="promoted",
        reason=registered["reason"],
        model_version=version,
        evidence={"run_id": registered["run_id"], "candidate": registered["candidate"], "replaced": replaced},
    )
    return {"version": version, "replaced": replaced}


def _measure_champion(config: Problem, featurized: dict[str, Any], version: ModelVersion) -> dict[str, Any]:
    """The champion on the test rows, with the features that it was trained on, whatever they are today."""
    from pipelines import tracking
    from pipelines.evaluation.evaluate import measure
    from pipelines.training.candidates import positive_scores

    its = version_problem(config, str(version.version))
    if its.feature_set != config.feature_set:
        stored.write_features(its, featurized, stored.partitions(config, featurized, "test"))
        featurized = {**featurized, "features_version": None}
    test = stored.split(config, featurized, "test", its)
    model = tracking.load_model(version.run_id)
    metrics = measure(test["label"].to_numpy(), positive_scores(model, test), test["weight"].to_numpy())
    return {
        "version": str(version.version),
        "run_id": version.run_id,
        "metrics": metrics,
        "trained_until": tracking.run_tag(version.run_id, "trained_until"),
    }


def _staging(config: Problem, training: str) -> str:
    return store.store_uri(config.name, "staging", "train", training)


def _labelled(config: Problem, training: str) -> str:
    return f"{_staging(config, training)}/labelled"
