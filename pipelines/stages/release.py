"""The second half of `<problem>.train`: evaluate, gate, (refit,) register, promote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines import ledger, store
from pipelines.dataset import training_sets
from pipelines.dataset.fingerprint import fingerprint
from pipelines.errors import DataError, GateFailed, NothingToDo
from pipelines.paths import evaluation_uri, reference_uri, version_uri
from pipelines.problem import Problem, load_problem
from pipelines.release.versions import learnt_by, measured_run, taught, version_problem, write_version_files

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from pipelines.evaluation.gate.compare import Contender
    from pipelines.metrics.scored import Scored
    from pipelines.training.model import Model

REFERENCE_ROWS = 500_000  # training rows, at most, that monitoring compares with
COMPARED_ROWS = 50_000  # training rows, at most, that are scored to see how far the test rows have moved


def evaluate(problem: str, featurized: dict[str, Any], trained: list[dict[str, Any]]) -> dict[str, Any]:
    """Measure all candidates and the champion on the same test rows; the best on validation is the challenger.

    Each candidate's report goes to its run, the challenger's to the store as well: what `gate` judges. Its run keeps
    the reference for monitoring. Where the champion is updated, reference and training rows are those that it has
    learnt from before as well. Result: {"training", "partition", "candidate", "tied_with": candidates that
    the validation rows cannot tell from it, "run_id", "evaluation": URI, "page": URI, "test_rows", "metrics": {metric:
    value}}.

    Raises:
        NothingToDo: baselines alone were trained, as updating the champion brought nothing.
    """
    from pipelines import tracking
    from pipelines.evaluation.gate.challenger import pick_challenger, selection
    from pipelines.evaluation.gate.compare import Contender, evidence
    from pipelines.evaluation.page.page import page
    from pipelines.evaluation.report.report import report
    from pipelines.metrics.bootstrap import blocks_of
    from pipelines.monitoring.estimate.held_out import to_parquet
    from pipelines.profiles.profile import reference
    from pipelines.release.history import history

    config = load_problem(problem)
    if all(config.training.candidates[one["candidate"]].is_baseline for one in trained):
        raise NothingToDo("there is no challenger", where=f"{problem}.train", cure="the champion goes on serving")
    builds_on = featurized["builds_on"]
    before = builds_on["sets"] if builds_on else []
    test = training_sets.split(config, featurized, "test", extra=_groups(config))
    seen = training_sets.drawn(config, featurized, "train", REFERENCE_ROWS, before)
    sample = seen
    if seen.num_rows > COMPARED_ROWS:
        sample = training_sets.drawn(config, featurized, "train", COMPARED_ROWS, before)
    runs = {one["candidate"]: one["run_id"] for one in trained}
    contenders = {}
    for name, run_id in runs.items():
        model = tracking.load_model(run_id)
        known = None if config.training.candidates[name].is_baseline else _scored(config, model, sample)
        contenders[name] = Contender(name, run_id, model, _scored(config, model, test), known=known)
    best = pick_challenger(config.training, {one["candidate"]: one["validation"] for one in trained})
    validation = training_sets.split(config, featurized, "validation")
    passive = {*config.training.baselines, *(n for n in runs if config.training.candidates[n].is_baseline)}
    competing = {
        name: _scored(config, one.model, validation) for name, one in contenders.items() if name not in passive
    }
    chosen = selection(config.training, best, competing, blocks_of(config, validation), config.evaluation.bootstrap)
    champion = tracking.champion(config)
    against = None if champion is None else _champion(config, featurized, champion, test, sample)
    baselines = [contenders[name] for name in config.training.baselines]
    context = {
        "training": featurized["training"],
        "partition": featurized["partition"],
        "as_of": featurized["as_of"],
        "task": config.task,
        "test_rows": test.num_rows,
        "test_partitions": (tested := sorted(set(test["partition"].to_pylist()))),
        "test_end": config.partitions.end(tested[-1]).isoformat() if tested else None,
        "leaks": featurized["leaks"],
        "power": featurized.get("power"),  # none of a set that was checked before there was any
        "selection": chosen,
        "how": featurized["how"],
        "window_from": featurized["window_from"],
        "builds_on": builds_on["version"] if builds_on else None,
        "train_split": fingerprint(config, _given(config, featurized)),
        "makes_rows": _makes_rows(config),
        "candidates": {name: one.metrics for name, one in contenders.items()},
    }
    groups = test.select(config.evaluation.fairness.groups) if config.evaluation.fairness else None
    for name, one in contenders.items():
        tracking.annotate(one.run_id, metrics={f"test_{m}": v for m, v in one.metrics.items() if v is not None})
        if config.training.candidates[name].is_baseline:
            continue
        its = report(config, one.model, test, name=name, run_id=one.run_id, train_rows=sample, groups=groups)
        told = context | evidence(config, one, its, baselines, against, test, sample)
        if builds_on:  # what it was taught last it knows best: its mean score need not fit all that it was taught
            told["learnt"]["bias"] = None
        if champion is not None:
            told["champion"]["is_fallback"] = champion.tags.get("kind") == "fallback"
        files: dict[str, Any] = {"evaluation.json": told, "evaluation.html": page(told)}
        if name == best:
            built = reference(
                seen.select(config.feature_names),
                seen["label"].to_numpy(),
                one.scored,
                config.monitoring.bins,
                history(config, featurized, one.model, before),
            )
            files["reference.json"] = {"trained_until": featurized["trained_until"],
                                       "reference": built.model_dump(mode="json")}  # fmt: skip
            held_out = to_parquet(config, test, one.scored)
            store.write_bytes(evaluation_uri(config, featurized["training"], "parquet"), held_out)
            store.write_json(evaluation_uri(config, featurized["training"]), told)
            store.write_bytes(evaluation_uri(config, featurized["training"], "html"), files["evaluation.html"])
        tracking.annotate(one.run_id, files=files)
    return {
        "training": featurized["training"],
        "partition": featurized["partition"],
        "training_set": featurized["training_set"],
        "candidate": best,
        "tied_with": sorted(chosen["ties"]),
        "run_id": runs[best],
        "evaluation": evaluation_uri(config, featurized["training"]),
        "page": evaluation_uri(config, featurized["training"], "html"),
        "test_rows": test.num_rows,
        "metrics": contenders[best].metrics,
    }


def gate(problem: str, evaluated: dict[str, Any]) -> dict[str, Any]:
    """Judge the challenger by its evaluation; the verdict goes to the ledger and to its MLflow run either way.

    Result: {"partition", "run_id", "candidate", "training_set", "verdict", "reason", "evaluation"}.

    Raises:
        GateFailed: the challenger is not good enough, or there is no evidence; the champion goes on serving.
    """
    from pipelines import tracking
    from pipelines.evaluation.gate.checks import gate as judge
    from pipelines.evaluation.page.page import page

    config = load_problem(problem)
    uri = evaluated["evaluation"]
    evaluation = store.find_json(uri) or {}
    serves = tracking.champion(config)
    evaluation["serves"] = None if serves is None else str(serves.version)
    evaluation["judged"] = {"training": evaluated["training"], "run_id": evaluated["run_id"]}
    verdict = judge(evaluation, config.gate)
    word = "passed" if verdict.passed else "failed"
    ledger.record(
        config,
        decision=f"gate:{evaluated['training']}",
        kind="gate",
        partition=evaluated["partition"],
        verdict=word,
        action="register" if verdict.passed else "keep champion",
        reason=verdict.reason,
        evidence={"evaluation": evaluation, **verdict.to_dict()},
    )
    judged = page(evaluation, verdict.to_dict())
    store.write_bytes(evaluation_uri(config, evaluated["training"], "html"), judged)
    tags = {"gate": word, "gate_reason": verdict.reason}
    for check in verdict.checks:
        told = "passed" if check.passed else f"failed: {check.reason}"
        tags["gate." + re.sub(r"[^\w .:/-]", "", check.name)] = told
    tracking.annotate(evaluated["run_id"], files={"gate.json": verdict.to_dict(), "evaluation.html": judged}, tags=tags)
    if not verdict.passed:
        raise GateFailed(
            f"{evaluated['candidate']} did not pass: {verdict.reason}",
            where=f"gate of {problem}, data until {evaluated['partition']}",
            cure="the champion goes on serving; compare the runs in MLflow, then change the data, the candidates or "
            "the thresholds (gate in problem.yaml)",
        )
    handed_on = {name: evaluated[name] for name in ("partition", "run_id", "candidate", "training_set", "evaluation")}
    return handed_on | {"verdict": word, "reason": verdict.reason}


def register(problem: str, refitted: dict[str, Any]) -> dict[str, Any]:
    """Make the challenger a registry version, with the alias challenger, its lineage and its model card.

    The version's run is that of the model that serves; what monitoring rests on (reference.json, held_out.parquet) is
    of the model that was tested, on rows that it had not learnt from. Result: what `refit` gave, and {"version",
    "card": URI of the page}.
    """
    from pipelines import tracking
    from pipelines.release.card import card

    config = load_problem(problem)
    run_id = refitted["run_id"]
    made_of = tracking.run_file(run_id, "lineage.json")
    tags = {"partition": refitted["partition"], "candidate": refitted["candidate"], "gate": refitted["verdict"],
            "how": made_of["how"], **({"builds_on": made_of["parent"]} if made_of["parent"] else {}),
            **({"tested_run": refitted["tested_run"]} if refitted["tested_run"] != run_id else {})}  # fmt: skip
    version = tracking.register(config, run_id, tags)
    lineage = made_of | {"version": version, "run_id": run_id}
    facts = store.read_json(training_sets.facts_uri(config, refitted["training_set"]))
    about = card(config, store.read_json(refitted["evaluation"])["challenger"], lineage, facts)
    write_version_files(
        config,
        version,
        {
            "problem.json": tracking.run_file(run_id, "problem.json"),
            "reference.json": tracking.run_file(run_id, "reference.json"),
            "held_out.parquet": store.read_bytes(refitted["evaluation"].removesuffix("json") + "parquet"),
            "lineage.json": lineage,
            "card.md": about.markdown.encode(),
            "card.html": about.html,
        },
    )
    tracking.annotate(run_id, files={"model_card.md": about.markdown.encode(), "model_card.html": about.html})
    tracking.describe(config, version, about.markdown)
    return {**refitted, "version": version, "card": version_uri(config, version, "card.html")}


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


def _groups(config: Problem) -> list[str]:
    """Columns that decisions are compared by and that are no features."""
    groups = config.evaluation.fairness.groups if config.evaluation.fairness else []
    return [name for name in groups if name not in config.feature_names]


def _given(config: Problem, featurized: dict[str, Any]) -> Iterator[pa.RecordBatch]:
    """The rows that the candidates' fits were given, as the tables hold them."""
    names = ["train", *(["validation"] if featurized["how"] == "recalibrate" else [])]
    return chain.from_iterable(training_sets.stream(config, featurized, name)[1] for name in names)


def _makes_rows(config: Problem) -> bool:
    dataset = config.dataset
    return dataset.augmentation.method != "none" or dataset.resampling.method in ("oversample", "smote")


def _scored(config: Problem, model: Model, rows: pa.Table) -> Scored:
    from pipelines.metrics.scored import scored

    labels, weights = rows["label"].to_numpy(), rows["weight"].to_numpy()
    return scored(config, labels, model.scores(rows), weights, model.threshold)


def _champion(
    config: Problem, featurized: dict[str, Any], version: ModelVersion, test: pa.Table, sample: pa.Table
) -> Contender:
    """The champion on the test rows, with the features that it was trained on, whatever they are today.

    Of a champion that was fitted again after its gate it is the tested twin that is compared: like the challenger, it
    has learnt nothing of the newest rows, and both will be, or were, fitted again on them. The champion itself may have
    learnt from these very rows. It is compared where it has not, and no challenger is fitted again (training.refit).
    """
    from pipelines import tracking
    from pipelines.evaluation.gate.compare import Contender, at_promotion

    its = version_problem(config, str(version.version))
    rows = test
    if its.feature_set != config.feature_set:
        training_sets.write_features(its, featurized, training_sets.partitions(config, featurized, "test"))
        rows = training_sets.split(config, {**featurized, "features_version": None}, "test", its)
    number, tested = str(version.version), set(rows["partition"].to_pylist())
    twin = measured_run(config, number)
    is_twin = twin is not None and (config.training.refit or not tested.isdisjoint(learnt_by(config, number)))
    run_id = twin if twin is not None and is_twin else version.run_id
    model = tracking.load_model(run_id)
    found = _scored(config, model, rows)
    until = tracking.run_tag(run_id, "trained_until")
    promoted = at_promotion(tracking.run_file(run_id, "evaluation.json"))
    learnt_from = taught(config, number, is_twin).partitions
    return Contender(
        f"version {number}", run_id, model, found, number, until, promoted,
        tuple(learnt_from), None if rows is not test else _scored(config, model, sample),
    )  # fmt: skip
