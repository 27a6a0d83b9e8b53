"""The commands that keep Evergreen in order: `evergreen doctor`, `vacuum`, `backup` and `restore`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli import completion
from pipelines.cli.arguments import AsJson, ProblemName
from pipelines.cli.exits import ExitCode
from pipelines.cli.progress import working
from pipelines.cli.terminal import console, escape, print_json
from pipelines.embedded import default_home, load_environment
from pipelines.problem import load_problem
from pipelines.problem_folders import problem_names

if TYPE_CHECKING:
    from pipelines.cli.results import Examined, Vacuumed
    from pipelines.embedded.backup import Kept

UNITS = ("B", "kB", "MB", "GB", "TB")


def doctor(
    problems: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PROBLEM]...", help="default: all of them", autocompletion=completion.problems),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="read no models and no training rows")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what is out of step: services, their folder, tables, manifests, ledger, versions; and the cure of each.

    Nothing is written, but what this machine has noted of the use of tasks (`evergreen cost`). What needs a service
    that is down is left out, and said to be: exits with 1 if anything is out of step, with 4 if not all could be looked
    at.

    Example:
        evergreen doctor
        evergreen doctor flight_delay --json
    """
    import time

    from pipelines.cli.results import Examined, Found, NotLookedAt
    from pipelines.maintenance.doctor import examine
    from pipelines.maintenance.finding import Finding

    load_environment()
    names, findings, unchecked = problems or problem_names(), [], []
    with working("looking", quiet=as_json, tells_steps=False) as work:
        for problem, said in examine(names, default_home(), time.time(), work.step, is_quick=quick):
            if isinstance(said, Finding):
                place = {"problem": problem or None, "where": said.where}
                findings.append(Found(name=said.name, what=said.what, next=said.cure, **place))
            else:
                unchecked.append(NotLookedAt(where=said.where, what=said.what, next=said.cure))
    result = Examined(findings=findings, unchecked=unchecked)
    if as_json:
        print_json(result)
    else:
        _show_examined(result, len(names))
    if findings or unchecked:
        raise typer.Exit(ExitCode.WRONG if findings else ExitCode.TRY_AGAIN)


def _show_examined(result: Examined, problems: int) -> None:
    for finding in result.findings:
        of_problem = f"{finding.problem}: " if finding.problem else ""
        console.print(f"[bold red]{finding.name}[/]  {escape(of_problem + finding.what)}", soft_wrap=True)
        console.print(f"  where: {escape(finding.where)}\n  next:  {escape(finding.next)}", soft_wrap=True)
    for skipped in result.unchecked:
        console.print(f"[yellow]not looked at[/]  {escape(skipped.what)}", soft_wrap=True)
        console.print(f"  where: {escape(skipped.where)}\n  next:  {escape(skipped.next)}", soft_wrap=True)
    if result.findings:
        console.print(f"{len(result.findings)} out of step")
    elif result.unchecked:
        console.print("nothing is out of step, as far as could be looked at")
    else:
        looked_at = f"services, their folder, and {problems} problem{'s' * (problems != 1)}"
        console.print(f"[green]nothing is out of step[/]: {looked_at}")


def vacuum(
    problem_name: ProblemName,
    older_than: Annotated[int, typer.Option(min=1, help="days; nothing that is younger goes")] = 30,
    reports: Annotated[int | None, typer.Option(min=1, help="days; pages that are older go too; default: all stay")] = (
        None
    ),
    runs: Annotated[
        int | None,
        typer.Option(min=1, help="days; what tasks used in months that ended earlier goes too; default: all stays"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would go, and let it stay")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete what nobody needs any more: old table files, staging of runs that are gone, candidates' files, trials.

    What a registered version rests on stays, so that it can be made again: the versions of tables that its lineage
    names, and the files of its own model, of those it went on from and of its baselines.

    Example:
        evergreen vacuum flight_delay --dry-run
        evergreen vacuum flight_delay --older-than 60 --reports 365
    """
    import time
    from datetime import timedelta

    from pipelines.cli.results import Leftover, Vacuumed
    from pipelines.maintenance.vacuum import leftovers

    load_environment()
    problem = load_problem(problem_name)
    pages, used = (None if days is None else timedelta(days=days) for days in (reports, runs))
    gone = []
    with working(f"{problem_name}: looking for what nobody needs", quiet=as_json, tells_steps=False) as work:
        for leftover in leftovers(problem, time.time(), timedelta(days=older_than), pages, used):
            work.step(leftover.where)
            if not dry_run:
                leftover.remove()
            fields = leftover._asdict()
            gone.append(Leftover.model_validate({name: fields[name] for name in Leftover.model_fields}))
    files, size = (sum(getattr(leftover, name) for leftover in gone) for name in ("files", "bytes"))
    result = Vacuumed(problem=problem_name, dry_run=dry_run, leftovers=gone, files=files, bytes=size)
    if as_json:
        print_json(result)
    else:
        _show_vacuumed(result)


def _show_vacuumed(result: Vacuumed) -> None:
    for leftover in result.leftovers:
        amount = f"{leftover.files:>6,} files {in_units(leftover.bytes):>9}" if leftover.files else " " * 22
        console.print(f"{leftover.kind:<14} {amount}  {escape(leftover.where)}", soft_wrap=True)
        console.print(f"[dim]{'':<39}{escape(leftover.reason)}[/]", soft_wrap=True)
    if not result.leftovers:
        console.print("nothing that could go")
        return
    what = "would go; without --dry-run it does" if result.dry_run else "are gone"
    console.print(f"{result.files:,} files, {in_units(result.bytes)}, {what}")


def backup(
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="file to write; one that exists is left alone")],
    as_json: AsJson = False,
) -> None:
    """Write the embedded services' folder to one file, with all data, models, history and passwords.

    The services have to be down (`evergreen down`). Only you can read the file, and it holds secrets.

    Example:
        evergreen backup /backup/evergreen.tar
    """
    from pipelines.embedded.backup import back_up

    home = default_home()
    with working(f"backing up {home}", quiet=as_json, tells_steps=False) as work:
        kept = back_up(home, archive, work.step)
    _tell_archive(home, archive, kept, "it holds the passwords too: keep it where nobody else reads", as_json)


def restore(
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="file that `evergreen backup` has written")],
    as_json: AsJson = False,
) -> None:
    """Make the embedded services' folder again from a backup; EVERGREEN_HOME says where, and must be empty.

    Every file is held against its SHA-256: of a damaged backup nothing is restored, and the damage is named.

    Example:
        evergreen restore /backup/evergreen.tar
    """
    from pipelines.embedded.backup import restore as unpack

    home = default_home()
    with working(f"restoring {home}", quiet=as_json, tells_steps=False) as work:
        kept = unpack(archive, home, work.step)
    _tell_archive(home, archive, kept, "every file is as it was; `evergreen up` goes on with it", as_json)


def _tell_archive(home: Path, archive: Path, kept: Kept, word: str, as_json: bool) -> None:
    if as_json:
        from pipelines.cli.results import Archive

        print_json(Archive(home=str(home), file=str(archive), **kept._asdict()))
        return
    console.print(f"{escape(str(home))}: {kept.files:,} files, {in_units(kept.bytes)}; {word}", soft_wrap=True)


def in_units(size: float) -> str:
    """
    >>> in_units(0), in_units(2_500_000)
    ('0 B', '2.5 MB')
    """
    for unit in UNITS:
        if size < 1000 or unit == UNITS[-1]:
            break
        size /= 1000
    return f"{size:,.1f} {unit}" if unit != "B" else f"{size:.0f} B"
