"""The page of an evaluation: what a challenger can do, beside the baselines and the champion, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from markupsafe import Markup

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

Dict = Mapping[str, Any]


class CheckLine(NamedTuple):
    check: Any
    passed: bool
    reason: Any


class VerdictPart(NamedTuple):
    """`checks`: those that failed come first. `reasons`: of those that failed."""

    passed: bool
    checks: list[CheckLine]
    reasons: list[Any]


class MetricsPart(NamedTuple):
    intervals: str
    table: Table


class GainLine(NamedTuple):
    metric: str
    over: str
    gain: Any
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
    task: Any
    threshold: Any
    curves: list[Markup | None]
    confusion: ConfusionPart | None


class CalibrationPart(NamedTuple):
    task: Any
    ece: Any
    brier: Any
    picture: Markup | None
    bins: Table


@dataclass(frozen=True)
class EvaluationPage:
    """What the template draws; a part that is None was not measured. `leaks`: what the checks found."""

    verdict: VerdictPart | None
    compared: Mapping[str, Any]
    leaks: list[Any] | None
    metrics: MetricsPart | None
    gains: GainsPart
    candidates: Table | None
    decisions: DecisionsPart
    calibration: CalibrationPart | None
    findings: Findings


def page(evaluation: Dict, verdict: Dict | None = None) -> bytes:
    """One HTML page, which needs nothing else: no script, no other file; equal evaluations give equal bytes.

    `evaluation` is what the gate judges, `verdict` what it said (`Verdict.to_dict`). What is not in them is shown as
    not measured.
    """
    report = _dict(evaluation.get("challenger"))
    drawn = EvaluationPage(
        verdict=None if verdict is None else _verdict(verdict),
        compared=_compared(evaluation, report),
        leaks=_leaks(evaluation.get("leaks")),
        metrics=_metrics(evaluation, report),
        gains=_gains(evaluation),
        candidates=_candidates(evaluation, report),
        decisions=_decisions(report),
        calibration=_calibration(report),
        findings=findings(evaluation, report),
    )
    title = f"Evaluation of {report.get('candidate', 'a challenger')}, data until {evaluation.get('partition', '?')}"
    return render("evaluation.html", title, drawn)


def _verdict(verdict: Dict) -> VerdictPart:
    checks = [
        CheckLine(check.get("name"), check.get("passed") is True, check.get("reason"))
        for check in verdict.get("checks") or []
    ]
    checks.sort(key=lambda check: check.passed)
    reasons = [check.reason for check in checks if not check.passed]
    return VerdictPart(verdict.get("passed") is True, checks, reasons)


def _compared(evaluation: Dict, report: Dict) -> dict[str, Any]:
    champion = evaluation.get("champion")
    if champion:
        rival = f"version {champion.get('version')} (run {champion.get('run_id')}), which learnt from data until "
        rival += str(champion.get("trained_until"))
    else:
        rival = "none serves yet" if "champion" in evaluation else NOT_MEASURED
    baselines = _dict(evaluation.get("baselines"))
    classes = report.get("classes") or []
    return {
        "Challenger": f"{report.get('candidate', NOT_MEASURED)} (run {report.get('run_id', NOT_MEASURED)})",
        "Chosen by": _chosen(evaluation.get("selection")),
        "Champion": rival,
        "Baselines": ", ".join(baselines) or NOT_MEASURED,
        "Task": f"{evaluation.get('task', NOT_MEASURED)}{': ' * bool(classes)}{', '.join(map(str, classes))}",
        "Test rows": figure(evaluation.get("test_rows")),
        "Test partitions": span(evaluation.get("test_partitions")),
        "First and last event": " to ".join(
            str(report.get(end) or NOT_MEASURED) for end in ("first_event", "last_event")
        ),
        "Knows nothing learnt at or after": evaluation.get("as_of", NOT_MEASURED),
        "Training": evaluation.get("training", NOT_MEASURED),
        "Differences that the rows show": _power(evaluation.get("power")),
    }


def _chosen(selection: Any) -> str:
    """Which candidate is best on the validation rows, and from which others these cannot tell it."""
    chosen = _dict(selection)
    if not chosen:
        return NOT_MEASURED
    values = ", ".join(f"{name} {figure(value)}" for name, value in _dict(chosen.get("values")).items())
    ties = ", ".join(f"{name} ({interval_text(gain)})" for name, gain in _dict(chosen.get("ties")).items())
    words = f"{chosen.get('metric')} on the validation rows: {values}"
    return words + (f"; a tie, the better mean was taken: gain over {ties}" if ties else "")


def _power(power: Any) -> str:
    measured = _dict(power)
    if not measured:
        return NOT_MEASURED
    parts = []
    for split in ("validation", "test"):
        differences = _dict(_dict(measured.get(split)).get("detectable"))
        words = ", ".join(f"{figure(value)} in {metric}" for metric, value in differences.items())
        parts.append(f"{split}: {words or 'none'}")
    return "; ".join([*parts, *map(str, measured.get("warnings") or [])])


def _leaks(leaks: Any) -> list[Any] | None:
    if not isinstance(leaks, Mapping) or not leaks.get("checked"):
        return None
    return list(leaks.get("findings") or [])


def _metrics(evaluation: Dict, report: Dict) -> MetricsPart | None:
    metrics = _dict(report.get("metrics"))
    if not metrics:
        return None
    rivals = {name: _dict(rival.get("metrics")) for name, rival in _rivals(evaluation).items()}
    columns = [text("metric"), interval("challenger"), *map(number, rivals), text("what it says")]
    rows = [
        [name, metrics[name], *(values.get(name) for values in rivals.values()), METRIC_WORDS.get(name, "")]
        for name in in_order(metrics)
    ]
    return MetricsPart(resampled(report.get("bootstrap")), Table(columns, rows))


def _gains(evaluation: Dict) -> GainsPart:
    lines, unknown = [], []
    for name, rival in _rivals(evaluation).items():
        gains = _dict(rival.get("gain"))
        lines += [GainLine(metric, name, gains[metric], _judged(gains[metric])) for metric in in_order(gains)]
        if not gains:
            unknown.append(name)
    drawn = [(f"{line.metric}, over {line.over}", line.gain) for line in lines]
    return GainsPart(lines, plots.forest("gains", "Gains of the challenger", drawn), unknown)


def _judged(gain: Any) -> str:
    low, high = (_dict(gain).get(end) for end in ("low", "high"))
    if not (is_number(low) and is_number(high)):
        return NOT_MEASURED
    return "better" if low > 0 else "worse" if high < 0 else "not told apart"


def _candidates(evaluation: Dict, report: Dict) -> Table | None:
    candidates = {name: _dict(values) for name, values in _dict(evaluation.get("candidates")).items()}
    if not candidates:
        return None
    metrics = in_order(metric for values in candidates.values() for metric in values)
    chosen = report.get("candidate")
    rows = [
        [f"{name} (challenger)" if name == chosen else name, *(values.get(metric) for metric in metrics)]
        for name, values in candidates.items()
    ]
    return Table([text("candidate"), *map(number, metrics)], rows)


def _decisions(report: Dict) -> DecisionsPart:
    curves, threshold = _dict(report.get("curves")), report.get("threshold")
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


def _axes(curve: Any, x: str, y: str) -> tuple[tuple[Any, Any], tuple[str, str]]:
    """A curve's points and the labels of its axes."""
    points = _dict(curve)
    return (points.get(x) or [], points.get(y) or []), (x.replace("_", " "), y.replace("_", " "))


def _confusion(weights: Any, classes: Sequence[str]) -> ConfusionPart | None:
    if not weights:
        return None
    lines = []
    for weights_of_class in weights:
        total = sum(weights_of_class)
        lines.append([ConfusionCell(float(value), value / total if total else 0.0) for value in weights_of_class])
    names = [str(classes[place]) if place < len(classes) else str(place) for place in range(len(lines))]
    return ConfusionPart(names, lines)


def _calibration(report: Dict) -> CalibrationPart | None:
    calibration = _dict(report.get("calibration"))
    bins = calibration.get("bins") or []
    if not bins:
        return None
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


def _rivals(evaluation: Dict) -> dict[str, Dict]:
    """What the challenger is compared with, by name."""
    rivals = {str(name): _dict(baseline) for name, baseline in _dict(evaluation.get("baselines")).items()}
    champion = evaluation.get("champion")
    if champion:
        rivals[f"champion {champion.get('version', '')}".strip()] = champion
    return rivals


def _dict(value: Any) -> Dict:
    return value if isinstance(value, Mapping) else {}
