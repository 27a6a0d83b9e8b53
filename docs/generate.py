"""Write the parts of the documentation that follow from the code; with --check, fail where they differ.

python -m docs.generate [--check]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pipelines.artifacts import FILES, TABLES
from pipelines.local_run import STAGES
from pipelines.problem import ROOT, Problem


def tables() -> str:
    """The contract's tables, in Markdown."""
    rows = ["| table | one row per | written by | columns |", "| --- | --- | --- | --- |"]
    for table in TABLES.values():
        more = {"events": ", what problem.yaml declares", "features": ", the features"}.get(table.name, "")
        key = "the key, " if table.keyed else ""
        names = ", ".join(f"`{field.name}`" for field in table.fields)
        rows.append(f"| `{table.name}` | {table.grain} | {table.writer} | {key}{names}{more} |")
    rows += ["", "| file | what it is |", "| --- | --- |", *(f"| `{name}` | {what} |" for name, what in FILES.items())]
    return "\n".join(rows)


def stages() -> str:
    """The DAGs and their stages, in Markdown."""
    return "\n".join(f"- `<problem>.{dag}`: {' → '.join(names)}" for dag, names in STAGES.items())


def outputs() -> dict[Path, str]:
    """What each generated file should hold."""
    readme = ROOT / "README.md"
    text = readme.read_text()
    for name, content in (("tables", tables()), ("stages", stages())):
        before, begin, rest = text.partition(f"<!-- {name}: generated -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        text = f"{before}{begin}{content}\n{end}{after}"
    schema = json.dumps(Problem.model_json_schema(), indent=1) + "\n"
    return {readme: text, ROOT / "include" / "problems" / "problem.schema.json": schema}


def main() -> int:
    stale = [path for path, text in outputs().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date: run `python -m docs.generate`", file=sys.stderr)
        return bool(stale)
    for path, text in outputs().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
