"""The command `evergreen check`: what is wrong with problems, and what is odd about their rows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli import completion
from pipelines.cli.arguments import AsJson
from pipelines.cli.exits import ExitCode
from pipelines.cli.progress import working
from pipelines.cli.terminal import console, escape, notices, print_json
from pipelines.embedded import load_environment
from pipelines.errors import ConfigError, EvergreenError
from pipelines.problem import load_problem, undeclared_table
from pipelines.problem_folders import DEFAULT, place_faults, problem_names

if TYPE_CHECKING:
    from pipelines.cli.results import CheckedProblem, Failure
    from pipelines.problem import Problem


def check(
    problems: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PROBLEM]...", help="default: all of them", autocompletion=completion.problems),
    ] = None,
    quick: Annotated[bool, typer.Option(help="look at config, SQL and headers alone")] = False,
    as_json: AsJson = False,
) -> None:
    """Validate each problem.yaml, its SQL and what its sources hold: keys, gaps, labels. Exits with 1 if any is wrong.

    XGBoost and scikit-learn are asked whether they take the candidates' parameters. Rows are read as an ingest of the
    whole history would read them, and nothing is kept.

    Example:
        evergreen check flight_delay
        evergreen check --quick
    """
    from pipelines.cli.results import Checked, Failure

    load_environment()
    names = problems or problem_names()
    faults = [] if problems else [Failure.of(fault) for fault in place_faults()]
    if not names and not faults:
        raise ConfigError("there are no problems", where=str(DEFAULT), cure="make one with `evergreen new`")
    if not as_json:
        for fault in faults:
            _show_fault("", fault)
    checked = []
    for number, name in enumerate(names, start=1):  # one problem that is wrong hides no other
        with working("checking", quiet=as_json, tells_steps=False) as work:
            work.step(name, number, len(names))
            result = _checked(name, quick, as_json)
        checked.append(result)
        if not as_json:
            _show(result)
    count = Counter(result.state for result in checked)
    if as_json:
        print_json(Checked(problems=checked, places=faults, ok=count["ok"], look=count["look"], wrong=count["wrong"]))
    else:
        without = f", {len(faults)} place{'s' * (len(faults) != 1)} without problems" if faults else ""
        console.print(f"{count['ok']} ok, {count['look']} to look at, {count['wrong']} wrong{without}")
    if count["wrong"] or faults:
        raise typer.Exit(ExitCode.WRONG)


def _checked(name: str, quick: bool, as_json: bool) -> CheckedProblem:
    """What there is to say of a problem, and whether it can be run."""
    from datetime import UTC, datetime

    from pipelines.cli.results import CheckedProblem, Failure, Remark
    from pipelines.ingest import look
    from pipelines.training.beyond_memory import engine_limits
    from pipelines.training.parameters import parameter_faults

    remarks: list[look.Remark] = []
    problem: Problem | None = None
    now = datetime.now(UTC)
    try:
        problem = load_problem(name)
        faults = [Failure.of(fault) for fault in look.check_sources(problem)]
        if not quick:
            faults += [Failure.of(fault) for fault in parameter_faults(problem)]
        remarks = [look.Remark("odd", limit) for limit in engine_limits(problem)]
        if not (faults or quick):
            come = look.come_so_far(problem)
            last = look.newest(problem, come, now)
            remarks += look.look(problem, last, come) if last else []
    except EvergreenError as error:
        faults = [Failure.of(error)]
        if not quick and (table := undeclared_table(name)):
            remarks = look.declaration(table, now)
    except Exception as error:  # of ours, and no reason to look at no other problem
        if not as_json:
            notices.print_exception(max_frames=8)
        what = f"a fault of Evergreen itself, not of your data: {error!r}"
        faults = [Failure(error="Fault", what=what, where="", next="report it")]
    levels = {remark.level for remark in remarks}
    is_wrong = bool(faults) or "wrong" in levels
    return CheckedProblem(
        problem=name,
        state="wrong" if is_wrong else "look" if "odd" in levels else "ok",
        features=len(problem.feature_names) if problem else None,
        candidates=len(problem.training.candidates) if problem else None,
        feature_set=problem.feature_set if problem else None,
        faults=faults,
        remarks=[Remark(level=remark.level, text=remark.text) for remark in remarks],
    )


def _show_fault(name: str, fault: Failure) -> None:
    error = EvergreenError(fault.what, where=fault.where, cure=fault.next)
    console.print(f"[bold red]wrong[/]  {name}{escape(str(error))}")


def _show(result: CheckedProblem) -> None:
    name = result.problem
    for fault in result.faults:
        _show_fault(f"{name}: ", fault)
    if result.state != "wrong":
        console.print(
            f"[green]ok[/]     {name}: {result.features} features, {result.candidates} candidates, "
            f"feature set {result.feature_set}"
        )
    marks = {"wrong": f"[bold red]wrong[/]  {name}: ", "odd": "[yellow]look[/]   ", "fact": "       "}
    for remark in result.remarks:
        console.print(f"{marks[remark.level]}{escape(remark.text)}", soft_wrap=True)
