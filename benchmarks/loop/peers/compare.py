"""Makes each peer's environment, runs it, and puts it beside Evergreen's own stage."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.loop.records import Cost, Peer, Stage
from pipelines.problem import ROOT

HERE = Path(__file__).parent
INSTALL_S, RUN_S = 600, 600


class Candidate(NamedTuple):
    """A peer: its module here, what it is installed from, and the stage that answers the same question."""

    name: str
    module: str
    package: str
    beside: tuple[str, ...]
    """what it needs beside what it asks for itself, or an older version of something"""
    stage: str


CANDIDATES = (
    Candidate("Evidently, DataDriftPreset", "evidently_drift", "evidently", ("pandas<3", "pyarrow"), "monitor.detect"),
    Candidate("NannyML, CBPE", "nannyml_estimate", "nannyml", ("pandas<3", "statsmodels"), "monitor.estimate"),
    Candidate("whylogs, profile", "whylogs_profile", "whylogs", ("pandas<3", "pyarrow"), "monitor.profile"),
    Candidate(
        "Great Expectations, alone",
        "great_expectations_validate",
        "great-expectations",
        ("pandas<3", "pyarrow"),
        "ingest.validate",
    ),
    Candidate("Feast, point-in-time join", "feast_join", "feast", (), "score.score"),
)


def cache_folder() -> Path:
    """Where environments are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evergreen" / "peers"


def uv() -> str:
    """The project's own uv, else the one on the path; empty when there is none."""
    own = ROOT / ".venv-uv" / "bin" / "uv"
    return str(own) if own.exists() else shutil.which("uv") or ""


def compare(inputs: Path, stages: Iterable[Stage]) -> list[Peer]:
    """Each peer on `inputs`, beside the median of Evergreen's stage."""
    stages = list(stages)
    return [_compared(candidate, inputs, stages) for candidate in CANDIDATES]


def median(stages: Iterable[Stage], name: str) -> Cost:
    """Of a stage over the weeks after the first, which imports what it needs; where there is but one, over that."""
    same = [stage for stage in stages if stage.name == name]
    costs = [stage.cost for stage in same if stage.week != min(stage.week for stage in same)]
    costs = costs or [stage.cost for stage in same]
    return Cost(wall=statistics.median(cost.wall for cost in costs), cpu=statistics.median(cost.cpu for cost in costs))


def _compared(candidate: Candidate, inputs: Path, stages: list[Stage]) -> Peer:
    ours = median(stages, candidate.stage)
    peer = Peer(name=candidate.name, stage=candidate.stage, ours=ours)
    try:
        python, version = _environment(candidate)
        command = [python, "-W", "ignore", str(HERE / "measure.py"), candidate.module, str(inputs)]
        done = _run(command, RUN_S)
    except RuntimeError as error:
        return peer.model_copy(update={"failure": str(error)})
    result = json.loads(done.strip().split("\n")[-1])
    return Peer(**{**peer.model_dump(), **result, "version": version})


def _environment(candidate: Candidate) -> tuple[str, str]:
    """Its Python and the peer's version; made the first time.

    Raises:
        RuntimeError: it cannot be installed; the message is uv's last line.
    """
    if not uv():
        raise RuntimeError("not run: there is no uv to install it with")
    wanted = " ".join((sys.version.split()[0], candidate.package, *candidate.beside))
    folder = cache_folder() / f"{candidate.module}-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    python = str(folder / "bin" / "python")
    if not (folder / "installed").exists():
        _run([uv(), "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], INSTALL_S)
        packages = [candidate.package, *candidate.beside]
        _run([uv(), "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *packages], INSTALL_S)
        (folder / "installed").touch()
    code = f"from importlib.metadata import version; print(version({candidate.package!r}))"
    return python, _run([python, "-c", code], RUN_S).strip()


def _run(command: list[str], timeout_s: float) -> str:
    foreign = ("AWS_", "MLFLOW_", "AIRFLOW", "EVERGREEN_", "PYTHONPATH", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    try:
        with TemporaryDirectory() as folder:  # some leave files where they run
            done = subprocess.run(
                command, env=environment, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False
            )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"not run: gave no answer within {timeout_s:.0f} s") from error
    if done.returncode:
        message = (done.stderr.strip() or done.stdout.strip()).split("\n")[-1]
        raise RuntimeError(f"not run: {message[:200]}")
    return done.stdout
