"""Trials of a search: what they are, which parameters come next, and which trials are hopeless (Optuna)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np

from pipelines.config import Range

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

State = Literal["finished", "pruned", "failed"]
STATES: tuple[State, ...] = get_args(State)
UNPRUNED_TRIALS = 5  # a median of fewer says little; Optuna's default


@dataclass(frozen=True)
class Trial:
    """One set of parameters, and the metric on each fold that it got to, oldest first."""

    number: int
    parameters: dict[str, Any]
    values: tuple[float, ...]
    state: State
    reason: str = ""
    seconds: float = field(default=0.0, compare=False)

    @property
    def value(self) -> float:
        """Mean over the folds; NaN without any."""
        return sum(self.values) / len(self.values) if self.values else math.nan


class Trials(Protocol):
    """Where trials are kept as they end, so that a search that was killed goes on."""

    def known(self) -> list[Trial]: ...

    def keep(self, trial: Trial) -> None: ...


def propose(
    ranges: Mapping[str, Range], before: Sequence[Trial], number: int, seed: int, is_higher_better: bool
) -> dict[str, Any]:
    """Parameters of trial `number`, by TPE (Bergstra et al., 2011): a function of its arguments and of nothing else.

    Each trial has a sampler of its own, seeded by (seed, number), so that nothing has to survive but the trials.

    >>> at = propose({"depth": Range(low=2, high=9), "rate": Range(low=0.01, high=1, log=True)}, [], 1, 0, False)
    >>> 2 <= at["depth"] <= 9, 0.01 <= at["rate"] <= 1
    (True, True)
    """
    from optuna.samplers import TPESampler

    study = _study(ranges, before, is_higher_better)
    study.sampler = TPESampler(seed=int(np.random.default_rng([seed, number]).integers(2**32)))
    asked = study.ask({name: _distribution(one) for name, one in ranges.items()}).params
    return {name: one.choices[asked[name]] if one.choices else asked[name] for name, one in ranges.items()}


def is_hopeless(values: Sequence[float], before: Sequence[Trial], is_higher_better: bool) -> bool:
    """Whether the mean over the folds so far is worse than the median of the finished trials' after the same folds."""
    from optuna.pruners import MedianPruner

    study = _study({}, before, is_higher_better)
    study.pruner = MedianPruner(n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=0)
    probe = study.ask()
    # This mean alone: the pruner goes by the best of all that were reported, and folds are not equally hard.
    probe.report(sum(values) / len(values), step=len(values))
    return probe.should_prune()


def _study(ranges: Mapping[str, Range], before: Sequence[Trial], is_higher_better: bool) -> optuna.Study:
    """The trials as Optuna sees them, without the values that lie outside of their range (a candidate's own)."""
    import optuna
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it reports every study that is made
    states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    study = optuna.create_study(direction="maximize" if is_higher_better else "minimize")
    for trial in before:
        tried = trial.parameters
        inside = {name: one for name, one in ranges.items() if name in tried and _is_inside(one, tried[name])}
        means = np.cumsum(trial.values) / np.arange(1, len(trial.values) + 1)
        study.add_trial(
            create_trial(
                state=states[trial.state],
                value=trial.value if trial.state == "finished" else None,
                params={name: _position(one, tried[name]) for name, one in inside.items()},
                distributions={name: _distribution(one) for name, one in inside.items()},
                intermediate_values={fold: float(mean) for fold, mean in enumerate(means, 1)},
            )
        )
    return study


def _distribution(one: Range) -> BaseDistribution:
    """A range in Optuna's words: whole numbers where it is written in them, choices by their position."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if one.choices is not None:
        return CategoricalDistribution(range(len(one.choices)))
    assert one.low is not None and one.high is not None
    if _is_whole(one):
        return IntDistribution(int(one.low), int(one.high), log=one.log, step=int(one.step or 1))
    return FloatDistribution(float(one.low), float(one.high), log=one.log, step=one.step)


def _is_whole(one: Range) -> bool:
    """Whether the numbers were written without a point: 1 to 10 are ten values, 1.0 to 10.0 are not."""
    return all(isinstance(end, int) for end in (one.low, one.high, one.step or 1))


def _position(one: Range, value: Any) -> Any:
    """The number or, of choices, its position; their JSON tells 1 from true and 1.0."""
    return value if one.choices is None else [json.dumps(choice) for choice in one.choices].index(json.dumps(value))


def _is_inside(one: Range, value: Any) -> bool:
    if one.choices is not None:
        return json.dumps(value) in [json.dumps(choice) for choice in one.choices]
    if one.low is None or one.high is None or isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    step = one.step or (1 if _is_whole(one) else None)
    steps = (value - one.low) / step if step else 0
    return one.low <= value <= one.high and math.isclose(steps, round(steps), abs_tol=1e-9)
