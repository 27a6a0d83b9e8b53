"""Concept drift: found in the feature that carries it, and not where levels or inputs moved."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.config import Bootstrap, Policy
from pipelines.metrics.scored import Scored
from pipelines.monitoring.diagnose.concept import Concept, concept
from pipelines.monitoring.diagnose.shifts import LabelEvidence, shifts
from pipelines.monitoring.estimate.held_out import HeldOut
from pipelines.training.calibrate import sigmoid
from tests.conftest import ToyProblem

RULE = Bootstrap(resamples=50)
START = datetime(2024, 1, 1, tzinfo=UTC)


def week(place: int, *, flip: float = 0.0, level: float = 0.0, litres: float = 0.0, rows: int = 1_500) -> HeldOut:
    """Kettles of one week, a partition; `flip`: share of labels on the top shelf that are turned round."""
    random = np.random.default_rng(place)
    day = np.arange(rows) * 7 // rows
    shelf = random.choice(["top", "bottom"], rows)
    size = random.normal(2.5 + litres, 0.7, rows)
    margin = size - 3.5 + random.normal(0, 0.4, 7)[day]
    labels = random.random(rows) < sigmoid(margin + level)
    labels = np.where((shelf == "top") & (random.random(rows) < flip), ~labels, labels)
    times = [START + timedelta(weeks=place, days=int(one)) for one in day]
    table = pa.table(
        {
            "partition": [f"week {place:02}"] * rows,
            "event_time": pa.array(times, pa.timestamp("us", "UTC")),
            "shelf": shelf,
            "litres": size,
            "shelf_rate_3d": random.random(rows),
            "shelf_count_2d": np.full(rows, 5.0),
        }
    )
    return HeldOut(table, Scored("binary", ("0", "1"), labels, sigmoid(size - 3.5), np.ones(rows)))


def together(*parts: HeldOut) -> HeldOut:
    scored = [one.scored for one in parts]
    joined = (np.concatenate([getattr(one, name) for one in scored]) for name in ("labels", "scores", "weights"))
    return HeldOut(pa.concat_tables([one.rows for one in parts]), Scored("binary", ("0", "1"), *joined))


HELD_OUT = together(week(0), week(1))


def judged(problem: Any, *labelled: HeldOut, limit: float = 3.5, held_out: HeldOut = HELD_OUT) -> Concept:
    found = concept(problem, held_out, labelled, RULE, limit, 200)
    assert found is not None
    return found


def findings(found: Concept, **policy: Any) -> list[Any]:
    return list(shifts(Policy(**policy), LabelEvidence(partition="p", concept=found)))


def test_usual_weeks_and_changed_levels_are_none(toy: ToyProblem) -> None:
    usual = [week(place) for place in range(2, 6)]
    for newest in (week(6), week(6, level=1.5), week(6, litres=1.0)):
        found = judged(toy(), *usual, newest)
        assert found.times_usual < 3 and not findings(found)
        assert found.usual_partitions == 6 and found.left_out == () and found.partition == "week 06"


def test_a_flipped_shelf_is_found_at_once_and_stays_found(toy: ToyProblem) -> None:
    usual, flipped = [week(place) for place in range(2, 6)], [week(place, flip=0.5) for place in range(6, 9)]
    first, last = judged(toy(), *usual, flipped[0]), judged(toy(), *usual, *flipped)
    for found in (first, last):
        assert found.features[0].feature == "shelf" and found.times_usual > 4.5
        assert found.where.rows == "shelf=top"
        (finding,) = findings(found)
        assert finding.kind == "concept drift" and finding.features[0] == "shelf"
        assert "labels of shelf=top came" in finding.evidence
        assert not findings(found, max_concept_shift=100) and not findings(found, min_labels=2_000)
    assert first.where.error > 0.1, "few kettles boil over: flipped labels are more"
    assert last.left_out == ("week 06", "week 07"), "they are no part of what is usual"
    assert judged(toy(), *usual, *flipped, limit=100).left_out == ()


def test_two_partitions_together_tell_more_than_one(toy: ToyProblem) -> None:
    """Small weeks are noisy: of two together the noise is less, the drift the same."""
    usual = [week(place, rows=400) for place in range(2, 10)]
    before, newest = week(10, flip=0.3, rows=400), week(11, flip=0.3, rows=400)
    held_out = together(week(0, rows=400), week(1, rows=400))
    one, two = (judged(toy(), *usual, *last, held_out=held_out) for last in ((newest,), (before, newest)))
    assert two.features[0].feature == "shelf" and two.features[0].partitions == 2
    assert one.times_usual < 3.5 < two.times_usual


def test_what_was_expected_stands_beside_what_came(toy: ToyProblem) -> None:
    found = judged(toy(), week(2, flip=0.5))
    auc, loss = found.compared["auc"], found.compared["log_loss"]
    assert auc.difference["high"] < 0 and loss.difference["high"] < 0, "worse, whichever way the metric runs"
    assert auc.difference["value"] == pytest.approx(auc.realised["value"] - auc.expected["value"])
    assert not found.is_weighted and "not moved" in found.note
    moved = judged(toy(), week(2, litres=0.6))
    assert moved.is_weighted
    gap, plain = moved.compared["log_loss"], judged(toy(), week(2)).compared["log_loss"]
    assert gap.expected["value"] > plain.expected["value"] + 0.05, "more litres are harder to tell"
    assert gap.difference["low"] < 0 < gap.difference["high"]


def test_a_regression(toy: ToyProblem) -> None:
    def number(part: HeldOut, off: float = 0.0) -> HeldOut:
        random = np.random.default_rng(len(part.rows))
        litres = part.rows["litres"].to_numpy()
        is_top = part.rows["shelf"].to_numpy(zero_copy_only=False) == "top"
        labels = litres + random.normal(0, 0.5, len(litres)) + off * is_top
        return HeldOut(part.rows, Scored("regression", (), labels, litres, np.ones(len(litres))))

    gains = {"gain_over_baselines": {"rmse": 0}, "gain_over_champion": {"rmse": 0}}
    problem = toy(
        **{
            "task": "regression",
            "training.select_by": "rmse",
            "gate": {"limits": {"r2": {"min": 0}}, "slices": {"metric": "rmse"}, **gains},
        }
    )
    for off in (0.0, 0.5):
        found = concept(problem, number(HELD_OUT), [number(week(2)), number(week(3), off)], RULE, 3.5, 200)
        assert found is not None
        assert (found.times_usual > 3.5) == (off > 0)
    assert found.features[0].feature == "shelf" and set(found.compared) == {"rmse"}


def curved(place: int, *, off: float = 0.0) -> HeldOut:
    """A line through a curve, which fits nowhere well; every three weeks larger kettles come, then smaller ones."""
    part = week(place, litres=0.5 * (place // 3 % 2), rows=700)
    random = np.random.default_rng(place)
    size = part.rows["litres"].to_numpy()
    is_top = part.rows["shelf"].to_numpy(zero_copy_only=False) == "top"
    labels = np.square(size - 2.0) + random.normal(0, 0.3, len(size)) + off * is_top
    return HeldOut(part.rows, Scored("regression", (), labels, size - 1.0, np.ones(len(size))))


def numbers(toy: ToyProblem) -> Any:
    gains = {"gain_over_baselines": {"rmse": 0}, "gain_over_champion": {"rmse": 0}}
    gate = {"limits": {"r2": {"min": 0}}, "slices": {"metric": "rmse"}, **gains}
    return toy(**{"task": "regression", "training.select_by": "rmse", "gate": gate})


def test_misfit_that_was_there_when_it_was_tested_is_no_drift(toy: ToyProblem) -> None:
    """Of 24 unharmed weeks one at most alarms; labels that rise on one shelf do at once."""
    problem, parts = numbers(toy), [curved(place) for place in range(26)]
    tested = [one.scored for one in parts[:2]]
    held_out = HeldOut(pa.concat_tables([one.rows for one in parts[:2]]), tested[0].joined(tested[1:]))
    false = []
    for place in range(2, 26):
        found = concept(problem, held_out, parts[max(place - 8, 2) : place + 1], RULE, 4.5, 200, compare=False)
        assert found is not None
        false += [place] * (found.times_usual > 4.5)
    assert len(false) <= 1
    drifted = [*parts[18:25], curved(25, off=1.5)]
    found = concept(problem, held_out, drifted, RULE, 4.5, 200, compare=False)
    assert found is not None and found.times_usual > 4.5 and found.features[0].feature == "shelf"


def test_several_classes(toy: ToyProblem) -> None:
    def three(part: HeldOut, turned: float = 0.0) -> HeldOut:
        random = np.random.default_rng(7)
        litres = part.rows["litres"].to_numpy()
        margins = np.stack([litres - 2.5, np.zeros(len(litres)), 2.5 - litres], axis=1)
        chances = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
        labels = (np.cumsum(chances, axis=1)[:, :-1] < random.random((len(litres), 1))).sum(axis=1)
        is_turned = (part.rows["shelf"].to_numpy(zero_copy_only=False) == "top") & (random.random(len(litres)) < turned)
        labels = np.where(is_turned, (labels + 1) % 3, labels)
        return HeldOut(part.rows, Scored("multiclass", ("low", "mid", "high"), labels, chances, np.ones(len(litres))))

    gains = {"gain_over_baselines": {"auc": 0}, "gain_over_champion": {"auc": 0}, "limits": {"auc": {"min": 0.6}}}
    counted = {"by": ["shelf"], "function": "count", "window_days": 3}
    changes = {"labels.classes": ["low", "mid", "high"], "gate": gains, "features.history.shelf_rate_3d": counted}
    problem = toy(**{"task": "multiclass", **changes})
    for turned in (0.0, 0.9):
        found = concept(problem, three(HELD_OUT), [three(week(2)), three(week(3), turned)], RULE, 3.5, 200)
        assert found is not None
        assert (found.times_usual > 3.5) == (turned > 0)
    assert found.where.label_class in ("low", "mid", "high")
    (finding,) = findings(found, max_concept_shift=3.5)
    assert finding.features[0] == "shelf"
    assert f"for {found.where.label_class}" in finding.evidence and "realised_auc" in finding.numbers


def test_held_out_rows_that_do_not_count_tell_nothing(toy: ToyProblem) -> None:
    none = HeldOut(HELD_OUT.rows, replace(HELD_OUT.scored, weights=np.zeros(HELD_OUT.rows.num_rows)))
    assert concept(toy(), none, [week(2)], RULE, 3.5, 200) is None


def test_bad_input_breaks_nothing(toy: ToyProblem) -> None:
    usual, odd = week(2), week(3, rows=40)
    for labels in (np.zeros(40, np.int64), np.ones(40, np.int64)):
        single = HeldOut(odd.rows, Scored("binary", ("0", "1"), labels, odd.scored.scores, np.ones(40)))
        assert np.isfinite(judged(toy(), usual, single).times_usual)
    one = HeldOut(odd.rows.slice(0, 1), odd.scored.take(np.arange(1)))
    assert concept(toy(), HELD_OUT, [usual, one], RULE, 3.5, 200) is None, "no feature has two values"
    empty = odd.rows.set_column(3, "litres", pa.nulls(40, pa.float64())).set_column(
        2, "shelf", pa.nulls(40, pa.string())
    )
    assert np.isfinite(judged(toy(), usual, HeldOut(empty, odd.scored)).times_usual)
