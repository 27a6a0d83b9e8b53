"""Documents held to their types: what is written has the keys that are declared, and no others."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, TypeAdapter


def assert_declared(document_type: Any, document: Any) -> None:
    """Every key of the document and of what is in it is declared, none is missing, and each value is of its type.

    The list around it is what makes pydantic hand the strictness down: a typed dict by itself takes none.
    """
    strict = ConfigDict(extra="forbid", strict=True)
    TypeAdapter(list[document_type], config=strict).validate_python([document])
