"""What `estimate` makes of earlier partitions: their labels, what was estimated of them, and how scores spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import quarantine, sql, store
from pipelines.asof.as_known import in_the_partition, labels_as_known, labels_of
from pipelines.dataset.label import label_number, mature
from pipelines.dataset.waiting import Judgeable, judgeable
from pipelines.problem import Problem
from pipelines.profiles.profile import KEPT_PARTITIONS
from pipelines.release.assign import champions_predictions
from pipelines.release.versions import learnt_by, threshold_of, version_problem
from pipelines.stages.monitor.past import reference_of

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from pipelines.monitoring.diagnose.feedback import Coverage
    from pipelines.monitoring.estimate.held_out import HeldOut

LOOKED_BACK = 120  # mature partitions, the newest, of which estimates are read: some of them may never get a label


def labelled_partitions(trained_problem: Problem, version: str, labels_in: Judgeable, count: int) -> list[pa.Table]:
    """The newest `count` partitions that `version` scored and has not learnt from and whose labels are in, oldest
    first.

    Neighbouring partitions with fewer than `monitoring.policy.min_labels` labels are one table together. Each has
    features, score, decision, probabilities, `_label` (a number, null where there is none that the version knows) and
    `_is_labelled`, as known at the end of `labels_in.partition`; of many rows 20,000, drawn by a hash of the key.
    """
    from pipelines.monitoring.estimate.held_out import ROWS
    from pipelines.profiles.pooled import windows

    problem, partition = labels_in.problem, labels_in.partition
    fewest = problem.monitoring.policy.min_labels
    predictions = champions_predictions(problem)
    learnt = learnt_by(problem, version)
    keys = labels_in.among(_sound(problem, store.partition_keys(problem, "predictions")))
    keys = [key for key in keys if key not in learnt]
    counted = _newest_scored(predictions, keys, version, max(count, KEPT_PARTITIONS))
    chosen = windows([rows for _, rows in counted], fewest)[-count:]
    looked_at = [key for key, _ in counted[chosen[0].start :]] if chosen else []
    if not looked_at:
        return []
    key, parts = sql.quote(trained_problem.key), trained_problem.partitions
    time = pc.field("event_time")
    span = (time >= pc.scalar(parts.start(looked_at[0]))) & (time < pc.scalar(parts.end(looked_at[-1])))
    rows = sql.query(
        f"""WITH known AS MATERIALIZED ({labels_as_known(trained_problem)}),
            of_events AS ({labels_of(trained_problem, "p", in_the_partition(trained_problem))}),
            chosen AS (
                SELECT {key}, partition, event_time, score, decision, probabilities FROM p
                QUALIFY row_number() OVER (PARTITION BY partition ORDER BY hash({key}), {key}) <= {ROWS}
            )
            SELECT f.*, chosen.score, chosen.decision, chosen.probabilities,
                {label_number(trained_problem, "known.label")} AS _label, known.label IS NOT NULL AS _is_labelled
            FROM f JOIN chosen USING ({key}, partition)
            LEFT JOIN of_events AS known ON known.{key} = chosen.{key} AND known.event_time = chosen.event_time
            ORDER BY f.event_time, f.{key}""",
        {
            "f": store.dataset(trained_problem, "features").filter(sql.is_among("partition", looked_at)),
            "p": predictions.filter(sql.is_among("partition", looked_at) & (pc.field("model_version") == version)),
            "labels": store.dataset(problem, "labels").filter(span),
        },
        {"as_of": problem.partitions.end(partition)},
    )
    parts_of = [rows.filter(pc.equal(rows["partition"], each)) for each in looked_at]
    labels = [part.num_rows - part["_label"].null_count for part in parts_of]
    return [pa.concat_tables(parts_of[window.start : window.stop]) for window in windows(labels, fewest)]


def _newest_scored(predictions: ds.Dataset, keys: list[str], version: str, most: int) -> list[tuple[str, int]]:
    """The newest of `keys` with rows that `version` scored, `most` of them, and how many rows, oldest first.

    So many keys are looked through at a time, newest first, until there are enough or none of a time is of the version:
    what served before it, however long, is not read.
    """
    scored: list[tuple[str, int]] = []
    for end in range(len(keys), 0, -most):
        looked_at = keys[max(end - most, 0) : end]
        its_own = predictions.filter(sql.is_among("partition", looked_at) & (pc.field("model_version") == version))
        rows = sql.query("SELECT partition, count(*) AS rows FROM p GROUP BY 1 ORDER BY 1", {"p": its_own})
        if not rows.num_rows:
            break
        counts = zip(rows["partition"].to_pylist(), rows["rows"].to_pylist(), strict=True)
        scored = [*counts, *scored][-most:]
        if len(scored) == most:
            break
    return scored


def estimates_until(labels_in: Judgeable) -> pa.Table:
    """Rows of the table `estimates` up to `labels_in.partition`: of the newest partitions whose labels are in, of which
    the past error is made and the newest may be measured now, and of those that still wait for theirs."""
    problem = labels_in.problem
    keys = [key for key in store.partition_keys(problem, "estimates") if key <= labels_in.partition]
    labelled = labels_in.among(keys)[-LOOKED_BACK:]
    wanted = [key for key in keys if not labelled or key >= labelled[0]]
    return store.dataset(problem, "estimates").to_table(filter=sql.is_among("partition", wanted))


def with_or_without_label(problem: Problem, trained_problem: Problem, keys: list[str], partition: str) -> pa.Table:
    """Rows of these partitions that have features, with `_is_labelled` as known at the end of `partition`; of many rows
    20,000 of all, drawn by a hash of the key."""
    from pipelines.monitoring.estimate.held_out import ROWS

    key, parts = sql.quote(trained_problem.key), trained_problem.partitions
    features = store.dataset(trained_problem, "features").filter(sql.is_among("partition", keys))
    time = pc.field("event_time")
    span = (time >= pc.scalar(parts.start(min(keys)))) & (time < pc.scalar(parts.end(max(keys))))
    return sql.query(
        f"""WITH known AS MATERIALIZED ({labels_as_known(trained_problem)}),
            chosen AS (SELECT * FROM f ORDER BY hash({key}), {key}, event_time LIMIT {ROWS}),
            of_events AS ({labels_of(trained_problem, "chosen", in_the_partition(trained_problem))})
            SELECT chosen.*, known.label IS NOT NULL AS _is_labelled
            FROM chosen LEFT JOIN of_events AS known USING ({key}, event_time)
            ORDER BY chosen.event_time, chosen.{key}""",
        {"f": features, "labels": store.dataset(problem, "labels").filter(span)},
        {"as_of": problem.partitions.end(partition)},
    )


def with_labels(trained_problem: Problem, rows: pa.Table, threshold: float) -> HeldOut:
    """The rows that have a label, as scored rows with their features."""
    from pipelines.metrics.scored import scored
    from pipelines.monitoring.estimate.held_out import HeldOut
    from pipelines.monitoring.estimate.realised import scores_of

    labelled = rows.filter(pc.is_valid(rows["_label"]))
    return HeldOut(
        labelled,
        scored(
            trained_problem, labelled["_label"].to_numpy(), scores_of(trained_problem, labelled), threshold=threshold
        ),
    )


def _sound(problem: Problem, keys: list[str]) -> list[str]:
    """Those that are not in quarantine: what the model made of broken rows says nothing of the model."""
    held = quarantine.held(problem)
    return [key for key in keys if key not in held]


def measure_past(labels_in: Judgeable, table: pa.Table) -> tuple[pa.Table, list[str]]:
    """Fill `realised` of every partition that is mature by now and was not measured yet, in the store and in `table`,
    its rows; gives the filled table and those partitions. Those that the version has learnt from are never measured."""
    from pipelines.monitoring.estimate.estimate import metrics_of
    from pipelines.monitoring.estimate.realised import realised

    problem, partition = labels_in.problem, labels_in.partition
    waiting = table.filter(pc.is_null(table["realised_rows"]))["partition"].unique().to_pylist()
    by_then, learnt = {partition: labels_in}, dict[str, set[str]]()
    done = []
    for key in labels_in.among(_sound(problem, waiting)):
        rows = table.filter(pc.equal(table["partition"], key))
        version = rows["model_version"][0].as_py()
        if version not in learnt:
            learnt[version] = learnt_by(problem, version)
        if key in learnt[version]:
            continue
        trained_problem, parts = version_problem(problem, version), problem.partitions
        matured = next(then for then in parts.between(key, partition) if _is_judgeable(problem, key, then, by_then))
        predictions, labels = champions_predictions(problem), store.dataset(problem, "labels")
        threshold, moment = threshold_of(problem, version), parts.end(matured)
        truth = realised(trained_problem, predictions, labels, [key], version, threshold, moment)[0].scored
        if not len(truth.labels):
            continue
        values = {name: metric(truth) for name, metric in metrics_of(truth).items()}
        for name, filled in (
            ("realised", pa.array([values.get(metric) for metric in rows["metric"].to_pylist()], pa.float64())),
            ("realised_rows", pa.array([len(truth.labels)] * rows.num_rows, pa.int64())),
        ):
            rows = rows.set_column(rows.schema.get_field_index(name), name, filled)
        store.write_table(problem, "estimates", rows, [key])
        table = pa.concat_tables([table.filter(pc.not_equal(table["partition"], key)), rows])
        done.append(key)
    return table, done


def _is_judgeable(problem: Problem, key: str, then: str, by_then: dict[str, Judgeable]) -> bool:
    """Whether the labels of `key` were in at the end of `then`; `by_then` keeps what was looked up."""
    if not mature(problem, then, [key]):
        return False
    if then not in by_then:
        by_then[then] = judgeable(problem, then)
    return bool(by_then[then].among([key]))


def label_coverage(problem: Problem, trained_problem: Problem, rows: pa.Table) -> Coverage | None:
    """How many rows of a mature partition have a label, by score."""
    from pipelines.metrics.bootstrap import blocks_of
    from pipelines.monitoring.diagnose.feedback import coverage

    decided = rows["decision"].to_pylist() if trained_problem.task == "multiclass" else None
    is_labelled = rows["_is_labelled"].to_numpy()
    return coverage(
        rows["score"].to_numpy(), decided, is_labelled, blocks_of(problem, rows), problem.evaluation.bootstrap
    )


def spread_of_scores(problem: Problem, version: str, partition: str) -> tuple[dict[str, float], list[float]]:
    """Evenness of the scores of the newest partitions up to this one, by whatever version scored each, oldest first;
    and of the partitions that `version` was made from.

    Of several classes the evenness of those decided for; else that of the score's bins. Always compared with the
    reference of the version that scored.
    """
    from pipelines.monitoring.diagnose.feedback import LAST, evenness
    from pipelines.profiles.profile import SCORE

    keys = [key for key in store.partition_keys(problem, "profiles") if key <= partition][-LAST:]
    rows = store.dataset(problem, "profiles").to_table(
        columns=["partition", "model_version", "counts"],
        filter=sql.is_among("partition", keys) & (pc.field("column") == SCORE) & (pc.field("slice") == ""),
    )
    versions = set(rows["model_version"].to_pylist()) | {version}
    kinds = {each: version_problem(problem, each).task for each in versions}
    if kinds[version] == "multiclass":
        return _spread_of_decisions(problem, keys), []
    usual = {each: reference_of(problem, each) for each in versions}
    pooled = {each: usual[each].columns[SCORE].profile.counts[:-2] for each in versions}
    series = {
        row["partition"]: evenness(row["counts"][:-2], pooled[row["model_version"]])
        for row in rows.sort_by("partition").to_pylist()
        if kinds[row["model_version"]] == kinds[version]
    }
    past = [
        evenness(part[SCORE].counts[:-2], pooled[version])
        for part in usual[version].partitions.values()
        if SCORE in part
    ]
    defined = {key: value for key, value in series.items() if value is not None}
    return defined, [value for value in past if value is not None]


def _spread_of_decisions(problem: Problem, keys: list[str]) -> dict[str, float]:
    from pipelines.monitoring.diagnose.feedback import evenness

    counts = sql.query(
        "SELECT partition, decision, count(*) AS rows FROM p GROUP BY ALL",
        {"p": champions_predictions(problem).filter(sql.is_among("partition", keys))},
    )
    even = np.ones(len(problem.classes))
    series = {key: evenness(counts.filter(pc.equal(counts["partition"], key))["rows"].to_numpy(), even) for key in keys}
    return {key: value for key, value in series.items() if value is not None}
