"""Words of pages and cards: what metrics are called, and how numbers, intervals, shares and what is missing look."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

from markupsafe import Markup, escape

from pipelines.config import FairnessMeasure
from pipelines.documents.evaluation import Slice

NOT_MEASURED = "not measured"
METRIC_WORDS = {
    "auc": "how well the scores rank: 1 is perfect, 0.5 is chance (several classes: the mean of one against the rest)",
    "average_precision": "area under precision and recall: 1 is perfect, the share of positives is chance",
    "log_loss": "surprise per row, in nats: 0 is perfect; sure and wrong costs most",
    "brier": "mean squared error of the probabilities: 0 is perfect",
    "ece": "mean distance between what scores say and what happens: 0 is perfect",
    "accuracy": "share of decisions that are right",
    "precision": "share of positive decisions that are right",
    "recall": "share of positives that are found",
    "f_beta": "precision and recall in one number: 1 is perfect",
    "macro_f1": "precision and recall in one number, each class counting the same: 1 is perfect",
    "rmse": "root of the mean squared error, in units of the label: 0 is perfect",
    "mae": "mean absolute error, in units of the label: 0 is perfect",
    "r2": "share of the label's variance that is explained: 1 is perfect, 0 is the mean",
    "bias": "mean of prediction less label: 0 is perfect",
    "cost": "what decisions cost, per row: the lower the better",
}
MOVED = 0.25  # PSI from which a column counts as moved, by rule of thumb (Siddiqi, Credit Risk Scorecards, 2006)
FAIRNESS_WORDS: dict[FairnessMeasure, str] = {
    "demographic_parity": "greatest difference between groups in the share of positive decisions",
    "equal_opportunity": "greatest difference in the share of positives that are found",
    "equalised_odds": "greatest difference in the shares of positives found or of negatives mistaken for them",
}


def whole_dates(text: str) -> Markup:
    """A text for a page, in which no line ends within a date.

    >>> print(whole_dates("AUC < 0.7 in 2024-01-08"))
    AUC &lt; 0.7 in <span class="key">2024-01-08</span>
    """
    return Markup(re.sub(r"\b\d{4}-\d{2}-\d{2}\b", r'<span class="key">\g<0></span>', str(escape(text))))  # noqa: S704


def in_order(metrics: Iterable[str]) -> list[str]:
    """Names of metrics in the order of METRIC_WORDS, each once; what is kept as JSON has lost any other.

    >>> in_order(["log_loss", "new", "auc", "auc"])
    ['auc', 'log_loss', 'new']
    """
    names = list(dict.fromkeys(metrics))
    return [*(name for name in METRIC_WORDS if name in names), *(name for name in names if name not in METRIC_WORDS)]


def cut(text: str, characters: int) -> str:
    """A text with at most so many characters, and how many it has where it has more.

    >>> cut("no damage", 9), cut("no damage found", 9)
    ('no damage', 'no damage ... (15 characters)')
    """
    return text if len(text) <= characters else f"{text[:characters]} ... ({len(text):,} characters)"


def figure(value: Any, missing: str = NOT_MEASURED) -> str:
    """A number for people, or that there is none.

    >>> figure(0.712345), figure(12000), figure(None), figure(float("nan"), missing="none")
    ('0.7123', '12,000', 'not measured', 'none')
    >>> figure(1234567.8), figure(1234.5), figure(-0.000012)
    ('1,234,568', '1,234', '-1.2e-05')
    """
    if not is_number(value):
        return missing
    return f"{value:,.0f}" if abs(value) >= 10_000 or isinstance(value, int) else f"{value:,.4g}"


def interval_text(interval: Any) -> str:
    """A value with its interval.

    >>> interval_text({"value": 0.7, "low": 0.65, "high": 0.75}), interval_text({"value": 1.0, "low": None})
    ('0.7 (0.65 to 0.75)', '1 (no interval)')
    """
    if not isinstance(interval, Mapping) or not is_number(interval.get("value")):
        return NOT_MEASURED
    ends = [interval.get("low"), interval.get("high")]
    inside = " to ".join(map(figure, ends)) if all(map(is_number, ends)) else "no interval"
    return f"{figure(interval['value'])} ({inside})"


def resampled(rule: Any) -> str:
    """How the intervals of a report were made.

    >>> resampled({"block": "day", "blocks": 14, "resamples": 400, "confidence": 0.95})
    'the 95 % interval, from 400 resamples of 14 blocks of rows (block: day)'
    """
    if not isinstance(rule, Mapping) or not is_number(rule.get("confidence")):
        return "its interval, by bootstrap"
    return (
        f"the {100 * rule['confidence']:g} % interval, from {figure(rule.get('resamples'))} resamples of "
        f"{figure(rule.get('blocks'))} blocks of rows (block: {rule.get('block')})"
    )


def percent(value: Any, missing: str = NOT_MEASURED) -> str:
    """A share.

    >>> percent(0.1234), percent(0.00001), percent(None), percent(None, missing="none")
    ('12.3 %', '0.001 %', 'not measured', 'none')
    """
    if not is_number(value):
        return missing
    return f"{100 * value:.1f} %" if abs(value) >= 0.001 or not value else f"{100 * value:.2g} %"


def span(keys: Any, missing: str = NOT_MEASURED) -> str:
    """Partitions in words.

    >>> span(["2024-01-02", "2024-01-01"]), span(["2024-01-01"]), span([]), span([], missing="none")
    ('2024-01-01 to 2024-01-02 (2)', '2024-01-01', 'not measured', 'none')
    """
    keys = sorted(map(str, keys or []))
    return missing if not keys else keys[0] if len(keys) == 1 else f"{keys[0]} to {keys[-1]} ({len(keys)})"


def value_range(low: Any, high: Any) -> str:
    """A range, open where a side is None.

    >>> value_range(0, 5.5), value_range(None, 3), value_range(None, None)
    ('0 to 5.5', 'up to 3', 'none')
    """
    ends = [figure(end) if is_number(end) else str(end) for end in (low, high)]
    match low, high:
        case None, None:
            return "none"
        case None, _:
            return f"up to {ends[1]}"
        case _, None:
            return f"from {ends[0]}"
    return " to ".join(ends)


def worst_first(slices: Sequence[Slice] | None) -> list[Slice]:
    """Slices by how much more is lost in them than in the rest, the worst first; those without a loss last."""

    def loss(part: Slice) -> float:
        value = (part.get("loss") or {}).get("value")
        return float(value) if is_number(value) else -math.inf

    return sorted(slices or [], key=loss, reverse=True)


def is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
