"""What all sections of a problem.yaml share."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, TypeGuard, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

NAME_PATTERN = r"^[a-z][a-z0-9_]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=63)]
PlainType = Literal["string", "integer", "float", "boolean", "timestamp"]
SourceType = Literal[PlainType, "list<float>"]
VectorKind = Literal["text", "embedding"]
"""Kinds of columns that a model sees as vectors, and everything else by measures of them (pipelines/vectors)."""
ColumnType = Literal[PlainType, VectorKind]
"""A text is a string that is read for its words: no two need have the same, so it makes no categories. An embedding is
a list of numbers, so many in each row."""
NOUNS: dict[VectorKind, str] = {"text": "a text", "embedding": "an embedding"}
Available = Literal["cutoff", "later"]
Task = Literal["binary", "multiclass", "regression"]
Metric = Literal[
    "auc",
    "average_precision",
    "log_loss",
    "brier",
    "ece",
    "accuracy",
    "precision",
    "recall",
    "f_beta",
    "macro_f1",
    "rmse",
    "mae",
    "r2",
    "bias",
    "cost",
]
METRICS_OF: dict[Task, frozenset[str]] = {
    "binary": frozenset(
        {
            "auc",
            "average_precision",
            "log_loss",
            "brier",
            "ece",
            "accuracy",
            "precision",
            "recall",
            "f_beta",
            "cost",
        }
    ),
    "multiclass": frozenset({"auc", "log_loss", "brier", "ece", "accuracy", "macro_f1", "cost"}),
    "regression": frozenset({"rmse", "mae", "r2", "bias", "cost"}),
}
# What is looked at where a problem does not say: of its task the loss that a model is fitted by.
LOSS_OF: dict[Task, Metric] = {"binary": "log_loss", "multiclass": "log_loss", "regression": "rmse"}
LabelSource = Literal["natural", "hand", "weak", "self_trained"]
RESERVED_COLUMNS = frozenset(
    {
        "event_time",
        "known_time",
        "cutoff_time",
        "superseded_time",
        "withdrawn_time",
        "statement",
        "partition",
        "label",
        "score",
        "decision",
        "probabilities",
        "split",
        "weight",
        "probability",
        "source",
        "confidence",
        "label_known_time",
        "faults",
        "raw",
        "number",
    }
)

# Of tables that carry the problem's key.
RESERVED_KEYS = frozenset({"model_version", "variant", "scored_time", "experiment", "unit", "propensity"})


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value) if isinstance(value, (int, float)) else value


ClassName = Annotated[str, BeforeValidator(_as_text)]  # YAML reads the class 0 as a number


def may_be_left_out(*fields: str) -> Callable[[dict[str, Any]], None]:
    """For the JSON schema of what people write: these fields are written out before they are checked."""

    def edit(schema: dict[str, Any]) -> None:
        schema["required"] = [name for name in schema["required"] if name not in fields]

    return edit


class Config(BaseModel):
    """Frozen, and strict about what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def is_vector(kind: str) -> TypeGuard[VectorKind]:
    """Whether a column of this type is seen as a vector, and forms no groups."""
    return kind in get_args(VectorKind)


def is_none(value: object) -> bool:
    """What is left out stays out of what is kept: a config without it has the hash that it had before."""
    return value is None


def is_empty(value: object) -> bool:
    """As `is_none`, of what is empty unless something is said."""
    return not value


def did_you_mean(word: str, options: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(options), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
