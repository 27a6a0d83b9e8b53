"""evaluate: all candidates and the champion on the same test rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import store
from pipelines.dataset import training_sets
from pipelines.dataset.fingerprint import fingerprint
from pipelines.documents.evaluation import Evaluation
from pipelines.documents.version import RunFiles
from pipelines.errors import NothingToDo
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.training import Checked, Evaluated, Trained
from pipelines.paths import evaluation_uri
from pipelines.problem import Problem
from pipelines.release.versions import learnt_by, load_version, measured_run, taught, version_lineage, version_problem

if TYPE_CHECKING:
    import numpy as np
    from mlflow.entities.model_registry import ModelVersion
    from numpy.typing import NDArray

    from pipelines.evaluation.gate.compare import Contender
    from pipelines.metrics.scored import Scored
    from pipelines.training.model import Model


REFERENCE_ROWS = 500_000  # training rows, at most, that monitoring compares with


COMPARED_ROWS = 50_000  # training rows, at most, that are scored to see how far the test rows have moved


def evaluate(problem_name: str, checked: Checked, trained: list[Trained]) -> Evaluated:
    """Measure all candidates and the champion on the same test rows; the best on validation is the challenger.

    Each candidate's report goes to its run, the challenger's to the store as well: what `gate` judges. Its run keeps
    the reference for monitoring. Where the champion is updated, reference and training rows are those that it has
    learnt from before as well.

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
    from pipelines.training.beyond_memory import left_out

    problem = problem_of(problem_name, checked)
    if all(problem.training.candidates[candidate.candidate].is_baseline for candidate in trained):
        raise NothingToDo("there is no challenger", where=f"{problem_name}.train", cure="the champion goes on serving")
    builds_on = checked.builds_on
    skipped = {} if builds_on else left_out(problem, checked.splits["train"])
    before = builds_on.sets if builds_on else []
    test = training_sets.split(problem, checked, "test", extra=[*_groups(problem), *_blocks(problem)])
    drawn = training_sets.drawn(problem, checked, "train", REFERENCE_ROWS, before)
    sample = drawn
    if drawn.num_rows > COMPARED_ROWS:
        sample = training_sets.drawn(problem, checked, "train", COMPARED_ROWS, before)
    runs = {fitted.candidate: fitted.run_id for fitted in trained}
    contenders = {}
    models_sha256 = {fitted.run_id: fitted.model_sha256 for fitted in trained if fitted.model_sha256}
    for name, run_id in runs.items():
        model = tracking.load_model(run_id, models_sha256.get(run_id))
        known = None if problem.training.candidates[name].is_baseline else _scored(problem, model, sample)
        contenders[name] = Contender(name, run_id, model, _scored(problem, model, test), known=known)
    best = pick_challenger(problem.training, {fitted.candidate: fitted.validation for fitted in trained})
    validation = training_sets.split(problem, checked, "validation", extra=_blocks(problem))
    passive = {*problem.training.baselines, *(n for n in runs if problem.training.candidates[n].is_baseline)}
    on_validation = {name: _scored(problem, contender.model, validation) for name, contender in contenders.items()}
    competing = {name: outcome for name, outcome in on_validation.items() if name not in passive}
    validation_blocks, test_blocks = blocks_of(problem, validation), blocks_of(problem, test)
    chosen = selection(problem.training, best, competing, validation_blocks, problem.evaluation.bootstrap)
    champion = tracking.champion(problem)
    against = None if champion is None else _champion(problem, checked, champion, test, sample)
    baselines = [contenders[name] for name in problem.training.baselines]
    context: Evaluation = {
        "training": checked.training,
        "experiment": tracking.run_experiment(runs[best]),
        "partition": checked.partition,
        "as_of": checked.as_of,
        "task": problem.task,
        "test_rows": test.num_rows,
        "test_partitions": (tested := sorted(test["partition"].unique().to_pylist())),
        "test_end": problem.partitions.end(tested[-1]).isoformat() if tested else None,
        "leaks": checked.leaks.document(),
        "power": checked.power.document() if checked.power else None,
        "selection": chosen,
        "how": checked.how,
        "window_from": checked.window_from,
        "builds_on": builds_on.version if builds_on else None,
        "train_split": fingerprint(problem, _given(problem, checked)),
        "is_drawn": problem.dataset.split.drawn is not None,
        "makes_rows": _makes_rows(problem),
        "candidates": {name: contender.metrics for name, contender in contenders.items()},
        "left_out": {name: reason for name, reason in skipped.items() if name not in runs},
    }
    groups = test.select(problem.evaluation.fairness.groups) if problem.evaluation.fairness else None
    for name, contender in contenders.items():
        measured = {f"test_{metric}": value for metric, value in contender.metrics.items() if value is not None}
        measured |= _ends(problem, "validation", on_validation[name], validation_blocks)
        measured |= _ends(problem, "test", contender.scored, test_blocks)
        tracking.annotate(contender.run_id, metrics=measured)
        if problem.training.candidates[name].is_baseline:
            continue
        candidate_report = report(
            problem, contender.model, test, name=name, run_id=contender.run_id, train_rows=sample, groups=groups
        )
        gate_evidence = context | evidence(problem, contender, candidate_report, baselines, against, test, sample)
        if builds_on:  # what it was taught last it knows best: its mean score need not fit all that it was taught
            gate_evidence["learnt"]["bias"] = None
        rival = gate_evidence["champion"]
        if champion is not None and rival is not None:
            rival["is_fallback"] = champion.tags.get("kind") == "fallback"
        files: RunFiles = {"evaluation.json": gate_evidence}
        if name != best:
            files["evaluation.html"] = page(gate_evidence)  # that of the best is drawn by the gate, with its verdict
        else:
            built = reference(
                drawn.select(problem.feature_names),
                drawn["label"].to_numpy(),
                contender.scored,
                problem.monitoring.bins,
                history(problem, checked, contender.model, before),
                problem.vector_features,
            )
            files["reference.json"] = {
                "trained_until": checked.trained_until,
                "reference": built.model_dump(mode="json"),
            }
            held_out = to_parquet(problem, test, contender.scored)
            store.write_bytes(evaluation_uri(problem, checked.training, "parquet"), held_out)
            store.write_json(evaluation_uri(problem, checked.training), gate_evidence)
        tracking.annotate(contender.run_id, files=files)
    return Evaluated(
        config=checked.config,
        training=checked.training,
        partition=checked.partition,
        training_set=checked.training_set,
        candidate=best,
        tied_with=sorted(chosen["ties"]),
        run_id=runs[best],
        evaluation=evaluation_uri(problem, checked.training),
        page=evaluation_uri(problem, checked.training, "html"),
        test_rows=test.num_rows,
        metrics=contenders[best].metrics,
        models_sha256=models_sha256,
    )


def _ends(problem: Problem, split: str, outcome: Scored, blocks: NDArray[np.int64]) -> dict[str, float]:
    """The ends of the interval of the metric that chooses, as metrics of a run, so that they may be columns."""
    from pipelines.metrics.bootstrap import intervals

    metric = problem.training.select_by
    interval = intervals(outcome, blocks, problem.evaluation.bootstrap, [metric])[metric]
    ends = {f"{split}_{metric}_{end}": interval[end] for end in ("low", "high")}
    return {name: value for name, value in ends.items() if value is not None}


def _groups(problem: Problem) -> list[str]:
    """Columns that decisions are compared by and that are no features."""
    groups = problem.evaluation.fairness.groups if problem.evaluation.fairness else []
    return [name for name in groups if name not in problem.feature_names]


def _blocks(problem: Problem) -> list[str]:
    """The column that says which rows belong together, where it is no feature and rows are drawn."""
    group = problem.dataset.split.group_by
    return [group] if problem.partitions.by_delivery and group and group not in problem.feature_names else []


def _given(problem: Problem, checked: Checked) -> Iterator[pa.RecordBatch]:
    """The rows that the candidates' fits were given, as the tables hold them."""
    names = ["train", *(["validation"] if checked.how == "recalibrate" else [])]
    return chain.from_iterable(training_sets.stream(problem, checked, name)[1] for name in names)


def _makes_rows(problem: Problem) -> bool:
    dataset = problem.dataset
    return dataset.augmentation.method != "none" or dataset.resampling.method in ("oversample", "smote")


def _scored(problem: Problem, model: Model, rows: pa.Table) -> Scored:
    from pipelines.metrics.scored import scored

    labels, weights = rows["label"].to_numpy(), rows["weight"].to_numpy()
    return scored(problem, labels, model.scores(rows), weights, model.threshold)


def _champion(problem: Problem, checked: Checked, version: ModelVersion, test: pa.Table, sample: pa.Table) -> Contender:
    """The champion on the test rows, with the features that it was trained on, whatever they are today.

    Of a champion that was fitted again after its gate it is the tested twin that is compared: like the challenger, it
    has learnt nothing of the newest rows, and both will be, or were, fitted again on them. The champion itself may have
    learnt from these very rows. It is compared where it has not, and no challenger is fitted again (training.refit).
    """
    from pipelines import tracking
    from pipelines.evaluation.gate.compare import Contender, at_promotion

    trained_problem = version_problem(problem, str(version.version))
    rows = test
    if trained_problem.feature_set != problem.feature_set:
        training_sets.write_features(trained_problem, checked, training_sets.partitions(problem, checked, "test"))
        rows = training_sets.split(
            problem, checked.model_copy(update={"features_version": None}), "test", trained_problem
        )
    number, tested = str(version.version), set(rows["partition"].unique().to_pylist())
    twin = measured_run(problem, number)
    is_twin = twin is not None and (problem.training.refit or not tested.isdisjoint(learnt_by(problem, number)))
    run_id = twin if twin is not None and is_twin else version.run_id
    model = load_version(problem, number, run_id)
    outcome = _scored(problem, model, rows)
    until = tracking.run_tag(run_id, "trained_until")
    promoted = at_promotion(tracking.run_evaluation(run_id))
    learnt_from = taught(problem, number, is_twin).partitions
    return Contender(
        f"version {number}",
        run_id,
        model,
        outcome,
        number,
        until,
        promoted,
        tuple(learnt_from),
        None if rows is not test else _scored(problem, model, sample),
        _learnt_of(problem, checked, number, rows) if problem.dataset.split.drawn else None,
    )


def _learnt_of(problem: Problem, checked: Checked, version: str, test: pa.Table) -> int:
    """How many of the test rows have keys that a version's tested model has learnt from, or was chosen by.

    Nothing in time parts drawn rows: they are counted.
    """
    sets = sorted({version_lineage(problem, version)["training_set"], *taught(problem, version, is_tested=True).sets})
    pins = checked.model_copy(update={"training_set": sets[0]})
    rows = training_sets.training_set(problem, pins, None, [problem.key, "split"], sets[1:])
    learnt = rows.filter(pc.not_equal(rows["split"], "test"))[problem.key]
    return int(pc.sum(pc.is_in(test[problem.key], value_set=learnt.combine_chunks()), min_count=0).as_py())
