"""The arguments and options that several commands take, and what completes them."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.cli import completion

ProblemName = Annotated[
    str,
    typer.Argument(
        help="name of a folder under include/problems", metavar="PROBLEM", autocompletion=completion.problems
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON and nothing else; an error too, on standard error")]
Reason = Annotated[str, typer.Option(help="why, for the ledger")]
