"""Write the parts of the documentation that follow from the code; with --check, fail where they differ.

python -m docs.generate [--check]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.loop import page as loop_page
from benchmarks.loop.records import Measured
from docs import architecture, commands
from pipelines.alerts import KINDS
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


def alert_kinds() -> str:
    """The kinds of alerts, in Markdown."""
    rows = ["| kind | severity | when | linked page |", "| --- | --- | --- | --- |"]
    for kind, about in KINDS.items():
        rows.append(f"| `{kind}` | {about.severity} | {about.when} | {about.page or 'none'} |")
    return "\n".join(rows)


# By page: what makes the text between `<!-- NAME: generated -->` and `<!-- /NAME -->`.
PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"tables": tables, "stages": stages, "commands": commands.table},
    "docs/alerts.md": {"kinds": alert_kinds},
    "docs/architecture.md": {
        "picture": architecture.picture,
        "floors": architecture.floors,
        "users": architecture.table_users,
    },
}


def filled(text: str, name: str, content: str) -> str:
    """The text with `content` between the marks of `name`.

    >>> filled("a\\n<!-- x: generated -->\\nold\\n<!-- /x -->", "x", "new")
    'a\\n<!-- x: generated -->\\nnew\\n<!-- /x -->'
    """
    before, begin, rest = text.partition(f"<!-- {name}: generated -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not (begin and end):
        raise ValueError(
            f"the marks of the part {name!r} are missing: `<!-- {name}: generated -->`, `<!-- /{name} -->`"
        )
    return f"{before}{begin}{content}\n{end}{after}"


def outputs() -> dict[Path, str]:
    """What each generated file should hold."""
    schema = json.dumps(Problem.model_json_schema(), indent=1) + "\n"
    measured = Measured.model_validate_json(loop_page.MEASURED.read_text())
    texts = {
        ROOT / "include" / "problems" / "problem.schema.json": schema,
        ROOT / "docs" / "measurements" / "loop.md": loop_page.page(measured),
    }
    for page, parts in PARTS.items():
        text = (ROOT / page).read_text()
        for name, make in parts.items():
            text = filled(text, name, make())
        texts[ROOT / page] = text
    return texts


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
