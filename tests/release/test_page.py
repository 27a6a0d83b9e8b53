"""A release's page answers in words where it stands, on what evidence, and what comes next."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from pipelines.ledger import Decision
from pipelines.problem import Problem
from pipelines.release.evidence import Comparison, compare
from pipelines.release.ladder import Question, Rollout
from pipelines.release.page import page
from tests.conftest import TOY, ToyProblem
from tests.release.under_release import (
    DAYS,
    START,
    Day,
    at,
    at_the_end_of,
    binary_day,
    lay_out,
    rollout,
    scored_tables,
    versions,
    write,
)

NEXT = "Version 4 stays beside version 3."


@pytest.fixture
def kettle(toy: ToyProblem, store_folder: Path) -> Problem:
    problem = toy(**{"release.path": ["shadow", "canary", "full"]})
    versions(problem)
    return problem


def released(problem: Problem, rungs: list[int], rows: int = 300) -> Rollout:
    release = rollout(problem, rungs)
    lay_out(problem, release, {day: binary_day(place, rows) for place, day in enumerate(DAYS[: len(rungs)])})
    return release


def drawn(problem: Problem, release: Rollout, late: list[str] | None = None, end: str | None = None) -> str:
    comparison = compare(problem, release, at_the_end_of(problem, end or max(release.assigned), late or []))
    return page(problem, release, comparison, NEXT).decode()


def words(html: str) -> str:
    """What a reader reads."""
    body = re.sub(r"<(style|svg).*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def turn(number: int, action: str, verdict: str, reason: str, **evidence: Any) -> Decision:
    return {
        "decision": str(number),
        "kind": "rollout",
        "partition": DAYS[number],
        "verdict": verdict,
        "action": action,
        "reason": reason,
        "evidence": evidence,
        "model_version": "4",
        "decided_time": START + timedelta(days=number),
    }


def test_it_says_where_the_release_is_and_what_comes_next(kettle: Problem) -> None:
    html = drawn(kettle, released(kettle, [0, 0, 0]), late=[DAYS[2]])
    said = words(html)
    assert "<title>Release v3 to v4</title>" in html and NEXT in said
    assert re.findall(r'<li class="([\w-]+)">', html) == ["here", *["to-come"] * 4]
    assert "labelled days: at least 2, at most 8" in said
    assert (
        "At the latest it is decided with the labels of 6 more days, up to 2024-01-18, which are due on 2024-01" in said
    )
    assert "It has to be shown, within 8 labelled days, that version 4 is not worse by more than 0.002" in said
    assert f"{DAYS[2]} waits for labels." in said
    assert "Nothing is shown yet" in said


def test_equal_facts_give_equal_bytes_and_nothing_is_fetched(kettle: Problem) -> None:
    release = released(kettle, [0, 0])
    first, second = (drawn(kettle, release) for _ in range(2))
    assert first == second
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", first) and "<script" not in first


def test_the_picture_has_the_effect_and_the_margin(kettle: Problem) -> None:
    html = drawn(kettle, released(kettle, [0, 0]))
    (picture,) = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert "margin (0.002): above it is harm" in picture and DAYS[1] in picture
    assert "difference in log loss per row" in picture


def test_both_versions_metrics_and_every_partition_are_told(kettle: Problem) -> None:
    release = released(kettle, [0, 0, 1])
    comparison = compare(kettle, release, at_the_end_of(kettle))
    said = words(page(kettle, release, comparison, NEXT).decode())
    for variant in ("champion", "challenger"):
        assert f"{comparison.metrics[variant]['auc']:.4g}" in said  # type: ignore[index]
    assert "Version 4's AUC less version 3's, with its interval from blocks of rows drawn again" in said
    counted = comparison.recounts[-1]
    assert f"{DAYS[2]} Canary 5% 5.0 % {100 * counted.challenger_units / 300:.1f} %" in said
    assert "each of 900 rows has both scores" in said
    assert "Here it is asked only whether it does harm" in said


def test_rows_that_are_lost_stand_out(kettle: Problem) -> None:
    release = released(kettle, [0])
    _, shadows = scored_tables(kettle, release.assigned[DAYS[0]], DAYS[0], binary_day(0, 300))
    write(kettle, "shadow_predictions", shadows.slice(12), DAYS[0])
    html = drawn(kettle, release)
    assert f"12 rows of version 4 are missing in {DAYS[0]}" in words(html) and 'class="box bad"' in html
    assert "version 3: 0, version 4: 12; of 300" in words(html)


def test_the_history_names_who_answered_and_folds_the_rest_away(kettle: Problem) -> None:
    release = replace(
        released(kettle, [0]),
        rows=(
            turn(0, "started", "passed its gate", "better on the test"),
            turn(1, "assigned", "shadow", "version 4 beside version 3"),
            turn(2, "answered", "go on", "looks <b>fine</b>", user="ada", answer="Approve"),
        ),
    )
    html = drawn(kettle, release)
    before, after = html.split("<details>")
    assert "go on: Approve looks <b>fine</b> ada" in words(before) and "&lt;b&gt;fine" in html
    assert "version 4 beside version 3" not in before and "version 4 beside version 3" in after


def test_people_who_are_asked_and_people_who_hold_it_are_told(kettle: Problem) -> None:
    release = released(kettle, [0])
    asked = words(drawn(kettle, replace(release, question=Question(DAYS[0], 0, "go on"))))
    assert f"asked since {DAYS[0]} (go on). Without an answer within 72 hours it counts as reject." in asked
    held = words(drawn(kettle, replace(release, is_held=True, reason="ada is away")))
    assert "Somebody holds the release: it stays where it is until it is resumed. ada is away" in held


@pytest.mark.parametrize(
    ("state", "places"),
    [
        ("promoted", ["done"] * 5),
        ("rolled back", ["done", "ended-here", *["to-come"] * 3]),
        ("under way", ["done", "here", *["to-come"] * 3]),
    ],
)
def test_the_path_says_how_far_it_came(kettle: Problem, state: Any, places: list[str]) -> None:
    release = replace(released(kettle, [0, 1]), state=state)
    html = drawn(kettle, release)
    assert re.findall(r'<li class="([\w-]+)">', html) == places
    assert (f"The release has ended: {state}." in words(html)) == (state != "under way")


def test_a_later_step_goes_on_with_its_own_labels(kettle: Problem) -> None:
    said = words(drawn(kettle, released(kettle, [0, 1]), late=[DAYS[1]]))
    assert f"It goes on with the labels of {DAYS[1]}, which are due on {DAYS[2]}" in said


def test_nothing_labelled_yet_is_said(kettle: Problem) -> None:
    html = drawn(kettle, released(kettle, [0]), late=DAYS[:1])
    said = words(html)
    assert "nothing is known of how good the challenger is" in said and "No labels yet." in said
    assert "<svg" not in html


def test_what_does_not_count_is_said_with_its_reason(kettle: Problem) -> None:
    from pipelines import quarantine

    release = released(kettle, [0, 0])
    quarantine.hold(kettle, DAYS[0], "a broken sensor", {"by": "ada"})
    assert f"{DAYS[0]} does not count: it is in quarantine." in words(drawn(kettle, release))


def test_where_decisions_change_labels_each_version_stands_for_its_own_rows(
    toy: ToyProblem, store_folder: Path
) -> None:
    problem = toy(**{"release.path": ["ab", "full"], "release.feedback": "outcome", "release.unit": "shelf"})
    versions(problem)
    said = words(drawn(problem, released(problem, [0, 0])))
    assert "Decisions change labels here" in said and "Each version on the rows that it served" in said
    assert "version 4 serves 50% of the values of shelf" in said and "AUC less" not in said


def test_a_bandit_and_a_gain_have_words_of_their_own(toy: ToyProblem, store_folder: Path) -> None:
    problem = toy(
        **{"release.path": ["bandit", "full"], "release.feedback": "outcome", "release.require": "gain"},
    )
    versions(problem)
    html = drawn(problem, released(problem, [0, 0]))
    assert "whichever version looks better serves more" in words(html)
    assert "that version 4 is better: z has to reach its bound" in words(html) and "above 0 is harm" in html


def test_a_regression_names_the_unit_of_its_loss(toy: ToyProblem, store_folder: Path) -> None:
    gate = {name: {"rmse": 0} for name in ("gain_over_baselines", "gain_over_champion")}
    problem = toy(
        **{
            "task": "regression",
            "gate": gate | {"limits": {"rmse": {"max": 9}}, "slices": {"metric": "rmse"}},
            "training": TOY["training"] | {"select_by": "rmse"},
            "labels.unit": "minute",
            "release.path": ["shadow", "full"],
            "release.metric": "absolute_error",
            "release.margin": 0.1,
        }
    )
    versions(problem)
    binary = binary_day(1)
    release = rollout(problem, [0])
    lay_out(problem, release, {DAYS[0]: Day(binary.champion.tolist(), binary.champion + 0.1, binary.challenger)})
    assert "mean absolute error per row (minute)" in words(drawn(problem, release))


def test_a_comparison_that_was_kept_draws_the_same_page(kettle: Problem) -> None:
    release = released(kettle, [0, 0, 1])
    comparison = compare(kettle, release, at_the_end_of(kettle))
    kept = Comparison.model_validate_json(comparison.model_dump_json())
    assert page(kettle, release, kept, NEXT) == page(kettle, release, comparison, NEXT)
    assert page(kettle, at(release, 2), comparison, NEXT) != page(kettle, release, comparison, NEXT)
