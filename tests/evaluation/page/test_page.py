from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup

from pipelines.config import METRICS_OF
from pipelines.evaluation.page.page import page
from pipelines.html import plots
from pipelines.html.wording import METRIC_WORDS, NOT_MEASURED

EVIL = "<script>alert('x')</script> & $a_b$"
GRID = np.linspace(0, 1, 30)


def interval(value: float, width: float = 0.02) -> dict[str, float]:
    return {"value": value, "low": value - width, "high": value + width}


def a_slice(name: str, loss: float, significant: bool = True) -> dict[str, Any]:
    return {
        "name": name,
        "conditions": [],
        "rows": 410,
        "share": 0.033,
        "metrics": {"log_loss": interval(0.7)},
        "loss": interval(loss, 0.01),
        "p_value": 0.001,
        "is_significant": significant,
    }


def an_evaluation() -> dict[str, Any]:
    report: dict[str, Any] = {
        "candidate": "xgboost",
        "run_id": "0f9a",
        "task": "binary",
        "classes": ["0", "1"],
        "rows": 12345,
        "partitions": ["2013-03-11", "2013-03-18"],
        "first_event": "2013-03-11T09:30",
        "last_event": "2013-03-24T23:10",
        "metrics": {"auc": interval(0.712), "log_loss": interval(0.482)},
        "bootstrap": {"block": "day", "blocks": 14, "resamples": 400, "confidence": 0.95},
        "threshold": 0.37,
        "confusion": [[9000.0, 800.0], [1500.0, 1045.0]],
        "curves": {
            "precision_recall": {"recall": GRID.tolist(), "precision": (1 - 0.8 * GRID).tolist()},
            "roc": {"false_positive_rate": GRID.tolist(), "true_positive_rate": (GRID**0.4).tolist()},
            "threshold_cost": {"threshold": GRID.tolist(), "cost": (30 * (GRID - 0.37) ** 2).tolist()},
        },
        "calibration": {
            "bins": [
                {"mean_score": 0.1, "rate": 0.12, "rows": 900, "low": 0.1, "high": 0.14},
                {"mean_score": 0.5, "rate": 0.47, "rows": 901, "low": 0.4, "high": 0.5},
            ],
            "ece": 0.0214,
            "brier": 0.151,
        },
        "slices": {
            "looked_at": 412,
            "declared": [a_slice("origin = JFK", -0.02, False)],
            "found": [a_slice("visib < 3.1", 0.15), a_slice("dest = ATL", 0.22)],
        },
        "fairness": {
            "origin": {
                "groups": [
                    {
                        "group": "EWR",
                        "rows": 4000,
                        "selection_rate": 0.21,
                        "true_positive_rate": 0.44,
                        "false_positive_rate": 0.09,
                    }
                ],
                "demographic_parity": interval(0.0613),
                "equal_opportunity": interval(0.08),
                "equalised_odds": interval(0.09),
            }
        },
        "behaviours": [
            {"name": "rain", "kind": "directional", "passed": True, "value": 0.97, "wanted": "0.9"},
            {"name": "noise", "kind": "perturbation", "passed": False, "value": 0.08, "wanted": "0.05"},
        ],
        "importances": [{"feature": "dest", "importance": 0.62, "share": 0.7, "method": "xgboost"}],
        "drift": {"columns": {"temp": 0.61, "carrier": 0.01, "odd": None}, "prediction": 0.124},
        "latency_ms": 1.82,
        "rows_per_s": 412345.6,
        "size_bytes": 812345,
        "dropped": {"speed": "all missing"},
        "unseen": {"dest": 12},
    }
    return {
        "training": "2013-03-25-1a2b",
        "partition": "2013-03-25",
        "as_of": "2013-04-01T04:00:00+00:00",
        "task": "binary",
        "test_rows": 12345,
        "test_partitions": ["2013-03-11", "2013-03-18"],
        "test_end": "2013-03-25T04:00:00+00:00",
        "challenger": report,
        "baselines": {"prior": {"run_id": "p", "metrics": {"auc": 0.5}, "gain": {"auc": interval(0.2134)}}},
        "champion": {
            "version": "6",
            "run_id": "c",
            "trained_until": "2013-03-04",
            "metrics": {"auc": 0.7111},
            "gain": {"auc": interval(0.002), "log_loss": interval(-0.03)},
            "slices": [{"name": "dest = ATL", "rows": 410, "metric": "log_loss", "gain": interval(-0.0221)}],
        },
        "leaks": {"checked": True, "findings": []},
        "candidates": {"prior": {"auc": 0.5}, "xgboost": {"auc": 0.712}},
        "left_out": {"logistic": "the training rows are too many"},
    }


VERDICT = {
    "passed": False,
    "reason": "noise",
    "checks": [
        {"name": "test rows", "passed": True, "reason": "12345 test rows"},
        {"name": "behaviour noise", "passed": False, "reason": "noise: 0.08, wanted at most 0.05"},
    ],
}


def text_of(html: bytes) -> str:
    body = re.sub(r"<svg.*?</svg>", " ", html.decode(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body[body.index("<body>") :]).split())


def branches(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for name, one in inner for place in [(*path, name), *branches(one, (*path, name))]]


def test_all_that_was_found_stands_on_the_page_and_the_verdict_first() -> None:
    text = text_of(page(an_evaluation(), VERDICT))
    wanted = [
        "Failed: it may not serve. 2 checks, 1 failed. noise: 0.08, wanted at most 0.05",
        "version 6 (run c)",
        "12,345",
        "2013-03-11 to 2013-03-18 (2)",
        "0.712 (0.692 to 0.732) 0.5 0.7111",
        "0.2134 (0.1934 to 0.2334) better",
        "0.002 (-0.018 to 0.022) not told apart",
        "-0.03 (-0.05 to -0.01) worse",
        "from 400 resamples of 14 blocks",
        "xgboost (challenger) 0.712",
        "logistic was left out: the training rows are too many.",
        "from a score of 0.37 on",
        "9,000 91.8 %",
        "0.12 (0.1 to 0.14) 900",
        "Expected calibration error 0.0214",
        "412 slices were looked at",
        "0.0613",
        "-0.0221 (-0.0421 to -0.0021)",
        "noise perturbation failed 0.08 0.05",
        "dest 0.62 70.0 %",
        "temp 0.61",
        "PSI of odd: not measured",
        "1.82 ms",
        "412,346 rows a second",
        "0.81 MB",
        "speed all missing",
        "dest 12",
        "Leak checks of the training set: passed",
    ]
    assert [one for one in wanted if one not in text] == []
    assert text.index("it may not serve") < text.index("Metrics On the test rows")
    assert text.index("noise perturbation failed") < text.index("rain directional passed"), "failures first"
    assert text.index("dest = ATL 410") < text.index("visib &lt; 3.1 410"), "the worst slice first"
    assert "Passed: it may serve." in text_of(page(an_evaluation(), {"passed": True, "checks": []}))
    assert page(an_evaluation()).count(b"<svg ") == 8


def test_the_page_is_one_file_without_scripts_and_equal_for_equal_evaluations() -> None:
    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []
            self.names: list[str] = []

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            assert tag not in {"script", "link", "img", "iframe", "object"}
            values = dict(attributes)
            self.names += [values["id"] or ""] if "id" in values else []
            for name in ("src", "href", "xlink:href"):
                assert (values.get(name) or "#").startswith("#")
            if tag not in {"meta", "br"}:
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    html = page(an_evaluation(), VERDICT)
    reader = Reader()
    reader.feed(html.decode())
    assert reader.open == []
    assert len(set(reader.names)) == len(reader.names), "each id once"
    assert html == page(an_evaluation(), VERDICT)
    assert b"default-src 'none'" in html
    assert not re.search(rb"url\((?!#)|@import|20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d|#[1-6]0[1-6]1[1-6]2", html)


def test_what_was_kept_as_json_gives_the_same_page() -> None:
    kept = json.loads(json.dumps(an_evaluation(), sort_keys=True))
    assert page(kept, VERDICT) == page(an_evaluation(), VERDICT)


def test_every_text_is_escaped() -> None:
    def soiled(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: soiled(one, name) for name, one in value.items()}
        if isinstance(value, list):
            return [soiled(one, key) for one in value]
        return EVIL if isinstance(value, str) and key != "task" else value

    evaluation = soiled(an_evaluation())
    evaluation["challenger"]["dropped"] = {EVIL: EVIL}
    evaluation["baselines"] = {EVIL: evaluation["baselines"]["prior"]}
    html = page(evaluation, soiled(VERDICT)).decode()
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert") > 20


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_other_tasks_have_pages(task: str) -> None:
    evaluation = an_evaluation()
    report = evaluation["challenger"]
    evaluation["task"] = report["task"] = task
    report["curves"] = {}
    report["classes"] = ["a", "b", "c"] if task == "multiclass" else []
    report["confusion"] = [[5.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 8.0]] if task == "multiclass" else None
    report["calibration"]["bins"] = [
        {"mean_score": -50.0, "rate": -45.0, "rows": 9, "low": None, "high": None},
        {"mean_score": 50.0, "rate": 45.0, "rows": 9, "low": 40.0, "high": 50.0},
    ]
    text = text_of(page(evaluation))
    assert ("c 1 10.0 % 1 10.0 % 8 80.0 %" in text) == (task == "multiclass")
    assert ("A regression decides nothing" in text) == (task == "regression")
    assert "-45 (no interval)" in text


def test_what_is_missing_is_called_so() -> None:
    text = text_of(page({}))
    for part in (
        "Metrics",
        "Gains",
        "Candidates",
        "Confusion",
        "Calibration",
        "Slices",
        "Fairness",
        "Behaviour",
        "Importance",
        "Drift",
        "Leak checks of the training set",
    ):
        assert f"{part}: {NOT_MEASURED}" in text
    evaluation = an_evaluation()
    evaluation["champion"] = None
    assert "Champion none serves yet" in text_of(page(evaluation))


@pytest.mark.parametrize("is_deleted", [False, True])
def test_no_part_of_an_evaluation_is_needed(is_deleted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all parts one at a time; that nothing is drawn saves minutes, and what is drawn was looked at before."""
    monkeypatch.setattr(plots, "svg", lambda name, title, draw, size: Markup("<svg></svg>"))
    paths = branches(an_evaluation())
    for *parents, last in paths:
        evaluation = an_evaluation()
        place: Any = evaluation
        for name in parents:
            place = place[name]
        if isinstance(place, dict):
            place.pop(last) if is_deleted else place.update({last: None})
            assert page(evaluation, VERDICT).endswith(b"</html>\n"), [*parents, last]


def test_every_metric_is_explained() -> None:
    assert set(METRIC_WORDS) == set().union(*METRICS_OF.values())


def test_a_forest_tells_better_from_worse_and_draws_nothing_from_nothing() -> None:
    def colours(value: float) -> set[str]:
        drawn = plots.forest("f", "t", [("a", interval(value))]) or ""
        return {one for one in ("--good", "--bad") if one in drawn}

    assert (colours(0.5), colours(-0.5), colours(0.0)) == ({"--good"}, {"--bad"}, set())
    assert plots.forest("f", "t", [("a", {"value": None, "low": None, "high": None})]) is None
    assert plots.bars("b", "t", [("a", float("nan"))], "x") is None
    assert plots.curve("c", "t", ([0.0, None], [1.0, 2.0]), ("x", "y")) is None
