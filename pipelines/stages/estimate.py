"""`<problem>.monitor`, beside `detect`: how good a partition's scores are likely to be, before its labels come."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql, store
from pipelines.artifacts import table_schema
from pipelines.dataset.label import mature
from pipelines.errors import DataError, NothingToDo
from pipelines.problem import Problem, load_problem
from pipelines.release.versions import version_problem, version_uri

if TYPE_CHECKING:
    from pipelines.evaluation.scored import Scored
    from pipelines.monitoring.held_out import HeldOut


@dataclass
class _Weighing:
    """What the domain classifier found, and whether its weights are to be used."""

    note: str
    is_weighted: bool = False
    facts: dict[str, float | None] = field(
        default_factory=lambda: dict.fromkeys(("effective_rows", "domain_auc", "domain_low", "domain_high"))
    )


def estimate(problem: str, profiled: dict[str, Any]) -> dict[str, Any]:
    """Estimate the partition's metrics without its labels; and measure those estimated before whose labels have come.

    Estimates are no measurements: they hold while only the inputs move. The table `estimates` gets this partition's
    rows, and `realised` where an earlier partition's labels are mature, as they were known when they became so; a
    repeated run writes the same.

    Args:
        profiled: what `monitor.profile` gave: partition, version.

    Result: {"partition", "version", "rows", "method", "note", "domain_auc": {"value", "low", "high"}, "estimated":
    {metric: {"value", "low", "high", "past_error", "past_partitions"}}, "realised": partitions measured now,
    "verdict": a sentence}.

    Raises:
        NothingToDo: a regression; or the version was registered before there were estimates.
        DataError: the partition has no predictions by this version.
    """
    from pipelines.evaluation.bootstrap import blocks_of
    from pipelines.monitoring.estimate import estimate as estimate_metrics
    from pipelines.monitoring.past_error import past_errors, widened

    config = load_problem(problem)
    partition, version = profiled["partition"], profiled["version"]
    its = version_problem(config, version)
    held_out = _held_out(config, its, version)
    rows, scores = _scored_rows(config, its, partition, version)
    measured = _measure_past(config, partition)
    rule = config.evaluation.bootstrap
    blocks, its_blocks = blocks_of(config, held_out.rows), blocks_of(config, rows)
    weighing, truth = _weigh(config, its, held_out, blocks, rows, its_blocks)
    found = estimate_metrics(truth, blocks, scores, its_blocks, rule)

    table = store.dataset(config, "estimates").to_table()
    others = [key for key in store.partition_keys(config, "estimates") if key != partition]
    errors = past_errors(table, mature(config, partition, others))
    before = table.filter(pc.and_(pc.equal(table["partition"], partition), pc.equal(table["model_version"], version)))
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
        written.append({
            "partition": partition, "model_version": version, "metric": metric, **told, "rows": rows.num_rows,
            "method": _method(weighing), "note": weighing.note, **weighing.facts,
            "realised": realised, "realised_rows": realised_rows,
        })  # fmt: skip
    schema = table_schema(config, "estimates")
    store.write_table(config, "estimates", pa.Table.from_pylist(written, schema), [partition])
    measured += _measure_past(config, partition)  # this one itself, where labels come at once
    facts = weighing.facts
    return {
        "partition": partition,
        "version": version,
        "rows": rows.num_rows,
        "method": _method(weighing),
        "note": weighing.note,
        "domain_auc": {"value": facts["domain_auc"], "low": facts["domain_low"], "high": facts["domain_high"]},
        "estimated": estimated,
        "realised": measured,
        "verdict": _sentence(its, estimated),
    }


def _held_out(config: Problem, its: Problem, version: str) -> HeldOut:
    from pipelines.monitoring.held_out import from_parquet

    if its.task == "regression":
        raise NothingToDo(
            "a regression has no estimates: its scores are no chances",
            where=f"problem {config.name}",
            cure="wait for the labels",
        )
    uri = version_uri(config, version, "held_out.parquet")
    if not store.exists(uri):
        raise NothingToDo(
            f"version {version} has no held-out rows: it was registered before there were estimates",
            where=uri,
            cure=f"the next version of {config.name}.train has them",
        )
    return from_parquet(its, store.read_bytes(uri))


def _scored_rows(config: Problem, its: Problem, partition: str, version: str) -> tuple[pa.Table, np.ndarray]:
    """Features of the partition's rows, and their scores; of many rows a sample, drawn by a hash of the key."""
    from pipelines.monitoring.held_out import ROWS
    from pipelines.monitoring.truth import scores_of

    key = sql.quote(its.key)
    predictions = store.dataset(config, "predictions").filter(
        (pc.field("partition") == partition) & (pc.field("model_version") == version)
    )
    rows = sql.query(
        f"""WITH chosen AS (SELECT {key}, score, probabilities FROM p ORDER BY hash({key}), {key} LIMIT {ROWS})
            SELECT f.*, chosen.score, chosen.probabilities FROM f JOIN chosen USING ({key})
            WHERE f.partition = $partition ORDER BY f.event_time, f.{key}""",
        {"f": store.dataset(its, "features"), "p": predictions},
        {"partition": partition},
    )
    if not rows.num_rows:
        raise DataError(
            f"partition {partition} has no predictions by version {version}",
            where=f"problem {config.name}",
            cure=f"run {config.name}.score for it first",
        )
    return rows, scores_of(its, rows)


def _weigh(
    config: Problem, its: Problem, held_out: HeldOut, blocks: np.ndarray, rows: pa.Table, its_blocks: np.ndarray
) -> tuple[_Weighing, Scored]:
    """Whether held-out rows count by how much they are like the partition's, and those rows, weighted or not."""
    from pipelines.monitoring.domain import domain

    found = domain(its, held_out.rows, blocks, rows, its_blocks, config.evaluation.bootstrap)
    if found is None:
        return _Weighing("no input tells rows apart"), held_out.scored
    names = {"domain_auc": "value", "domain_low": "low", "domain_high": "high"}
    facts = {name: found.auc[of] for name, of in names.items()} | {"effective_rows": found.rows}
    if reason := found.why_not(config.monitoring.policy.min_labels):
        return _Weighing(reason, facts=facts), held_out.scored
    weighing = _Weighing(f"held-out rows weighted, {found.rows:.0f} effective ones", is_weighted=True, facts=facts)
    return weighing, replace(held_out.scored, weights=held_out.scored.weights * found.weights)


def _measure_past(config: Problem, partition: str) -> list[str]:
    """Fill `realised` of every partition that is mature by now and was not measured yet; gives those partitions."""
    from pipelines.monitoring.estimate import metrics_of
    from pipelines.monitoring.held_out import from_parquet
    from pipelines.monitoring.truth import realised

    table = store.dataset(config, "estimates").to_table()
    waiting = table.filter(pc.is_null(table["realised_rows"]))["partition"].unique().to_pylist()
    predictions, labels = store.dataset(config, "predictions"), store.dataset(config, "labels")
    done = []
    for key in mature(config, partition, waiting):
        rows = table.filter(pc.equal(table["partition"], key))
        version = rows["model_version"][0].as_py()
        its = version_problem(config, version)
        threshold = from_parquet(
            its, store.read_bytes(version_uri(config, version, "held_out.parquet"))
        ).scored.threshold
        parts = config.partitions
        matured = next(one for one in parts.between(key, partition) if mature(config, one, [key]))
        truth, _ = realised(its, predictions, labels, key, version, threshold, parts.end(matured))
        if not len(truth.labels):
            continue
        values = {name: metric(truth) for name, metric in metrics_of(truth).items()}
        for name, filled in (
            ("realised", pa.array([values.get(one) for one in rows["metric"].to_pylist()], pa.float64())),
            ("realised_rows", pa.array([len(truth.labels)] * rows.num_rows, pa.int64())),
        ):
            rows = rows.set_column(rows.schema.get_field_index(name), name, filled)
        store.write_table(config, "estimates", rows, [key])
        done.append(key)
    return done


def _method(weighing: _Weighing) -> str:
    return "weighted cbpe" if weighing.is_weighted else "cbpe"


def _sentence(its: Problem, estimated: dict[str, Any]) -> str:
    """For people; never to be read as a measurement."""
    from pipelines.evaluation.metrics import SKILL

    name = next((name for name in (SKILL[its.task], "log_loss") if name in estimated), None)
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
