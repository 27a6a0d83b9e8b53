"""The command about monitoring's decisions: `evergreen decide`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli import completion
from pipelines.cli.arguments import AsJson, ProblemName
from pipelines.cli.progress import working
from pipelines.cli.terminal import console, escape, print_json
from pipelines.embedded import load_environment
from pipelines.errors import ConfigError
from pipelines.problem import Problem, load_problem

if TYPE_CHECKING:
    from pipelines.cli.results import Option
    from pipelines.config import Policy


def decide(
    problem_name: ProblemName,
    replay: Annotated[bool, typer.Option(help="play policies over the ingested history")] = False,
    first: Annotated[
        str | None,
        typer.Option(
            help="first partition to play; default: after replay's history", autocompletion=completion.partitions
        ),
    ] = None,
    last: Annotated[
        str | None,
        typer.Option(
            help="last partition to play; default: the newest with labels", autocompletion=completion.partitions
        ),
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="YAML with settings over monitoring.policy")] = None,
    candidate: Annotated[
        str | None,
        typer.Option(
            help="that is trained; default: the first that is no baseline and is boosted, or else the first",
            autocompletion=completion.candidates,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What monitoring decided, partition by partition; with --replay what other policies would have done, and cost.

    A replay fits models as of each partition (the first time; they are kept), without Airflow and without the registry.

    Example:
        evergreen decide flight_delay
        evergreen decide flight_delay --replay --first 2013-07-01
    """
    load_environment()
    problem = load_problem(problem_name)
    if replay:
        _replay(problem, first, last, _policy(problem, policy), candidate, as_json)
        return
    if policy or candidate:
        raise ConfigError("a policy is only tried in a replay", where="evergreen decide", cure="add --replay")
    _tell_ledger(problem, first, last, as_json)


def _replay(
    problem: Problem, first: str | None, last: str | None, policy: Policy, candidate: str | None, as_json: bool
) -> None:
    from pipelines.policies.history import History
    from pipelines.policies.played import with_policy
    from pipelines.policies.replay import COST_AWARE, compared, ranges
    from pipelines.policies.replay import replay as play
    from pipelines.policies.table import decisions, summary
    from pipelines.usage.trainings import priced

    if problem.partitions.by_delivery:
        raise ConfigError(
            "deliveries have no time to play again",
            where="evergreen decide --replay",
            cure="look at what was decided: leave out --replay; to compare policies cut rows by a time",
        )
    policy = priced(problem, policy)
    problem = with_policy(problem, policy)
    history = History(problem, _candidate(problem, candidate))
    begin, end = ranges(problem, history.partitions, first, last)
    with working(f"{problem.name}: playing", quiet=as_json) as work:
        outcomes = play(history, begin, end, compared(policy), work.step)
    rows, steps = summary(problem, outcomes), decisions(next(one for one in outcomes if one.policy == COST_AWARE))
    if as_json:
        from pipelines.cli.results import Replayed

        print_json(Replayed(policies=rows, decisions=steps))
        return
    played = [step["partition"] for step in steps]
    _print(f"{problem.name}, {played[0]} to {played[-1]}, candidate {history.candidate}", rows)
    # Only what was done, and the newest.
    names = ("partition", "verdict", "action", "outcome", "reason")
    acted = [{name: step[name] for name in names} for step in steps if step["action"] not in ("none", "alert")]
    if acted:
        _print("what the policy of problem.yaml did", acted)
    else:
        console.print("the policy of problem.yaml asked for nothing")


def _tell_ledger(problem: Problem, first: str | None, last: str | None, as_json: bool) -> None:
    from pipelines import ledger
    from pipelines.cli.results import Decision

    decided = [
        row
        for row in ledger.decisions(problem, "monitoring")
        if (first or "") <= row["partition"] and (last is None or row["partition"] <= last)
    ]
    rows = [
        Decision(
            partition=row["partition"],
            model_version=row["model_version"],
            verdict=row["verdict"],
            action=row["action"],
            reason=row["reason"],
            options=row["evidence"].get("options") or [],
        )
        for row in decided
    ]
    if as_json:
        print_json(rows)
        return
    if not rows:
        console.print("nothing was decided yet")
        return
    _print(f"{problem.name}: decisions", [{**dict(row), "options": _brief(row.options)} for row in rows])


def _brief(options: list[Option]) -> str:
    return "; ".join(
        f"{way.action} " + ("not measured" if way.gain is None else f"{way.gain:+.3f} for {way.cost:g}")
        for way in options
    )


def _candidate(problem: Problem, name: str | None) -> str:
    training = problem.training
    known = [one for one in training.candidates if one not in training.baselines]
    if name is None:
        return next((one for one in known if training.candidates[one].model == "xgboost"), known[0])
    if name not in training.candidates:
        raise ConfigError(f"{name!r} is not a candidate", where="--candidate", cure=f"one of {', '.join(known)}")
    return name


def _policy(problem: Problem, path: Path | None) -> Policy:
    """The problem's policy, with the file's settings over it."""
    import yaml
    from pydantic import ValidationError

    from pipelines.config import Policy

    if path is None:
        return problem.monitoring.policy
    try:
        changes = yaml.safe_load(path.read_text()) or {}
        return Policy.model_validate({**problem.monitoring.policy.model_dump(), **changes})
    except (OSError, yaml.YAMLError, TypeError, ValidationError) as error:
        raise ConfigError(
            f"no policy: {error}", where=str(path), cure="give settings as they stand under monitoring.policy"
        ) from error


def _print(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from pipelines.policies.table import shown

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(escape(shown(value)) for value in row.values()))
    console.print(table)
