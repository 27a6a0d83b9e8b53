"""Training rows beyond training.memory_limit_mb: which candidates learn from them, batch by batch from disk."""

from __future__ import annotations

from pipelines.config import TextEncoding
from pipelines.problem import Problem


def is_large(problem: Problem, rows: int) -> bool:
    """Whether a matrix of so many training rows would pass training.memory_limit_mb."""
    return rows * _matrix_columns(problem) * 4 / 2**20 > problem.training.memory_limit_mb


def left_out(problem: Problem, rows: int) -> dict[str, str]:
    """Candidates that do not learn from so many training rows, and why; others compete without them.

    Empty where none would be left to compete: then each is refused in its task. A candidate that `training.baselines`
    names is not left out, as the gate asks for it.
    """
    if not is_large(problem, rows):
        return {}
    training = problem.training
    competing = [
        name for name, spec in training.candidates.items() if not spec.is_baseline and name not in training.baselines
    ]
    needs = {name: _needs_memory(problem, name) for name in competing}
    if all(needs.values()):
        return {}
    why = f"the training rows are more than training.memory_limit_mb ({training.memory_limit_mb:g}), and read from disk"
    return {name: f"{why}; {', '.join(found)} cannot do that" for name, found in needs.items() if found}


def engine_limits(problem: Problem) -> list[str]:
    """What goes well with training.engine.kind: auto until it takes workers, and what to do about it; of other kinds
    nothing: the config refuses what they cannot do, however many rows there are.
    """
    training = problem.training
    if training.engine is None or training.engine.kind != "auto":
        return []
    above = "above training.memory_limit_mb, where training.engine.kind: auto takes workers"
    shared = [name for name in training.candidates if training.has_workers(name, is_large=True)]
    limits = []
    if shared and training.device == "cuda":
        limits.append(f"training.device: cuda fails {above}, as they learn on CPUs; set device: auto")
    for name in shared:
        limits += [
            f"{part.setting} fails {above}{part.reason}; {part.instead}, or set kind: local"
            for part in problem.not_by_workers(name)
        ]
        limits += [
            f"{setting} needs all rows at once, and {name} does not learn {above}; raise the limit, or leave it out"
            for setting in _needs_memory(problem, name)
        ]
    return limits


def _needs_memory(problem: Problem, name: str) -> list[str]:
    """What a candidate has that goes with rows in memory alone."""
    search = [f"training.candidates.{name}.search"] if problem.training.candidates[name].search else []
    return [*problem.needs_all_rows(name), *search]


def _matrix_columns(problem: Problem) -> int:
    """Columns of the widest candidate's matrix, as far as they are known beforehand: a text has its components."""
    widest = 0
    for name, kind in problem.vector_features.items():
        if kind == "embedding":
            widest += problem.columns[name].length or 0
            continue
        settings = [problem.training.of(candidate).preprocessing for candidate in problem.training.candidates]
        own = [preparation.columns.get(name) for preparation in settings if preparation]
        shared = [preparation.text for preparation in settings if preparation]
        encodings = [*shared, *(column.text for column in own if column)]
        widest += max((encoding.components for encoding in encodings if encoding), default=TextEncoding().components)
    return len(problem.feature_names) + widest
