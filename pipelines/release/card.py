"""card: what a model version is, is for and can do, for whoever has to decide whether to use it.

The headings are those of Mitchell et al. (Model Cards for Model Reporting, 2019). Every sentence says what somebody
declared or what was measured; what was not measured is called that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.dataset.label import SPLITS
from pipelines.documents.dataset import DatasetFacts, SplitCount
from pipelines.documents.evaluation import Report
from pipelines.documents.lineage import Fingerprint, VersionLineage
from pipelines.html.columns import Table, number, text
from pipelines.html.document import Block, Document, Listing, Pairs, Section, document
from pipelines.html.wording import MOVED, NOT_MEASURED, figure, interval_text, is_number, percent, span, worst_first
from pipelines.problem import Problem
from pipelines.release.card_findings import findings
from pipelines.release.lineage import table_versions

WORST = 5  # slices that are named
SHOWN_LIMITS = 3  # on the first screen
MEASURED = ("metrics", "slices", "fairness", "behaviours", "calibration", "importances", "drift", "unseen")


def card(problem: Problem, report: Report, lineage: VersionLineage, datasheet: DatasetFacts) -> Document:
    """The same card twice: Markdown, and one self-contained page of HTML; equal facts give equal bytes.

    `problem` is the one that the version was trained with, `report` its evaluation on the test rows, `lineage` its
    lineage as the store keeps it (with "version", if it has one), `datasheet` the facts of its training set
    (`dataclasses.asdict(Facts)`).
    """
    version = lineage.get("version")
    title = f"Model card: {problem.name}" + f" version {version}" * (version is not None)
    limits = _limits(problem, report, datasheet)
    sections = [
        _in_short(problem, report, lineage, limits),
        _details(problem, report, lineage),
        _use(problem, report),
        _data(problem, report, lineage, datasheet),
        *findings(report),
        Section("Known limits", [Listing(limits)] if limits else ["None were found by what was measured."]),
        _lineage(lineage),
        _again(problem, lineage),
    ]
    return document(title, sections)


def _in_short(problem: Problem, report: Report, lineage: VersionLineage, limits: Sequence[str]) -> Section:
    """What somebody has to know who reads nothing else."""
    metric, learnt = problem.training.select_by, _splits(lineage).get("train")
    value = (report.get("metrics") or {}).get(metric)
    rows = f"{figure(report.get('rows'))} test rows of {span(report.get('partitions'))}"
    others = f" And {len(limits) - SHOWN_LIMITS} more, below." if len(limits) > SHOWN_LIMITS else ""
    return Section(
        "In short",
        [
            problem.description,
            Pairs(
                {
                    "How good": f"{metric} {interval_text(value)} on {rows}",
                    "Learnt from": f"{figure(learnt['rows'])} rows of {span(learnt.get('partitions'))}"
                    if learnt
                    else NOT_MEASURED,
                    "Made": _made(lineage),
                    "Known limits": " ".join(limits[:SHOWN_LIMITS]) + others if limits else "none were found",
                    "Ask": problem.owner,
                }
            ),
        ],
    )


def _details(problem: Problem, report: Report, lineage: VersionLineage) -> Section:
    searched = lineage.get("parameters") or {}
    candidate = problem.training.candidates.get(str(lineage.get("candidate")))
    own = candidate.parameters if candidate else {}
    size = report.get("size_bytes")
    return Section(
        "The model",
        [
            Pairs(
                {
                    "Problem": problem.name,
                    "Version": _known(lineage.get("version")),
                    "Candidate": _known(lineage.get("candidate")),
                    "Kind": _known(lineage.get("model")),
                    "Parameters": _settings({**own, **searched}),
                    "Of these searched": ", ".join(searched) or "none",
                    "Made": _made(lineage),
                    "Fitted again": _fitted_again(lineage),
                    "Run": _known(lineage.get("run_id") or report.get("run_id")),
                    "Size": f"{size / 1e6:,.2f} MB" if is_number(size) else NOT_MEASURED,
                    "Time for one row": f"{figure(report.get('latency_ms'))} ms (median)"
                    if is_number(report.get("latency_ms"))
                    else NOT_MEASURED,
                    "Owner": problem.owner,
                }
            )
        ],
    )


def _made(lineage: VersionLineage) -> str:
    parent, start = lineage.get("parent"), lineage.get("window_from")
    words = {
        "continue": "continued from version {}: its trees, and more that learnt from newer rows alone",
        "recalibrate": "version {}, its scores calibrated again on newer rows",
        "fallback": "a baseline, that serves because version {} was not good enough",
    }
    how = words.get(str(lineage.get("how")), "from scratch").format(parent or lineage.get("replaces"))
    return how + f"; of partitions from {start} on" * (start is not None)


def _fitted_again(lineage: VersionLineage) -> str:
    """What the figures on the card are of, and what serves."""
    refit = lineage.get("refit")
    if not refit:
        return "no: what was measured serves"
    rows = refit["rows"]
    learnt = f"{figure(rows['rows'])} rows of {span(rows['partitions'])}, those of the test among them"
    measured = f"measured, here and in its evaluation, was run {refit['of']}"
    return f"what serves was fitted again after its gate on {learnt}; {measured}"


def _use(problem: Problem, report: Report) -> Section:
    answer = {
        "binary": "the probability of label 1",
        "multiclass": f"the probability of each class: {', '.join(problem.classes)}",
        "regression": "a number, the label's expected value",
    }[problem.task]
    decision = {
        "binary": f"1 from a score of {figure(report.get('threshold'))} on",
        "multiclass": "the class that costs least by the costs below"
        if problem.costs.matrix
        else "the class with the highest probability",
        "regression": "none: the number is the answer",
    }[problem.task]
    costs = [
        f"{actual}, decided {decided}: {figure(cost)} {problem.costs.unit}".strip()
        for actual, row in problem.costs.matrix.items()
        for decided, cost in row.items()
    ]
    costs += [
        f"predicted one too {word}: {figure(value)} {problem.costs.unit}".strip()
        for word, value in (("much", problem.costs.over), ("little", problem.costs.under))
        if value
    ]
    return Section(
        "What it is for",
        [
            problem.description,
            Pairs(
                {
                    "A row stands for": f"one event, named by {problem.key}, as it is known when its prediction is due",
                    "It predicts": answer,
                    "It decides": decision,
                    "The label": problem.labels.description or "not described",
                    "Features it asks for": ", ".join(problem.feature_names),
                    "Costs of decisions": "; ".join(costs) or "none are declared",
                    "Tags": ", ".join(problem.tags) or "none",
                }
            ),
            "Out of scope: any other question, label or kind of row than these, and rows without these features as "
            "they are known at the cut-off. Nothing here was measured on such.",
        ],
    )


def _data(problem: Problem, report: Report, lineage: VersionLineage, datasheet: DatasetFacts) -> Section:
    splits = _splits(lineage)
    counts = {str(split.get("split")): split for split in datasheet.get("splits") or []}
    rows = []
    for name, facts in splits.items():
        counted = counts.get(name)
        first, last = (counted.get("first_event"), counted.get("last_event")) if counted else (None, None)
        ends = [problem.partitions.place_of(end) if end else _known(end) for end in (first, last)]
        cells = [span(facts.get("partitions")), facts.get("rows"), *ends]
        rows.append([name, *cells, _labels(counted) if counted else NOT_MEASURED])
    columns = [text("split"), text("partitions"), number("rows"), text("first event"), text("last event")]
    sources = [
        [str(source.get("split")), str(source.get("source")), source.get("rows"), source.get("mean_confidence")]
        for source in datasheet.get("label_sources") or []
    ]
    source_columns = [text("split"), text("source of labels"), number("rows"), number("mean confidence")]
    left_out = datasheet.get("excluded") or {}
    as_of = lineage.get("as_of")
    moment = problem.partitions.place_of(as_of) if as_of else NOT_MEASURED
    blocks: list[Block] = [
        f"Knows nothing learnt at or after {moment}. Measured on the test rows, "
        f"{span(report.get('partitions'))}, which nothing was fitted or chosen on.",
        Table([*columns, text("labels")], rows),
        Table(source_columns, sources) if sources else f"Sources of labels: {NOT_MEASURED}.",
    ]
    if left_out:
        blocks.append("Left out: " + ", ".join(f"{figure(rows)} {reason}" for reason, rows in left_out.items()) + ".")
    blocks.append(f"The datasheet of training set {_known(lineage.get('training_set'))} says more.")
    return Section("Data", blocks)


def _labels(counts: SplitCount) -> str:
    """What the labels of a split are like, of whichever task they are."""
    if "positive_rate" in counts:
        return f"{percent(counts['positive_rate'])} positive"
    if "classes" in counts:
        return ", ".join(f"{name} {figure(rows)}" for name, rows in counts["classes"].items())
    return f"mean {figure(counts['mean'])}, sd {figure(counts.get('sd'))}" if "mean" in counts else NOT_MEASURED


def _limits(problem: Problem, report: Report, datasheet: DatasetFacts) -> list[str]:
    slices = report.get("slices")
    looked_at = [*(slices.get("declared") or []), *(slices.get("found") or [])] if slices else []
    worst = [
        each_slice
        for each_slice in worst_first(looked_at)
        if each_slice.get("is_significant")
        and is_number(loss := (each_slice.get("loss") or {}).get("value"))
        and loss > 0
    ]
    named = dict.fromkeys(str(each_slice.get("name")) for each_slice in worst)
    items = [f"Does worse where {name}." for name in list(named)[:WORST]]
    failed = [behaviour for behaviour in report.get("behaviours") or [] if behaviour.get("passed") is not True]
    items += [
        f"Failed the behaviour test {behaviour.get('name')}: {figure(behaviour.get('value'))}, "
        f"wanted {behaviour.get('wanted')}."
        for behaviour in failed
    ]
    items += [f"Does not see {feature}: {why}." for feature, why in (report.get("dropped") or {}).items()]
    items += [
        f"Test rows with a value of {feature} that training had not: {figure(rows)}."
        for feature, rows in (report.get("unseen") or {}).items()
        if rows
    ]
    drift = report.get("drift")
    distances = drift.get("columns") or {} if drift else {}
    moved = {name: value for name, value in distances.items() if is_number(value) and value > MOVED}
    items += [f"{name} had moved between training and test rows: PSI {figure(value)}." for name, value in moved.items()]
    guesses = sorted(set(problem.labels.use) & {"weak", "self_trained"})
    if guesses:
        items.append(f"Learnt from labels that are guesses: {', '.join(guesses)}.")
    items += [
        f"A check of its training set failed: {finding.get('reason')}."
        for finding in datasheet.get("findings") or []
        if finding.get("passed") is not True
    ]
    gaps = [name for name in MEASURED if report.get(name) is None]
    if gaps:
        items.append(f"Not measured: {', '.join(gaps)}.")
    return items


def _lineage(lineage: VersionLineage) -> Section:
    around = lineage.get("surroundings") or {}
    splits, seeds = _splits(lineage), lineage.get("seeds") or {}
    return Section(
        "What it is made of",
        [
            Pairs(
                {
                    "Training set": _known(lineage.get("training_set")),
                    "Feature set": _known(lineage.get("feature_set")),
                    "Configuration": _known(lineage.get("config_hash")),
                    **{f"Table {name}": version for name, version in table_versions(lineage).items()},
                    **{f"Rows of {name} (SHA-256)": _known(facts.get("hash")) for name, facts in splits.items()},
                    **{f"{name}.sql (SHA-256)": value for name, value in (lineage.get("queries") or {}).items()},
                    "Seeds": _settings(seeds),
                    "Git commit": _known(around.get("git_commit")),
                    "Lock file (SHA-256)": _known(around.get("lock_file")),
                    "Python": _known(around.get("python")),
                    "System": _known(around.get("system")),
                    "Packages": _settings(around.get("packages") or {}),
                }
            ),
        ],
    )


def _again(problem: Problem, lineage: VersionLineage) -> Section:
    version = lineage.get("version")
    if version is None:
        return Section("How to make it again", ["It has no version yet, so it cannot be named."])
    return Section(
        "How to make it again",
        [
            f"evergreen reproduce {problem.name}@{version} rebuilds the rows from the tables at the versions above, "
            "fits the candidate again and compares the predictions of the test rows; it names what is different today.",
        ],
    )


def _splits(lineage: VersionLineage) -> dict[str, Fingerprint]:
    """Facts of each split, oldest first; JSON has lost their order."""
    splits = lineage.get("splits") or {}
    return {name: splits[name] for name in SPLITS if name in splits}


def _settings(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "none"


def _known(value: object, otherwise: str = "not known") -> str:
    return otherwise if value is None else str(value)
