"""Benchmarks that stand on the problems and stages of today run, on few rows; what they measure is for docs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipelines.problem import ROOT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        ("scoring 2000", "ratio"),
        ("overhead 3000", "the same trees"),
        ("etl 20000", "same rows, same features"),
    ],
)
def test_a_benchmark_runs_to_its_end(arguments: str, printed: str) -> None:
    command = [sys.executable, "-m", *f"benchmarks.{arguments}".split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout
