"""Write the parts of the documentation that follow from the code; with --check, fail where they differ.

python -m docs.generate [--check]
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from benchmarks.loop import page as loop_page
from benchmarks.loop.records import Measured
from docs import architecture, commands, contract, settings
from pipelines.alerts import KINDS
from pipelines.ingest.sources import limits
from pipelines.problem import ROOT, Problem
from pipelines.stage_names import STAGES


def stages() -> str:
    """The DAGs, their stages and what each DAG's file says to operators, in Markdown."""
    parts = ["\n".join(f"- `<problem>.{dag}`: {' → '.join(names)}" for dag, names in STAGES.items())]
    for dag in STAGES:
        manual = ast.get_docstring(ast.parse((ROOT / "dags" / f"{dag}.py").read_text())) or ""
        parts.append(manual.replace("# ", "## ", 1))
    return "\n\n".join(parts)


def loop(direction: Literal["LR", "TB"]) -> str:
    """What leads to what, as a Mermaid flowchart from left to right or from top to bottom."""
    parts = {dag: "<br>".join(_lines(names)) for dag, names in STAGES.items()}
    return f"""```mermaid
flowchart {direction}
    S[(sources)] --> I[ingest<br>{parts["ingest"]}]
    I -- events --> P[score<br>{parts["score"]}]
    P -- predictions --> M[monitor<br>{parts["monitor"]}]
    M -- retrain_request --> T[train<br>{parts["train"]}]
    T -- challenger --> R[release<br>{parts["release"]}]
    R -- champion --> P
    P -- predictions --> R
    I -. bad rows .-> Q[(quarantine)]
    A[annotate<br>people · functions · a model] -. labels .-> T
    P -. S3 .-> O[(predictions)]
```"""


def _lines(stages: Sequence[str]) -> list[str]:
    """Stages in lines of four at most.

    >>> _lines(["label", "sample", "featurize", "check", "train"])
    ['label · sample · featurize · check ·', 'train']
    """
    lines = [" · ".join(stages[at : at + STAGES_A_LINE]) for at in range(0, len(stages), STAGES_A_LINE)]
    return [f"{line} ·" for line in lines[:-1]] + lines[-1:]


def targets() -> str:
    """The targets of the Makefile and what they do, in Markdown."""
    found = re.findall(r"^([a-z-]+):.*?## (.+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    return "\n".join(
        ["| target | what it does |", "| --- | --- |", *(f"| `make {name}` | {about} |" for name, about in found)]
    )


def alert_kinds() -> str:
    """The kinds of alerts, in Markdown."""
    rows = ["| kind | severity | when | linked page |", "| --- | --- | --- | --- |"]
    for kind, about in KINDS.items():
        rows.append(f"| `{kind}` | {about.severity} | {about.when} | {about.page or 'none'} |")
    return "\n".join(rows)


STAGES_A_LINE = 4  # of a box of the picture

# By page: what makes the text between `<!-- NAME: generated -->` and `<!-- /NAME -->`.
PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"picture": partial(loop, "LR")},
    "docs/index.md": {"picture": partial(loop, "TB")},
    "docs/alerts.md": {"kinds": alert_kinds},
    "docs/architecture.md": {
        "picture": architecture.picture,
        "floors": architecture.floors,
        "users": architecture.table_users,
    },
    "docs/metrics.md": {"families": contract.metric_families},
    "docs/reference/commands.md": {
        "commands": commands.table,
        "codes": commands.exit_codes,
        "results": commands.results,
        "targets": targets,
        "pages": commands.pages,
    },
    "docs/reference/environment.md": {"environment": contract.environment},
    "docs/reference/settings.md": {"settings": settings.pages},
    "docs/reference/stages.md": {"stages": stages},
    "docs/sources.md": {"limits": limits.table},
    "docs/reference/tables.md": {
        "tables": contract.tables,
        "kinds": contract.ledger_kinds,
        "files": contract.files,
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
