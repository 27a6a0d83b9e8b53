"""lineage: all that a fitted model is made of, written down so that it can be made again and compared.

Rows are named twice, by the versions of the tables that they come from and by a hash of what they hold: a version
says where to look, the hash whether the same was found there.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Mapping
from typing import Any

from pipelines.config import Parameters
from pipelines.documents.lineage import Fingerprint, HeldOutSizes, Lineage, Surroundings
from pipelines.handoffs.training import Checked
from pipelines.problem import ROOT, Problem

# Distributions that decide over bits of a model or of its rows; a run keeps the whole environment beside. XGBoost has
# two, of which one is installed: a build with a GPU's code gives other bits, so which one it was is told.
PACKAGES = (
    "deltalake",
    "duckdb",
    "imbalanced-learn",
    "numpy",
    "optuna",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "skops",
    "xgboost",
    "xgboost-cpu",
)


def surroundings() -> Surroundings:
    """The code, machine and packages that are at work now; what cannot be found out is None."""
    from pipelines.surroundings import git_commit

    lock, commit = ROOT / "uv.lock", git_commit()
    return {
        "git_commit": None if commit == "unknown" else commit,
        "lock_file": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None,
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
    }


def lineage(
    problem: Problem,
    pins: Checked,
    splits: Mapping[str, Fingerprint],
    candidate: str,
    parameters: Parameters,
    surroundings: Surroundings,
    is_streamed: bool = False,
) -> Lineage:
    """What one candidate's model is made of; all of it goes to JSON as it is.

    `pins`: what the stages hand on, `splits`: the `fingerprint` of each, `parameters`: those that were searched, which
    stand over the candidate's own, `is_streamed`: the training rows were read from disk, batch by batch, which gives
    other bits than rows in memory. "parent" is the version that a candidate went on from, "parent_run" the run of the
    very model of it that it did; None of one from scratch. "refit" says, where a model was fitted again after its gate
    (`training.refit`), how: see `pipelines.stages.train.refit`.
    """
    builds_on = pins.builds_on if not problem.training.candidates[candidate].is_baseline else None
    dataset, training = problem.dataset, problem.training
    held_out: HeldOutSizes | None = None
    if pins.held_out:
        held_out = {"validation": pins.held_out.validation, "test": pins.held_out.test}
    return {
        "problem": problem.name,
        "candidate": candidate,
        "model": training.candidates[candidate].model,
        "parameters": dict(parameters),
        "how": pins.how if builds_on else "scratch",
        "parent": builds_on.version if builds_on else None,
        "parent_run": builds_on.run_id if builds_on else None,
        "refit": None,
        "window_from": pins.window_from,
        "held": pins.held,
        "waiting": pins.waiting,
        "held_out": held_out,
        "is_streamed": is_streamed,
        "training": pins.training,
        "training_set": pins.training_set,
        "partition": pins.partition,
        "as_of": pins.as_of,
        "trained_until": pins.trained_until,
        "feature_set": problem.feature_set,
        "config_hash": problem.config_hash,
        "queries": query_hashes(problem),
        "seeds": {
            "sampling": dataset.sampling.seed,
            "resampling": dataset.resampling.seed,
            "augmentation": dataset.augmentation.seed,
            "training": training.seed,
            "bootstrap": problem.evaluation.bootstrap.seed,
        },
        "tables": {
            "events": pins.events_version,
            "labels": pins.labels_version,
            "features": pins.features_version,
            "training_sets": pins.training_set_version,
        },
        "splits": dict(splits),
        "surroundings": surroundings,
    }


def query_hashes(problem: Problem) -> dict[str, str]:
    """SHA-256 of the text of each of the problem's queries."""
    return {name: hashlib.sha256(problem.sql(name).encode()).hexdigest() for name in problem.queries}


def setting_changes(then: Any, now: Any, place: str = "") -> list[str]:
    """Which settings differ between two configs in JSON: one line each, by their full names.

    >>> setting_changes({"a": {"b": 1, "c": [1]}}, {"a": {"b": 2, "c": [1]}, "d": None})
    ['a.b: 1 -> 2', 'd: not there -> none']
    """
    if not (isinstance(then, Mapping) and isinstance(now, Mapping)):
        return [] if then == now else [f"{place}: {_short(then)} -> {_short(now)}"]
    lines = []
    for name in sorted({*then, *now}):
        inner = f"{place}.{name}" if place else str(name)
        lines += setting_changes(then.get(name, NOT_THERE), now.get(name, NOT_THERE), inner)
    return lines


def surroundings_changes(then: Surroundings, now: Surroundings) -> list[str]:
    """What differs between two `surroundings`, and what nobody can know to be the same: one line each.

    A commit with uncommitted changes says little: the changes may have been others.

    >>> a = {"git_commit": "1f-dirty", "python": "3.11.4", "packages": {"numpy": "2.1"}}
    >>> for line in surroundings_changes(a, {"git_commit": "1f-dirty", "python": "3.11.4", "packages": {}}): print(line)
    code: 1f-dirty then and now; what was not committed then is not known
    package numpy: 2.1 -> not there
    """
    lines = []
    for name, word in {
        "git_commit": "code",
        "lock_file": "lock file",
        "python": "Python",
        "system": "system",
        "machine": "machine",
        "cpus": "CPUs",
    }.items():
        before, after = then.get(name), now.get(name)
        if before != after:
            lines.append(f"{word}: {_short(before)} -> {_short(after)}")
        elif name == "git_commit" and (before is None or str(before).endswith("-dirty")):
            known = "is not known" if before is None else f"{before} then and now"
            lines.append(f"{word}: {known}; what was not committed then is not known")
    packages = (then.get("packages") or {}, now.get("packages") or {})
    return lines + [f"package {line}" for line in setting_changes(*packages)]


def table_versions(lineage: Lineage) -> dict[str, str]:
    """Versions of the tables in words.

    >>> table_versions({"tables": {"events": 3, "labels": None}})
    {'events': 'version 3', 'labels': 'was not written'}
    """
    return {
        name: "was not written" if version is None else f"version {version}"
        for name, version in lineage.get("tables", {}).items()
    }


class _NotThere:
    def __repr__(self) -> str:
        return "not there"


NOT_THERE = _NotThere()


def _short(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
