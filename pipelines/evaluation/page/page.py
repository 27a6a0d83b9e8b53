"""The page of an evaluation: what a challenger can do, beside the baselines and the champion, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

from pipelines.config import delivery_at
from pipelines.documents.dataset import Power
from pipelines.documents.evaluation import (
    Champion,
    Evaluation,
    GateVerdict,
    LeakCheck,
    Report,
    Rival,
    Selection,
)
from pipelines.documents.measures import Interval, Measured
from pipelines.evaluation.page.findings import Findings, findings
from pipelines.html import plots
from pipelines.html.columns import Table, interval, number, text
from pipelines.html.render import render
from pipelines.html.wording import (
    METRIC_WORDS,
    NOT_MEASURED,
    figure,
    in_order,
    interval_text,
    is_number,
    resampled,
    span,
)


class CheckLine(NamedTuple):
    check: str | None
    passed: bool
    reason: str | None


class VerdictPart(NamedTuple):
    """`checks`: those that failed come first. `reasons`: of those that failed."""

    passed: bool
    checks: list[CheckLine]
    reasons: list[str | None]


class MetricsPart(NamedTuple):
    intervals: str
    table: Table


class GainLine(NamedTuple):
    metric: str
    over: str
    gain: Interval | None
    judged: str


class GainsPart(NamedTuple):
    """`unknown`: what the challenger is compared with, but no gain over which was measured."""

    lines: list[GainLine]
    picture: Markup | None
    unknown: list[str]


class ConfusionCell(NamedTuple):
    """The weight of the rows, and its share of the line."""

    weight: float
    share: float


class ConfusionPart(NamedTuple):
    """Lines by actual class, their cells by decided class."""

    classes: list[str]
    lines: list[list[ConfusionCell]]


class DecisionsPart(NamedTuple):
    task: str | None
    threshold: float | None
    curves: list[Markup | None]
    confusion: ConfusionPart | None


class CalibrationPart(NamedTuple):
    task: str | None
    ece: float | None
    brier: float | None
    picture: Markup | None
    bins: Table


@dataclass(frozen=True)
class EvaluationPage:
    """What the template draws; a part that is None was not measured. `leaks`: what the checks found."""

    verdict: VerdictPart | None
    compared: Mapping[str, str | None]
    leaks: list[str] | None
    metrics: MetricsPart | None
    gains: GainsPart
    candidates: Table | None
    left_out: Mapping[str, str]
    decisions: DecisionsPart
    calibration: CalibrationPart | None
    findings: Findings


def page(evaluation: Evaluation, verdict: GateVerdict | None = None) -> bytes:
    """One HTML page, which needs nothing else: no script, no other file; equal evaluations give equal bytes.

    `evaluation` is what the gate judges, `verdict` what it said. What is not in them is shown as not measured.
    """
    report: Report = evaluation.get("challenger") or {}
    drawn = EvaluationPage(
        verdict=None if verdict is None else _verdict(verdict),
        compared=_compared(evaluation, report),
        leaks=_leaks(evaluation.get("leaks")),
        metrics=_metrics(evaluation, report),
        gains=_gains(evaluation),
        candidates=_candidates(evaluation, report),
        left_out=evaluation.get("left_out") or {},
        decisions=_decisions(report),
        calibration=_calibration(report),
        findings=findings(evaluation, report),
    )
    title = f"Evaluation of {report.get('candidate', 'a challenger')}, data until {evaluation.get('partition', '?')}"
    return render("evaluation.html", title, drawn)


def _verdict(verdict: GateVerdict) -> VerdictPart:
    checks = [
        CheckLine(check.get("name"), check.get("passed") is True, check.get("reason"))
        for check in verdict.get("checks") or []
    ]
    checks.sort(key=lambda check: check.passed)
    reasons = [check.reason for check in checks if not check.passed]
    return VerdictPart(verdict.get("passed") is True, checks, reasons)


def _compared(evaluation: Evaluation, report: Report) -> dict[str, str | None]:
    champion = evaluation.get("champion")
    if champion:
        rival = f"version {champion.get('version')} (run {champion.get('run_id')}), which learnt from data until "
        rival += str(champion.get("trained_until"))
    else:
        rival = "none serves yet" if "champion" in evaluation else NOT_MEASURED
    baselines = evaluation.get("baselines") or {}
    classes = report.get("classes") or []
    return {
        "Challenger": f"{report.get('candidate', NOT_MEASURED)} (run {report.get('run_id', NOT_MEASURED)})",
        "Chosen by": _chosen(evaluation.get("selection")),
        "Champion": rival,
        "Baselines": ", ".join(baselines) or NOT_MEASURED,
        "Task": f"{evaluation.get('task', NOT_MEASURED)}{': ' * bool(classes)}{', '.join(map(str, classes))}",
        "Test rows": figure(evaluation.get("test_rows")),
        "Test partitions": span(evaluation.get("test_partitions")),
        **_times(evaluation, report),
        "Training": evaluation.get("training", NOT_MEASURED),
        "Differences that the rows show": _power(evaluation.get("power")),
    }


def _times(evaluation: Evaluation, report: Report) -> dict[str, str]:
    """When the test rows happened, and until when all was known; of deliveries, which have no times, in their order."""
    as_of = evaluation.get("as_of")
    if evaluation.get("is_drawn"):
        split = "drawn by chance, of each delivery some: how good a model is once the world has moved they do not show"
        return {"Test split": split, "Knows nothing of": f"{delivery_at(as_of)} and later" if as_of else NOT_MEASURED}
    ends = (report.get("first_event"), report.get("last_event"))
    return {
        "First and last event": " to ".join(str(end or NOT_MEASURED) for end in ends),
        "Knows nothing learnt at or after": as_of or NOT_MEASURED,
    }


def _chosen(selection: Selection | None) -> str:
    """Which candidate is best on the validation rows, and from which others these cannot tell it."""
    if not selection:
        return NOT_MEASURED
    values = ", ".join(f"{name} {figure(value)}" for name, value in (selection.get("values") or {}).items())
    ties = ", ".join(f"{name} ({interval_text(gain)})" for name, gain in (selection.get("ties") or {}).items())
    words = f"{selection.get('metric')} on the validation rows: {values}"
    return words + (f"; a tie, the better mean was taken: gain over {ties}" if ties else "")


def _power(power: Power | None) -> str:
    if not power:
        return NOT_MEASURED
    parts = []
    for split, shown in (("validation", power.get("validation")), ("test", power.get("test"))):
        differences = (shown.get("detectable") if shown else None) or {}
        words = ", ".join(f"{figure(value)} in {metric}" for metric, value in differences.items())
        parts.append(f"{split}: {words or 'none'}")
    return "; ".join([*parts, *map(str, power.get("warnings") or [])])


def _leaks(leaks: LeakCheck | None) -> list[str] | None:
    if not leaks or not leaks.get("checked"):
        return None
    return list(leaks.get("findings") or [])


def _metrics(evaluation: Evaluation, report: Report) -> MetricsPart | None:
    metrics = report.get("metrics") or {}
    if not metrics:
        return None
    rivals = {name: rival.metrics for name, rival in _rivals(evaluation).items()}
    columns = [text("metric"), interval("challenger"), *map(number, rivals), text("what it says")]
    rows = [
        [name, metrics[name], *(values.get(name) for values in rivals.values()), METRIC_WORDS.get(name, "")]
        for name in in_order(metrics)
    ]
    return MetricsPart(resampled(report.get("bootstrap")), Table(columns, rows))


def _gains(evaluation: Evaluation) -> GainsPart:
    lines, unknown = [], []
    for name, rival in _rivals(evaluation).items():
        gains = rival.gain
        lines += [GainLine(metric, name, gains[metric], _judged(gains[metric])) for metric in in_order(gains)]
        if not gains:
            unknown.append(name)
    drawn = [(f"{line.metric}, over {line.over}", line.gain) for line in lines]
    return GainsPart(lines, plots.forest("gains", "Gains of the challenger", drawn), unknown)


def _judged(gain: Interval | None) -> str:
    low, high = (gain.get("low"), gain.get("high")) if gain else (None, None)
    if not (is_number(low) and is_number(high)):
        return NOT_MEASURED
    return "better" if low > 0 else "worse" if high < 0 else "not told apart"


def _candidates(evaluation: Evaluation, report: Report) -> Table | None:
    candidates = {name: values or {} for name, values in (evaluation.get("candidates") or {}).items()}
    if not candidates:
        return None
    metrics = in_order(metric for values in candidates.values() for metric in values)
    chosen = report.get("candidate")
    rows = [
        [f"{name} (challenger)" if name == chosen else name, *(values.get(metric) for metric in metrics)]
        for name, values in candidates.items()
    ]
    return Table([text("candidate"), *map(number, metrics)], rows)


def _decisions(report: Report) -> DecisionsPart:
    curves, threshold = report.get("curves") or {}, report.get("threshold")
    marks = [(float(threshold), f"threshold {figure(threshold)}")] if is_number(threshold) else []
    precision = _axes(curves.get("precision_recall"), "recall", "precision")
    rates = _axes(curves.get("roc"), "false_positive_rate", "true_positive_rate")
    costs = _axes(curves.get("threshold_cost"), "threshold", "cost")
    drawn = [
        plots.curve("precision_recall", "Precision and recall", *precision, is_share=True),
        plots.curve("roc", "ROC", *rates, is_share=True, has_diagonal=True),
        plots.curve("threshold_cost", "Cost by threshold", *costs, marks=marks),
    ]
    confusion = _confusion(report.get("confusion"), report.get("classes") or [])
    return DecisionsPart(report.get("task"), threshold, drawn, confusion)


def _axes(
    curve: Mapping[str, list[float]] | None, x: str, y: str
) -> tuple[tuple[list[float], list[float]], tuple[str, str]]:
    """A curve's points and the labels of its axes."""
    points = curve or {}
    return (points.get(x) or [], points.get(y) or []), (x.replace("_", " "), y.replace("_", " "))


def _confusion(weights: list[list[float]] | None, classes: Sequence[str]) -> ConfusionPart | None:
    if not weights:
        return None
    lines = []
    for weights_of_class in weights:
        total = sum(weights_of_class)
        lines.append([ConfusionCell(float(value), value / total if total else 0.0) for value in weights_of_class])
    names = [str(classes[place]) if place < len(classes) else str(place) for place in range(len(lines))]
    return ConfusionPart(names, lines)


def _calibration(report: Report) -> CalibrationPart | None:
    calibration = report.get("calibration")
    if not calibration or not calibration.get("bins"):
        return None
    bins = calibration["bins"]
    task = report.get("task")
    labels = {
        "regression": ("mean prediction", "mean label"),
        "multiclass": ("mean score of the top class", "share of rows that are of it"),
    }.get(str(task), ("mean score", "share of positives"))
    rows = [[each.get("mean_score"), {**each, "value": each.get("rate")}, each.get("rows")] for each in bins]
    return CalibrationPart(
        task=task,
        ece=calibration.get("ece"),
        brier=calibration.get("brier"),
        picture=plots.reliability("reliability", bins, labels, is_share=task != "regression"),
        bins=Table([number(labels[0]), interval(labels[1]), number("rows")], rows),
    )


class _Rival(NamedTuple):
    """What the challenger is compared with: how good it is, and the challenger's gains over it."""

    metrics: Measured
    gain: dict[str, Interval]


def _rivals(evaluation: Evaluation) -> dict[str, _Rival]:
    """What the challenger is compared with, by name."""
    rivals = {str(name): _rival(baseline) for name, baseline in (evaluation.get("baselines") or {}).items()}
    champion = evaluation.get("champion")
    if champion:
        rivals[f"champion {champion.get('version', '')}".strip()] = _rival(champion)
    return rivals


def _rival(measured: Rival | Champion | None) -> _Rival:
    if not measured:
        return _Rival({}, {})
    return _Rival(measured.get("metrics") or {}, measured.get("gain") or {})
