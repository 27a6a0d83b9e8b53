"""`<problem>.monitor`, beside `detect`: what scores are worth before their labels come, and what labels show."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipelines import sql, store
from pipelines.artifacts import table_schema
from pipelines.dataset.label import mature
from pipelines.dataset.waiting import Judgeable
from pipelines.documents.measures import Interval
from pipelines.errors import DataError, NothingToDo
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.monitoring import Estimated, Profiled
from pipelines.monitoring.diagnose.concept import Concept
from pipelines.monitoring.diagnose.feedback import Feedback
from pipelines.monitoring.diagnose.label_shift import LabelShift
from pipelines.monitoring.diagnose.shifts import LabelEvidence
from pipelines.problem import Problem
from pipelines.profiles.column import Frozen
from pipelines.release.assign import champions_predictions
from pipelines.release.versions import version_problem
from pipelines.stages.monitor import evidence
from pipelines.stages.monitor.labelled import (
    estimates_until,
    label_coverage,
    labelled_partitions,
    measure_past,
    spread_of_scores,
    with_labels,
    with_or_without_label,
)
from pipelines.stages.monitor.past import held_out_of
from pipelines.stages.waiting import handed_on

if TYPE_CHECKING:
    from pipelines.metrics.scored import Scored
    from pipelines.monitoring.estimate.held_out import HeldOut
    from pipelines.monitoring.estimate.label_chance import LabelChance


@dataclass
class _Weighing:
    """What the domain classifier has found, and whether its weights are to be used."""

    note: str
    is_weighted: bool = False
    effective_rows: float | None = None
    auc: Interval = field(default_factory=lambda: dict.fromkeys(("value", "low", "high")))

    @property
    def method(self) -> str:
        return "weighted cbpe" if self.is_weighted else "cbpe"


class EstimatedMetric(Frozen):
    """A metric as it is expected, with its interval, and how far such estimates were off on average."""

    value: float | None
    low: float | None
    high: float | None
    past_error: float | None
    """None: no estimate has met its labels yet."""
    past_partitions: int


class Estimation(LabelEvidence):
    """What the stage `estimate` has found."""

    version: str
    rows: int
    method: str | None = None
    """None: nothing is estimated, and `note` says why."""
    note: str | None = None
    domain_auc: Interval = Field(default_factory=lambda: dict.fromkeys(("value", "low", "high")))
    """How well the partition's inputs are told from held-out ones."""
    estimated: dict[str, EstimatedMetric] = Field(default_factory=dict)
    """By metric."""
    realised: tuple[str, ...] = ()
    """Partitions measured now."""
    verdict: str | None = None
    notes: dict[str, str | None] = Field(default_factory=dict)
    """Of label_shift, concept and feedback: why there is none."""


class _Estimates(NamedTuple):
    """Of the partition's metrics, and its label shift."""

    weighing: _Weighing
    estimated: dict[str, EstimatedMetric]
    realised: list[str]
    label_shift: LabelShift


def estimate(problem_name: str, profiled: Profiled) -> Estimated:
    """Estimate the partition's metrics without its labels; measure those estimated before whose labels have come; and
    say what labels show, before they come and after: label shift, concept drift, feedback.

    Estimates are no measurements: they hold while only the inputs move. The table `estimates` gets this partition's
    rows, and `realised` where an earlier partition's labels are mature, as they were known when they became so; a
    repeated run writes the same. A regression has no estimates, and no label shift.

    Raises:
        NothingToDo: there is nothing to say, such as of a version registered before there were estimates.
        DataError: the partition has no predictions by this version.
    """
    problem = problem_of(problem_name, profiled)
    estimation = _estimation(problem, profiled)
    return Estimated(
        partition=profiled.partition,
        version=profiled.version,
        config=profiled.config,
        estimation=evidence.keep(problem, profiled, "estimation", estimation),
        verdict=estimation.verdict,
    )


def _estimation(problem: Problem, profiled: Profiled) -> Estimation:
    partition, version = profiled.partition, profiled.version
    if profiled.rows == 0:
        raise NothingToDo(
            "the partition has no rows",
            where=f"problem {problem.name}, {partition}",
            cure="there is nothing to estimate",
        )
    trained_problem = version_problem(problem, version)
    held_out = held_out_of(problem, trained_problem, version)
    why_not = None
    if held_out is None:
        why_not = f"version {version} has no held-out rows: it was registered before there were estimates"
    labels_in = handed_on(problem, profiled)
    labelled = labelled_partitions(
        trained_problem, version, labels_in, problem.monitoring.policy.trailing_partitions + 1
    )
    concept, no_concept = None, why_not
    if held_out is not None:
        concept, no_concept = _concept(problem, trained_problem, held_out, labelled)
    feedback, no_feedback = _feedback(problem, trained_problem, version, labelled, partition)
    if trained_problem.task == "regression":
        why_not = "a regression has no estimates: its scores are no chances"
    if why_not and concept is None and feedback is None:
        raise NothingToDo(
            why_not,
            where=f"problem {problem.name}, version {version}",
            cure=f"wait for labels; the next version of {problem.name}.train has held-out rows",
        )
    rows, scores = _scored_rows(problem, trained_problem, partition, version)
    notes = {} if concept else {"concept": no_concept}
    notes |= {} if feedback else {"feedback": no_feedback}
    found_by_labels = {"partition": partition, "version": version, "concept": concept, "feedback": feedback}
    if held_out is None or why_not:
        notes = {"label_shift": why_not, **notes}
        return Estimation(**found_by_labels, rows=rows.num_rows, note=why_not, verdict=why_not, notes=notes)
    estimates = _estimates(trained_problem, held_out, rows, scores, version, labels_in, labelled)
    return Estimation(
        **found_by_labels,
        rows=rows.num_rows,
        method=estimates.weighing.method,
        note=estimates.weighing.note,
        domain_auc=estimates.weighing.auc,
        estimated=estimates.estimated,
        realised=tuple(estimates.realised),
        verdict=_sentence(trained_problem, estimates.estimated),
        label_shift=estimates.label_shift,
        notes=notes,
    )


def _estimates(
    trained_problem: Problem,
    held_out: HeldOut,
    rows: pa.Table,
    scores: np.ndarray,
    version: str,
    labels_in: Judgeable,
    labelled: list[pa.Table],
) -> _Estimates:
    """Write the partition's estimates; gives them, and the label shift."""
    from pipelines.metrics.bootstrap import blocks_of
    from pipelines.monitoring.diagnose.label_shift import label_shift
    from pipelines.monitoring.estimate.estimate import estimate as estimate_metrics
    from pipelines.monitoring.estimate.past_error import past_errors, widened

    problem, partition = labels_in.problem, labels_in.partition
    rule = problem.evaluation.bootstrap
    table, measured = measure_past(labels_in, estimates_until(labels_in))
    blocks, partition_blocks = blocks_of(problem, held_out.rows), blocks_of(problem, rows)
    chance = _label_chance(problem, trained_problem, held_out, rows, partition_blocks, partition, labelled)
    weighing, truth = _weigh(problem, trained_problem, held_out, blocks, rows, partition_blocks, chance)
    expected = estimate_metrics(truth, blocks, scores, partition_blocks, rule, chance)

    is_this = pc.equal(table["partition"], partition)
    others = table.filter(pc.invert(is_this))
    errors = past_errors(others, mature(problem, partition, others["partition"].unique().to_pylist()))
    before = table.filter(pc.and_(is_this, pc.equal(table["model_version"], version)))
    kept = {row["metric"]: (row["realised"], row["realised_rows"]) for row in before.to_pylist()}
    written, estimated = [], {}
    for metric, interval in expected.items():
        past = errors.get(metric, np.zeros(0))
        estimated[metric] = EstimatedMetric(
            **widened(metric, interval, past, rule.confidence),
            past_error=float(past.mean()) if len(past) else None,
            past_partitions=len(past),
        )
        realised, realised_rows = kept.get(metric, (None, None))
        written.append(
            {
                "partition": partition,
                "model_version": version,
                "metric": metric,
                **estimated[metric].model_dump(),
                "rows": rows.num_rows,
                "method": weighing.method,
                "note": weighing.note,
                "effective_rows": weighing.effective_rows,
                "domain_auc": weighing.auc["value"],
                "domain_low": weighing.auc["low"],
                "domain_high": weighing.auc["high"],
                "realised": realised,
                "realised_rows": realised_rows,
            }
        )
    new = pa.Table.from_pylist(written, table_schema(problem, "estimates"))
    store.write_table(problem, "estimates", new, [partition])
    _, itself = measure_past(labels_in, new)  # where labels come at once
    domain_low = weighing.auc["low"]
    shift = label_shift(held_out.scored, blocks, scores, partition_blocks, rule, domain_low, chance)
    return _Estimates(weighing, estimated, measured + itself, shift)


def _label_chance(
    problem: Problem,
    trained_problem: Problem,
    held_out: HeldOut,
    rows: pa.Table,
    partition_blocks: np.ndarray,
    partition: str,
    labelled: list[pa.Table],
) -> LabelChance | None:
    """Chance of the partition's rows to get a label, by the partitions of the test split and those labelled since; None
    where all rows have one in the end."""
    from pipelines.metrics.bootstrap import blocks_of
    from pipelines.monitoring.estimate.label_chance import label_chance

    if problem.labels.after_maturity == "negative":
        return None
    tested = with_or_without_label(problem, trained_problem, held_out.rows["partition"].unique().to_pylist(), partition)
    columns = ["event_time", *trained_problem.feature_names, "_is_labelled"]
    if problem.evaluation.bootstrap.block == "partition":
        columns = ["partition", *columns]
    past = pa.concat_tables([part.select(columns) for part in (tested, *labelled)], promote_options="permissive")
    is_labelled = past["_is_labelled"].to_numpy()
    rule = problem.evaluation.bootstrap
    return label_chance(trained_problem, past, is_labelled, blocks_of(problem, past), rows, partition_blocks, rule)


def _concept(
    problem: Problem, trained_problem: Problem, held_out: HeldOut, labelled: list[pa.Table]
) -> tuple[Concept | None, str | None]:
    from pipelines.monitoring.diagnose.concept import concept

    policy, threshold = problem.monitoring.policy, held_out.scored.threshold
    parts = [with_labels(trained_problem, rows, threshold) for rows in labelled]
    parts = [part for part in parts if part.rows.num_rows]
    if not parts:
        return None, "no partition that this version scored has its labels yet"
    rule = problem.evaluation.bootstrap
    drift = concept(trained_problem, held_out, parts, rule, policy.max_concept_shift, policy.min_labels)
    return drift, None if drift else "no feature has two values in the newest labelled partition"


def _feedback(
    problem: Problem, trained_problem: Problem, version: str, labelled: list[pa.Table], partition: str
) -> tuple[Feedback | None, str | None]:
    from pipelines.monitoring.diagnose.feedback import feedback, trend

    if problem.labels.after_maturity == "negative":
        return None, "events without a label are taken as negative: none is missing"
    if not labelled:
        return None, "no partition that this version scored has its labels yet"
    series, usual = spread_of_scores(problem, version, partition)
    confidence = problem.evaluation.bootstrap.confidence
    return feedback(label_coverage(problem, trained_problem, labelled[-1]), trend(series, confidence), usual), None


def _scored_rows(
    problem: Problem, trained_problem: Problem, partition: str, version: str
) -> tuple[pa.Table, np.ndarray]:
    """Features of the partition's rows, and their scores; of many rows a sample, drawn by a hash of the key."""
    from pipelines.monitoring.estimate.held_out import ROWS
    from pipelines.monitoring.estimate.realised import scores_of

    key = sql.quote(trained_problem.key)
    predictions = champions_predictions(problem).filter(
        (pc.field("partition") == partition) & (pc.field("model_version") == version)
    )
    rows = sql.query(
        f"""WITH chosen AS (SELECT {key}, score, probabilities FROM p ORDER BY hash({key}), {key} LIMIT {ROWS})
            SELECT f.*, chosen.score, chosen.probabilities FROM f JOIN chosen USING ({key})
            ORDER BY f.event_time, f.{key}""",
        {"f": store.dataset(trained_problem, "features").filter(pc.field("partition") == partition), "p": predictions},
    )
    if not rows.num_rows:
        raise DataError(
            f"partition {partition} has no predictions by version {version}",
            where=f"problem {problem.name}",
            cure=f"run {problem.name}.score for it first",
        )
    return rows, scores_of(trained_problem, rows)


def _weigh(
    problem: Problem,
    trained_problem: Problem,
    held_out: HeldOut,
    blocks: np.ndarray,
    rows: pa.Table,
    partition_blocks: np.ndarray,
    chance: LabelChance | None,
) -> tuple[_Weighing, Scored]:
    """Whether held-out rows count by how much they are like the partition's, and those rows, weighted or not."""
    from pipelines.monitoring.estimate.domain import domain

    weights = None if chance is None else chance.values
    rule = problem.evaluation.bootstrap
    moved = domain(trained_problem, held_out.rows, blocks, rows, partition_blocks, rule, weights)
    if moved is None:
        return _Weighing("no input tells rows apart"), held_out.scored
    if reason := moved.why_not(problem.monitoring.policy.min_labels):
        return _Weighing(reason, effective_rows=moved.rows, auc=moved.auc), held_out.scored
    note = f"held-out rows weighted, {moved.rows:.0f} effective ones"
    weighing = _Weighing(note, is_weighted=True, effective_rows=moved.rows, auc=moved.auc)
    return weighing, replace(held_out.scored, weights=held_out.scored.weights * moved.weights)


def _sentence(trained_problem: Problem, estimated: dict[str, EstimatedMetric]) -> str:
    """For people; never to be read as a measurement."""
    from pipelines.metrics.metrics import SKILL

    name = next((name for name in (SKILL[trained_problem.task], "log_loss") if name in estimated), None)
    if name is None:
        return "too few rows to estimate anything"
    metric = estimated[name]
    word = {"auc": "AUC", "log_loss": "log loss"}[name]
    sentence = f"{word} {metric.value:.3f} estimated ({metric.low:.3f} to {metric.high:.3f})"
    past = metric.past_partitions
    if not past:
        return f"{sentence}; no estimate has met its labels yet"
    over = "the last labelled partition" if past == 1 else f"the last {past} labelled partitions"
    return f"{sentence}; over {over} its error was {metric.past_error:.3f} on average"
