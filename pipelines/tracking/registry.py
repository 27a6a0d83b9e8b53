"""The registered model of a problem: its versions, and the aliases that say which one serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.errors import NothingToDo
from pipelines.problem import Problem
from pipelines.tracking.client import client, explained

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

LONGEST_DESCRIPTION = 5_000  # characters that MLflow's database holds


def champion(problem: Problem) -> ModelVersion | None:
    """The registry version that serves; None when none does yet."""
    return _named(problem, "champion")


def previous(problem: Problem) -> ModelVersion | None:
    """The registry version that served before the champion; None when none did, or it was left for harm."""
    return _named(problem, "previous")


def _named(problem: Problem, alias: str) -> ModelVersion | None:
    from mlflow.exceptions import MlflowException

    with explained():
        try:
            return client().get_model_version_by_alias(problem.name, alias)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise


def serving(problem: Problem) -> ModelVersion:
    """The champion; raises NothingToDo when there is none yet."""
    version = champion(problem)
    if version is None:
        raise NothingToDo(
            "no champion serves yet", where=f"registered model {problem.name}", cure=f"run the DAG {problem.name}.train"
        )
    return version


def register(problem: Problem, run_id: str, tags: dict[str, str]) -> str:
    """Make the run's model a registry version with the alias challenger; the same run is registered once, although
    MLflow's client asks again where an answer is lost, and MLflow then makes another version."""
    from mlflow.exceptions import MlflowException

    registry = client()
    with explained():
        try:
            registry.create_registered_model(problem.name, description=problem.description)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        of_run = f"name = '{problem.name}' and run_id = '{run_id}'"
        registered = registry.search_model_versions(of_run)
        if not registered:
            registry.create_model_version(problem.name, source=f"runs:/{run_id}/model", run_id=run_id, tags=tags)
            registered = registry.search_model_versions(of_run)
        version, *doubles = sorted(registered, key=lambda registered_version: int(registered_version.version))
        for double in doubles:
            registry.delete_model_version(problem.name, double.version)
        registry.set_registered_model_alias(problem.name, "challenger", version.version)
    return str(version.version)


def describe(problem: Problem, version: str, text: str) -> None:
    """Put the model card where MLflow's registry shows it; cut at what it holds."""
    with explained():
        client().update_model_version(problem.name, version, description=text[:LONGEST_DESCRIPTION])


def promote(problem: Problem, version: str) -> str | None:
    """Point the alias champion at `version`, and previous at what served before; gives the latter, if another did."""
    registry = client()
    before = champion(problem)
    replaced = None if before is None or str(before.version) == version else str(before.version)
    with explained():
        if replaced is not None:
            registry.set_registered_model_alias(problem.name, "previous", replaced)
        registry.set_registered_model_alias(problem.name, "champion", version)
        registry.delete_registered_model_alias(problem.name, "challenger")
    return replaced


def challenge(problem: Problem, version: str) -> None:
    """Point the alias challenger at `version`."""
    with explained():
        client().set_registered_model_alias(problem.name, "challenger", version)


def leave(problem: Problem, version: str) -> None:
    """Take the alias challenger from `version`; where another has it by now, it stays there."""
    challenger = _named(problem, "challenger")
    if challenger is not None and str(challenger.version) == version:
        with explained():
            client().delete_registered_model_alias(problem.name, "challenger")


def roll_back(problem: Problem, version: str) -> None:
    """Point the alias champion at `version`; what served is not kept as previous: it was left because it does harm."""
    registry = client()
    with explained():
        registry.set_registered_model_alias(problem.name, "champion", version)
        registry.delete_registered_model_alias(problem.name, "previous")
