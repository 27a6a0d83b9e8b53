"""Whether the libraries take the parameters that candidates have, and search: asked before any row is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from pipelines.config import Candidate, Parameter, Parameters
from pipelines.errors import ConfigError
from pipelines.problem import Problem
from pipelines.training.checks import place

if TYPE_CHECKING:
    from pipelines.training.estimators import Setting


class Asked(NamedTuple):
    """A model that gets parameters of a candidate."""

    model: str
    candidate: Candidate
    """With these parameters, and no others."""
    place: str
    """Where they stand under training.candidates: `NAME.parameters`, of a part that an ensemble changes
    `NAME.parameters.PART`."""
    searched: str
    """Where its search stands."""


class Tried(NamedTuple):
    """Parameters that a fit may get."""

    parameters: Parameters
    where: str
    """The parameters' place, or that of the searched one that differs."""


def parameter_faults(problem: Problem) -> list[ConfigError]:
    """What the libraries refuse of `training.candidates`, `parameters` and `search`, one fault of each place: names
    that they do not know, and values that they take with no rows at all. Constraints on columns by their position are
    left to the training, which alone has the columns. No row is read; candidates without parameters cost nothing.
    """
    faults: dict[str, ConfigError] = {}  # of a place, the first
    for name, candidate in problem.training.candidates.items():
        for asked in _asked(problem, name):
            own = asked.candidate
            if candidate.is_baseline or not (own.parameters or own.search):
                continue
            for fault in _faults_of(problem, asked):
                faults.setdefault(fault.where, fault)
    return list(faults.values())


def _asked(problem: Problem, name: str) -> Iterator[Asked]:
    """The candidate's own model; of an ensemble the parts that it changes, and the linear model above them."""
    candidate = problem.training.of(name)
    written, searched = f"{name}.parameters", f"{name}.search"
    if not candidate.of:
        yield Asked(candidate.model, candidate, written, searched)
        return
    from pipelines.training.ensemble import final_kind, of_part

    for part in candidate.of:
        if changed := of_part(problem, name, candidate.parameters, part):
            own = problem.training.of(part)
            changes = {"parameters": {**own.parameters, **changed}, "search": {}}
            yield Asked(own.model, own.model_copy(update=changes), f"{written}.{part}", searched)
    if candidate.model == "stacking":
        above = {key: value for key, value in candidate.parameters.items() if key not in candidate.of}
        yield Asked(final_kind(problem.task), candidate.model_copy(update={"parameters": above}), written, searched)


def _faults_of(problem: Problem, asked: Asked) -> Iterator[ConfigError]:
    from pipelines.training.assemble import setting_of
    from pipelines.training.estimators import known_parameters

    model, candidate = asked.model, asked.candidate
    names, is_category = _columns(problem, candidate)
    setting = setting_of(problem, candidate, is_category, names)
    tried = list(_tried(asked))
    written = {name: f"{asked.place}.{name}" for name in candidate.parameters}
    for name in candidate.search:
        written.setdefault(name, f"{asked.searched}.{name}")
    unknown = {name: fault for name in written if (fault := _name_fault(model, name, tried[-1], setting))}
    for name, fault in unknown.items():
        yield ConfigError(
            f"{model}: {fault}",
            where=place(problem, written[name]),
            cure=f"correct the name, or take it out; {model} takes {', '.join(known_parameters(model, setting))}",
        )
    for attempt in () if unknown else tried:
        if fault := _value_fault(model, attempt.parameters, setting):
            alone = [
                written[name]
                for name, value in attempt.parameters.items()
                if _value_fault(model, {name: value}, setting) == fault
            ]
            is_clear = attempt.where == asked.place and len(alone) == 1
            yield ConfigError(
                f"{model}: {fault}",
                where=place(problem, alone[0] if is_clear else attempt.where),
                cure=f"change it, or take it out, for what holds without it; refused: {attempt.parameters}",
            )


def _tried(asked: Asked) -> Iterator[Tried]:
    """The candidate's own parameters, which the search tries too; then each value of each range beside the first ones
    of the others, as any may come with any."""
    from pipelines.training.trials import examples

    candidate = asked.candidate
    yield Tried(candidate.parameters, asked.place)
    values = {name: examples(searched) for name, searched in candidate.search.items()}
    first = {**candidate.parameters, **{name: options[0] for name, options in values.items()}}
    for name, options in values.items():
        for value in options:
            yield Tried({**first, name: value}, f"{asked.searched}.{name}")


def _name_fault(model: str, name: str, attempt: Tried, setting: Setting) -> str:
    """What is wrong with the name; empty: nothing."""
    from pipelines.training.boost_parameters import refuse_unknown
    from pipelines.training.estimators import unfitted

    value = attempt.parameters[name]
    try:
        if model == "xgboost":
            refuse_unknown(name, value)
        else:
            unfitted(model, {name: value}, setting)
    except ValueError as error:
        return str(error)
    return ""


def _value_fault(model: str, parameters: Parameters, setting: Setting) -> str:
    """What the library says of the values, by its own rules; empty: nothing."""
    from pipelines.training.estimators import boosted_trees, require_values

    try:
        if model == "xgboost":
            boosted_trees(_by_name(parameters), setting).require_values()
        else:
            require_values(model, parameters, setting)
    except (TypeError, ValueError) as error:
        return str(error)
    return ""


def _by_name(parameters: Parameters) -> Parameters:
    """Without constraints on columns by their position."""
    signs, groups = parameters.get("monotone_constraints"), parameters.get("interaction_constraints")
    kept = dict(parameters)
    if isinstance(signs, list):
        del kept["monotone_constraints"]
    if isinstance(groups, list) and any(isinstance(member, int) for group in groups for member in _members(group)):
        del kept["interaction_constraints"]
    return kept


def _columns(problem: Problem, candidate: Candidate) -> tuple[list[str], list[bool]]:
    """Names that constraints may give: of features, and of the columns that one becomes, which begin with its name;
    and which of them are categories as they are."""
    from pipelines.training.fit_rows import own_settings

    assert candidate.preprocessing is not None, "of() gives each its preprocessing"
    features = problem.feature_names
    owns = own_settings(candidate.preprocessing, features, problem.categorical_features, problem.vector_features)
    native = [name for name, own in owns.items() if own.is_category and own.encoding == "native"]
    made = [
        name
        for name in dict.fromkeys(_constrained(candidate.parameters))
        if name not in features and name.startswith(tuple(f"{feature}{sign}" for feature in features for sign in " ="))
    ]
    return [*features, *made], [name in native for name in features] + [False] * len(made)


def _constrained(parameters: Parameters) -> Iterator[str]:
    """Columns that constraints name."""
    signs, groups = parameters.get("monotone_constraints"), parameters.get("interaction_constraints")
    if isinstance(signs, dict):
        yield from signs
    for group in groups if isinstance(groups, list) else []:
        yield from (member for member in _members(group) if isinstance(member, str))


def _members(group: Parameter) -> list[Parameter]:
    return group if isinstance(group, list) else []
