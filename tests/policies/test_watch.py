"""What a replay measures is what the monitor would have measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipelines.config import Policy
from pipelines.monitoring.decide.readings import CALIBRATING
from pipelines.policies import watch as watching
from pipelines.policies.past import Past, Recipe
from pipelines.policies.watch import Watch
from tests.policies.conftest import key

CHAMPION, SINCE, NOW = Recipe(key(12)), key(13), key(27)


@pytest.mark.parametrize("delay_days", [0, 1])
def test_a_recalibration_learns_from_the_newest_before_the_partition_that_it_is_measured_on(
    past_of: Callable[..., Past], monkeypatch: pytest.MonkeyPatch, delay_days: int
) -> None:
    past = past_of(**{"labels.delay_days": delay_days})
    learnt_from: list[Any] = []
    monkeypatch.setattr(watching, "recalibrated", lambda problem, older, newest: learnt_from.append(older) or newest)
    policy = past.problem.monitoring.policy
    readings, _ = Watch(past).readings(CHAMPION, None, SINCE, NOW, policy, is_bad=True)
    mature = past.mature(NOW)
    assert {reading.partition for reading in readings} == {mature[-1]}
    expected, _ = past.truth(CHAMPION, mature[-1 - CALIBRATING : -1])
    (older,) = learnt_from
    assert np.array_equal(older.scores, expected.scores)
    assert np.array_equal(older.labels, expected.labels)


def test_partitions_in_quarantine_tell_nothing(past_of: Callable[..., Past], monkeypatch: pytest.MonkeyPatch) -> None:
    past = past_of()
    policy: Policy = past.problem.monitoring.policy
    mature = past.mature(NOW)
    held = [mature[-1], mature[-3]]
    usual: list[set[str]] = []
    detect = watching.detect

    def noting(reference: Any, profile: Any, trailing: Any, *rest: Any) -> Any:
        usual.append({*trailing})
        return detect(reference, profile, trailing, *rest)

    monkeypatch.setattr(watching, "detect", noting)
    watch = Watch(past)
    watch.detected(CHAMPION, SINCE, NOW, policy)
    watch.detected(CHAMPION, SINCE, NOW, policy, held)
    assert usual[0] - usual[1] == {*held}, "what is usual"
    realised = watch.realised(CHAMPION, SINCE, NOW, policy, held)
    assert not {part.partition for part in realised} & {*held}, "how good the champion is"
    readings, _ = watch.readings(CHAMPION, None, SINCE, NOW, policy, is_bad=True, held=held)
    assert {reading.partition for reading in readings} == {mature[-2]}, "what acting would gain"
