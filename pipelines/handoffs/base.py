"""The kind of all hand-offs, and how a function is given them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from pipelines.errors import ConfigError

R = TypeVar("R")


class HandOff(BaseModel):
    """What a stage hands to those after it.

    A field that came later has a default, and one that is unknown is passed over: a run that began under another
    version of this code goes on.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    config: str | None = None
    """Hash of the config that its run began with, and ends with; None of a run of before configs were pinned."""

    def line(self) -> str:
        """What the stage has to say about itself, in one line for people; empty if nothing."""
        return ""


def to_json(value: Any) -> Any:
    """A hand-off, or several, as JSON; anything else as it is."""
    if isinstance(value, dict):
        return {name: to_json(element) for name, element in value.items()}
    if isinstance(value, HandOff):
        return value.model_dump(mode="json")
    if isinstance(value, list):
        return [to_json(element) for element in value]
    return value


def call(function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    """Call `function`; JSON that it is given where it takes a hand-off becomes one.

    Raises:
        ConfigError: it is not what the stage before hands on.
    """
    hints = get_type_hints(function)
    bound = inspect.signature(function).bind(*args, **kwargs)
    for name, value in bound.arguments.items():
        if _takes_hand_off(hints.get(name)):
            bound.arguments[name] = _typed(function, name, hints[name], value)
    return function(*bound.args, **bound.kwargs)


def takes_several(function: Callable[..., Any]) -> dict[str, bool]:
    """The parameters of `function` that are given hand-offs; True: a list of them."""
    hints = get_type_hints(function)
    parameters = [name for name in inspect.signature(function).parameters if _takes_hand_off(hints.get(name))]
    return {name: get_origin(hints[name]) is list for name in parameters}


def _typed(function: Callable[..., Any], name: str, wanted: Any, value: Any) -> Any:
    try:
        return TypeAdapter(wanted).validate_python(value)
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"]))
        raise ConfigError(
            f"{name} is not what the stage before hands on: {field + ': ' if field else ''}{fault['msg'].lower()}",
            where=f"{function.__module__}.{function.__name__}",
            cure="give what the stage before printed, whole; or run the DAG from that stage on",
        ) from None


def _takes_hand_off(hint: Any) -> bool:
    if inspect.isclass(hint):
        return issubclass(hint, HandOff)
    return any(_takes_hand_off(argument) for argument in get_args(hint))
