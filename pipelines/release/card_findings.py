"""The middle of a model card: what was measured of the model on the test rows."""

from __future__ import annotations

from pipelines.documents.evaluation import Report
from pipelines.html.columns import Table, interval, number, share, text
from pipelines.html.document import Block, Section
from pipelines.html.wording import (
    FAIRNESS_WORDS,
    METRIC_WORDS,
    NOT_MEASURED,
    figure,
    in_order,
    resampled,
    worst_first,
)

UNKNOWN = f"{NOT_MEASURED.capitalize()}."


def findings(report: Report) -> list[Section]:
    """The sections, from a report as `evaluation.report` gives it."""
    sections = (_metrics, _slices, _fairness, _behaviour, _calibration, _importance)
    return [section(report) for section in sections]


def _metrics(report: Report) -> Section:
    metrics = report.get("metrics") or {}
    if not metrics:
        return Section("Metrics", [UNKNOWN])
    lead = f"On {figure(report.get('rows'))} test rows; in brackets {resampled(report.get('bootstrap'))}."
    columns = [text("metric"), interval("value"), text("what it says")]
    rows = [[name, metrics[name], METRIC_WORDS.get(name, "")] for name in in_order(metrics)]
    return Section("Metrics", [lead, Table(columns, rows)])


def _slices(report: Report) -> Section:
    slices = report.get("slices")
    if slices is None:
        return Section("Slices", [UNKNOWN])
    looked_at = figure(slices.get("looked_at"))
    blocks: list[Block] = [
        f"{looked_at} slices were looked at. Loss: the mean loss of a slice's rows less that of all others; above 0 "
        "the model does worse there."
    ]
    columns = [text("slice"), text(""), number("rows"), interval("loss"), text("sure after correction")]
    for kind, parts in (("declared", slices.get("declared")), ("found", slices.get("found"))):
        rows = []
        for part in worst_first(parts):
            is_sure = "yes" if part.get("is_significant") else "no"
            rows.append([str(part.get("name")), kind, part.get("rows"), part.get("loss"), is_sure])
        if rows:
            blocks.append(Table(columns, rows))
    return Section("Slices", blocks)


def _fairness(report: Report) -> Section:
    fairness = report.get("fairness")
    if not fairness:
        return Section("Fairness", [f"{NOT_MEASURED.capitalize()}: no groups are declared or compared."])
    columns = [text("groups"), text("measure"), interval("difference"), text("what it says")]
    rows = []
    for groups, measured in fairness.items():
        rows += [
            [str(groups), name.replace("_", " "), measured.get(name), words] for name, words in FAIRNESS_WORDS.items()
        ]
    return Section("Fairness", [Table(columns, rows)])


def _behaviour(report: Report) -> Section:
    behaviours = report.get("behaviours")
    if behaviours is None:
        return Section("Behaviour", [UNKNOWN])
    rows = []
    for test in behaviours:
        result = "passed" if test.get("passed") is True else "FAILED"
        rows.append([str(test.get("name")), str(test.get("kind")), result, test.get("value"), str(test.get("wanted"))])
    columns = [text("test"), text("kind"), text("result"), number("found"), text("wanted")]
    return Section("Behaviour", [Table(columns, rows) if rows else "None declared."])


def _calibration(report: Report) -> Section:
    calibration = report.get("calibration")
    if not calibration or not calibration.get("bins"):
        return Section("Calibration", [UNKNOWN])
    rows = [
        [each.get("mean_score"), {**each, "value": each.get("rate")}, each.get("rows")] for each in calibration["bins"]
    ]
    ece, brier = figure(calibration.get("ece")), figure(calibration.get("brier"))
    blocks: list[Block] = [Table([number("mean score"), interval("what happened"), number("rows")], rows)]
    if report.get("task") != "regression":
        blocks.insert(0, f"Expected calibration error {ece}, Brier score {brier}.")
    return Section("Calibration", blocks)


def _importance(report: Report) -> Section:
    importances = report.get("importances") or []
    if not importances:
        return Section("What it looks at", [UNKNOWN])
    lead = (
        "Share of each feature in the mean absolute SHAP values of test rows: how far it moves scores, not whether it "
        "should."
    )
    rows = [[str(each.get("feature")), each.get("share")] for each in importances]
    return Section("What it looks at", [lead, Table([text("feature"), share("share")], rows)])
