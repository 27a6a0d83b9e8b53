"""Every setting of problem.yaml, by section, from the JSON Schema that pydantic makes of the models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from pipelines.problem import Problem

Schema = Mapping[str, Any]
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
LONGEST_DEFAULT = 40  # characters that a cell of the table shows of one


class Section(NamedTuple):
    """A model of the config, at one place of problem.yaml."""

    path: str
    """Where it stands, such as `gate.slices`; a name that people choose is in angle brackets: `sources.<name>`."""
    model: Schema
    """Its schema."""


def pages() -> str:
    """All sections in Markdown: a heading and a table each, in the order of problem.yaml."""
    parts = []
    for section in _sections():
        level = "##" if section.path.replace(".<name>", "").count(".") == 0 else "###"
        heading = f"{level} `{section.path}`" if section.path else "## At the top"
        purpose = _first_paragraph(section.model) if section.path else ""
        parts += [heading, *filter(None, [purpose]), _table(section)]
    return "\n\n".join(parts)


def undescribed() -> list[str]:
    """The sections and the settings that have no description; a setting that is a section has that of its model."""
    sections = [section.path for section in _sections() if section.path and not _first_paragraph(section.model)]
    return sections + [
        f"{section.path}.{name}".removeprefix(".")
        for section in _sections()
        for name, setting in section.model["properties"].items()
        if "description" not in setting and not _models(setting)
    ]


def paths() -> list[str]:
    """Every setting from the top of the file, such as `gate.slices.metric`; sections stand at all their places."""
    return list(_paths_below("", _schema()))


def _paths_below(path: str, model: Schema) -> Iterator[str]:
    for name, setting in model["properties"].items():
        here = f"{path}.{name}".removeprefix(".")
        yield from dict.fromkeys([here, *(f"{here}{suffix}" for suffix in _models(setting))])
        for suffix, below in _models(setting).items():
            yield from _paths_below(f"{here}{suffix}", _schema()["$defs"][below])


@cache
def _schema() -> Schema:
    return Problem.model_json_schema()


def _sections() -> Iterator[Section]:
    """The file, then its sections, each followed by those below it; a model is shown where it stands highest."""
    places = _places()

    def below(place: Section) -> Iterator[Section]:
        yield place
        for name, setting in place.model["properties"].items():
            for suffix, model in _models(setting).items():
                path = f"{place.path}.{name}{suffix}".removeprefix(".")
                if places[model] == path:
                    yield from below(Section(path, _schema()["$defs"][model]))

    return below(Section("", _schema()))


@cache
def _places() -> dict[str, str]:
    """By model the path, of as few parts as possible, at which it stands."""
    places: dict[str, str] = {}
    waiting = [Section("", _schema())]
    while waiting:
        place = waiting.pop(0)
        for name, setting in place.model["properties"].items():
            for suffix, model in _models(setting).items():
                if model not in places:
                    places[model] = f"{place.path}.{name}{suffix}".removeprefix(".")
                    waiting.append(Section(places[model], _schema()["$defs"][model]))
    return places


def _models(setting: Schema) -> dict[str, str]:
    """The models that a setting's values are, by what stands between its name and theirs: '' or `.<name>`."""
    found: dict[str, str] = {}
    for option in [setting, *setting.get("anyOf", [])]:
        if "$ref" in option:
            found[""] = _name(option)
        if "$ref" in option.get("items", {}):
            found["[]"] = _name(option["items"])
        for values in (option.get("additionalProperties"), *option.get("patternProperties", {}).values()):
            if isinstance(values, dict) and "$ref" in values:
                found[".<name>"] = _name(values)
    return found


def _name(reference: Schema) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _table(section: Section) -> str:
    rows = ["| setting | type | default | meaning |", "| --- | --- | --- | --- |"]
    required = section.model.get("required", [])
    for name, setting in section.model["properties"].items():
        below = next(iter(_models(setting).values()), None)
        meaning = setting.get("description") or (_first_paragraph(_schema()["$defs"][below]) if below else "")
        default = "**required**" if name in required else _default(setting)
        rows.append(f"| `{name}` | {_type(setting)} | {default} | {_cell(meaning)} |")
    return "\n".join(rows)


def _default(setting: Schema) -> str:
    if "default" not in setting:
        return "left out"
    if _models(setting) and setting["default"]:
        return "as below"
    text = json.dumps(setting["default"], ensure_ascii=False)
    return f"`{text}`" if len(text) <= LONGEST_DEFAULT else f"`{text[:LONGEST_DEFAULT]}…`"


def _type(setting: Schema) -> str:
    """A type in words, with its bounds.

    >>> _type({"anyOf": [{"type": "number", "minimum": 0, "exclusiveMaximum": 1}, {"type": "null"}]})
    'number ≥ 0, < 1, or null'
    >>> _type({"type": "array", "items": {"enum": ["shadow", "full"]}})
    'list of `shadow`, `full`'
    """
    if "anyOf" in setting:
        options = list(dict.fromkeys(_type(option) for option in setting["anyOf"]))
        return f"{' or '.join(options[:-1])}, or {options[-1]}" if options[-1] == "null" else " or ".join(options)
    if "$ref" in setting:
        path = _places()[_name(setting)]
        return f"[{path}](#{re.sub(r'[^a-z0-9_]', '', path)})".replace("<", "&lt;")
    if "enum" in setting or "const" in setting:
        return ", ".join(f"`{value}`" for value in setting.get("enum", [setting.get("const")]))
    kind = str(setting.get("type", "any"))
    if kind == "array":
        return f"list of {_plural(_type(setting.get('items', {})))}"
    if kind == "object":
        values = [setting.get("additionalProperties"), *setting.get("patternProperties", {}).values()]
        described = [_type(value) for value in values if isinstance(value, dict)]
        return f"names, each with {described[-1]}" if described else "names, each with a value"
    bounds = ", ".join(f"{sign} {setting[key]}" for key, sign in BOUNDS.items() if key in setting)
    words = {"string": "text", "boolean": "true, false"}.get(kind, kind)
    return f"{words} {bounds}".rstrip()


def _plural(words: str) -> str:
    return {"text": "texts", "number": "numbers", "integer": "integers"}.get(words, words)


def _first_paragraph(model: Schema) -> str:
    return " ".join(str(model.get("description", "")).partition("\n\n")[0].split())


def _cell(text: str) -> str:
    """Text within a table: no line breaks, no bars, and nothing in it is HTML.

    >>> _cell("a <name>\\n| b")
    'a &lt;name> \\\\| b'
    """
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
