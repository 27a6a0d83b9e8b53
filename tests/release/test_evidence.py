"""What labels say of a release, against a plain computation with NumPy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import quarantine, sql, store
from pipelines.metrics.effects import beyond_expected, paired, weighted
from pipelines.paths import manifest_uri, version_uri
from pipelines.problem import Problem
from pipelines.release import evidence
from pipelines.release.assign import is_challengers
from pipelines.release.evidence import Comparison, compare
from pipelines.release.judge import judge
from pipelines.release.ladder import Rollout
from pipelines.release.recount import UNLIKELY, Recount, ratio_p, recount
from tests.conftest import TOY, ToyProblem
from tests.examples import dear
from tests.release.under_release import (
    DAYS,
    Day,
    at,
    at_the_end_of,
    binary_day,
    label,
    lay_out,
    rollout,
    scored_tables,
    served_by_challenger,
    versions,
    write,
)

PATH = ["shadow", "canary", "full"]
UNITS = [f"unit {number}" for number in range(600)]


@pytest.fixture
def kettle(toy: ToyProblem, store_folder: Path) -> Problem:
    problem = toy(**{"release.path": PATH, "release.canary": {"shares": [0.2, 0.5]}})
    versions(problem)
    return problem


@pytest.fixture
def outcome(toy: ToyProblem, store_folder: Path) -> Problem:
    """Decisions change labels: only what a version served counts for it."""
    problem = toy(
        **{"release.path": PATH, "release.canary": {"shares": [0.2, 0.5]}, "release.feedback": "outcome"},
    )
    versions(problem)
    return problem


def log_loss(labels: Any, scores: np.ndarray) -> np.ndarray:
    return -np.log(np.where(np.asarray(labels) == 1, scores, 1 - scores))


def days(count: int, **options: Any) -> dict[str, Day]:
    return {day: binary_day(number, **options) for number, day in enumerate(DAYS[:count])}


def released(problem: Problem, rungs: list[int], parts: dict[str, Day], **changes: Any) -> Rollout:
    release = rollout(problem, rungs, **changes)
    lay_out(problem, release, parts)
    return release


def steps(comparison: Comparison) -> list[str]:
    return [look.step for look in comparison.looks]


def test_a_shadow_is_compared_row_by_row(kettle: Problem) -> None:
    parts = days(3)
    comparison = compare(kettle, released(kettle, [0, 0, 0], parts), at_the_end_of(kettle))
    assert comparison.judged == DAYS[:3] and comparison.waiting == []
    assert (comparison.kind, comparison.rung, comparison.is_paired, comparison.has_to_show) == ("shadow", 0, True, True)
    differences = [log_loss(day.labels, day.challenger) - log_loss(day.labels, day.champion) for day in parts.values()]
    for place, look in enumerate(comparison.looks):
        so_far = np.concatenate(differences[: place + 1])
        assert look.effect == pytest.approx(so_far.mean(), rel=1e-9)
        assert look.variance == pytest.approx(so_far.var(ddof=1) / len(so_far), rel=1e-9)
        assert (look.rows, look.units) == (len(so_far), len(so_far))
    whole = {
        name: np.concatenate([getattr(day, name) for day in parts.values()]) for name in ("champion", "challenger")
    }
    labels = [value for day in parts.values() for value in day.labels]
    for variant in ("champion", "challenger"):
        assert comparison.metrics[variant]["log_loss"] == pytest.approx(log_loss(labels, whole[variant]).mean())
    assert comparison.auc_gain is not None and comparison.auc_gain["low"] is not None
    gain = (comparison.metrics["challenger"]["auc"] or 0) - (comparison.metrics["champion"]["auc"] or 0)
    assert comparison.auc_gain["value"] == pytest.approx(gain)
    assert comparison.is_broken is None and comparison.assigned_p is None and comparison.lost["challenger"] == 0


def test_units_of_several_rows_count_as_one(toy: ToyProblem, store_folder: Path) -> None:
    problem = toy(**{"release.path": PATH, "release.unit": "shelf"})
    versions(problem)
    parts = days(2, units=20)
    comparison = compare(problem, released(problem, [0, 0], parts), at_the_end_of(problem))
    sums: dict[str, list[float]] = {}
    for day in parts.values():
        difference = log_loss(day.labels, day.challenger) - log_loss(day.labels, day.champion)
        for unit, value in zip(day.units or [], difference, strict=True):
            sums.setdefault(unit, []).append(value)
    mean = np.mean([value for values in sums.values() for value in values])
    rests = np.array([sum(values) - mean * len(values) for values in sums.values()])
    rows = sum(map(len, sums.values()))
    expected = (rests**2).sum() / rows**2 * len(rests) / (len(rests) - 1)
    newest = comparison.looks[-1]
    assert (newest.effect, newest.variance) == (pytest.approx(mean), pytest.approx(expected))
    assert (newest.units, newest.rows) == (len(sums), rows)


@pytest.mark.parametrize("is_sticky", [False, True])
def test_where_decisions_change_labels_only_served_rows_count(
    toy: ToyProblem, store_folder: Path, is_sticky: bool
) -> None:
    problem = toy(
        **{
            "release.path": PATH,
            "release.canary": {"shares": [0.2, 0.5]},
            "release.feedback": "outcome",
            "release.unit": "shelf",
            "release.sticky": is_sticky,
        }
    )
    versions(problem)
    parts = days(4, units=150)
    release = released(problem, [0, 1, 1, 2], parts)
    comparison = compare(problem, release, at_the_end_of(problem))
    assert comparison.judged == DAYS[1:4]
    assert not comparison.is_paired and comparison.has_to_show and comparison.auc_gain is None
    losses, champion, by_challenger, propensity, units = [], [], [], [], []
    for name in DAYS[1:4]:
        day, assignment = parts[name], release.assigned[name]
        is_in = served_by_challenger(assignment, name, day.units or [])
        losses.append(log_loss(day.labels, np.where(is_in, day.challenger, day.champion)))
        champion.append(day.champion)
        by_challenger.append(is_in)
        propensity.append(np.full(day.rows, assignment.share))
        units += [unit if is_sticky else f"{name} {unit}" for unit in day.units or []]
    loss = np.concatenate(losses)
    codes = np.unique(units, return_inverse=True)[1]
    expected = weighted(
        beyond_expected(loss, np.concatenate(champion)),
        np.concatenate(by_challenger),
        np.concatenate(propensity),
        codes,
    )
    newest = comparison.looks[-1]
    assert newest.effect == pytest.approx(expected.value, rel=1e-9)
    assert newest.variance == pytest.approx(expected.variance, rel=1e-9)
    assert (newest.rows, newest.units) == (expected.rows, expected.units)
    served = np.concatenate(by_challenger)
    weights = served / np.concatenate(propensity)
    assert comparison.metrics["challenger"]["log_loss"] == pytest.approx((weights * loss).sum() / weights.sum())
    assert comparison.coverage["challenger"] == (served.sum(), served.sum())
    assert comparison.is_broken is None


def test_a_later_rung_goes_on_with_all_partitions_and_only_looks_for_harm(kettle: Problem) -> None:
    release = released(kettle, [0, 0, 1, 1], days(4, rows=200))
    comparison = compare(kettle, release, at_the_end_of(kettle))
    assert comparison.judged == DAYS[:4] and comparison.is_paired and not comparison.has_to_show
    assert comparison.maximum is None and comparison.at_this_step == 2
    assert all(look.bound is None for look in comparison.looks)
    assert comparison.step == "promote" and "no harm is shown" in comparison.reason


def test_a_later_rung_waits_for_its_own_partitions_and_never_expires(kettle: Problem) -> None:
    release = released(kettle, [0] * 12 + [1], days(13, rows=60))
    comparison = compare(kettle, release, at_the_end_of(kettle, late=[DAYS[12]]))
    assert (comparison.step, comparison.waiting) == ("hold", [DAYS[12]])
    assert comparison.reason.startswith("0 of 1 labelled partitions are there")


def test_harm_in_a_canary_is_rolled_back(kettle: Problem) -> None:
    parts = days(2) | {DAYS[2]: binary_day(2, worse=3.0)}
    comparison = compare(kettle, released(kettle, [0, 0, 1], parts), at_the_end_of(kettle))
    assert steps(comparison) == ["hold", "hold", "roll back"]
    assert comparison.step == "roll back" and "shown to be worse" in comparison.reason


def test_the_first_rung_has_to_show_that_the_challenger_is_not_worse(kettle: Problem) -> None:
    same = days(2, rows=4000, apart=0.02)
    comparison = compare(kettle, released(kettle, [0, 0], same), at_the_end_of(kettle))
    assert comparison.step == "promote" and comparison.reason.startswith("shown not to be worse")


@pytest.mark.parametrize(("count", "step"), [(7, "hold"), (8, "expire"), (10, "expire")])
def test_it_expires_after_its_last_look(kettle: Problem, count: int, step: str) -> None:
    comparison = compare(kettle, released(kettle, [0] * count, days(count, rows=60)), at_the_end_of(kettle))
    assert comparison.step == step and len(comparison.looks) == count
    assert [look.bound is None for look in comparison.looks] == [place >= 8 for place in range(count)]


def test_harm_is_seen_beyond_the_last_look(kettle: Problem) -> None:
    parts = days(8, rows=60) | {DAYS[8]: binary_day(8, rows=4000, worse=3.0)}
    comparison = compare(kettle, released(kettle, [0] * 9, parts), at_the_end_of(kettle))
    assert comparison.step == "roll back"


def test_a_canary_with_shares_left_goes_up_and_the_last_one_has_to_show_it(outcome: Problem) -> None:
    parts = days(3, rows=300)
    release = released(outcome, [1, 1, 2], parts)
    smaller = compare(outcome, at(release, 1), at_the_end_of(outcome, DAYS[1]))
    assert smaller.step == "promote" and "no harm is shown" in smaller.reason
    larger = compare(outcome, release, at_the_end_of(outcome))
    assert larger.step == "hold" and larger.at_this_step == 1 and larger.maximum == 8


def test_the_error_of_roll_backs_is_shared_by_the_sequences(outcome: Problem) -> None:
    comparison = compare(outcome, released(outcome, [0, 0], days(2)), at_the_end_of(outcome))
    parts = list(days(2).values())
    differences = np.concatenate(
        [log_loss(day.labels, day.challenger) - log_loss(day.labels, day.champion) for day in parts]
    )
    effects = [paired(differences[:end], np.zeros(end), np.arange(end)) for end in (400, 800)]
    expected = judge(effects, margin=0.002, alpha=0.05, looks=8, sequences=2)
    assert [look.lower for look in comparison.looks] == pytest.approx([judgement.lower for judgement in expected])


def test_labels_that_come_late_change_no_earlier_look(kettle: Problem) -> None:
    parts = days(4)
    release = released(kettle, [0] * 4, parts)
    early = compare(kettle, release, at_the_end_of(kettle, DAYS[2], late=[DAYS[0]]))
    assert (early.judged, early.waiting) == (DAYS[1:3], [DAYS[0]])
    looked = rollout(kettle, [0] * 4, looks=[(DAYS[2], early.judged)])
    later = compare(kettle, looked, at_the_end_of(kettle))
    assert later.judged == [DAYS[1], DAYS[2], DAYS[0], DAYS[3]]
    assert later.looks[:2] == early.looks
    again = compare(kettle, looked, at_the_end_of(kettle, DAYS[2], late=[DAYS[0]]))
    assert again == early


def test_labels_count_as_they_were_known_then(kettle: Problem) -> None:
    parts = days(2, rows=100)
    release = released(kettle, [0, 0], parts)
    without: list[Any] = [None if place % 2 else value for place, value in enumerate(parts[DAYS[0]].labels)]
    label(kettle, DAYS[0], without)
    comparison = compare(kettle, release, at_the_end_of(kettle))
    assert [look.rows for look in comparison.looks] == [50, 150]
    assert comparison.coverage["champion"] == (200, 150)


def test_where_no_label_means_negative_it_does(toy: ToyProblem, store_folder: Path) -> None:
    problem = toy(**{"release.path": PATH, "labels.after_maturity": "negative"})
    versions(problem)
    day = binary_day(1, rows=100)
    lay_out(problem, release := rollout(problem, [0]), {DAYS[0]: day})
    label(problem, DAYS[0], [value or None for value in day.labels])
    comparison = compare(problem, release, at_the_end_of(problem))
    expected = (log_loss(day.labels, day.challenger) - log_loss(day.labels, day.champion)).mean()
    assert comparison.looks[0].rows == 100 and comparison.looks[0].effect == pytest.approx(expected)


def test_partitions_in_quarantine_and_those_learnt_from_are_left_out(kettle: Problem) -> None:
    release = released(kettle, [0] * 4, days(4, rows=100))
    quarantine.hold(kettle, DAYS[1], "a broken sensor", {"by": "ada"})
    made_of = {"training_set": "a", "splits": {"train": {"partitions": [DAYS[2]]}}}
    store.write_json(version_uri(kettle, "4", "lineage.json"), made_of)
    comparison = compare(kettle, release, at_the_end_of(kettle))
    assert comparison.judged == [DAYS[0], DAYS[3]]
    assert comparison.left_out == {
        DAYS[1]: "it is in quarantine",
        DAYS[2]: "version 4 has learnt from it",
    }


def test_nothing_is_known_before_a_label_is_there(kettle: Problem) -> None:
    release = released(kettle, [0], days(1, rows=30))
    comparison = compare(kettle, release, at_the_end_of(kettle, late=DAYS[:1]))
    assert (comparison.step, comparison.looks, comparison.labelled_rows) == ("hold", [], 0)
    label(kettle, DAYS[0], [None] * 30)
    without = compare(kettle, release, at_the_end_of(kettle))
    assert (without.looks, without.judged, without.waiting, without.step) == ([], [], [DAYS[0]], "hold")
    assert Comparison.model_validate(json.loads(without.model_dump_json())) == without


def test_partitions_without_a_label_take_no_look_from_those_that_have_some(kettle: Problem) -> None:
    """Labels that never come for eight partitions are no evidence that the challenger cannot show anything."""
    parts = days(9, rows=400)
    release = released(kettle, [0] * 9, parts)
    for key in DAYS[:8]:
        label(kettle, key, [None] * 400)
    comparison = compare(kettle, release, at_the_end_of(kettle))
    assert (comparison.judged, comparison.waiting) == (DAYS[8:9], DAYS[:8])
    assert comparison.step == "hold" and len(comparison.recounts) == 9


def test_a_partition_that_is_gone_from_predictions_is_named(kettle: Problem) -> None:
    release = released(kettle, [0, 0], days(2, rows=50))
    store.write_json(manifest_uri(kettle, DAYS[0]), {"rows": 50})
    DeltaTable(store.table_uri(kettle, "predictions")).delete(f"partition = '{DAYS[0]}'")
    comparison = compare(kettle, release, at_the_end_of(kettle))
    assert comparison.judged == DAYS[1:2] and comparison.waiting == DAYS[:1]
    assert comparison.is_broken is not None
    assert f"50 rows of version 3 are missing in {DAYS[0]}" in comparison.is_broken


def test_a_handful_of_units_shows_nothing_and_says_so(toy: ToyProblem, store_folder: Path) -> None:
    problem = toy(**{"release.path": ["shadow", "full"], "release.unit": "shelf", "release.margin": 0.5})
    versions(problem)
    release = released(problem, [0, 0], days(2, units=3))
    comparison = compare(problem, release, at_the_end_of(problem))
    assert comparison.step == "hold"
    assert "800 rows of 3 units are too few" in comparison.reason


def test_versions_that_say_the_same_are_not_worse(kettle: Problem) -> None:
    parts = {day: Day(part.labels, part.champion, part.champion) for day, part in days(2, rows=50).items()}
    assert compare(kettle, released(kettle, [0, 0], parts), at_the_end_of(kettle)).step == "promote"


@pytest.mark.parametrize("is_reversed", [False, True])
def test_several_classes_each_by_its_own_order_of_classes(
    toy: ToyProblem, store_folder: Path, is_reversed: bool
) -> None:
    classes = ["dry", "damp", "flood"]
    changes = {
        "task": "multiclass",
        "labels.classes": classes,
        "gate": {name: {"log_loss": 0} for name in ("gain_over_baselines", "gain_over_champion")}
        | {"limits": {"log_loss": {"max": 2}}},
        "training": TOY["training"] | {"select_by": "log_loss"},
        "features.history": {},
        "release.path": PATH,
        "release.metric": "squared_error",
    }
    problem = toy(**changes)
    versions(problem)
    random = np.random.default_rng(5)
    scores, other = random.dirichlet([2, 2, 2], 300), random.dirichlet([2, 2, 2], 300)
    labels = [classes[code] for code in random.integers(3, size=300)]
    truth = np.eye(3)[[classes.index(name) for name in labels]]
    expected = ((other - truth) ** 2).sum(axis=1).mean() - ((scores - truth) ** 2).sum(axis=1).mean()
    if is_reversed:
        trained_problem = toy(**changes | {"labels.classes": classes[::-1]})
        store.write_json(version_uri(problem, "4", "problem.json"), trained_problem.model_dump(mode="json"))
        other = other[:, ::-1]
    release = released(problem, [0], {DAYS[0]: Day(labels, scores, other)})
    comparison = compare(problem, release, at_the_end_of(problem))
    assert comparison.loss == "squared_error" and comparison.looks[0].effect == pytest.approx(expected)
    assert (comparison.auc_gain is None) == is_reversed and "macro_f1" in comparison.metrics["champion"]


def test_a_regression_by_absolute_errors(toy: ToyProblem, store_folder: Path) -> None:
    values = {"limits": {"rmse": {"max": 9}}, "gain_over_baselines": {"rmse": 0}, "gain_over_champion": {"rmse": 0}}
    values |= {"slices": {"metric": "rmse"}}
    problem = toy(
        **{
            "task": "regression",
            "gate": values,
            "training": TOY["training"] | {"select_by": "rmse"},
            "release.path": PATH,
            "release.metric": "absolute_error",
            "release.margin": 0.1,
        }
    )
    versions(problem)
    random = np.random.default_rng(6)
    truth = random.normal(2, 1, 500)
    day = Day(truth.tolist(), truth + random.normal(0, 0.3, 500), truth + random.normal(0, 0.31, 500))
    comparison = compare(problem, released(problem, [0], {DAYS[0]: day}), at_the_end_of(problem))
    expected = (np.abs(day.challenger - truth) - np.abs(day.champion - truth)).mean()
    assert comparison.looks[0].effect == pytest.approx(expected) and comparison.margin == 0.1
    assert comparison.auc_gain is None and {"rmse", "mae", "r2"} <= set(comparison.metrics["champion"])


def test_decisions_are_paid_for_by_each_versions_own_threshold(toy: ToyProblem, store_folder: Path) -> None:
    costs = {"matrix": {"0": {"1": 1.0}, "1": {"0": 5.0}}, "unit": "cup"}
    problem = toy(**{"release.path": PATH, "release.metric": "cost", "costs": costs})
    versions(problem, v3=0.2, v4=0.6)
    day = binary_day(3)
    comparison = compare(problem, released(problem, [0], {DAYS[0]: day}), at_the_end_of(problem))
    labels = np.asarray(day.labels)

    def paid(scores: np.ndarray, threshold: float) -> float:
        decided = scores >= threshold
        return float(np.where(labels == 1, 5.0 * ~decided, 1.0 * decided).mean())

    assert comparison.looks[0].effect == pytest.approx(paid(day.challenger, 0.6) - paid(day.champion, 0.2))


def test_a_bandit_is_told_what_its_challenger_serves_next(toy: ToyProblem, store_folder: Path) -> None:
    problem = toy(**{"release.path": ["bandit", "full"], "release.feedback": "outcome"})
    versions(problem)
    release = released(problem, [0, 0], days(2))
    comparison = compare(problem, release, at_the_end_of(problem))
    assert comparison.share is not None and 0.05 <= comparison.share <= 0.95
    assert compare(problem, release, at_the_end_of(problem, late=DAYS)).share == 0.5


def test_lost_rows_are_named(kettle: Problem) -> None:
    parts = days(3, rows=200)
    release = released(kettle, [0, 0, 1], parts)
    _, shadows = scored_tables(kettle, release.assigned[DAYS[2]], DAYS[2], parts[DAYS[2]])
    of_challenger = np.flatnonzero(pc.equal(shadows["model_version"], "4").to_numpy())
    kept = np.setdiff1d(np.arange(shadows.num_rows), of_challenger[:24])
    write(kettle, "shadow_predictions", shadows.take(kept), DAYS[2])
    comparison = compare(kettle, release, at_the_end_of(kettle))
    assert comparison.is_broken == f"24 rows of version 4 are missing in {DAYS[2]}"
    assert comparison.lost == {"champion": 0, "challenger": 24}
    assert comparison.step == "hold" and "the assignment is broken: 24 rows" in comparison.reason


def test_rows_lost_by_both_are_known_from_what_was_scored(kettle: Problem) -> None:
    release = released(kettle, [0], days(1, rows=50))
    store.write_json(manifest_uri(kettle, DAYS[0]), {"rows": 51})
    comparison = compare(kettle, release, at_the_end_of(kettle))
    assert comparison.lost == {"champion": 1, "challenger": 1}
    assert comparison.is_broken is not None and comparison.is_broken.startswith("1 row of version 3 is missing in ")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("nan", "1 row of version 4 is missing"),
        ("twice", "1 row is scored twice by one version"),
        ("swapped", "2 rows are not where the assignment puts them"),
    ],
)
def test_a_broken_assignment_is_named(kettle: Problem, change: str, what: str) -> None:
    parts = days(1, rows=60)
    release = released(kettle, [1], parts)
    assignment = release.assigned[DAYS[0]]
    predictions, shadows = scored_tables(kettle, assignment, DAYS[0], parts[DAYS[0]])
    place = int(np.flatnonzero(pc.equal(predictions["variant"], "challenger").to_numpy())[0])
    if change == "swapped":
        rest = np.setdiff1d(np.arange(predictions.num_rows), [place])
        both = [(predictions, shadows), (shadows, predictions)]
        predictions, shadows = (pa.concat_tables([a.take(rest), b.slice(place, 1)]) for a, b in both)
    elif change == "twice":
        predictions = pa.concat_tables([predictions, predictions.slice(place, 1)])
    else:
        scores = predictions["score"].to_numpy().copy()
        scores[place] = np.nan
        at_column = predictions.column_names.index("score")
        predictions = predictions.set_column(at_column, "score", pa.array(scores))
    write(kettle, "predictions", predictions, DAYS[0])
    write(kettle, "shadow_predictions", shadows, DAYS[0])
    comparison = compare(kettle, release, at_the_end_of(kettle))
    assert comparison.is_broken is not None and what in comparison.is_broken


def test_labels_for_one_version_rather_than_the_other_are_noticed(outcome: Problem) -> None:
    parts = days(3, rows=1500)
    release = released(outcome, [2, 2, 2], parts)
    for day, part in parts.items():
        is_in = served_by_challenger(release.assigned[day], day, [f"{day}-{place}" for place in range(part.rows)])
        label(
            outcome,
            day,
            [
                None if out and place % 2 else value
                for place, (value, out) in enumerate(zip(part.labels, is_in, strict=True))
            ],
        )
    comparison = compare(outcome, release, at_the_end_of(outcome))
    assert comparison.labelled_p is not None and comparison.labelled_p < UNLIKELY
    assert comparison.assigned_p is not None and comparison.assigned_p > UNLIKELY
    assert comparison.is_broken is not None and comparison.is_broken.startswith("labels come for one version's units")


def test_units_assigned_unlike_their_share_are_noticed() -> None:
    assert (ratio_p([(900, 100)] * 3, [0.5] * 3) or 0) < UNLIKELY
    assert ratio_p([(900, 0)], [0.0]) is None
    counted = Recount(
        partition=DAYS[0],
        share=0.5,
        events=1000,
        champion_rows=900,
        challenger_rows=100,
        champion_missing=0,
        challenger_missing=0,
        repeated=0,
        misplaced=0,
        champion_units=900,
        challenger_units=100,
    )
    said = evidence.broken("3", "4", [counted], 1e-9, None)
    assert said == "units are not assigned as they were to be: 900 to version 3 and 100 to version 4 (p 1e-09)"


def test_sticky_units_are_counted_once(toy: ToyProblem) -> None:
    problem = toy(**{"release.path": ["ab", "full"], "release.sticky": True, "release.unit": "shelf"})
    release = rollout(problem, [0, 0])
    parts = days(2, rows=300, units=80)
    tables = [scored_tables(problem, release.assigned[day], day, part) for day, part in parts.items()]
    predictions, shadows = (ds.dataset(pa.concat_tables(side)) for side in zip(*tables, strict=True))
    first, second = recount(problem, release.assigned, {}, predictions, shadows)
    distinct = [set(part.units or []) for part in parts.values()]
    assert first.champion_units + first.challenger_units == len(distinct[0])
    assert second.champion_units + second.challenger_units == len(distinct[1] - distinct[0])
    assert not any(first.faults.values()) and not any(second.faults.values())


@pytest.mark.slow
def test_a_clean_assignment_is_called_broken_in_less_than_one_of_a_thousand_releases(toy: ToyProblem) -> None:
    problem = toy(**{"release.path": ["canary", "full"]})
    units = pa.table({"unit": UNITS[:200] * 3, "partition": np.repeat(DAYS[:3], 200)})
    assignments = [replace(rollout(problem, [1]), name=f"run {run}").assignment() for run in range(1000)]
    served: list[pa.ChunkedArray] = []
    for start in range(0, 1000, 20):  # of a query, which is dearer the more it counts
        is_served = map(is_challengers, assignments[start : start + 20])
        counts = ", ".join(f"count(*) FILTER ({condition}) AS _{n}" for n, condition in enumerate(is_served))
        served += sql.query(f"SELECT {counts} FROM t GROUP BY partition", {"t": units}).columns
    alarms = 0
    for assignment, column in zip(assignments, served, strict=True):
        p = ratio_p([(200 - count, count) for count in column.to_pylist()], [assignment.share] * 3)
        alarms += evidence.broken("3", "4", [], p, p) is not None
    assert alarms <= 1


@pytest.mark.slow
def test_two_percent_of_the_challengers_rows_lost_are_found_within_three_partitions(toy: ToyProblem) -> None:
    problem = toy(**{"release.path": ["canary", "full"]})
    release = rollout(problem, [1] * 3)
    for run in range(dear(20)):
        random = np.random.default_rng(run)
        sides: list[list[pa.Table]] = [[], []]
        for number, day in enumerate(DAYS[:3]):
            tables = scored_tables(problem, release.assigned[day], day, binary_day(100 * run + number, rows=600))
            for side, rows in zip(sides, tables, strict=True):
                is_lost = pc.equal(rows["model_version"], "4").to_numpy() & (random.random(rows.num_rows) < 0.02)
                side.append(rows.filter(pa.array(~is_lost)))
        predictions, shadows = (ds.dataset(pa.concat_tables(side)) for side in sides)
        counted = recount(problem, release.assigned, {}, predictions, shadows)
        said = evidence.broken("3", "4", counted, None, None)
        assert said is not None and "of version 4 are missing" in said and "version 3" not in said


@settings(max_examples=25)
@given(
    count=st.integers(1, 6),
    late=st.sets(st.integers(0, 5)),
    first=st.integers(1, 6),
)
def test_every_look_stays_in_its_place_whatever_comes_later(count: int, late: set[int], first: int) -> None:
    """Of the order of looks alone: what was judged comes first, as it was, and the rest oldest first."""
    ready = DAYS[:count]
    judged = [day for day in ready[:first] if DAYS.index(day) not in late]
    order = evidence.in_order(judged, ready)
    assert order[: len(judged)] == judged
    assert order[len(judged) :] == sorted(set(ready) - set(judged))
