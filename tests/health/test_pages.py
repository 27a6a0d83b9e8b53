"""The pages hold what there is, and what data says stays text."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks.health import filled
from pipelines.health import overview, problem_page
from pipelines.health.document import Cost, Health, History, Point, Turn, Watched
from pipelines.health.drawn import heat_map, sparkline, timeline
from pipelines.health.history import history_of
from pipelines.health.in_flight import InFlight, Question
from pipelines.health.links import Links
from pipelines.health.problem_page import PAGE, Filter, RunKey
from pipelines.health.rows import Row, row
from pipelines.health.script import SCRIPT
from pipelines.health.state import health_of
from tests.conftest import ToyProblem
from tests.health.test_rows import LINKS, LOOKUPS, LOST, NOW, health

HARM = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
UP = Links("../", "http://mlflow")


class Elements(HTMLParser):
    """What a browser makes of a page: its tags, their attributes, and ids."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(content.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def harmful() -> tuple[Row, History]:
    turn = Turn(
        decision=f"gate:{HARM}",
        kind="gate",
        partition="2026-03-08",
        verdict="failed",
        action=HARM,
        reason=HARM,
        version=HARM,
        decided=NOW,
        by=HARM,
    )
    look = Watched(
        decision="m",
        partition="2026-03-08",
        version=HARM,
        decided=NOW,
        drift={HARM: 4.0, "litres": 0.2},
        realised={"2026-03-08": 0.7},
    )
    history = History(problem="kettle", metric="auc", turns=(turn,), watched=(look,))
    asked = InFlight(questions=(Question("release", HARM, HARM, NOW, (HARM,)),))
    return row("kettle", health(missed=HARM), asked, UP, NOW), history


def test_data_never_becomes_markup() -> None:
    made, history = harmful()
    pages = [
        overview.page([made], LINKS, NOW, fault=HARM),
        problem_page.page(made, history, UP, NOW, chosen=Filter(text=HARM), fault=HARM, dags=["train"]),
        problem_page.page(made, history, UP, NOW, runs={RunKey("train", "2026-03-08"): HARM}),
    ]
    for content in pages:
        page = Elements(content)
        assert page.tags.count("script") == 1 and "img" not in page.tags
        assert not [name for name, _ in page.attributes if name.startswith("on")]
        assert b"alert(1)" in content, "it is there, as text"


def test_the_policy_allows_the_one_script_and_nothing_else() -> None:
    made, history = harmful()
    for content in (overview.page([made], LINKS, NOW), problem_page.page(made, history, UP, NOW)):
        [script] = re.findall(r"<script>(.*?)</script>", content.decode(), re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert SCRIPT.allowed == f"sha256-{digest}"
        assert f"script-src '{SCRIPT.allowed}'; base-uri 'none'; form-action 'self'\"" in content.decode()
        assert "kettle" not in script


def test_the_overview_says_what_a_person_needs() -> None:
    facts = health(
        points=(
            Point(partition="2026-03-08", realised=0.712),
            Point(
                partition="2026-03-09", estimated=0.7, low=0.65, high=0.75, labels_due=datetime(2026, 3, 12, tzinfo=UTC)
            ),
        ),
        quarantined_rows=1234,
    )
    page = overview.page([row("kettle", facts, InFlight(), LINKS, NOW)], LINKS, NOW).decode()
    assert '<a href="health/kettle">kettle</a>' in page
    for words in (
        '<a href="pages/kettle/models/3/card.html">version 3</a>',
        "9 days old",
        'AUC <span class="value">0.712</span>',
        "the gate asks for at least 0.6",
        '0.7 (0.65 to 0.75) estimated of <span class="key">2026-03-09</span>',
        'labels of <span class="key">2026-03-09</span> due <span class="key">2026-03-12</span>',
        "action: none",
        "events 2026-03-09, 12 hours ago",
        "in quarantine: 1,234 rows",
        "just now",
    ):
        assert words in page
    assert "Cost" not in page, "a column that nobody has filled is not there"
    paid = facts.model_copy(update={"cost": Cost(per_partition=0.25, unit="EUR")})
    assert "0.25 EUR" in overview.page([row("kettle", paid, InFlight(), LINKS, NOW)], LINKS, NOW).decode()


def test_sources_are_told_of_and_one_that_is_behind_is_marked() -> None:
    made = row("kettle", health(sources=(LOST, LOOKUPS)), InFlight(), UP, NOW)
    drawn = overview.page([made], UP, NOW).decode()
    assert 'key beyond">weather 2026-03-08 18:00, behind</div>' in drawn and "shelves no times</div>" in drawn
    assert 'kettle#at-sources">Source weather stopped at' in drawn
    page = problem_page.page(made, None, UP, NOW).decode()
    assert '<section id="at-sources">' in page
    assert (
        '2026-03-08 18:00, behind</td><td>at</td><td>30 hours</td><td>up to 2 hours</td><td class="key"></td>' in page
    )
    assert '<td class="key">no times</td><td></td><td></td><td></td><td class="key">2026-03-10 12:00</td>' in page
    quiet = row("kettle", health(), InFlight(), UP, NOW)
    assert "at-sources" not in problem_page.page(quiet, None, UP, NOW).decode(), "nothing was read yet"


def test_a_problem_of_which_nothing_is_known_has_a_page() -> None:
    unknown = row("kettle", None, InFlight(), UP, NOW)
    for content in (overview.page([unknown], LINKS, NOW), problem_page.page(unknown, None, UP, NOW)):
        assert b"evergreen status kettle" in content
    assert b"There is no problem here that you may see" in overview.page([], LINKS, NOW)


@pytest.fixture
def lived(toy: ToyProblem, store_folder: Path) -> tuple[Health, History]:
    problem = toy()
    filled(problem, 70)
    return health_of(problem), history_of(problem)


def test_a_problems_page_tells_its_life(lived: tuple[Health, History]) -> None:
    state, history = lived
    page = problem_page.page(row("kettle", state, InFlight(), UP, NOW), history, UP, NOW, window=104).decode()
    assert page.count('class="mark promoted"') == 2 + 1, "both, and the legend"
    assert page.count('class="mark failed"') == 1 + 1
    assert "version 1 served 2024-01-02 to 2024-02-29" in page and "version 2 served 2024-03-01" in page
    shifted = {name for look in history.watched for name, step in look.drift.items() if step and step > 1}
    assert f"{len(shifted)} of 2 columns shifted: {', '.join(sorted(shifted))}" in page
    assert "Decisions 1 to 50 of 74, the newest first" in page
    assert '<a href="../pages/kettle/reports/2024-03-10/monitoring.html"' in page
    assert '<a href="../comparison/kettle" data-outside>newest training compared</a>' in page
    without_mlflow = Links("../", None)
    alone = problem_page.page(row("kettle", state, InFlight(), without_mlflow, NOW), history, without_mlflow, NOW)
    assert b"comparison" not in alone
    assert 'href="../../dags' not in page, "a run that Airflow does not know is not linked to"


def test_a_promotion_before_the_first_measured_partition_is_drawn() -> None:
    def promoted(partition: str, version: str) -> Turn:
        return Turn(
            decision=f"promotion:{version}",
            kind="promotion",
            partition=partition,
            verdict="promoted",
            action="promoted",
            reason="it passed its gate",
            version=version,
            decided=NOW,
        )

    look = Watched(decision="m", partition="2026-03-08", version="1", decided=NOW, drift={}, realised={})
    turns = (promoted("2026-03-01", "1"), promoted("2026-03-08", "2"))
    history = History(problem="kettle", metric="auc", turns=turns, watched=(look,))
    page = problem_page.page(row("kettle", health(), InFlight(), UP, NOW), history, UP, NOW).decode()
    assert page.count('class="mark promoted"') == 2 + 1, "both, and the legend"
    assert "version 1 came to serve" in page


def test_the_ledger_is_filtered_and_paged(lived: tuple[Health, History]) -> None:
    state, history = lived
    promotions = problem_page.shown(history, Filter(kind="promotion"))
    assert [turn.partition for turn in promotions] == ["2024-03-01", "2024-01-01"]
    assert len(problem_page.shown(history, Filter(page=2))) == len(history.turns) - PAGE
    assert {turn.verdict for turn in problem_page.shown(history, Filter(text="Covariate"))} == {"covariate shift"}
    chosen = Filter(kind="monitoring", text="of the last", page=1)
    assert RunKey("monitor", "2024-03-10") in problem_page.shown_runs(history, chosen)
    runs = {RunKey("monitor", "2024-03-10"): "asset__1"}
    made = row("kettle", state, InFlight(), UP, NOW)
    page = problem_page.page(made, history, UP, NOW, chosen=chosen, runs=runs).decode()
    assert '<a href="../../dags/kettle.monitor/runs/asset__1" data-outside' in page
    assert 'href="?kind=monitoring&amp;text=of+the+last&amp;page=2&amp;window=26#at-ledger" rel="next"' in page
    nothing = problem_page.page(made, history, UP, NOW, chosen=Filter(page=99)).decode()
    assert "No decision is like that." in nothing and 'rel="prev"' in nothing


def test_pictures_say_in_words_what_they_show() -> None:
    points = [Point(partition=f"2026-03-0{day}", realised=0.7) for day in range(1, 4)]
    for picture in (
        sparkline(points, None, "AUC", "Level."),
        timeline(points, 0.6, [], {}, "AUC", "Level."),
        heat_map({"litres": {"2026-03-01": 1.2}}, ["2026-03-01"], "AUC", "Level."),
    ):
        assert picture is not None
        assert 'role="img"' in picture and 'aria-label="AUC. Level."' in picture
        assert "<title>AUC</title><desc>Level.</desc>" in picture
    assert sparkline([Point(partition="2026-03-01")], 0.6, "AUC", "") is None
    assert timeline([], None, [], {}, "AUC", "") is None and heat_map({}, [], "AUC", "") is None


def test_a_cell_has_the_colour_of_its_step() -> None:
    keys = [f"2026-03-0{day}" for day in range(1, 7)]
    steps = dict(zip(keys, [0.1, 0.4, None, 1.2, 1.2, 9.0], strict=True))
    picture = heat_map({"litres": steps}, keys, "Drift", "")
    assert picture is not None
    assert re.findall(r'<rect class="(l\d)"', picture) == ["l1", "l0", "l3", "l3", "l5"], (
        "cells that say nothing are one"
    )
    assert "litres, 2026-03-06: 9 times what is usual" in picture
