"""What a stage's result says in one line, for people who watch it run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LINES = {
    "extract": "{events:,} events, {labels:,} labels",
    "validate": "{quarantined:,} rows set aside",
    "label": "{rows:,} events",
    "sample": "training set {training_set}, {splits[train]:,} rows to learn from",
    "check": "no leak found",
    "featurize": "feature set {feature_set}",
    "train": "{candidate}: {validation} on validation",
    "evaluate": "{candidate} is the challenger, {metrics} on test",
    "gate": "{verdict}",
    "refit": "{refit}",
    "register": "version {version}",
    "promote": "version {version} serves now",
    "publish": "{rows:,} predictions by version {version}",
    "decide": "{verdict}, {action}: {reason}",
    "act": "{action} requested",
}


def line(stage: str, result: Any) -> str:
    """The line of a stage's result; empty where it has nothing to say, or lacks what the line needs.

    >>> line("register", {"version": "3"}), line("publish", {"line": "12 events published"}), line("profile", {})
    ('version 3', '12 events published', '')
    """
    if not isinstance(result, Mapping) or stage not in LINES:
        return ""
    template = "{line}" if stage == "publish" and "line" in result else LINES[stage]
    values = {name: headline(value) if name in ("validation", "metrics") else value for name, value in result.items()}
    try:
        return template.format(**values)
    except (KeyError, TypeError, ValueError):  # a result of before a stage said so
        return ""


def headline(metrics: Mapping[str, float | None]) -> str:
    """The metric that says most about a task, in words.

    >>> headline({"log_loss": 0.5, "auc": 0.6789}), headline({"rmse": 2.0, "r2": 0.25})
    ('AUC 0.679', 'R2 0.250')
    """
    name = next((name for name in HEADLINES if metrics.get(name) is not None), None)
    return f"{HEADLINES[name]} {metrics[name]:.3f}" if name else "nothing measured"


HEADLINES = {"auc": "AUC", "r2": "R2", "log_loss": "log loss", "rmse": "RMSE"}
