"""leaks: what a training set must not give away, looked for before anything learns from it.

A leak makes a model that is splendid in every test and useless in service. Each check looks for one of the ways in
which they come about (Kaufman et al., Leakage in data mining, 2012; Huyen, ch. 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipelines import sql
from pipelines.config import did_you_mean
from pipelines.dataset.label import BY_THEMSELVES, SPLITS
from pipelines.dataset.single_feature import (
    beyond_the_others,
    single_feature_aucs,
    single_feature_r2s,
    single_feature_shares,
    stand_ins,
)
from pipelines.documents.dataset import LeakFinding
from pipelines.errors import ConfigError, DataError, SchemaError
from pipelines.problem import Problem

EXAMPLES = 3
UNLIKE = 0.6  # share of what the others leave unexplained, from which on a feature knows something that they do not


@dataclass(frozen=True)
class Finding:
    """What one check found: `reason` has the names and the numbers, `cure` is empty when it passed."""

    name: str
    passed: bool
    reason: str
    cure: str = ""

    def document(self) -> LeakFinding:
        """As the facts of a datasheet keep it."""
        return {"name": self.name, "passed": self.passed, "reason": self.reason, "cure": self.cure}


def check(problem: Problem, rows: pa.Table | ds.Dataset, as_of: datetime, events: Any = None) -> list[Finding]:
    """Every check on an assembled training set, the passed ones too; one finding each, always in the same order.

    `rows` are the labelled rows of the splits train, validation and test, joined with their features: key, partition,
    event_time, split, label, source, label_known_time, the features, and the columns of split.group_by and
    leaks.entities. They may be more than fit in memory: a dataset is read as often as a check asks. `as_of` is the
    moment of which the set knows nothing. `events`, a dataset or table, are all events of the splits, those without a
    label too, with partition, split and label; without it every event has one.

    Raises:
        ConfigError: leaks.accepted names no feature.
        SchemaError: a column is missing.
    """
    leaks = problem.dataset.leaks
    rows = ds.dataset(rows) if isinstance(rows, pa.Table) else rows
    for name in leaks.accepted:
        if name not in problem.feature_names:
            raise ConfigError(
                f"dataset.leaks.accepted: {name!r} is no feature{did_you_mean(name, problem.feature_names)}",
                where=str(problem.folder / "problem.yaml"),
                cure=f"features: {', '.join(problem.feature_names)}",
            )
    entities = list(dict.fromkeys(name for name in [*leaks.entities, problem.dataset.split.group_by] if name))
    wanted = [
        problem.key,
        "partition",
        "event_time",
        "split",
        "label",
        "source",
        "label_known_time",
        *problem.feature_names,
        *entities,
    ]
    missing = [name for name in dict.fromkeys(wanted) if name not in rows.schema.names]
    if missing:
        raise SchemaError(
            f"the training set lacks the columns {', '.join(missing)}",
            where=f"problem {problem.name}, leak checks",
            cure="join the labelled rows with their features and entity columns first",
        )
    return [
        _availability(problem),
        _single_feature(problem, rows),
        _label_times(problem, rows, as_of),
        _one_side(problem, rows) if problem.dataset.split.drawn else _event_times(rows),
        _events_once(problem, rows),
        *(_entity(name, rows) for name in entities),
        *([_duplicates(problem, rows)] if leaks.duplicates else []),
        *([_copies(problem, rows, leaks.max_copied_share)] if leaks.max_copied_share is not None else []),
        *(
            [_coverage(rows if events is None else events, leaks.max_unlabelled_rise)]
            if leaks.max_unlabelled_rise is not None
            else []
        ),
    ]


def require_clean(problem: Problem, findings: Sequence[Finding]) -> None:
    """Raises DataError, with every failed check's names, numbers and cure."""
    failed = [finding for finding in findings if not finding.passed]
    if failed:
        raise DataError(
            f"the training set leaks: {len(failed)} of {len(findings)} checks failed\n"
            + "\n".join(f"  {finding.name}: {finding.reason}" for finding in failed),
            where=f"problem {problem.name}, training set",
            cure="; ".join(dict.fromkeys(finding.cure for finding in failed)),
        )


def feature_sources(problem: Problem) -> dict[str, list[str]]:
    """The event columns that each feature is made of; none where it is made of labels or of times alone."""
    features = problem.features
    made_of = {name: [name] for name in features.columns}
    for name, history in features.history.items():
        made_of[name] = list(dict.fromkeys([*history.by, *([history.of] if history.of != "label" else [])]))
    for name, cross in features.crosses.items():
        made_of[name] = list(dict.fromkeys(cross.of))
    for name, part in features.datetime.items():
        for made in (f"{name}_sin", f"{name}_cos") if part.cyclical else (name,):
            made_of[made] = [part.of] if part.of in problem.columns else []
    return made_of


def _availability(problem: Problem) -> Finding:
    used: dict[str, list[str]] = {}
    for feature, columns in feature_sources(problem).items():
        for column in columns:
            used.setdefault(column, []).append(feature)
    wrong = {name: problem.columns[name].available for name in used if problem.columns[name].available != "cutoff"}
    if not wrong:
        return Finding("availability", True, f"{len(used)} columns are declared to be known at the cut-off")
    said = {"later": "is known only later", None: "does not say when it is known"}
    return Finding(
        "availability",
        False,
        "; ".join(f"{name} (used by {', '.join(used[name])}) {said[when]}" for name, when in wrong.items()),
        "say `available: cutoff` under columns for what is known by the cut-off of each prediction, and take the "
        "others out of features",
    )


def _single_feature(problem: Problem, rows: ds.Dataset) -> Finding:
    leaks = problem.dataset.leaks
    train = rows.filter((pc.field("split") == "train") & pc.field("label").is_valid())
    alone, measure, allowed = {
        "binary": (single_feature_aucs, "an AUC of", leaks.max_single_feature_auc),
        "multiclass": (single_feature_shares, "a share of its uncertainty removed of", leaks.max_single_feature_share),
        "regression": (single_feature_r2s, "an R2 of", leaks.max_single_feature_r2),
    }[problem.task]
    predictions = alone(train, problem.feature_names, problem.training.seed, problem.vector_features)
    suspicious = {
        name: f"{name} alone predicts the label with {measure} {prediction.value:.3f} "
        f"(by {prediction.by}); allowed: {allowed:g}"
        for name, prediction in predictions.items()
        if prediction.value > allowed
    }
    beside: list[str] = []
    if problem.task == "multiclass":
        suspicious |= _stand_ins(problem, train)
    elif problem.task == "regression":
        suspicious, beside = _unlike_the_others(problem, train, suspicious)
    reasons = [reason for name, reason in suspicious.items() if name not in leaks.accepted]
    if reasons:
        return Finding(
            "single_feature",
            False,
            "; ".join(reasons),
            "take it out of features if it is learnt with or after the outcome; if somebody has looked and it is "
            "known at the cut-off, name it in dataset.leaks.accepted",
        )
    name, best = next(iter(predictions.items()))
    reason = f"{name} predicts best alone, with {measure} {best.value:.3f}; allowed: {allowed:g}"
    taken = [name for name in suspicious if name in leaks.accepted]
    reason += f"; accepted: {', '.join(taken)}" if taken else ""
    return Finding("single_feature", True, reason + "".join(f"; {remark}" for remark in beside))


def _stand_ins(problem: Problem, train: ds.Dataset) -> dict[str, str]:
    """Features of which one value is one of several classes, in other words."""
    most = problem.dataset.leaks.max_class_overlap
    plain = [name for name in problem.feature_names if name not in problem.vector_features]
    return {
        name: f"{name} alone predicts the label with an AUC of {stand_in.auc:.3f}, for {stand_in.label}: of the "
        f"rows that are {stand_in.label} or where it is {'missing' if stand_in.value is None else stand_in.value}, "
        f"{stand_in.overlap:.1%} are both; allowed: {most:.0%}"
        for name, stand_in in stand_ins(train, plain, problem.training.seed).items()
        if stand_in.overlap > most
    }


def _unlike_the_others(
    problem: Problem, train: ds.Dataset, suspicious: dict[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Of the features that explain a number alone those that know what the others don't; and a word on each other one.

    Where every place has a level of its own, its name, last week's number and last year's each explain nearly all of
    this week's: what several features tell is no secret.
    """
    kept, beside = {}, []
    for name, reason in suspicious.items():
        share = beyond_the_others(train, problem.feature_names, name, problem.training.seed, problem.vector_features)
        if share > UNLIKE:
            kept[name] = f"{reason}, where the other features do not tell as much: it explains {share:.0%} of the rest"
        else:
            beside.append(f"{reason}, but of what the other features leave unexplained it explains {share:.0%} only")
    return kept, beside


def _label_times(problem: Problem, rows: ds.Dataset, as_of: datetime) -> Finding:
    """Labels that a split learns from, against the start of the next split's first partition, and against as_of."""
    firsts = {
        group["split"]: group["first"]
        for group in _query("SELECT split, min(partition) AS first FROM rows GROUP BY 1", rows).to_pylist()
    }
    limits = dict.fromkeys(SPLITS, as_of)
    drawn = problem.dataset.split.drawn
    if problem.dataset.split.embargo and not drawn:
        limits |= {
            older: problem.partitions.start(firsts[newer]) for older, newer in pairwise(SPLITS) if newer in firsts
        }
    limit = pa.table({"split": list(limits), "due": pa.array(limits.values(), pa.timestamp("us", "UTC"))})
    late = _query(
        """SELECT split, due, count(*) AS rows FROM rows JOIN limits USING (split)
           WHERE label IS NOT NULL
               AND label_known_time >= CASE WHEN source IN (SELECT source FROM by_themselves) THEN due ELSE as_of END
           GROUP BY ALL ORDER BY due""",
        rows,
        limits=limit.append_column("as_of", pa.array([as_of] * len(limits), pa.timestamp("us", "UTC"))),
        by_themselves=pa.table({"source": BY_THEMSELVES}),
    ).to_pylist()
    untimed = rows.count_rows(filter=pc.field("label").is_valid() & pc.field("label_known_time").is_null())
    reasons = [
        f"{group['rows']} {group['split']} rows have labels that were not known before {group['due']}" for group in late
    ]
    reasons += [f"{untimed} rows do not say when their label was known"] if untimed else []
    if reasons:
        return Finding(
            "label_times", False, "; ".join(reasons), "assemble the set anew: `label` leaves such rows out by itself"
        )
    if drawn:
        return Finding("label_times", True, "every label had been delivered; rows are drawn, so none had to come first")
    if not problem.dataset.split.embargo:
        return Finding("label_times", True, f"every label was known before {as_of}; there is no embargo between splits")
    return Finding("label_times", True, "every label that comes by itself was known before the next split began")


def _event_times(rows: ds.Dataset) -> Finding:
    ends = _query("SELECT split, min(event_time) AS first, max(event_time) AS last FROM rows GROUP BY 1", rows)
    spans = {row["split"]: row for row in ends.to_pylist()}
    present = [name for name in SPLITS if name in spans]
    reasons = [
        f"{older} goes on until {spans[older]['last']}, {newer} begins at {spans[newer]['first']}"
        for older, newer in pairwise(present)
        if spans[older]["last"] >= spans[newer]["first"]
    ]
    strange = sorted(set(spans) - set(SPLITS))
    reasons += [f"there are rows of {', '.join(strange)}, which is no split to learn from"] if strange else []
    if reasons:
        return Finding("event_times", False, "; ".join(reasons), "split by time: whole partitions, the newest held out")
    return Finding("event_times", True, f"the splits follow each other in time: {', '.join(present)}")


def _one_side(problem: Problem, rows: ds.Dataset) -> Finding:
    """Where rows are drawn: all of one key are in one split, whichever deliveries they came with."""
    strange = sorted({*_query("SELECT DISTINCT split FROM rows", rows)["split"].to_pylist()} - {*SPLITS})
    of_key = _entity(problem.key, rows)
    if strange or (not of_key.passed and problem.dataset.split.group_by is None):
        reason = (
            f"there are rows of {', '.join(strange)}, which is no split to learn from" if strange else of_key.reason
        )
        return Finding("one_side", False, reason, "assemble the set anew: `label` puts rows of one key on one side")
    what = problem.dataset.split.group_by or problem.key
    return Finding("one_side", True, f"rows are drawn, and all of one {what} stand in one split")


def _events_once(problem: Problem, rows: ds.Dataset) -> Finding:
    key = sql.quote(problem.key)
    # A key that comes in several deliveries is a row of each.
    of_one = f"{key}, partition" if problem.partitions.by_delivery else key
    repeated = _query(
        f"""SELECT count(*) AS events, list(CAST({key} AS VARCHAR) ORDER BY {key})[:{EXAMPLES}] AS examples
            FROM (SELECT {key} FROM rows GROUP BY {of_one} HAVING count(*) > 1)""",
        rows,
    ).to_pylist()[0]
    if not repeated["events"]:
        return Finding("events_once", True, f"each of {rows.count_rows()} events stands once")
    return Finding(
        "events_once",
        False,
        f"{repeated['events']} events stand more than once, such as {', '.join(repeated['examples'])}",
        f"let events.sql give one row per {problem.key}, and ingest the partitions again that it has moved between",
    )


def _entity(name: str, rows: ds.Dataset) -> Finding:
    column = sql.quote(name)
    shared = _query(
        f"""SELECT count(*) AS groups, list(CAST({column} AS VARCHAR) ORDER BY {column})[:{EXAMPLES}] AS examples
            FROM (SELECT {column} FROM rows WHERE {column} IS NOT NULL GROUP BY 1 HAVING count(DISTINCT split) > 1)""",
        rows,
    ).to_pylist()[0]
    if not shared["groups"]:
        return Finding(f"entity {name}", True, f"no {name} stands in two splits")
    return Finding(
        f"entity {name}",
        False,
        f"{shared['groups']} values of {name} stand in more than one split, such as {', '.join(shared['examples'])}",
        f"set dataset.split.group_by to {name}, or take it out of dataset.leaks.entities",
    )


def _duplicates(problem: Problem, rows: ds.Dataset) -> Finding:
    """Rows whose features are all equal, null to null, though they stand in two splits."""
    names, key = ", ".join(sql.quote(name) for name in problem.feature_names), sql.quote(problem.key)
    copies = _query(
        f"""WITH hashed AS NOT MATERIALIZED (SELECT hash({names}) AS h, split, {key}, {names} FROM rows),
            likely AS (SELECT h FROM hashed GROUP BY h HAVING count(DISTINCT split) > 1),
            equal AS (SELECT count(*) AS rows, CAST(min({key}) AS VARCHAR) AS example
                FROM hashed WHERE h IN (SELECT h FROM likely)
                GROUP BY {names} HAVING count(DISTINCT split) > 1)
            SELECT coalesce(sum(rows), 0)::BIGINT AS rows, list(example ORDER BY example)[:{EXAMPLES}] AS examples
            FROM equal""",
        rows,
    ).to_pylist()[0]
    if not copies["rows"]:
        return Finding("duplicates", True, "no two splits have rows with equal features")
    return Finding(
        "duplicates",
        False,
        f"{copies['rows']} rows have features equal to those of a row in another split, such as "
        f"{', '.join(copies['examples'])}",
        "remove copies in events.sql, group what belongs together (dataset.split.group_by), or, where equal rows are "
        "natural, set dataset.leaks.duplicates to false",
    )


def _copies(problem: Problem, rows: ds.Dataset, allowed: float) -> Finding:
    """Held-out rows with the features of a training row, beyond the share that training rows share with each other.

    Where features have few values equal rows are natural, and about as frequent inside of the training split: mornings
    with their many flights more so than nights. How far the shares of two kinds of rows may lie apart grows with
    usual * (1 - usual), the variance of what is counted; that much more is allowed.
    """
    names = ", ".join(sql.quote(name) for name in problem.feature_names)
    shares = _query(
        f"""WITH hashed AS (SELECT hash({names}) AS h, split FROM rows),
            known AS (SELECT h, count(*) AS n FROM hashed WHERE split = 'train' GROUP BY 1)
            SELECT avg((n > 1)::INT) FILTER (split = 'train') AS usual,
                avg((n IS NOT NULL)::INT) FILTER (split = 'validation') AS validation,
                avg((n IS NOT NULL)::INT) FILTER (split = 'test') AS test
            FROM hashed LEFT JOIN known USING (h)""",
        rows,
    ).to_pylist()[0]
    usual = shares["usual"] or 0.0
    allowed += usual * (1 - usual)
    above_usual = {name: shares[name] for name in ("validation", "test") if (shares[name] or 0.0) > usual + allowed}
    if not above_usual:
        return Finding("copies", True, f"no more held-out rows equal a training row than its like do ({usual:.1%})")
    return Finding(
        "copies",
        False,
        "; ".join(
            f"{share:.1%} of the {name} rows have the features of a training row" for name, share in above_usual.items()
        )
        + f", of the training rows {usual:.1%} those of another one; allowed: {allowed:.1%} more",
        "find out why rows come again under other keys (a repeated delivery, a join that multiplies), and remove them; "
        "what belongs together goes into one split (dataset.split.group_by)",
    )


def _coverage(events: Any, allowed: float) -> Finding:
    """Share of held-out events without a label, by partition, against the training partition that has most of them.

    Labels that are late or lost are seldom lost by chance: a model measured on the rest is measured on other rows.
    """
    shares: dict[str, dict[str, float]] = {name: {} for name in SPLITS}
    counted = sql.query(
        "SELECT split, partition, avg((label IS NULL)::INT) AS missing FROM events GROUP BY ALL ORDER BY ALL",
        {"events": events},
    )
    for partition in counted.to_pylist():
        shares.get(partition["split"], {})[partition["partition"]] = partition["missing"]
    known = list(shares["train"].values()) or [0.0]
    usual = max(known) + 2 * (max(known) - min(known))
    gone = {key: share for name in SPLITS[1:] for key, share in shares[name].items() if share > usual + allowed}
    if not gone:
        return Finding(
            "label_coverage",
            True,
            f"at most {max(known):.1%} of a training partition have no label, of the held-out ones about as few",
        )
    return Finding(
        "label_coverage",
        False,
        ", ".join(f"{share:.1%} of {key}" for key, share in gone.items())
        + f" have no label, of the training partitions {min(known):.1%} to {max(known):.1%}",
        "have all labels been delivered? If they come later now, say so (labels.maturity_days); if fewer come and that "
        "is sound, raise dataset.leaks.max_unlabelled_rise",
    )


def _query(text: str, rows: ds.Dataset, **more: pa.Table) -> pa.Table:
    """A small result of SQL over the rows of the training set."""
    return sql.query(text, {"rows": rows, **more})
