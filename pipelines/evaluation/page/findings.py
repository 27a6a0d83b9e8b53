"""The lower half of an evaluation's page: where the model is weak, whom it treats how, what it looks at and costs."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from pipelines.html import plots
from pipelines.html.markup import note, pairs, row_of, table
from pipelines.html.wording import (
    FAIRNESS_WORDS,
    MOVED,
    NOT_MEASURED,
    figure,
    in_order,
    interval_text,
    is_number,
    percent,
    worst_first,
)

Dict = Mapping[str, Any]
SHOWN = 20  # bars of a picture, lines of a long table
SLICE_METRICS = 3  # the columns of a slice that fit on a page


def findings(evaluation: Dict, report: Dict) -> list[tuple[str, str]]:
    """Titles and HTML of the sections."""
    return [
        ("Slices", _slices(report.get("slices"), evaluation.get("champion"))),
        ("Fairness", _fairness(report)),
        ("Behaviour", _behaviours(report.get("behaviours"))),
        ("Importance", _importances(report.get("importances"))),
        ("Drift", _drift(report.get("drift"))),
        ("Speed and size", _speed(report)),
        ("Left out", _left_out(report)),
    ]


def _slices(found: Any, champion: Any) -> str:
    if not isinstance(found, Mapping):
        return note(f"Slices: {NOT_MEASURED}.")
    parts = note(
        f"{figure(found.get('looked_at'))} slices were looked at. Loss: the mean loss of a slice's rows less that of "
        "all others, with its interval; above 0 the model does worse there. Sure: still so after correction for how "
        "many were looked at."
    )
    for title, kind in (("Found, the worst first", "found"), ("Declared, the worst first", "declared")):
        parts += f"<h3>{title}</h3>" + _slice_table(worst_first(found.get(kind)))
    compared = champion.get("slices") if isinstance(champion, Mapping) else None
    if compared:
        rows = [[one.get("name"), figure(one.get("rows")), one.get("metric"), interval_text(one.get("gain"))]
                for one in compared]  # fmt: skip
        parts += "<h3>Against the champion</h3>" + note("Above 0 the challenger is better in the slice.")
        drawn = [(f"{one.get('name')}: {one.get('metric')}", one.get("gain")) for one in compared[:SHOWN]]
        parts += row_of(plots.forest("slices", "Gains over the champion, by slice", drawn))
        parts += table(["slice", "#rows", "metric", "#gain"], rows)
    elif champion:
        parts += note(f"Slices against the champion: {NOT_MEASURED}.")
    return parts


def _slice_table(slices: list[dict[str, Any]]) -> str:
    if not slices:
        return note("None.")
    metrics = in_order(name for one in slices for name in one.get("metrics") or {})[:SLICE_METRICS]
    rows = [
        [one.get("name"), figure(one.get("rows")), percent(one.get("share")), interval_text(one.get("loss")),
         "yes" if one.get("is_significant") else "no",
         *(interval_text((one.get("metrics") or {}).get(name)) for name in metrics)]
        for one in slices
    ]  # fmt: skip
    return table(["slice", "#rows", "#share", "#loss", "sure", *(f"#{name}" for name in metrics)], rows)


def _fairness(report: Dict) -> str:
    found = report.get("fairness")
    if not found:
        return note(f"Fairness: {NOT_MEASURED} (evaluation.fairness names the groups).")
    parts = ""
    for column, one in ((column, one or {}) for column, one in found.items()):
        measures = [[name.replace("_", " "), interval_text(one.get(name)), words]
                    for name, words in FAIRNESS_WORDS.items()]  # fmt: skip
        groups = [
            [group.get("group"), figure(group.get("rows")), *(percent(group.get(rate)) for rate in _RATES)]
            for group in one.get("groups") or []
        ]
        parts += f"<h3>{escape(str(column))}</h3>" + table(["measure", "#difference", "what it says"], measures)
        parts += table(["group", "#rows", "#decided 1", "#positives found", "#negatives mistaken"], groups)
    return parts


_RATES = ("selection_rate", "true_positive_rate", "false_positive_rate")


def _behaviours(found: Any) -> str:
    if found is None:
        return note(f"Behaviour: {NOT_MEASURED}.")
    if not found:
        return note("No behaviour tests are declared (evaluation.behaviours).")
    rows = [[one.get("name"), one.get("kind"), one.get("passed") is True, figure(one.get("value")), one.get("wanted")]
            for one in sorted(found, key=lambda one: one.get("passed") is True)]  # fmt: skip
    return note("What happens to the scores when the input is changed.") + table(
        ["test", "kind", "result", "#found", "wanted"], rows
    )


def _importances(found: Any) -> str:
    if not found:
        return note(f"Importance: {NOT_MEASURED}.")
    methods = ", ".join(sorted({str(one.get("method")) for one in found}))
    shown = found[:SHOWN]
    drawn = plots.bars("importances", "What the scores depend on",
                       [(str(one.get("feature")), 100 * (one.get("share") or 0)) for one in shown],
                       "share of all features, %")  # fmt: skip
    rows = [[one.get("feature"), figure(one.get("importance")), percent(one.get("share"))] for one in found]
    told = note(f"Mean absolute SHAP value of a feature over test rows (method: {methods}): how far it moves scores, "
                "not whether it should.")  # fmt: skip
    return told + row_of(drawn) + _folded("All features", table(["feature", "#importance", "#share"], rows), len(found))


def _drift(found: Any) -> str:
    if not isinstance(found, Mapping):
        return note(f"Drift: {NOT_MEASURED}.")
    columns = {name: value for name, value in (found.get("columns") or {}).items() if is_number(value)}
    unknown = [name for name in found.get("columns") or {} if name not in columns]
    ranked = sorted(columns.items(), key=lambda one: -one[1])
    drawn = plots.bars("drift", "Features that moved most", ranked[:SHOWN], "PSI", limit=MOVED)
    told = note(f"Population stability index (PSI) of the test rows against the training rows: scores "
                f"{figure(found.get('prediction'))}. From about {MOVED} on (dashed) a column has moved.")  # fmt: skip
    left = note(f"PSI of {', '.join(unknown)}: {NOT_MEASURED}.") if unknown else ""
    everything = table(["feature", "#PSI"], [[name, figure(value)] for name, value in ranked])
    return told + row_of(drawn) + left + _folded("All features", everything, len(ranked))


def _speed(report: Dict) -> str:
    size, latency = report.get("size_bytes"), report.get("latency_ms")
    return pairs({
        "One row": f"{figure(latency)} ms (median)" if is_number(latency) else NOT_MEASURED,
        "Many rows": f"{report['rows_per_s']:,.0f} rows a second" if is_number(report.get("rows_per_s"))
                     else NOT_MEASURED,
        "Model": f"{size / 1e6:,.2f} MB" if is_number(size) else NOT_MEASURED,
    })  # fmt: skip


def _left_out(report: Dict) -> str:
    parts = ""
    for title, name, head, empty in (
        ("Features that the model does not see", "dropped", "why", "It sees all of them."),
        ("Test rows with a category that training had not", "unseen", "#rows", "None."),
    ):
        found = report.get(name)
        parts += f"<h3>{title}</h3>"
        if found is None:
            parts += note(f"{NOT_MEASURED.capitalize()}.")
        else:
            rows = [[feature, figure(value) if is_number(value) else value] for feature, value in found.items()]
            parts += table(["feature", head], rows) if rows else note(empty)
    return parts


def _folded(title: str, content: str, lines: int) -> str:
    return f"<details><summary>{escape(title)} ({lines})</summary>{content}</details>" if lines else ""
