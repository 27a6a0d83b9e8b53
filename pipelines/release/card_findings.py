"""The middle of a model card: what was measured of the model on the test rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.html.document import Block, Section, Table
from pipelines.html.wording import (
    FAIRNESS_WORDS,
    METRIC_WORDS,
    NOT_MEASURED,
    figure,
    in_order,
    interval_text,
    percent,
    resampled,
    worst_first,
)

Dict = Mapping[str, Any]
UNKNOWN = f"{NOT_MEASURED.capitalize()}."


def findings(report: Dict) -> list[Section]:
    """The sections, from a report as `evaluation.report` gives it."""
    sections = (_metrics, _slices, _fairness, _behaviour, _calibration, _importance)
    return [section(report) for section in sections]


def _metrics(report: Dict) -> Section:
    found = report.get("metrics") or {}
    if not found:
        return Section("Metrics", [UNKNOWN])
    rows = [[name, interval_text(found[name]), METRIC_WORDS.get(name, "")] for name in in_order(found)]
    return Section("Metrics", [
        f"On {figure(report.get('rows'))} test rows; in brackets {resampled(report.get('bootstrap'))}.",
        Table(["metric", "value", "what it says"], rows),
    ])  # fmt: skip


def _slices(report: Dict) -> Section:
    found = report.get("slices")
    if not isinstance(found, Mapping):
        return Section("Slices", [UNKNOWN])
    blocks: list[Block] = [f"{figure(found.get('looked_at'))} slices were looked at. Loss: the mean loss of a slice's "
                           "rows less that of all others; above 0 the model does worse there."]  # fmt: skip
    for kind in ("declared", "found"):
        rows = [
            [str(one.get("name")), kind, figure(one.get("rows")), interval_text(one.get("loss")),
             "yes" if one.get("is_significant") else "no"]
            for one in worst_first(found.get(kind))
        ]  # fmt: skip
        if rows:
            blocks.append(Table(["slice", "", "rows", "loss", "sure after correction"], rows))
    return Section("Slices", blocks)


def _fairness(report: Dict) -> Section:
    found = report.get("fairness")
    if not found:
        return Section("Fairness", [f"{NOT_MEASURED.capitalize()}: no groups are declared or compared."])
    rows = [[str(column), name.replace("_", " "), interval_text(one.get(name)), words]
            for column, one in found.items() for name, words in FAIRNESS_WORDS.items()]  # fmt: skip
    return Section("Fairness", [Table(["groups", "measure", "difference", "what it says"], rows)])


def _behaviour(report: Dict) -> Section:
    found = report.get("behaviours")
    if found is None:
        return Section("Behaviour", [UNKNOWN])
    rows = [
        [str(one.get("name")), str(one.get("kind")), "passed" if one.get("passed") is True else "FAILED",
         figure(one.get("value")), str(one.get("wanted"))]
        for one in found
    ]  # fmt: skip
    blocks: list[Block] = [Table(["test", "kind", "result", "found", "wanted"], rows)] if rows else ["None declared."]
    return Section("Behaviour", blocks)


def _calibration(report: Dict) -> Section:
    found = report.get("calibration") or {}
    rows = [
        [
            figure(one.get("mean_score")),
            interval_text({"value": one.get("rate"), **_ends(one)}),
            figure(one.get("rows")),
        ]
        for one in found.get("bins") or []
    ]
    if not rows:
        return Section("Calibration", [UNKNOWN])
    errors = f"Expected calibration error {figure(found.get('ece'))}, Brier score {figure(found.get('brier'))}."
    told = [] if report.get("task") == "regression" else [errors]
    return Section("Calibration", [*told, Table(["mean score", "what happened", "rows"], rows)])


def _importance(report: Dict) -> Section:
    found = report.get("importances") or []
    if not found:
        return Section("What it looks at", [UNKNOWN])
    rows = [[str(one.get("feature")), percent(one.get("share"))] for one in found]
    return Section("What it looks at", [
        "Share of each feature in the mean absolute SHAP values of test rows: how far it moves scores, not whether it "
        "should.",
        Table(["feature", "share"], rows),
    ])  # fmt: skip


def _ends(one: Dict) -> dict[str, Any]:
    return {"low": one.get("low"), "high": one.get("high")}
