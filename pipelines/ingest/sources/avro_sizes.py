"""What an Avro schema lets few bytes become: records that hold nothing, and types that hold themselves."""

from __future__ import annotations

from typing import Any, NamedTuple

from pipelines.errors import SchemaError
from pipelines.ingest.sources.limits import MAX_RECORD_VALUES

NO_BYTES = ("null",)
FIXED_BYTES = {"float": 4, "double": 8}
SLOT_BYTES = 8  # of a list, for each element
OBJECT_BYTES = {"array": 64, "map": 72, "record": 64}
SCALAR_BYTES = 20
FIELD_BYTES = 100  # of a record, in the dictionary that it becomes


class Size(NamedTuple):
    """What a value of a type takes."""

    fewest: int
    """bytes in the file, at least"""
    values: int
    """values that it is made of, its arrays and maps being empty"""
    held: int
    """bytes in memory, about: as few as it may have in the file"""


class _Sizes:
    """The sizes of a schema's types, and the worst of what its arrays and maps make of a byte."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._named: dict[str, Size] = {}
        self._within: list[str] = []
        self.per_byte = 1

    def of(self, described: Any) -> Size:
        if isinstance(described, list):
            branches = [self.of(branch) for branch in described]
            if not branches:
                raise self._wrong("a union of no type")
            return Size(
                1 + min(branch.fewest for branch in branches),
                max(branch.values for branch in branches),
                max(branch.held for branch in branches),
            )
        if not isinstance(described, dict):
            described = {"type": described}
        kind = described.get("type")
        if isinstance(kind, (dict, list)):
            return self.of(kind)
        name = str(described.get("name", kind))
        match kind:
            case "record" | "error":
                return self._record(name, described["fields"])
            case "array" | "map":
                element = self.of(described["items" if kind == "array" else "values"])
                if kind == "array" and not element.fewest:
                    raise self._wrong("an array of values that take no bytes, of which a file may claim any number")
                fewest = element.fewest + (kind == "map")
                self.per_byte = max(self.per_byte, -(-(element.held + SLOT_BYTES) // fewest))
                return Size(1, 1, OBJECT_BYTES[kind])
            case "fixed":
                size = described.get("size")
                if not isinstance(size, int) or size < 0:
                    raise self._wrong(f"a fixed type of {size!r} bytes")
                self._named[name] = Size(size, 1, SCALAR_BYTES + size)
                return self._named[name]
            case "enum":
                self._named[name] = Size(1, 1, SCALAR_BYTES)
                return self._named[name]
        if name in self._within:
            raise self._wrong(f"the type {name[:100]!r}, which holds itself")
        if name in self._named:
            return self._named[name]
        return Size(0 if name in NO_BYTES else FIXED_BYTES.get(name, 1), 1, SCALAR_BYTES)

    def _record(self, name: str, fields: list[Any]) -> Size:
        self._within.append(name)
        sizes = [self.of(field["type"]) for field in fields]
        self._within.pop()
        size = Size(
            sum(size.fewest for size in sizes),
            1 + sum(size.values for size in sizes),
            OBJECT_BYTES["record"] + sum(FIELD_BYTES + size.held for size in sizes),
        )
        if size.values > MAX_RECORD_VALUES:
            raise self._wrong(f"a record of over {MAX_RECORD_VALUES:,} values")
        self._named[name] = size
        return size

    def _wrong(self, what: str) -> SchemaError:
        return SchemaError(what, where=self._where, cure="write the file without it")


def check_schema(schema: Any, where: str) -> int:
    """The bytes that a record takes in a file, at least.

    Raises:
        SchemaError: a type holds itself, or lets a file claim values that take no bytes.
    """
    return _Sizes(where).of(schema).fewest


def bytes_per_byte(schema: Any) -> int:
    """How many bytes in memory a byte of the file may become in the schema's arrays and maps.

    >>> bytes_per_byte({"type": "array", "items": {"type": "array", "items": "int"}})
    72
    """
    sizes = _Sizes("")
    sizes.of(schema)
    return sizes.per_byte
