from __future__ import annotations

from collections.abc import Callable

import pyarrow.compute as pc
import pytest

from pipelines import ledger, local_run, quarantine, store, summary
from pipelines.errors import DataError, NothingToDo
from pipelines.health.history import history_of
from pipelines.health.state import health_of
from pipelines.monitoring.detect.detection import Detection, LabelledPartition
from pipelines.monitoring.diagnose.finding import Diagnosis
from pipelines.problem import load_problem
from pipelines.stages import stage
from pipelines.stages.monitor import evidence
from tests.stages.conftest import WEEKS, configure

pytestmark = pytest.mark.slow


def detection(problem: str, week: str) -> Detection:
    """What `detect` finds, of a week that is profiled first."""
    detected = stage("monitor.detect")(problem, stage("monitor.profile")(problem, week))
    return evidence.read(Detection, detected.detection)


def test_truth_is_measured_once_its_labels_are_in(loop_after: Callable[..., str]) -> None:
    loop = loop_after(2)
    first = detection(loop, "2013-02-11")
    assert first.realised == (), "labels come a week late"
    second = detection(loop, "2013-02-18")
    assert [part.partition for part in second.realised] == ["2013-02-11"]
    assert second.realised[0].rows > 5000
    assert second.detected.columns.keys() == set(load_problem(loop).feature_names)
    assert second.realised[0].unknown_labels == {}
    local_run.score(loop, "2013-01-28")
    learnt_from = detection(loop, "2013-01-28")
    assert learnt_from.detected.same_as is None, "the version knows it, but it is no repetition of itself"
    quarantine.hold(load_problem(loop), "2013-02-11", "a dead sensor", {})
    third = detection(loop, "2013-02-18")
    assert "2013-02-11" not in [part.partition for part in third.realised], "broken rows say nothing of the model"
    again = detection(loop, "2013-02-11")
    assert again.detected.rows == first.detected.rows, "it is judged itself all the same"


def test_the_loop_writes_profiles_report_and_ledger(loop_after: Callable[..., str]) -> None:
    loop = loop_after(1)
    configure(loop, lambda raw: raw["monitoring"].update(report_rows=200))
    with pytest.raises(NothingToDo):
        local_run.monitor(loop, "2013-02-11")
    config = load_problem(loop)
    profiles = store.dataset(config, "profiles").to_table()
    assert set(profiles["column"].to_pylist()) == {*config.feature_names, "score"}
    whole = profiles.filter(pc.field("slice") == "")
    rows = store.dataset(config, "predictions").count_rows()
    assert set(whole["rows"].to_pylist()) == {rows}
    for page in ("monitoring", "drift"):
        uri = store.store_uri(loop, "reports", "2013-02-11", f"{page}.html")
        assert b"<html" in store.read_bytes(uri)[:2000].lower()
    (row,) = ledger.decisions(config, "monitoring")
    assert row["evidence"]["detected"]["rows"] == profiles["rows"][0].as_py()
    configure(loop, lambda raw: raw["monitoring"].update(report_rows=None))
    store.delete(uri)
    with pytest.raises(NothingToDo):
        local_run.monitor(loop, "2013-02-11")
    assert len(ledger.decisions(config, "monitoring")) == 1, "the same decision is written once"
    assert not store.exists(uri), "Evidently's report is drawn where it is wanted"


def test_what_another_version_did_does_not_count_against_this_one(loop_after: Callable[..., str]) -> None:
    loop = loop_after(2)
    detected = stage("monitor.detect")(loop, stage("monitor.profile")(loop, "2013-02-18"))
    found = evidence.read(Detection, detected.detection)
    terrible = found.realised[0].model_copy(update={"auc": 0.4, "calibration_gap": 0.4})

    def diagnosis(realised: LabelledPartition) -> Diagnosis:
        whole = found.model_copy(update={"realised": (realised,)}).model_dump(mode="json")
        diagnosed = stage("monitor.diagnose")(loop, detected.model_copy(update={"detection": whole}))
        return evidence.read(Diagnosis, diagnosed.diagnosis)

    assert diagnosis(terrible).bad == ("2013-02-11",)
    assert diagnosis(terrible.model_copy(update={"version": "0"})).labelled == ()


def test_the_summary_tells_the_loop(loop_after: Callable[..., str]) -> None:
    loop = loop_after(2)
    for week in ("2013-02-11", "2013-02-18"):
        with pytest.raises(NothingToDo):
            local_run.monitor(loop, week)
    rows = {row.partition: row for row in summary.partitions(load_problem(loop))}
    assert len(rows) == 8
    assert rows["2013-02-04"].outcome.endswith("promoted")
    assert rows["2013-02-11"].scored == rows["2013-02-11"].rows > 0
    assert rows["2013-02-11"].quality is not None
    assert rows["2013-02-18"].quality is None
    health = health_of(load_problem(loop))
    assert health.champion is not None
    assert health.champion.version == rows["2013-02-18"].champion
    assert health.newest("predictions") == "2013-02-18"
    quality = {point.partition: point.realised for point in health.points}
    assert quality["2013-02-11"] == pytest.approx(rows["2013-02-11"].quality, abs=1e-5)
    assert quality["2013-02-18"] is None
    [waiting] = [point for point in health.points if point.partition == "2013-02-18"]
    assert waiting.low is not None and waiting.estimated is not None and waiting.high is not None
    assert waiting.low < waiting.estimated < waiting.high and waiting.labels_due is not None
    watched = history_of(load_problem(loop)).watched
    assert [look.partition for look in watched] == ["2013-02-11", "2013-02-18"]
    assert "temp" in watched[-1].drift


def test_a_partition_that_was_not_scored_is_told(loop: str) -> None:
    with pytest.raises(DataError, match="partition 2013-06-03 has no predictions"):
        stage("monitor.profile")(loop, "2013-06-03")


def test_slices_and_what_is_usual_follow_the_config(loop_after: Callable[..., str]) -> None:
    loop = loop_after(3)  # with the reference's three, enough of a past for the last
    weeks = WEEKS[:3]
    for week in weeks[:2]:
        stage("monitor.profile")(loop, week)
    found = {}
    for rate in (0.9, 1e-6):
        configure(loop, lambda raw, rate=rate: raw["monitoring"]["policy"].update(false_alarm_rate=rate))
        found[rate] = detection(loop, weeks[2]).detected.columns["dewp"]
    low, high = (found[rate].levels["wasserstein"].step_level for rate in (0.9, 1e-6))
    assert low < high
    assert set(store.dataset(load_problem(loop), "profiles").to_table()["slice"].to_pylist()) == {""}
    configure(loop, lambda raw: raw["evaluation"].update(slices={"by": ["origin"]}))
    stage("monitor.profile")(loop, weeks[2])
    kept = store.dataset(load_problem(loop), "profiles").to_table(filter=pc.field("partition") == weeks[2])
    assert set(kept["slice"].to_pylist()) == {"", "origin=EWR", "origin=JFK", "origin=LGA"}


def test_the_trailing_partitions_follow_the_config(loop_after: Callable[..., str]) -> None:
    loop = loop_after(2)
    stage("monitor.profile")(loop, "2013-02-11")
    steps = {}
    for window in (1, 8):
        configure(loop, lambda raw, window=window: raw["monitoring"]["policy"].update(trailing_partitions=window))
        columns = detection(loop, "2013-02-18").detected.columns
        steps[window] = [drift.levels["js"].step for drift in columns.values()]
    assert all(one >= other for one, other in zip(steps[1], steps[8], strict=True)) and steps[1] != steps[8]
