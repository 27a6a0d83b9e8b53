"""What docs/architecture.md shows of the code: the floors that import-linter holds, and who uses which table."""

from __future__ import annotations

import ast
import tomllib
from functools import cache
from pathlib import Path

import grimp

from pipelines.artifacts import TABLES, TableName
from pipelines.problem import ROOT

# Who reads a table, be it only to know its partitions: stages, then commands. A new table has to be written down here.
READERS: dict[TableName, str] = {
    "events": "ingest (all), annotate (all), train.label, train.featurize, train.check, train.evaluate, train.refit, "
    "score (all), monitor.detect, monitor.estimate, monitor.decide; `rebuild`, `reproduce`, `decide --replay`",
    "quarantine": "ingest.extract, ingest.validate, train.check; `quarantine`",
    "labels": "ingest (all), annotate (all), train.label, train.featurize, train.check, train.refit, "
    "score.plan, score.score, monitor.detect, monitor.estimate, monitor.explain, monitor.decide, monitor.report; "
    "`rebuild`, `reproduce`, `decide --replay`",
    "votes": "annotate.collect",
    "features": "train.check, train.train, train.evaluate, train.refit, monitor.profile, monitor.estimate, "
    "monitor.explain, monitor.decide, monitor.act, monitor.report",
    "training_sets": "train.featurize, train.check, train.train, train.evaluate, train.refit, monitor.act",
    "predictions": "score.plan, score.publish, annotate.choose, monitor.profile, monitor.detect, monitor.estimate, "
    "monitor.explain; `status`",
    "shadow_predictions": "score.publish, release.assess",
    "profiles": "monitor.detect, monitor.estimate, monitor.explain, monitor.report; `status`",
    "estimates": "monitor.estimate, monitor.report",
    "ledger": "ingest (all), train.label, score.plan, score.publish, annotate.choose, monitor.detect, "
    "monitor.estimate, monitor.decide, monitor.act, alerts; `status`, `decide`, `quarantine`, `roll-back`, `fall-back`",
    "runs": "monitor.decide; `cost`, `metrics`, `status`",
    "topics": "ingest.extract; `check`",
}


class Contract:
    """A contract of import-linter: which package is parted into floors, and which rooms stand on each."""

    def __init__(self, package: str, layers: list[str]) -> None:
        self.package = package
        self.floors = [[room.strip() for room in layer.split("|")] for layer in layers]


def contracts() -> list[Contract]:
    """The floors that pyproject.toml draws, from the roof to the ground."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return [Contract(one["containers"][0], one["layers"]) for one in settings if one["type"] == "layers"]


def purpose(module: str) -> str:
    """The first line of a module's docstring.

    >>> purpose("pipelines.errors")
    'Every error that Evergreen raises on purpose.'
    """
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0]


def floors() -> str:
    """A row per room, from the roof to the ground, in Markdown; rooms parted into floors of their own below it."""
    inner = {contract.package: contract for contract in contracts()}
    rows = ["| floor | room | what it is |", "| --- | --- | --- |"]
    for number, rooms in _numbered(inner["pipelines"]):
        for room in rooms:
            module = f"pipelines.{room}"
            rows.append(f"| {number} | `{_path(module)}` | {purpose(module)} |")
            rows += [
                f"| {number} | &emsp;`{_path(f'{module}.{part}')}` | {purpose(f'{module}.{part}')} |"
                for parts in (inner[module].floors if module in inner else [])
                for part in parts
            ]
    return "\n".join(rows)


def picture() -> str:
    """The rooms of pipelines/ and who imports whom, as a Mermaid flowchart.

    An import that follows from others (a imports b, b imports c, so a may lean on c) has no arrow.
    """
    contract = contracts()[0]
    rooms = [room for floor in contract.floors for room in floor]
    lines = ["```mermaid", "flowchart TB"]
    lines += [f"    {room}" for room in rooms]
    lines += [f"    {room} --> {other}" for room in rooms for other in rooms if other in _leans_on(room)]
    return "\n".join([*lines, "```"])


def table_users() -> str:
    """A row per table of the contract, in Markdown: which stages write it, and who reads it."""
    rows = ["| table | written by | read by |", "| --- | --- | --- |"]
    rows += [f"| `{table.name}` | {table.writer} | {READERS[table.name]} |" for table in TABLES.values()]
    return "\n".join(rows)


def _numbered(contract: Contract) -> list[tuple[int, list[str]]]:
    """Floors with their numbers: the ground is 0."""
    return list(zip(range(len(contract.floors) - 1, -1, -1), contract.floors, strict=True))


def _path(module: str) -> str:
    path = Path(*module.split("."))
    return f"{path}/" if (ROOT / path).is_dir() else f"{path}.py"


def _leans_on(room: str) -> set[str]:
    """The rooms that `room` imports, without those that one of these reaches anyway."""
    direct = _imports()[room]
    return {other for other in direct if not any(other in _reached(between) for between in direct - {other})}


@cache
def _reached(room: str) -> frozenset[str]:
    below = frozenset(_imports()[room])
    return below.union(*(_reached(other) for other in below))


@cache
def _imports() -> dict[str, set[str]]:
    """By room of pipelines/: the other rooms that its modules import, lazily too."""
    graph = grimp.build_graph("pipelines")
    imports: dict[str, set[str]] = {}
    for module in graph.modules - {"pipelines"}:
        room = module.split(".")[1]
        targets = {target.split(".")[1] for target in graph.find_modules_directly_imported_by(module) if "." in target}
        imports.setdefault(room, set()).update(targets - {room})
    return imports
