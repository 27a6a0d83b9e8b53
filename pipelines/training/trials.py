"""Trials of a search: what they are, which parameters come next, and which trials are hopeless (Optuna)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np

from pipelines.config import Parameters, Range

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
    parameters: Parameters
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
) -> Parameters:
    """Parameters of trial `number`, by TPE (Bergstra et al., 2011): a function of its arguments and of nothing else.

    Each trial has a sampler of its own, seeded by (seed, number), so that nothing has to survive but the trials.

    >>> at = propose({"depth": Range(low=2, high=9), "rate": Range(low=0.01, high=1, log=True)}, [], 1, 0, False)
    >>> 2 <= at["depth"] <= 9, 0.01 <= at["rate"] <= 1
    (True, True)
    """
    from optuna.samplers import TPESampler

    study = _study(ranges, before, is_higher_better)
    study.sampler = TPESampler(seed=int(np.random.default_rng([seed, number]).integers(2**32)))
    asked = study.ask({name: _distribution(values) for name, values in ranges.items()}).params
    return {name: values.choices[asked[name]] if values.choices else asked[name] for name, values in ranges.items()}


def examples(values: Range) -> list[Any]:
    """Values that a search may propose: all choices, or both ends and, of numbers with a point, one between.

    >>> examples(Range(low=2, high=9)), examples(Range(low=2.0, high=9))
    ([2, 9], [2.0, 9.0, 5.5])
    """
    if values.choices is not None:
        return values.choices
    assert values.low is not None and values.high is not None
    if _is_whole(values):
        return [values.low, values.high]
    low, high = float(values.low), float(values.high)
    return [low, high, low + values.step if values.step else (low + high) / 2]


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
        inside = {name: values for name, values in ranges.items() if name in tried and _is_inside(values, tried[name])}
        means = np.cumsum(trial.values) / np.arange(1, len(trial.values) + 1)
        study.add_trial(
            create_trial(
                state=states[trial.state],
                value=trial.value if trial.state == "finished" else None,
                params={name: _position(values, tried[name]) for name, values in inside.items()},
                distributions={name: _distribution(values) for name, values in inside.items()},
                intermediate_values={fold: float(mean) for fold, mean in enumerate(means, 1)},
            )
        )
    return study


def _distribution(values: Range) -> BaseDistribution:
    """A range in Optuna's words: whole numbers where it is written in them, choices by their position."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if values.choices is not None:
        return CategoricalDistribution(range(len(values.choices)))
    assert values.low is not None and values.high is not None
    if _is_whole(values):
        return IntDistribution(int(values.low), int(values.high), log=values.log, step=int(values.step or 1))
    return FloatDistribution(float(values.low), float(values.high), log=values.log, step=values.step)


def _is_whole(values: Range) -> bool:
    """Whether the numbers were written without a point: 1 to 10 are ten values, 1.0 to 10.0 are not."""
    return all(isinstance(end, int) for end in (values.low, values.high, values.step or 1))


def _position(values: Range, value: Any) -> Any:
    """The number or, of choices, its position; their JSON tells 1 from true and 1.0."""
    return (
        value if values.choices is None else [json.dumps(choice) for choice in values.choices].index(json.dumps(value))
    )


def _is_inside(values: Range, value: Any) -> bool:
    if values.choices is not None:
        return json.dumps(value) in [json.dumps(choice) for choice in values.choices]
    if values.low is None or values.high is None or isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    step = values.step or (1 if _is_whole(values) else None)
    steps = (value - values.low) / step if step else 0
    return values.low <= value <= values.high and math.isclose(steps, round(steps), abs_tol=1e-9)
