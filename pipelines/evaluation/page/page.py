"""The page of an evaluation: what a challenger can do, beside the baselines and the champion, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pipelines.evaluation.page.findings import findings
from pipelines.html import plots
from pipelines.html.markup import document, note, pairs, row_of, table
from pipelines.html.wording import (
    METRIC_WORDS,
    NOT_MEASURED,
    figure,
    in_order,
    interval_text,
    is_number,
    percent,
    resampled,
    span,
)

Dict = Mapping[str, Any]


def page(evaluation: Dict, verdict: Dict | None = None) -> bytes:
    """One HTML page, which needs nothing else: no script, no other file; equal evaluations give equal bytes.

    `evaluation` is what the gate judges, `verdict` what it said (`Verdict.to_dict`). What is not in them is shown as
    not measured.
    """
    report = _dict(evaluation.get("challenger"))
    title = f"Evaluation of {report.get('candidate', 'a challenger')}, data until {evaluation.get('partition', '?')}"
    sections = [
        *([("Verdict", _verdict(verdict))] if verdict is not None else []),
        ("What was compared", _compared(evaluation, report)),
        ("Metrics", _metrics(evaluation, report)),
        ("Gains", _gains(evaluation)),
        ("All candidates", _candidates(evaluation, report)),
        ("Decisions", _decisions(report)),
        ("Calibration", _calibration(report)),
        *findings(evaluation, report),
    ]
    return document(title, sections)


def _verdict(verdict: Dict) -> str:
    passed = verdict.get("passed") is True
    checks = sorted(verdict.get("checks") or [], key=lambda check: check.get("passed") is True)
    failed = [check for check in checks if check.get("passed") is not True]
    word = "Passed: it may serve." if passed else "Failed: it may not serve."
    lines = "".join(f"<li>{escape(str(check.get('reason', '')))}</li>" for check in failed)
    count = f"{len(checks)} checks, {len(failed)} failed." if checks else ""
    box = f'<div class="box {"good" if passed else "bad"}"><b>{word}</b> {count}<ul>{lines}</ul></div>'
    rows = [[check.get("name"), check.get("passed") is True, check.get("reason")] for check in checks]
    return box.replace("<ul></ul>", "") + table(["check", "result", "found"], rows)


def _compared(evaluation: Dict, report: Dict) -> str:
    champion = evaluation.get("champion")
    if champion:
        rival = f"version {champion.get('version')} (run {champion.get('run_id')}), which learnt from data until "
        rival += str(champion.get("trained_until"))
    else:
        rival = "none serves yet" if "champion" in evaluation else NOT_MEASURED
    baselines = _dict(evaluation.get("baselines"))
    classes = report.get("classes") or []
    return pairs({
        "Challenger": f"{report.get('candidate', NOT_MEASURED)} (run {report.get('run_id', NOT_MEASURED)})",
        "Chosen by": _chosen(evaluation.get("selection")),
        "Champion": rival,
        "Baselines": ", ".join(baselines) or NOT_MEASURED,
        "Task": f"{evaluation.get('task', NOT_MEASURED)}{': ' * bool(classes)}{', '.join(map(str, classes))}",
        "Test rows": figure(evaluation.get("test_rows")),
        "Test partitions": span(evaluation.get("test_partitions")),
        "First and last event": " to ".join(str(report.get(end) or NOT_MEASURED)
                                            for end in ("first_event", "last_event")),
        "Knows nothing learnt at or after": evaluation.get("as_of", NOT_MEASURED),
        "Training": evaluation.get("training", NOT_MEASURED),
        "Differences that the rows show": _power(evaluation.get("power")),
    }) + _leaks(evaluation.get("leaks"))  # fmt: skip


def _chosen(selection: Any) -> str:
    """Which candidate is best on the validation rows, and from which others these cannot tell it."""
    found = _dict(selection)
    if not found:
        return NOT_MEASURED
    values = ", ".join(f"{name} {figure(value)}" for name, value in _dict(found.get("values")).items())
    ties = ", ".join(f"{name} ({interval_text(gain)})" for name, gain in _dict(found.get("ties")).items())
    told = f"{found.get('metric')} on the validation rows: {values}"
    return told + (f"; a tie, the better mean was taken: gain over {ties}" if ties else "")


def _power(power: Any) -> str:
    found = _dict(power)
    parts = [
        f"{split}: " + (", ".join(f"{figure(value)} in {metric}" for metric, value in shown.items()) or "none")
        for split in ("validation", "test")
        if (shown := _dict(_dict(found.get(split)).get("detectable"))) is not None
    ]
    return "; ".join([*parts, *map(str, found.get("warnings") or [])]) if found else NOT_MEASURED


def _leaks(leaks: Any) -> str:
    if not isinstance(leaks, Mapping) or not leaks.get("checked"):
        return note("Leak checks of the training set: not measured.")
    found = leaks.get("findings") or []
    if not found:
        return note("Leak checks of the training set: passed.")
    items = "".join(f"<li>{escape(str(one))}</li>" for one in found)
    return f'<div class="box bad"><b>Leak checks failed</b><ul>{items}</ul></div>'


def _metrics(evaluation: Dict, report: Dict) -> str:
    found = _dict(report.get("metrics"))
    if not found:
        return note(f"Metrics: {NOT_MEASURED}.")
    others = _others(evaluation)
    rows = [
        [name, interval_text(found[name]), *(figure(_dict(one.get("metrics")).get(name)) for one in others.values()),
         METRIC_WORDS.get(name, "")]
        for name in in_order(found)
    ]  # fmt: skip
    return note(f"On the test rows; in brackets {resampled(report.get('bootstrap'))}.") + table(
        ["metric", "#challenger", *(f"#{name}" for name in others), "what it says"], rows
    )


def _gains(evaluation: Dict) -> str:
    lines, empty = [], []
    for name, one in _others(evaluation).items():
        gain = _dict(one.get("gain"))
        lines += [(f"{metric}, over {name}", metric, name, gain[metric]) for metric in in_order(gain)]
        empty += [] if gain else [name]
    missing = note(f"Gains over {', '.join(empty)}: {NOT_MEASURED}.") if empty else ""
    if not lines:
        return missing or note(f"Gains: {NOT_MEASURED}.")
    drawn = plots.forest("gains", "Gains of the challenger", [(word, interval) for word, *_, interval in lines])
    rows = [[metric, name, interval_text(interval), _judged(interval)] for _, metric, name, interval in lines]
    return (
        note("How much better the challenger is, both measured on the same resampled rows. Above 0 it is better, "
             "whichever way the metric runs. Each line of the picture has a scale of its own.")
        + row_of(drawn) + table(["metric", "over", "#gain", "so it is"], rows) + missing
    )  # fmt: skip


def _judged(interval: Any) -> str:
    low, high = (_dict(interval).get(end) for end in ("low", "high"))
    if not (is_number(low) and is_number(high)):
        return NOT_MEASURED
    return "better" if low > 0 else "worse" if high < 0 else "not told apart"


def _candidates(evaluation: Dict, report: Dict) -> str:
    found = {name: _dict(values) for name, values in _dict(evaluation.get("candidates")).items()}
    if not found:
        return note(f"Candidates: {NOT_MEASURED}.")
    metrics = in_order(metric for values in found.values() for metric in values)
    chosen = report.get("candidate")
    rows = [[f"{name} (challenger)" if name == chosen else name, *(figure(values.get(metric)) for metric in metrics)]
            for name, values in found.items()]  # fmt: skip
    return note("On the test rows. The challenger was picked before, on the validation rows.") + table(
        ["candidate", *(f"#{metric}" for metric in metrics)], rows
    )


def _decisions(report: Dict) -> str:
    if report.get("task") == "regression":
        return note("A regression decides nothing: its score is the answer.")
    curves, threshold = _dict(report.get("curves")), report.get("threshold")
    binary = report.get("task") == "binary"
    marks = [(float(threshold), f"threshold {figure(threshold)}")] if is_number(threshold) else []
    precision = _axes(curves.get("precision_recall"), "recall", "precision")
    rates = _axes(curves.get("roc"), "false_positive_rate", "true_positive_rate")
    costs = _axes(curves.get("threshold_cost"), "threshold", "cost")
    drawn = [
        plots.curve("precision_recall", "Precision and recall", *precision, is_share=True),
        plots.curve("roc", "ROC", *rates, is_share=True, has_diagonal=True),
        plots.curve("threshold_cost", "Cost by threshold", *costs, marks=marks),
    ]
    missing = note(f"Curves: {NOT_MEASURED}.") if binary and not any(drawn) else ""
    decided = note(f"A row is decided for class 1 from a score of {figure(threshold)} on.") if binary else ""
    return decided + row_of(*drawn) + missing + _confusion(report.get("confusion"), report.get("classes") or [])


def _axes(curve: Any, x: str, y: str) -> tuple[tuple[Any, Any], tuple[str, str]]:
    """A curve's points and the labels of its axes."""
    points = _dict(curve)
    return (points.get(x) or [], points.get(y) or []), (x.replace("_", " "), y.replace("_", " "))


def _confusion(cells: Any, classes: Sequence[str]) -> str:
    if not cells:
        return note(f"Confusion: {NOT_MEASURED}.")
    names = [str(classes[n]) if n < len(classes) else str(n) for n in range(len(cells))]
    head = "".join(f'<th class="number">{escape(name)}</th>' for name in names)
    rows = ""
    for name, line in zip(names, cells, strict=True):
        total = sum(line)
        parts = [(value, value / total if total else 0.0) for value in line]
        rows += f"<tr><th>{escape(name)}</th>" + "".join(
            f'<td class="number heat" style="--share: {share:.3f}">{figure(float(value))}<br>{percent(share)}</td>'
            for value, share in parts
        ) + "</tr>"  # fmt: skip
    return (
        "<h3>Confusion</h3>" + note("Weight of the rows by actual class (lines) and decided class (columns); below it "
        "the share of the line.")
        + f'<div class="table"><table><tr><th>actual \\ decided</th>{head}</tr>{rows}</table></div>'
    )  # fmt: skip


def _calibration(report: Dict) -> str:
    found = _dict(report.get("calibration"))
    bins = found.get("bins") or []
    if not bins:
        return note(f"Calibration: {NOT_MEASURED}.")
    task = report.get("task")
    labels = {
        "regression": ("mean prediction", "mean label"),
        "multiclass": ("mean score of the top class", "share of rows that are of it"),
    }.get(str(task), ("mean score", "share of positives"))
    drawn = plots.reliability("reliability", bins, labels, is_share=task != "regression")
    told = "" if task == "regression" else note(
        f"Expected calibration error {figure(found.get('ece'))}, Brier score {figure(found.get('brier'))}. "
        "On the dashed line scores mean what they say.")  # fmt: skip
    rows = [[figure(one.get("mean_score")), interval_text({"value": one.get("rate"), "low": one.get("low"),
             "high": one.get("high")}), figure(one.get("rows"))] for one in bins]  # fmt: skip
    return told + row_of(drawn) + table([f"#{labels[0]}", f"#{labels[1]}", "#rows"], rows)


def _others(evaluation: Dict) -> dict[str, Dict]:
    """What the challenger is compared with, by name."""
    found = {str(name): _dict(one) for name, one in _dict(evaluation.get("baselines")).items()}
    champion = evaluation.get("champion")
    return {**found, f"champion {champion.get('version', '')}".strip(): champion} if champion else found


def _dict(value: Any) -> Dict:
    return value if isinstance(value, Mapping) else {}
