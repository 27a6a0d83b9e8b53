"""What the look at the pages notes; the look itself wants a browser and a demo that was played."""

from __future__ import annotations

from typing import Any

import pytest

from docs import screenshots
from docs.browser import BrowserError, Tab
from docs.screenshots import Page
from pipelines.problem import load_problem


class Answers:
    """As a browser that answers what it is asked: the page's width, and what axe-core has found."""

    def __init__(self, *, is_wide: bool = False, violations: list[dict[str, Any]] | None = None) -> None:
        self.is_wide, self.violations = is_wide, violations or []

    def ask(self, method: str, params: dict[str, Any], session: str) -> dict[str, Any]:
        assert (method, session) == ("Runtime.evaluate", "s")
        value: object = self.violations if "axe.run" in params["expression"] else self.is_wide
        return {"result": {"value": value}}


def tab(**answers: Any) -> Tab:
    return Tab(Answers(**answers), "s")  # type: ignore[arg-type]


def faults(seen: Tab, *, is_ours: bool = True) -> list[str]:
    page = Page("a page", "http://127.0.0.1:8080/evergreen/health", is_ours=is_ours)
    return list(screenshots._faults(seen, page, "axe = 1"))


def requested(url: str, number: str) -> dict[str, Any]:
    return {"requestId": number, "request": {"url": url}}


def test_errors_other_hosts_and_faults_of_ours_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    serious = {"id": "label", "help": "has a label", "impact": "serious", "nodes": [{"html": "<input>"}]}
    seen = tab(is_wide=True, violations=[serious, serious | {"id": "region", "impact": "moderate"}])
    seen.heard("Network.requestWillBeSent", requested("http://127.0.0.1:8080/evergreen/health", "1"))
    seen.heard("Network.requestWillBeSent", requested("https://fonts.example/a.woff", "2"))
    seen.heard("Network.requestWillBeSent", requested("data:image/png;base64,AA", "3"))
    seen.heard("Runtime.consoleAPICalled", {"type": "error", "args": [{"value": "broken"}]})
    seen.heard("Runtime.consoleAPICalled", {"type": "log", "args": [{"value": "fine"}]})
    seen.heard("Runtime.exceptionThrown", {"exceptionDetails": {"text": "Uncaught", "exception": {}}})
    seen.heard("Log.entryAdded", {"entry": {"level": "error", "text": "404", "url": "http://x/y"}})
    assert faults(seen) == [
        "console: broken",
        "console: Uncaught",
        "console: 404 http://x/y",
        "asked other hosts: fonts.example",
        "the whole page scrolls sideways",
        "axe-core: label: has a label (1, such as <input>)",
    ]
    assert faults(tab(is_wide=True, violations=[serious]), is_ours=False) == [], "nobody here can mend it"
    assert "1 faults of a UI that is not ours, by axe-core: label" in capsys.readouterr().out


def test_a_page_that_is_well_has_no_faults() -> None:
    seen = tab()
    seen.heard("Network.requestWillBeSent", requested("http://127.0.0.1:8080/evergreen/health", "1"))
    seen.heard("Network.loadingFinished", {"requestId": "1"})
    assert faults(seen) == []


def test_the_newest_quiet_and_the_newest_harmed_week_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    decided = [
        ("2013-04-01", "stable", "none"),
        ("2013-04-08", "stable", "none"),
        ("2013-04-15", "calibration drift", "alert"),
        ("2013-04-22", "feature change", "none"),
        ("2013-04-29", "staleness", "retrain"),
    ]
    rows = [{"partition": key, "verdict": verdict, "action": action} for key, verdict, action in decided]
    monkeypatch.setattr(screenshots.ledger, "decisions", lambda problem, kind: rows)
    assert screenshots._weeks(load_problem("flight_delay")) == ("2013-04-08", "2013-04-15")
    monkeypatch.setattr(screenshots.ledger, "decisions", lambda problem, kind: rows[:2])
    with pytest.raises(BrowserError, match="play `evergreen demo` first"):
        screenshots._weeks(load_problem("flight_delay"))
