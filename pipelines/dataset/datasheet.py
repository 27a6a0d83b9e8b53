"""datasheet: what a training set is, for whoever has to answer for it.

The questions are those of Gebru et al. (Datasheets for Datasets, 2021) and of Burkov, ch. 3, on documenting data:
what the data means and is for, how it was collected, split and prepared, what was left out and why, how it is kept,
what its attributes are and may be, how many examples there are, and what is wrong with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.dataset import provenance
from pipelines.dataset.facts import QUANTILES, Facts
from pipelines.html.document import Listing, Section, Table, number, pairs, share, to_html, to_markdown, value_range
from pipelines.problem import Problem


@dataclass(frozen=True)
class Datasheet:
    markdown: str
    html: bytes


def datasheet(problem: Problem, facts: Facts) -> Datasheet:
    """The same document twice: Markdown, and one self-contained page of HTML; equal facts give equal bytes."""
    sections = [
        _purpose(problem, facts),
        _counts(problem, facts),
        provenance.collection(problem, facts),
        provenance.labels(problem, facts),
        provenance.splits(problem, facts),
        provenance.preparation(problem),
        provenance.left_out(facts),
        _features(problem, facts),
        _checks(problem, facts),
        _keeping(problem, facts),
        _limits(problem, facts),
    ]
    title = f"Training set {facts.training_set} of {problem.name}"
    return Datasheet(to_markdown(title, sections), to_html(title, sections))


def _purpose(problem: Problem, facts: Facts) -> Section:
    predicted, values = {
        "binary": ("the probability of label 1", "1 (positive), 0 (negative)"),
        "multiclass": ("the probability of each class", ", ".join(problem.classes)),
        "regression": ("a number", "any finite number"),
    }[problem.task]
    return Section("What it is for", [
        problem.description,
        pairs({
            "Owner": problem.owner,
            "Tags": ", ".join(problem.tags) or "none",
            "A row stands for": f"one event, named by {problem.key}, as it is known when its prediction is due",
            "What is predicted": f"{predicted}. {problem.labels.description}".strip(),
            "Values of the label": values,
            "Made for": "training, choosing and testing the models of this problem; it was not made for anything else",
            "Knows nothing learnt at or after": facts.as_of,
        }),
    ])  # fmt: skip


def _counts(problem: Problem, facts: Facts) -> Section:
    total = number(sum(one["rows"] for one in facts.splits))
    told = f"{total} rows"
    if problem.task == "binary":
        told += f", {number(sum(one['positives'] for one in facts.splits))} of them positive,"
    elif problem.task == "multiclass":
        told += f" of {len(problem.classes)} classes,"
    header = ["split", "partitions", "rows", *_label_header(problem), "mean weight", "first event", "last event"]
    return Section("How much it holds", [
        f"{told} with {len(facts.features)} features each.",
        Table(header, [[
            one["split"], number(one["partitions"]), number(one["rows"]), *_label_cells(problem, one),
            number(one["mean_weight"]), one["first_event"], one["last_event"],
        ] for one in facts.splits]),
    ])  # fmt: skip


def _label_header(problem: Problem) -> list[str]:
    match problem.task:
        case "binary":
            return ["positive", "positive rate"]
        case "multiclass":
            return list(problem.classes)
        case "regression":
            return ["mean", "sd", "min", *(f"{at:.0%}" for at in QUANTILES), "max"]


def _label_cells(problem: Problem, split: dict[str, Any]) -> list[str]:
    """What the labels of a split are like, under `_label_header`."""
    match problem.task:
        case "binary":
            return [number(split["positives"]), share(split["positive_rate"])]
        case "multiclass":
            counts = split["classes"]
            return [f"{number(counts[name])} ({share(counts[name] / split['rows'])})" for name in problem.classes]
        case "regression":
            values = [split["mean"], split["sd"], split["min"], *split["quantiles"], split["max"]]
            return [number(value) for value in values]


def _features(problem: Problem, facts: Facts) -> Section:
    header = ["feature", "type", "unit", "what it is", "allowed", "seen", "distinct", "coverage", "known", "made of",
              "owner"]  # fmt: skip
    rows = []
    for one in facts.features:
        what = ". ".join(part for part in (one.get("description"), one.get("definition")) if part)
        rows.append([
            one["name"], one["type"], one.get("unit") or "none", what or "not described",
            _allowed(problem, one["name"]), value_range(one.get("min"), one.get("max")), number(one.get("distinct")),
            share(one.get("coverage")), one.get("available") or "not declared",
            ", ".join(one.get("source_columns") or []) or "not known", one.get("owner") or problem.owner,
        ])  # fmt: skip
    return Section("Its features", [
        "In the model's order. Coverage is the share of training rows that have a value, seen the range in them.",
        Table(header, rows),
    ])  # fmt: skip


def _allowed(problem: Problem, feature: str) -> str:
    """What the values of a feature may be; made features take what comes out."""
    column = problem.columns.get(feature)
    if column is None:
        return "any"
    values = "any"
    if column.allowed is not None:
        values = ", ".join(column.allowed)
    elif column.min is not None or column.max is not None:
        values = value_range(column.min, column.max)
    return values + "; may be missing" * column.nullable


def _checks(problem: Problem, facts: Facts) -> Section:
    failed = sum(not one["passed"] for one in facts.findings)
    leaks = problem.dataset.leaks
    rows = []
    for one in facts.findings:
        cure = f"; next: {one['cure']}" if one["cure"] else ""
        rows.append([one["name"], "passed" if one["passed"] else "FAILED", one["reason"] + cure])
    return Section("Whether it leaks", [
        f"{len(rows)} checks, {failed} failed." + " The set must not be used." * bool(failed),
        Table(["check", "verdict", "found"], rows),
        f"May predict well alone, since somebody has looked at them: {', '.join(leaks.accepted) or 'no feature'}.",
        *([] if leaks.duplicates else ["Equal rows in two splits are not looked for (dataset.leaks.duplicates)."]),
    ])  # fmt: skip


def _keeping(problem: Problem, facts: Facts) -> Section:
    versions = {f"Table {name}": "not written" if version is None else f"version {version}"
                for name, version in facts.table_versions.items()}  # fmt: skip
    return Section("How it is kept", [
        "In Delta Lake tables (Parquet files and a log of versions): the rows in training_sets under this set's id, "
        "their features in features. A set is never changed: other data or settings make another set.",
        pairs({
            "Training set": facts.training_set,
            "Newest partition": facts.partition,
            "Feature set": problem.feature_set,
            "Configuration": problem.config_hash,
            "Git commit": facts.git_commit or "not known",
            **versions,
        }),
        f"Ask {problem.owner} about it.",
    ])  # fmt: skip


def _limits(problem: Problem, facts: Facts) -> Section:
    labels, dataset = problem.labels, problem.dataset
    unlabelled = facts.excluded.get("unlabelled", 0)
    items = [
        "Labels are as they were known at the cut-off above: later corrections are not in the set.",
        "History features look back on what was ingested; groups without a past have none, and the oldest rows have "
        "less of it than the newest.",
        "What the config says of a column (that it is known by the cut-off, what it means) is somebody's word; the "
        "checks look for contradictions and cannot prove it.",
    ]
    if labels.after_maturity == "negative":
        items.append("Events without a label count as negative: those whose label was lost, or is later than "
                     f"{labels.mature_after_days} days, are wrong.")  # fmt: skip
    elif unlabelled:
        items.append(f"{number(unlabelled)} events have no label and are not in the set. If they differ from the "
                     "others, the set speaks for the labelled ones alone.")  # fmt: skip
    for one in facts.splits if problem.task == "multiclass" else ():
        absent = [name for name in problem.classes if not one["classes"][name]]
        if absent:
            items.append(f"The {one['split']} split has no row of {', '.join(absent)}: of these classes nothing is "
                         f"{'learnt' if one['split'] == 'train' else 'measured'} there.")  # fmt: skip
    guesses = sorted(set(labels.use) & {"weak", "self_trained"})
    if guesses:
        items.append(f"Labels of the sources {', '.join(guesses)} are guesses: their confidence is an estimate.")
    if not dataset.split.embargo:
        items.append("There is no embargo: validation and test may look better than service will be.")
    if dataset.sampling.method != "all" and not (dataset.sampling.correct or dataset.sampling.method == "importance"):
        items.append("The training split is a sample without weights: it may not look like the whole.")
    if dataset.leaks.accepted:
        items.append(f"Accepted though they alone predict well: {', '.join(dataset.leaks.accepted)}.")
    items += _power(facts)
    return Section("Known limits", [Listing(items)])


def _power(facts: Facts) -> list[str]:
    """How small a difference between two models the held-out rows show, and where that is more than the gate asks."""
    items = []
    for split in ("validation", "test"):
        if shown := facts.power.get(split):
            differences = ", ".join(f"{value:.3g} in {metric}" for metric, value in shown["detectable"].items())
            items.append(f"{number(shown['rows'])} {split} rows in {number(shown['blocks'])} blocks show a difference "
                         f"between two models of {differences or 'no size'}.")  # fmt: skip
    return items + [f"{warning[0].upper()}{warning[1:]}." for warning in facts.power.get("warnings", [])]
