"""Hand-offs as their stages give them, for tests that care for some of their fields alone."""

from __future__ import annotations

import types
from enum import Enum
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel

from pipelines.handoffs.training import FeaturizedShare, Labelled
from pipelines.stages import stage

H = TypeVar("H", bound=BaseModel)


def example(model: type[H], **fields: Any) -> H:
    """A hand-off, or a piece of evidence, with `fields`; what else it must have is filled in.

    So none is built that no stage gives.
    """
    required = {name: field for name, field in model.model_fields.items() if field.is_required()}
    filled = {name: _value(field.annotation) for name, field in required.items()}
    return model.model_validate(filled | fields)


def featurized(problem: str, labelled: Labelled) -> list[FeaturizedShare]:
    """The stages `sample` and `featurize`, of each share."""
    return [stage("train.featurize")(problem, share) for share in stage("train.sample")(problem, labelled)]


def _value(kind: Any) -> Any:
    """The plainest value of a type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if type(None) in arguments else _value(arguments[0])
    if origin is Literal:
        return arguments[0]
    if origin in (list, dict, tuple):
        return origin()
    if issubclass(kind, Enum):
        return next(iter(kind))
    if issubclass(kind, BaseModel):
        return example(kind)
    return kind()
