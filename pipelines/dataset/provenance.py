"""How a training set came about, for its datasheet: where its rows and labels are from, and what was done to them."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from pydantic import BaseModel

from pipelines.config import Drawn, Source
from pipelines.dataset.facts import Facts
from pipelines.dataset.label import SPLITS
from pipelines.html.columns import Table, number, text
from pipelines.html.document import Block, Code, Pairs, Section
from pipelines.html.wording import figure
from pipelines.problem import Problem

REASONS = {
    "unlabelled": "had no label by the set's cut-off",
    "embargo": "embargo: the label was not known yet, or its partition not mature, when the next split began",
    "grouped_out": "group stands in a newer split",
    "quarantined partition": "partition is held in quarantine",
    "guessed": "label was a guess, in a split that measures",
}


def collection(problem: Problem, facts: Facts) -> Section:
    """Which sources, what is read of them and when, and the SQL that makes events and labels of it."""
    parts = problem.partitions
    sources = []
    for name, source in problem.sources.items():
        table = f", {f'table {source.table}' if source.table else f'query {source.query}'}" if source.database else ""
        how = "all of it, each time"
        if source.time_column:
            back = f" and {source.lookback_days} days before" if source.lookback_days else ""
            how = f"by {source.time_column}: the partitions being ingested{back}"
        sources.append([name, source.kind, _place(source) + table, how])
    queries: list[Block] = []
    for name, query in facts.queries.items():
        digest = hashlib.sha256(query.encode()).hexdigest()[:12]
        queries += [f"{name}.sql, SHA-256 {digest}:", Code(query)]
    last = parts.last_key or "goes on"
    when = (
        f"Every {parts.every} is ingested once it is over, in the time zone {parts.timezone}; the data begins at "
        f"{parts.first_key}; its last {parts.every}: {last}."
    )
    if parts.by_delivery:
        when = (
            f"Rows have no time. Every delivery of {problem.delivered} is ingested once it has come, and numbered in "
            "that order; the ledger says when."
        )
    return Section(
        "How it was collected",
        [
            f"{when} Of {len(facts.available)} ingested partitions {len(facts.partitions)} are looked at here.",
            Table([*map(text, ("source", "kind", "where", "what is read"))], sources),
            *(queries or ["The texts of the queries were not handed over."]),
        ],
    )


def labels(problem: Problem, facts: Facts) -> Section:
    """Who said what is true, when it counts, and how sure they were."""
    rule = problem.labels
    settings = {
        "Definition": rule.description or "not described",
        "Sources, the most trusted first": ", ".join(rule.use),
        **_in_time(problem),
        "Without a label by then": {"negative": "negative (source none)", "leave_out": "left out"}[rule.after_maturity],
        "Weight by confidence": "yes" if rule.weigh_by_confidence else "no",
    }
    if rule.hand:
        settings["Asked of people"] = (
            f"{rule.hand.question} (each event is shown to {rule.hand.annotators}, combined by {rule.hand.combine}; "
            f"chosen by {rule.hand.choose}, seed {rule.hand.seed})"
        )
    if rule.weak:
        settings["Labeling functions"] = (
            f"{', '.join(rule.weak.functions)}; combined by {rule.weak.combine}, kept from a confidence of "
            f"{rule.weak.min_confidence:g} on"
        )
    if rule.self_training:
        settings["Self-training"] = (
            f"by {rule.self_training.candidate}, from a probability of {rule.self_training.threshold:g} on"
        )
    is_binary = problem.task == "binary"
    columns = [text("split"), text("source"), number("rows"), *([number("positive")] if is_binary else [])]
    columns.append(number("mean confidence"))
    rows: list[list[str | float]] = []
    for source in facts.label_sources:
        positives = [source["positives"]] if is_binary else []
        rows.append([source["split"], source["source"], source["rows"], *positives, source["mean_confidence"]])
    return Section("Where its labels come from", [Pairs(settings), Table(columns, rows)])


def _in_time(problem: Problem) -> dict[str, str]:
    rule = problem.labels
    if problem.partitions.by_delivery:
        return {"Known": "from the delivery on that brings it"}
    return {
        "Delay": f"{rule.delay_days} days between a label's own time and its arrival",
        "Maturity": f"a partition is learnt from {rule.mature_after_days} days after its end",
    }


def _drawn(problem: Problem, drawn: Drawn, facts: Facts) -> Section:
    """How rows without a time are parted, and what that cannot show."""
    rule, units = problem.dataset.split, problem.dataset.split.group_by or problem.key
    window = problem.dataset.window_partitions
    keys = sorted(facts.partitions)
    stratum = "quarter of the labels" if problem.task == "regression" else "label"
    return Section(
        "How it is split",
        [
            f"At random, by a hash of {units} and the seed {drawn.seed}: {drawn.test:.0%} of the rows are the test "
            f"split, {drawn.validation:.0%} validate, the rest trains. Each {stratum} is split by itself, and a row "
            "stays in its split when more deliveries come.",
            "What a random split cannot show: what the model is worth in a world that has moved since. Its numbers are "
            "those of rows like these. How good it is on the next delivery is what monitoring measures.",
            Pairs(
                {
                    "Deliveries": ", ".join(keys) if len(keys) <= 4 else f"{keys[0]} to {keys[-1]}",
                    "Window": f"the newest {window} deliveries" if window else "all deliveries",
                    "Groups": f"no {units} stands in two splits" + ("" if rule.group_by else " (the key)"),
                }
            ),
        ],
    )


def splits(problem: Problem, facts: Facts) -> Section:
    """Which partitions train, validate and test, and what keeps them apart."""
    if drawn := problem.dataset.split.drawn:
        return _drawn(problem, drawn, facts)
    rule, every = problem.dataset.split, problem.partitions.every
    rows = []
    for name in (*SPLITS, "embargo"):
        keys = sorted(key for key, part in facts.partitions.items() if part == name)
        if keys:
            rows.append([name, len(keys), ", ".join(keys) if len(keys) <= 4 else f"{keys[0]} to {keys[-1]}"])
    window = problem.dataset.window_partitions
    embargo = (
        f"{every}s whose labels were not in when the next split began lie between the splits; one in which that time "
        "began is cut there, and belongs to the older split; rows whose label came late are left out"
        if rule.embargo
        else "none: a label may have been learnt after the next split had to be predicted"
    )
    return Section(
        "How it is split",
        [
            f"By time, never at random: at least the newest {rule.test_partitions} labelled {every}s are the test "
            f"split, at least the {rule.validation_partitions} before them validate, the rest trains. Both take more "
            f"until they have {figure(rule.min_rows)} rows, or a fifth of the {every}s.",
            Table([text("split"), number(f"{every}s"), text("which")], rows),
            Pairs(
                {
                    "Window": f"the newest {window} {every}s train" if window else "everything before trains",
                    "Embargo": embargo,
                    "Groups": f"no {rule.group_by} stands in two splits; the newest keeps it"
                    if rule.group_by
                    else "none",
                }
            ),
        ],
    )


def preparation(problem: Problem) -> Section:
    """What was done to the rows between the sources and the fit."""
    blocks: list[Block] = [
        "Values are cast to their declared types, and rows that break a rule are set aside (quarantine). Missing "
        "values stay missing; each candidate model encodes and fills by what it learns from the training split alone.",
        "A feature over the past counts only what was known before the cut-off of the row's own prediction: labels and "
        "events that came later, corrections and withdrawals among them, change nothing. An event whose row was "
        "corrected is taken as it stood at its cut-off.",
    ]
    dataset = problem.dataset
    for name, settings in (
        ("Sampling", dataset.sampling),
        ("Resampling", dataset.resampling),
        ("Augmentation", dataset.augmentation),
    ):
        blocks.append(f"{name} (training split alone): {_settings(settings)}.")
    return Section("How it was prepared", blocks)


def left_out(facts: Facts) -> Section:
    """How many rows are not there, by reason."""
    rows: list[list[Any]] = [["rows", REASONS.get(reason, reason), count] for reason, count in facts.excluded.items()]
    rows.append(["rows", "not drawn by sampling", facts.not_drawn])
    young = f": {', '.join(facts.young)}" if facts.young else ""
    rows.append(["rows", f"too young, their labels still come in{young}", facts.young_events])
    before = [key for key in facts.available if key < min(facts.partitions, default="")]
    rows.append(["partitions", "older than the window", len(before)])
    blocks: list[Block] = [Table([text("what"), text("why"), number("how many")], rows)]
    rejected = sorted(facts.quarantined.items(), key=lambda rule: (-rule[1], rule[0]))
    if rejected:
        blocks.append(
            "Rows of these partitions that validation rejected, by rule (a row counts for each rule it broke):"
        )
        blocks.append(Table([text("rule"), number("rows")], rejected))
    else:
        blocks.append("Validation rejected no row of these partitions.")
    return Section("What was left out, and why", blocks)


def _settings(settings: BaseModel) -> str:
    """Every setting; a few words where nothing is done."""
    values = settings.model_dump(mode="json")
    method = values.pop("method")
    if method in ("all", "none"):
        return {"all": "every row is used", "none": "none"}[method]
    return ", ".join(
        [method, *(f"{name} {_value(value)}" for name, value in values.items() if value not in (None, [], {}))]
    )


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_value(element)}" for name, element in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _place(source: Source) -> str:
    """Where a source lies, without the names and passwords that its address may hold.

    >>> _place(Source(database="postgresql://me:p@ss/w?rd@host/shop?password=x", table="orders"))
    'postgresql://host/shop'
    >>> _place(Source(path="orders/*.csv")), _place(Source(package="shop", file="orders.csv"))
    ('orders/*.csv', 'shop: orders.csv')
    """
    if source.database:
        return re.sub(r"^(postgres\w*)://.*@", r"\1://", source.database).partition("?")[0]
    return re.sub(r"://[^/]*@", "://", source.path) if source.path else f"{source.package}: {source.file}"
