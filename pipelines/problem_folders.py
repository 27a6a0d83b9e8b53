"""Where problems lie: each in a folder of its own, which lies in one of the folders or packages that
`EVERGREEN_PROBLEMS` names.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from pipelines.errors import ConfigError

DEFAULT = Path(__file__).resolve().parent.parent / "include" / "problems"
VARIABLE = "EVERGREEN_PROBLEMS"
PROBLEM_FILES = "*/problem.yaml"
PACKAGE = "package:"
ENTRIES = re.compile(rf"{PACKAGE}[\w.]+(?={os.pathsep}|$)|[^{os.pathsep}]+")


def problem_folders() -> list[Path]:
    """Folders that hold a folder for each problem, each once: as `EVERGREEN_PROBLEMS` names them, like PATH.

    `package:fraud.problems` names the folder of an installed package, none of whose modules is run. A package that is
    not installed has no folder; `place_faults` says so.
    """
    named = _named_places()
    folders: dict[Path, Path] = {}
    for folder in chain.from_iterable(named.values()):
        folders.setdefault(folder.resolve(), folder)
    return list(folders.values()) if named else [DEFAULT]


def places_for_others() -> dict[str, str]:
    """`EVERGREEN_PROBLEMS` as processes in other folders understand it; empty where it is not set."""
    places = [
        entry if entry.startswith(PACKAGE) else str(folders[0].absolute()) for entry, folders in _named_places().items()
    ]
    return {VARIABLE: os.pathsep.join(places)} if places else {}


def place_faults(found: Mapping[str, list[Path]] | None = None) -> list[ConfigError]:
    """What is wrong with each place that `EVERGREEN_PROBLEMS` names and that holds no problem; others go on.

    found: what `problem_places` has just found, so that the places are not gone through once more.
    """
    problems = chain.from_iterable((problem_places() if found is None else found).values())
    holding = {problem.parent.resolve() for problem in problems}
    return [
        _fault(entry, folders)
        for entry, folders in _named_places().items()
        if holding.isdisjoint(folder.resolve() for folder in folders)
    ]


def problem_places() -> Mapping[str, list[Path]]:
    """Every problem by its name, which is its folder's, sorted: one folder, or several that have the same name."""
    places = defaultdict(list)
    for folder in problem_folders():
        for path in folder.glob(PROBLEM_FILES):
            places[path.parent.name].append(path.parent)
    return dict(sorted(places.items()))


def problem_names() -> list[str]:
    return list(problem_places())


def folder_of(name: str) -> Path:
    """The folder of a problem; where there is none of this name, the one that it would be made in.

    Raises:
        ConfigError: two problems have this name, or no package that `EVERGREEN_PROBLEMS` names is installed.
    """
    folders = problem_folders()
    if not folders:
        raise place_faults()[0]
    places = [folder / name for folder in folders if (folder / name / "problem.yaml").exists()]
    if len(places) > 1:
        raise ConfigError(
            f"{len(places)} problems are named {name!r}, and their tables, models and DAGs would be the same",
            where=", ".join(str(place) for place in places),
            cure="rename the newer one's folder, or leave one out of EVERGREEN_PROBLEMS; the name is that of tables, "
            "experiment and versions: a problem that is renamed begins without them",
        )
    return places[0] if places else folders[0] / name


def _named_places() -> dict[str, list[Path]]:
    """What `EVERGREEN_PROBLEMS` names -> its folders, there or not: those of a package, or one."""
    named = {}
    for entry in ENTRIES.findall(os.environ.get(VARIABLE, "")):
        is_package = entry.startswith(PACKAGE)
        named[entry] = _of_package(entry.removeprefix(PACKAGE)) if is_package else [Path(entry).expanduser()]
    return named


def _of_package(name: str) -> list[Path]:
    """A package's folders; none where it is not installed. Of its parents too no module is run."""
    top, *parts = name.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        spec = None
    folders = [Path(location) for location in (spec and spec.submodule_search_locations) or ()]
    for part in parts:
        folders = [folder / part for folder in folders if (folder / part).is_dir()]
        regular = [folder for folder in folders if (folder / "__init__.py").exists()]
        folders = regular[:1] or folders
    return folders


def _fault(entry: str, folders: Sequence[Path]) -> ConfigError:
    if not folders:
        what = f"{entry}: there is no package {entry.removeprefix(PACKAGE)!r} in this environment"
        cure = "install it in the environment of every Airflow component, or correct its name"
    elif not any(folder.is_dir() for folder in folders):
        what = f"there is no folder {entry!r}"
        cure = "bring it back, or correct its name" + (
            f"; places are separated by {os.pathsep!r}" if "," in entry or ";" in entry else ""
        )
    else:
        what = f"{entry!r} holds no problem: no folder in it has a problem.yaml"
        cure = "name the folder in which problems' folders lie, or make one there with `evergreen new`"
    return ConfigError(what, where=VARIABLE, cure=f"{cure}; or leave it out")
