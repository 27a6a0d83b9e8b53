"""The stage on a real store: estimates before the labels, realised after, and the same rows however often it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines import store
from pipelines.errors import DataError, NothingToDo
from pipelines.handoffs.monitoring import Profiled
from pipelines.monitoring.detect.detection import Detection
from pipelines.paths import version_uri
from pipelines.problem import load_problem
from pipelines.stages import stage
from pipelines.stages.monitor import evidence
from pipelines.stages.monitor.estimate import Estimation, estimate
from tests.stages.conftest import WEEKS, configure

pytestmark = pytest.mark.slow


def run(problem: str, week: str) -> Estimation:
    estimated = estimate(problem, Profiled(partition=week, version="1"))
    return evidence.read(Estimation, estimated.estimation)


def table(problem: str) -> pa.Table:
    rows = store.dataset(load_problem(problem), "estimates").to_table()
    return rows.sort_by([("partition", "ascending"), ("metric", "ascending")])


def test_estimates_come_first_and_labels_after(loop_after: Callable[..., str]) -> None:
    results = []
    loop = loop_after(3)
    for week in WEEKS[:3]:
        stage("monitor.profile")(loop, week)
        results.append(run(loop, week))
    first, second, third = results
    assert first.realised == () and "no estimate has met its labels yet" in (first.verdict or "")
    assert second.realised == (WEEKS[0],) and third.realised == (WEEKS[1],)
    assert "over the last labelled partition its error was" in (second.verdict or "")
    assert third.estimated["auc"].past_partitions == 2
    assert "AUC" in (third.verdict or "") and "estimated" in (third.verdict or "")
    assert 0.5 < (first.domain_auc["value"] or 0) <= 1 and first.method in ("cbpe", "weighted cbpe")

    assert first.concept is None and first.feedback is None
    assert set(first.notes) == {"concept", "feedback"} and "its labels yet" in (first.notes["concept"] or "")
    usual = []
    for estimation, week in ((second, WEEKS[0]), (third, WEEKS[1])):
        concept, feedback, shift = estimation.concept, estimation.feedback, estimation.label_shift
        assert concept is not None and feedback is not None and shift is not None
        assert estimation.notes == {} and concept.partition == week
        assert len(concept.features) == 5 and concept.times_usual > 0
        assert concept.compared and feedback.trend is None
        assert feedback.coverage is not None and len(feedback.coverage.groups) == 5
        assert list(shift.rates) == ["0", "1"]
        usual.append(concept.usual_partitions)
    assert usual == [1, 2]

    rows = table(loop)
    assert {"auc", "log_loss", "brier", "precision", "recall", "positive_rate"} <= set(rows["metric"].to_pylist())
    by_week = {week: rows.filter(pc.equal(rows["partition"], week)) for week in WEEKS}
    assert by_week[WEEKS[2]]["realised"].null_count == by_week[WEEKS[2]].num_rows, "its labels are not in yet"
    for week in WEEKS[:2]:
        assert by_week[week]["realised"].null_count == 0
        assert 5_000 < by_week[week]["realised_rows"][0].as_py() <= by_week[week]["rows"][0].as_py()
    for row in by_week[WEEKS[1]].to_pylist():
        assert row["low"] <= row["value"] <= row["high"] and row["past_partitions"] == 1

    run(loop, WEEKS[1])
    assert table(loop).equals(rows), "a repeated run, in whatever order, writes the same"

    detected = stage("monitor.detect")(loop, stage("monitor.profile")(loop, WEEKS[1]))
    (realised,) = evidence.read(Detection, detected.detection).realised
    ours = {row["metric"]: row["realised"] for row in rows.to_pylist() if row["partition"] == WEEKS[0]}
    for name in ("auc", "log_loss", "precision", "recall"):
        assert ours[name] == pytest.approx(realised.value(name)), "what was measured is what monitoring measures"


def test_too_few_effective_rows_leave_the_estimate_unweighted(
    loop_after: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the held-out days are given weight: used, until min_labels asks for more rows than that."""
    from pipelines.monitoring.estimate import domain

    def found(problem: Any, held_out: pa.Table, blocks: Any, *others: Any) -> domain.Domain:
        weights = np.where(blocks > 0, 1.0, 0.01)
        return domain.Domain({"value": 0.8, "low": 0.7, "high": 0.9}, weights / weights.mean(), 4000.0, 6.0, 1.0)

    monkeypatch.setattr(domain, "domain", found)
    loop = loop_after(1)
    weighted = run(loop, WEEKS[0])
    assert (weighted.method, weighted.domain_auc["low"]) == ("weighted cbpe", 0.7)
    configure(loop, lambda raw: raw["monitoring"]["policy"].update(min_labels=5000))
    plain = run(loop, WEEKS[0])
    assert (plain.method, plain.note) == ("cbpe", "weights would leave 4000 effective rows, fewer than 5000")
    assert plain.estimated["auc"].value != weighted.estimated["auc"].value


def test_what_cannot_be_estimated_is_told(loop: str) -> None:
    with pytest.raises(DataError, match="no predictions by version 1"):
        run(loop, WEEKS[0])
    store.delete(version_uri(load_problem(loop), "1", "held_out.parquet"))
    with pytest.raises(NothingToDo, match="registered before"):
        run(loop, WEEKS[0])


def test_without_held_out_rows_labels_still_tell_of_feedback(loop_after: Callable[..., str]) -> None:
    loop = loop_after(2)
    store.delete(version_uri(load_problem(loop), "1", "held_out.parquet"))
    for week in WEEKS[:2]:
        stage("monitor.profile")(loop, week)
    found = run(loop, WEEKS[1])
    assert found.estimated == {} and found.feedback is not None and found.feedback.coverage is not None
    assert (found.feedback.coverage.gap["value"] or 0) >= 0
    assert set(found.notes) == {"label_shift", "concept"} and "registered before" in (found.notes["concept"] or "")
    assert "registered before" in (found.verdict or "")
