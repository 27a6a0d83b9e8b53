"""Run ours and the reference in turn, several times, and compare their CPU seconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def compare(name: str, ours: Callable[[], object], reference: Callable[[], object], rounds: int = 5) -> float:
    """Print and give the ratio of the medians; the two take turns, so that noise hits both."""
    seconds: dict[str, list[float]] = {"ours": [], "reference": []}
    for _ in range(rounds):
        for label, run in (("ours", ours), ("reference", reference)):
            start = time.process_time()
            run()
            seconds[label].append(time.process_time() - start)
    medians = {label: statistics.median(found) for label, found in seconds.items()}
    ratio = medians["ours"] / medians["reference"]
    print(f"{name}: ours {medians['ours']:.2f} CPU s, reference {medians['reference']:.2f} CPU s, ratio {ratio:.2f}")
    return ratio
