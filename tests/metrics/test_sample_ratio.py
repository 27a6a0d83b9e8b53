from __future__ import annotations

import numpy as np

from pipelines.metrics.sample_ratio import Assigned, p_value


def counts(random: np.random.Generator, rows: int, share: float, actual: float) -> list[tuple[int, int]]:
    """Of 39 partitions so far, at each of them."""
    got = np.cumsum(random.binomial(rows, actual, 39))
    return [(int(n), rows * (at + 1) - int(n)) for at, n in enumerate(got)]


def test_sound_assignments_are_not_accused_however_often_one_looks() -> None:
    random = np.random.default_rng(8)
    accused = sum(
        min(p_value([Assigned(so_far, (0.2, 0.8))]) for so_far in counts(random, 800, 0.2, 0.2)) < 0.01
        for _ in range(300)
    )
    assert accused <= 3


def test_a_broken_assignment_is_found() -> None:
    random = np.random.default_rng(9)
    so_far = counts(random, 6_600, 0.2, 0.17)
    assert p_value([Assigned(so_far[2], (0.2, 0.8))]) < 0.001


def test_periods_of_other_shares_add_up_and_what_was_shown_stays_shown() -> None:
    broken, sound = Assigned((600, 400), (0.5, 0.5)), Assigned((50, 950), (0.05, 0.95))
    assert p_value([sound]) > 0.5
    assert p_value([broken, sound]) <= p_value([broken]) < 0.001
