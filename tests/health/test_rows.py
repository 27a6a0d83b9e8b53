"""Who needs a person comes first, and the line says what for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipelines.health.document import Champion, FailedGate, Fresh, Health, Held, Point, Release, SourceFresh, Turn
from pipelines.health.in_flight import InFlight, Question, Run
from pipelines.health.links import Links
from pipelines.health.rows import Note, Row, Standing, ago, row, rows, summed_up

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
LINKS = Links("", "http://mlflow")
CHAMPION = Champion(
    version="3", since=NOW - timedelta(days=9), partition="2026-03-01", how="promoted", trained_on="2026-03-01", age=9
)
STABLE = Turn(
    decision="monitoring:2026-03-09:3:0123abcd",
    kind="monitoring",
    partition="2026-03-09",
    version="3",
    verdict="stable",
    action="none",
    reason="nothing moved",
    decided=NOW,
)
LOST = SourceFresh(
    name="weather",
    columns="at",
    newest=NOW - timedelta(hours=42),
    arrived=None,
    partition="2026-03-09",
    until=NOW - timedelta(hours=12),
    allowed_s=7200.0,
)
LOOKUPS = LOST.model_copy(
    update={"name": "shelves", "columns": None, "newest": None, "arrived": NOW, "allowed_s": None}
)
ASKED = Question("release", "run/1", "Version 4 to canary?", NOW, ("ada",))
LABELS = Question("annotate", "r2", "Did it boil over?", NOW, ())


def health(**changes: Any) -> Health:
    facts: dict[str, Any] = {
        "problem": "kettle",
        "every": "day",
        "derived": NOW,
        "metric": "auc",
        "gate": 0.6,
        "higher_is_better": True,
        "champion": CHAMPION,
        "points": (Point(partition="2026-03-08", realised=0.7),),
        "judged": STABLE,
        "held": (),
        "quarantined_rows": 0,
        "release": None,
        "waiting": (),
        "failed_gate": None,
        "tables": (Fresh(name="events", partition="2026-03-09", until=NOW - timedelta(hours=12)),),
        "lies_in_past": False,
        "next_due": NOW + timedelta(hours=16),
        "missed": None,
    }
    return Health(**{**facts, **changes})


def line(in_flight: InFlight = InFlight(), **changes: Any) -> Row:  # noqa: B008 - it is never changed
    return row("kettle", health(**changes), in_flight, LINKS, NOW)


def test_a_problem_that_needs_nobody_is_quiet() -> None:
    quiet = line()
    assert (quiet.standing, quiet.waits, quiet.looks, quiet.goes_on) == (Standing.QUIET, (), (), ())


@pytest.mark.parametrize(
    ("in_flight", "changes", "words", "href"),
    [
        (
            InFlight(questions=(ASKED,)),
            {},
            "Approval (ada): Version 4 to canary?",
            "../dags/kettle.release/runs/run%2F1/required_actions",
        ),
        (
            InFlight(questions=(LABELS, LABELS)),
            {},
            "Labels of 2 events",
            "../dags/kettle.annotate/runs/r2/required_actions",
        ),
        (
            InFlight(failed=(Run("score", "r3", "2026-03-09", NOW, ("publish",)),)),
            {},
            "Failed run: score of 2026-03-09 (task publish)",
            "../dags/kettle.score/runs/r3",
        ),
        (
            InFlight(),
            {"held": (Held(partition="2026-03-04", reason="2026-03-04: a dead sensor", since=NOW),)},
            "1 partition in quarantine, to be mended or readmitted; 2026-03-04: a dead sensor",
            "health/kettle?kind=partition#at-ledger",
        ),
        (InFlight(), {"missed": "2 days closed and were not ingested"}, "2 days closed and were not ingested", None),
    ],
)
def test_what_a_person_is_waited_for(
    in_flight: InFlight, changes: dict[str, Any], words: str, href: str | None
) -> None:
    waits = line(in_flight, **changes)
    assert waits.standing is Standing.WAITS
    assert [(note.text, note.href) for note in waits.waits] == [(words, href)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"points": (Point(partition="2026-03-08", realised=0.55),)},
            "auc 0.55 of 2026-03-08: the gate asks for at least",
        ),
        (
            {"judged": STABLE.model_copy(update={"verdict": "concept drift", "action": "alert"})},
            "concept drift at 2026-03-09: nothing moved",
        ),
        (
            {
                "failed_gate": FailedGate(
                    partition="2026-03-07", reason="no gain", decided=NOW, training="2026-03-07-0123abcd"
                )
            },
            "Gate failed at 2026-03-07: no gain",
        ),
        ({"next_due": NOW - timedelta(days=2)}, "The next partition was due 2 days ago"),
        ({"sources": (LOST, LOOKUPS)}, "Source weather stopped at 2026-03-08 18:00, 30 hours before the end of"),
    ],
)
def test_what_is_worth_a_look(changes: dict[str, Any], words: str) -> None:
    looks = line(**changes)
    assert looks.standing is Standing.LOOK
    [note] = looks.looks
    assert note.text.startswith(words)


def test_an_error_is_beyond_the_gate_above_it() -> None:
    errs = {"metric": "rmse", "higher_is_better": False, "gate": 2.0}
    assert line(**errs, points=(Point(partition="2026-03-08", realised=1.9),)).standing is Standing.QUIET
    assert line(**errs, points=(Point(partition="2026-03-08", realised=2.1),)).standing is Standing.LOOK


def test_what_ended_years_ago_is_not_due() -> None:
    assert line(next_due=NOW - timedelta(days=2000), lies_in_past=True).standing is Standing.QUIET


def test_a_release_and_a_training_go_on() -> None:
    release = Release(name="v3-v4", challenger="4", where="shadow", next_step="a canary", is_held=False, asked=None)
    goes_on = line(InFlight(running=(Run("train", "r1", "2026-03-09", NOW),), waiting=("score",)), release=release)
    assert goes_on.standing is Standing.UNDER_WAY
    assert [note.text for note in goes_on.goes_on] == [
        "Running: training of 2026-03-09",
        "In line: score",
        "Release of version 4: shadow. Next: a canary",
    ]


def test_who_needs_a_person_comes_first() -> None:
    named = {
        "asleep": health(),
        "broken": health(points=(Point(partition="2026-03-08", realised=0.5),)),
        "new": None,
        "asked": health(),
        "much_asked": health(missed="one"),
    }
    going_on = {"asked": InFlight(questions=(ASKED,)), "much_asked": InFlight(questions=(ASKED,))}
    made = rows(named, going_on, LINKS, NOW)
    assert [each.problem for each in made] == ["much_asked", "asked", "broken", "asleep", "new"]
    assert summed_up(made) == "waits for a person: 2, worth a look: 1, quiet: 1, nothing yet: 1"


def test_paused_dags_of_a_problem_that_has_not_begun_are_no_news() -> None:
    paused = InFlight(paused=("ingest", "train"))
    assert row("new", None, paused, LINKS, NOW).standing is Standing.EMPTY
    note = Note("Paused, nothing starts them: ingest, train", "../dags/kettle.ingest", is_outside=True)
    assert line(paused).looks == (note,)


def test_times_are_told_by_their_largest_unit() -> None:
    assert ago(NOW - timedelta(hours=25), NOW) == "1 day ago"
    assert ago(NOW + timedelta(minutes=3), NOW) == "in 3 minutes"


@pytest.mark.parametrize(
    ("kind", "decision", "action", "path"),
    [
        ("monitoring", "monitoring:x", "none", "reports/2026-03-09/monitoring.html"),
        ("gate", "gate:2026-03-09-0123abcd", "register", "evaluations/2026-03-09-0123abcd.html"),
        ("gate", "gate:../../x", "register", None),
        ("promotion", "p", "promoted", "models/3/card.html"),
        ("rollout", "r", "looked", "reports/2026-03-09/release.html"),
        ("rollout", "r", "assigned", None),
        ("alert", "a", "sent", None),
    ],
)
def test_decisions_lead_to_what_they_rest_on(kind: str, decision: str, action: str, path: str | None) -> None:
    turn = Turn(
        decision=decision,
        kind=kind,
        partition="2026-03-09",
        verdict="",
        action=action,
        reason="",
        version="3",
        decided=NOW,
    )
    assert LINKS.evidence("kettle", turn) == (None if path is None else f"pages/kettle/{path}")
