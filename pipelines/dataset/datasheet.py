"""datasheet: what a training set is, for whoever has to answer for it.

The questions are those of Gebru et al. (Datasheets for Datasets, 2021) and of Burkov, ch. 3, on documenting data:
what the data means and is for, how it was collected, split and prepared, what was left out and why, how it is kept,
what its attributes are and may be, how many examples there are, and what is wrong with it.
"""

from __future__ import annotations

from typing import Any

from pipelines.dataset import provenance
from pipelines.dataset.facts import QUANTILES, Facts
from pipelines.documents.dataset import SplitCount
from pipelines.html.columns import Column, Table, number, share, text
from pipelines.html.document import Document, Listing, Pairs, Section, document
from pipelines.html.wording import figure, percent, value_range
from pipelines.problem import Problem


def datasheet(problem: Problem, facts: Facts) -> Document:
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
    return document(f"Training set {facts.training_set} of {problem.name}", sections)


def _purpose(problem: Problem, facts: Facts) -> Section:
    predicted, values = {
        "binary": ("the probability of label 1", "1 (positive), 0 (negative)"),
        "multiclass": ("the probability of each class", ", ".join(problem.classes)),
        "regression": ("a number", "any finite number"),
    }[problem.task]
    return Section(
        "What it is for",
        [
            problem.description,
            Pairs(
                {
                    "Owner": problem.owner,
                    "Tags": ", ".join(problem.tags) or "none",
                    "A row stands for": f"one event, named by {problem.key}, as it is known when its prediction is due",
                    "What is predicted": f"{predicted}. {problem.labels.description}".strip(),
                    "Values of the label": values,
                    "Made for": "training, choosing and testing the models of this problem; and for nothing else",
                    "Knows nothing learnt at or after": problem.partitions.place_of(facts.as_of),
                }
            ),
        ],
    )


def _counts(problem: Problem, facts: Facts) -> Section:
    words = f"{figure(sum(split['rows'] for split in facts.splits))} rows"
    if problem.task == "binary":
        words += f", {figure(sum(split['positives'] for split in facts.splits))} of them positive,"
    elif problem.task == "multiclass":
        words += f" of {len(problem.classes)} classes,"
    columns = [text("split"), number("partitions"), number("rows"), *_label_columns(problem)]
    columns += [number("mean weight"), text("first event"), text("last event")]
    rows = []
    for split in facts.splits:
        counts = [split["partitions"], split["rows"]]
        ends = [problem.partitions.place_of(split["first_event"]), problem.partitions.place_of(split["last_event"])]
        rows.append([split["split"], *counts, *_label_cells(problem, split), split["mean_weight"], *ends])
    return Section("How much it holds", [f"{words} with {len(facts.features)} features each.", Table(columns, rows)])


def _label_columns(problem: Problem) -> list[Column]:
    match problem.task:
        case "binary":
            return [number("positive"), share("positive rate")]
        case "multiclass":
            return [number(name) for name in problem.classes]
        case "regression":
            return [number(name) for name in ("mean", "sd", "min", *(f"{at:.0%}" for at in QUANTILES), "max")]


def _label_cells(problem: Problem, split: SplitCount) -> list[Any]:
    """What the labels of a split are like, under `_label_columns`."""
    match problem.task:
        case "binary":
            return [split["positives"], split["positive_rate"]]
        case "multiclass":
            counts = split["classes"]
            return [f"{figure(counts[name])} ({percent(counts[name] / split['rows'])})" for name in problem.classes]
        case "regression":
            return [split["mean"], split["sd"], split["min"], *split["quantiles"], split["max"]]


def _features(problem: Problem, facts: Facts) -> Section:
    columns = [*map(text, ("feature", "type", "unit", "what it is", "allowed", "seen"))]
    columns += [number("distinct"), share("coverage"), text("known"), text("made of"), text("owner")]
    rows = []
    for feature in facts.features:
        what = ". ".join(part for part in (feature.get("description"), feature.get("definition")) if part)
        rows.append(
            [
                feature["name"],
                feature["type"],
                feature.get("unit") or "none",
                what or "not described",
                _allowed(problem, feature["name"]),
                value_range(feature.get("min"), feature.get("max")),
                feature.get("distinct"),
                feature.get("coverage"),
                feature.get("available") or "not declared",
                ", ".join(feature.get("source_columns") or []) or "not known",
                feature.get("owner") or problem.owner,
            ]
        )
    lead = "In the model's order. Coverage is the share of training rows that have a value, seen the range in them."
    return Section("Its features", [lead, Table(columns, rows)])


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
    failed = sum(not finding["passed"] for finding in facts.findings)
    leaks = problem.dataset.leaks
    rows = []
    for finding in facts.findings:
        cure = f"; next: {finding['cure']}" if finding["cure"] else ""
        rows.append([finding["name"], "passed" if finding["passed"] else "FAILED", finding["reason"] + cure])
    return Section(
        "Whether it leaks",
        [
            f"{len(rows)} checks, {failed} failed." + " The set must not be used." * bool(failed),
            Table([text("check"), text("verdict"), text("found")], rows),
            f"May predict well alone, since somebody has looked at them: {', '.join(leaks.accepted) or 'no feature'}.",
            *([] if leaks.duplicates else ["Equal rows in two splits are not looked for (dataset.leaks.duplicates)."]),
        ],
    )


def _keeping(problem: Problem, facts: Facts) -> Section:
    versions = {
        f"Table {name}": "not written" if version is None else f"version {version}"
        for name, version in facts.table_versions.items()
    }
    return Section(
        "How it is kept",
        [
            "In Delta Lake tables (Parquet files and a log of versions): the rows in training_sets under this "
            "set's id, their features in features. A set is never changed: other data or settings make another set.",
            Pairs(
                {
                    "Training set": facts.training_set,
                    "Newest partition": facts.partition,
                    "Feature set": problem.feature_set,
                    "Configuration": problem.config_hash,
                    "Git commit": facts.git_commit or "not known",
                    **versions,
                }
            ),
            f"Ask {problem.owner} about it.",
        ],
    )


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
        items.append(
            "Events without a label count as negative: those whose label was lost, or is later than "
            f"{labels.mature_after_days} days, are wrong."
        )
    elif unlabelled:
        items.append(
            f"{figure(unlabelled)} events have no label and are not in the set. If they differ from the "
            "others, the set speaks for the labelled ones alone."
        )
    for split in facts.splits if problem.task == "multiclass" else ():
        absent = [name for name in problem.classes if not split["classes"][name]]
        if absent:
            items.append(
                f"The {split['split']} split has no row of {', '.join(absent)}: of these classes nothing is "
                f"{'learnt' if split['split'] == 'train' else 'measured'} there."
            )
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
    if facts.power is None:
        return []
    items = []
    for split, shown in (("validation", facts.power["validation"]), ("test", facts.power["test"])):
        differences = ", ".join(f"{value:.3g} in {metric}" for metric, value in shown["detectable"].items())
        items.append(
            f"{figure(shown['rows'])} {split} rows in {figure(shown['blocks'])} blocks show a difference "
            f"between two models of {differences or 'no size'}."
        )
    return items + [f"{warning[0].upper()}{warning[1:]}." for warning in facts.power["warnings"]]
