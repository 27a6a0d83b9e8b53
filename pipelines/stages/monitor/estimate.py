"""`<problem>.monitor`, beside `detect`: what scores are worth before their labels come, and what labels show."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql, store
from pipelines.artifacts import table_schema
from pipelines.dataset.label import mature
from pipelines.dataset.waiting import Judgeable
from pipelines.errors import DataError, NothingToDo
from pipelines.handoffs.config import pinned_problem
from pipelines.problem import Problem
from pipelines.release.versions import version_problem
from pipelines.stages.monitor.labelled import (
    estimates_until,
    label_coverage,
    labelled_rows,
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
    """What the domain classifier found, and whether its weights are to be used."""

    note: str
    is_weighted: bool = False
    facts: dict[str, float | None] = field(
        default_factory=lambda: dict.fromkeys(("effective_rows", "domain_auc", "domain_low", "domain_high"))
    )


def estimate(problem_name: str, profiled: dict[str, Any]) -> dict[str, Any]:
    """Estimate the partition's metrics without its labels; measure those estimated before whose labels have come; and
    say what labels show, before they come and after: label shift, concept drift, feedback.

    Estimates are no measurements: they hold while only the inputs move. The table `estimates` gets this partition's
    rows, and `realised` where an earlier partition's labels are mature, as they were known when they became so; a
    repeated run writes the same.

    Args:
        profiled: what `monitor.profile` gave: partition, version.

    Result: {"partition", "version", "rows", "method", "note", "domain_auc": {"value", "low", "high"}, "estimated":
    {metric: {"value", "low", "high", "past_error", "past_partitions"}}, "realised": partitions measured now,
    "verdict": a sentence; "label_shift", "concept", "feedback": what the functions of these names give, or None;
    "notes": {one of the three that is None: why}}. A regression has no estimates, and no label shift.

    Raises:
        NothingToDo: there is nothing to say, such as of a version registered before there were estimates.
        DataError: the partition has no predictions by this version.
    """
    problem = pinned_problem(problem_name, profiled.get("config"))
    partition, version = profiled["partition"], profiled["version"]
    if profiled.get("rows") == 0:
        raise NothingToDo(
            "the partition has no rows",
            where=f"problem {problem_name}, {partition}",
            cure="there is nothing to estimate",
        )
    trained_problem = version_problem(problem, version)
    held_out = held_out_of(problem, trained_problem, version)
    why_not = None
    if held_out is None:
        why_not = f"version {version} has no held-out rows: it was registered before there were estimates"
    labels_in = handed_on(problem, profiled)
    labelled = labelled_rows(trained_problem, version, labels_in, problem.monitoring.policy.trailing_partitions + 1)
    concept = (None, why_not) if held_out is None else _concept(problem, trained_problem, held_out, labelled)
    feedback = _feedback(problem, trained_problem, version, labelled, partition)
    if trained_problem.task == "regression":
        why_not = "a regression has no estimates: its scores are no chances"
    if why_not and concept[0] is None and feedback[0] is None:
        raise NothingToDo(
            why_not,
            where=f"problem {problem.name}, version {version}",
            cure=f"wait for labels; the next version of {problem.name}.train has held-out rows",
        )
    rows, scores = _scored_rows(problem, trained_problem, partition, version)
    result = {
        "partition": partition,
        "version": version,
        "rows": rows.num_rows,
        "method": None,
        "note": why_not,
        "domain_auc": dict.fromkeys(("value", "low", "high")),
        "estimated": {},
        "realised": [],
        "verdict": why_not,
        "label_shift": None,
    }
    if held_out is not None and not why_not:
        result |= _estimates(trained_problem, held_out, rows, scores, version, labels_in, labelled)
    found = {"label_shift": (result["label_shift"], why_not), "concept": concept, "feedback": feedback}
    result |= {name: one for name, (one, _) in found.items()}
    return result | {"notes": {name: why for name, (one, why) in found.items() if one is None}}


def _estimates(
    trained_problem: Problem,
    held_out: HeldOut,
    rows: pa.Table,
    scores: np.ndarray,
    version: str,
    labels_in: Judgeable,
    labelled: list[pa.Table],
) -> dict[str, Any]:
    """Write the partition's estimates; gives what `estimate` tells of them, and the label shift."""
    from pipelines.metrics.bootstrap import blocks_of
    from pipelines.monitoring.diagnose.label_shift import label_shift
    from pipelines.monitoring.estimate.estimate import estimate as estimate_metrics
    from pipelines.monitoring.estimate.past_error import past_errors, widened

    config, partition = labels_in.problem, labels_in.partition
    rule = config.evaluation.bootstrap
    table, measured = measure_past(labels_in, estimates_until(labels_in))
    blocks, its_blocks = blocks_of(config, held_out.rows), blocks_of(config, rows)
    chance = _label_chance(config, trained_problem, held_out, rows, its_blocks, partition, labelled)
    weighing, truth = _weigh(config, trained_problem, held_out, blocks, rows, its_blocks, chance)
    found = estimate_metrics(truth, blocks, scores, its_blocks, rule, chance)

    is_this = pc.equal(table["partition"], partition)
    others = table.filter(pc.invert(is_this))
    errors = past_errors(others, mature(config, partition, others["partition"].unique().to_pylist()))
    before = table.filter(pc.and_(is_this, pc.equal(table["model_version"], version)))
    kept = {row["metric"]: (row["realised"], row["realised_rows"]) for row in before.to_pylist()}
    written, estimated = [], {}
    for metric, one in found.items():
        past = errors.get(metric, np.zeros(0))
        told = {
            **widened(metric, one, past, rule.confidence),
            "past_error": float(past.mean()) if len(past) else None,
            "past_partitions": len(past),
        }
        realised, realised_rows = kept.get(metric, (None, None))
        estimated[metric] = told
        written.append(
            {
                "partition": partition,
                "model_version": version,
                "metric": metric,
                **told,
                "rows": rows.num_rows,
                "method": _method(weighing),
                "note": weighing.note,
                **weighing.facts,
                "realised": realised,
                "realised_rows": realised_rows,
            }
        )
    new = pa.Table.from_pylist(written, table_schema(config, "estimates"))
    store.write_table(config, "estimates", new, [partition])
    _, itself = measure_past(labels_in, new)  # where labels come at once
    facts = weighing.facts
    return {
        "method": _method(weighing),
        "note": weighing.note,
        "domain_auc": {"value": facts["domain_auc"], "low": facts["domain_low"], "high": facts["domain_high"]},
        "estimated": estimated,
        "realised": measured + itself,
        "verdict": _sentence(trained_problem, estimated),
        "label_shift": label_shift(held_out.scored, blocks, scores, its_blocks, rule, facts["domain_low"], chance),
    }


def _label_chance(
    problem: Problem,
    trained_problem: Problem,
    held_out: HeldOut,
    rows: pa.Table,
    its_blocks: np.ndarray,
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
    return label_chance(trained_problem, past, is_labelled, blocks_of(problem, past), rows, its_blocks, rule)


def _concept(
    problem: Problem, trained_problem: Problem, held_out: HeldOut, labelled: list[pa.Table]
) -> tuple[dict[str, Any] | None, str | None]:
    from pipelines.monitoring.diagnose.concept import concept

    policy, threshold = problem.monitoring.policy, held_out.scored.threshold
    known = [with_labels(trained_problem, rows, threshold) for rows in labelled]
    known = [one for one in known if one.rows.num_rows]
    if not known:
        return None, "no partition that this version scored has its labels yet"
    rule = problem.evaluation.bootstrap
    found = concept(trained_problem, held_out, known, rule, policy.max_concept_shift, policy.min_labels)
    return found, None if found else "no feature has two values in the newest labelled partition"


def _feedback(
    problem: Problem, trained_problem: Problem, version: str, labelled: list[pa.Table], partition: str
) -> tuple[dict[str, Any] | None, str | None]:
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
    predictions = store.dataset(problem, "predictions").filter(
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
    its_blocks: np.ndarray,
    chance: LabelChance | None,
) -> tuple[_Weighing, Scored]:
    """Whether held-out rows count by how much they are like the partition's, and those rows, weighted or not."""
    from pipelines.monitoring.estimate.domain import domain

    weights = None if chance is None else chance.values
    found = domain(trained_problem, held_out.rows, blocks, rows, its_blocks, problem.evaluation.bootstrap, weights)
    if found is None:
        return _Weighing("no input tells rows apart"), held_out.scored
    names = {"domain_auc": "value", "domain_low": "low", "domain_high": "high"}
    facts = {name: found.auc[of] for name, of in names.items()} | {"effective_rows": found.rows}
    if reason := found.why_not(problem.monitoring.policy.min_labels):
        return _Weighing(reason, facts=facts), held_out.scored
    weighing = _Weighing(f"held-out rows weighted, {found.rows:.0f} effective ones", is_weighted=True, facts=facts)
    return weighing, replace(held_out.scored, weights=held_out.scored.weights * found.weights)


def _method(weighing: _Weighing) -> str:
    return "weighted cbpe" if weighing.is_weighted else "cbpe"


def _sentence(trained_problem: Problem, estimated: dict[str, Any]) -> str:
    """For people; never to be read as a measurement."""
    from pipelines.metrics.metrics import SKILL

    name = next((name for name in (SKILL[trained_problem.task], "log_loss") if name in estimated), None)
    if name is None:
        return "too few rows to estimate anything"
    one = estimated[name]
    word = {"auc": "AUC", "log_loss": "log loss"}[name]
    told = f"{word} {one['value']:.3f} estimated ({one['low']:.3f} to {one['high']:.3f})"
    if not one["past_partitions"]:
        return f"{told}; no estimate has met its labels yet"
    past = one["past_partitions"]
    over = "the last labelled partition" if past == 1 else f"the last {past} labelled partitions"
    return f"{told}; over {over} its error was {one['past_error']:.3f} on average"
