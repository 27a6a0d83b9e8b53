from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from pipelines.html.document import Document
from pipelines.problem import Problem
from pipelines.release.card import card

ToyProblem = Callable[..., Problem]
EVIL = "<script>alert('x')</script> & a|b"
SECTIONS = [
    "In short",
    "The model",
    "What it is for",
    "Data",
    "Metrics",
    "Slices",
    "Fairness",
    "Behaviour",
    "Calibration",
    "What it looks at",
    "Known limits",
    "What it is made of",
    "How to make it again",
]


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.02, "high": value + 0.02}


def a_slice(name: str, loss: float, significant: bool) -> dict[str, Any]:
    return {
        "name": name,
        "rows": 410,
        "share": 0.03,
        "metrics": {},
        "loss": interval(loss),
        "is_significant": significant,
    }


@pytest.fixture
def report() -> dict[str, Any]:
    return {
        "candidate": "xgboost",
        "run_id": "0f9a",
        "task": "binary",
        "classes": ["0", "1"],
        "rows": 12345,
        "partitions": ["2024-01-07", "2024-01-08"],
        "metrics": {"log_loss": interval(0.482), "auc": interval(0.712)},
        "bootstrap": {"block": "day", "blocks": 14, "resamples": 400, "confidence": 0.95},
        "threshold": 0.37,
        "calibration": {
            "bins": [{"mean_score": 0.11, "rate": 0.12, "rows": 900, "low": 0.1, "high": 0.14}],
            "ece": 0.0214,
            "brier": 0.1513,
        },
        "slices": {
            "looked_at": 412,
            "declared": [a_slice("shelf = top", 0.04, False), a_slice("age < 1", -0.3, True)],
            "found": [a_slice("litres > 4.1", 0.22, True)],
        },
        "fairness": {"shelf": {"groups": [], "demographic_parity": interval(0.0613)}},
        "behaviours": [{"name": "noise", "kind": "perturbation", "passed": False, "value": 0.08, "wanted": "0.05"}],
        "importances": [{"feature": "litres", "importance": 0.62, "share": 0.7, "method": "xgboost"}],
        "drift": {"columns": {"litres": 0.61, "shelf": 0.01}, "prediction": 0.124},
        "latency_ms": 1.82,
        "size_bytes": 812345,
        "dropped": {"speed": "all missing"},
        "unseen": {"shelf": 12},
    }


@pytest.fixture
def lineage() -> dict[str, Any]:
    split = {"rows": 900, "partitions": ["2024-01-01", "2024-01-02"], "hash": "ab" * 32}
    return {
        "version": "7",
        "run_id": "0f9a",
        "candidate": "xgboost",
        "model": "xgboost",
        "parameters": {"max_depth": 4},
        "parent": None,
        "training_set": "0123456789ab",
        "feature_set": "feedc0ffee12",
        "config_hash": "c0ffee123456",
        "as_of": "2024-01-10T00:00:00+00:00",
        "tables": {"events": 3, "labels": None},
        "splits": {"test": split | {"rows": 300}, "train": split},
        "seeds": {"training": 41},
        "queries": {"events": "cd" * 32},
        "surroundings": {
            "git_commit": "1f1f1f",
            "lock_file": "ef" * 32,
            "python": "3.11.4",
            "system": "Linux-x",
            "packages": {"numpy": "2.1.1"},
        },
    }


@pytest.fixture
def datasheet() -> dict[str, Any]:
    return {
        "splits": [
            {
                "split": "train",
                "rows": 900,
                "positive_rate": 0.231,
                "first_event": "2024-01-01T07:30:00Z",
                "last_event": "2024-01-02T23:30:00Z",
            }
        ],
        "label_sources": [{"split": "train", "source": "hand", "rows": 77, "mean_confidence": 0.811}],
        "excluded": {"embargo": 71, "unlabelled": 73},
        "findings": [{"passed": False, "reason": "litres knows too much"}],
    }


def sections(markdown: str) -> dict[str, str]:
    parts = re.split(r"^## (.*)$", markdown, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_a_card_tells_what_was_declared_and_measured(
    toy: ToyProblem, report: dict[str, Any], lineage: dict[str, Any], datasheet: dict[str, Any]
) -> None:
    problem = toy(
        **{
            "costs": {"unit": "EUR", "matrix": {"1": {"0": 5}}},
            "labels.use": ["weak", "natural"],
            "labels.weak": {"functions": {"hot": {"sql": "1"}}},
        }
    )
    found = card(problem, report, lineage, datasheet)
    told = sections(found.markdown)
    assert list(told) == SECTIONS
    wanted = {
        "In short": [
            "| How good | log_loss 0.482 (0.462 to 0.502) on 12,345 test rows of 2024-01-07 to 2024-01-08 (2) |",
            "900 rows of 2024-01-01 to 2024-01-02 (2)",
            "Does worse where litres > 4.1.",
            "And 4 more, below.",
        ],
        "The model": ["| Version | 7 |", "n_estimators 5, max_depth 4", "| Of these searched | max_depth |", "0.81 MB"],
        "What it is for": [
            "Does the kettle boil over?",
            "1 from a score of 0.37 on",
            "1, decided 0: 5 EUR",
            "shelf, litres, shelf_rate_3d",
            "Out of scope",
        ],
        "Data": ["2024-01-07 to 2024-01-08 (2)", "23.1 % positive", "| hand | 77 | 0.811 |", "71 embargo"],
        "Metrics": ["| auc | 0.712 (0.692 to 0.732) |", "12,345 test rows", "95 % interval"],
        "Slices": ["412 slices", "| litres > 4.1 | found | 410 | 0.22 (0.2 to 0.24) | yes |"],
        "Fairness": ["| shelf | demographic parity | 0.0613 (0.0413 to 0.0813) |"],
        "Behaviour": ["| noise | perturbation | FAILED | 0.08 | 0.05 |"],
        "Calibration": ["error 0.0214", "| 0.11 | 0.12 (0.1 to 0.14) | 900 |"],
        "What it looks at": ["| litres | 70.0 % |"],
        "Known limits": [
            "Does worse where litres > 4.1.",
            "behaviour test noise",
            "speed: all missing",
            "a value of shelf that training had not: 12.",
            "litres had moved",
            "guesses: weak",
            "litres knows too much",
        ],
        "What it is made of": [
            "| Table events | version 3 |",
            "| Table labels | was not written |",
            "ab" * 32,
            "training 41",
            "1f1f1f",
            "numpy 2.1.1",
            "3.11.4",
            "cd" * 32,
            "ef" * 32,
        ],
        "How to make it again": ["evergreen reproduce kettle@7"],
    }
    missing = [(name, part) for name, parts in wanted.items() for part in parts if part not in told[name]]
    assert missing == []
    assert "age < 1" not in told["Known limits"].replace("&lt;", "<"), "better there"
    assert "shelf = top" not in told["Known limits"], "not sure"
    assert told["Metrics"].index("| auc") < told["Metrics"].index("| log_loss")
    assert told["Data"].index("| train |") < told["Data"].index("| test |")
    assert [one for one in SECTIONS if f"<h2>{one}</h2>".encode() not in found.html] == []


def test_what_nobody_measured_is_called_that(toy: ToyProblem) -> None:
    told = sections(card(toy(), {}, {}, {}).markdown)
    assert list(told) == SECTIONS
    for name in ("Metrics", "Slices", "Behaviour", "Calibration", "What it looks at"):
        assert told[name].strip() == "Not measured."
    assert "Not measured: metrics, slices, fairness" in told["Known limits"]
    assert "no version yet" in told["How to make it again"]


@pytest.mark.parametrize(
    ("changes", "counts", "wanted"),
    [
        (
            {"task": "multiclass", "labels.classes": ["red", "blue"]},
            {"classes": {"red": 3, "blue": 4}},
            ["the probability of each class: red, blue", "the class with the highest probability", "red 3, blue 4"],
        ),
        (
            {"task": "regression", "costs": {"under": 2.5, "unit": "EUR"}},
            {"mean": 41.5, "sd": 3.25},
            ["the label's expected value", "predicted one too little: 2.5 EUR", "mean 41.5, sd 3.25"],
        ),
    ],
)
def test_other_tasks_have_cards(
    toy: ToyProblem,
    report: dict[str, Any],
    lineage: dict[str, Any],
    changes: dict[str, Any],
    counts: dict[str, Any],
    wanted: list[str],
) -> None:
    metric = "log_loss" if changes["task"] == "multiclass" else "rmse"
    changes |= {
        "gate": {
            "limits": {metric: {"max": 9}},
            "gain_over_baselines": {metric: 0},
            "slices": None,
            "gain_over_champion": {metric: 0},
        },
        "training.select_by": metric,
        "features.history": {},
    }
    text = card(
        toy(**changes), report | {"task": changes["task"]}, lineage, {"splits": [{"split": "train", **counts}]}
    ).markdown
    assert [one for one in wanted if one not in text] == []
    assert ("Expected calibration error" in text) == (changes["task"] != "regression")


def test_equal_facts_give_equal_bytes_and_texts_are_escaped(
    toy: ToyProblem, report: dict[str, Any], lineage: dict[str, Any], datasheet: dict[str, Any]
) -> None:
    def made(*facts: dict[str, Any]) -> Document:
        return card(toy(description=EVIL, owner=EVIL), *facts)

    facts = (report, lineage, datasheet)
    assert made(*facts) == made(*(json.loads(json.dumps(one, sort_keys=True)) for one in facts))
    report["slices"]["found"][0]["name"] = EVIL
    report["dropped"] = {EVIL: EVIL}
    lineage["surroundings"]["system"] = EVIL
    found = made(*facts)
    assert b"<script" not in found.html
    assert "<script" not in found.markdown
    assert found.html.count(b"&lt;script&gt;") > 5
