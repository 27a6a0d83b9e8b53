"""Where problems lie: each in a folder of its own, which lies in one of the folders or packages that
`EVERGREEN_PROBLEMS` names.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from pipelines.errors import ConfigError

DEFAULT = Path(__file__).resolve().parent.parent / "include" / "problems"
PACKAGE = "package:"
ENTRIES = re.compile(rf"{PACKAGE}[\w.]+(?={os.pathsep}|$)|[^{os.pathsep}]+")


def problem_folders() -> list[Path]:
    """Folders that hold a folder for each problem, each once: as `EVERGREEN_PROBLEMS` names them, like PATH.

    `package:fraud.problems` names the folder of an installed package.

    Raises:
        ConfigError: a package is not installed.
    """
    folders: dict[Path, Path] = {}
    for entry in ENTRIES.findall(os.environ.get("EVERGREEN_PROBLEMS", "")):
        is_package = entry.startswith(PACKAGE)
        for folder in _of_package(entry.removeprefix(PACKAGE)) if is_package else [Path(entry)]:
            folders.setdefault(folder.resolve(), folder)
    return list(folders.values()) or [DEFAULT]


def problem_places() -> Mapping[str, list[Path]]:
    """Every problem by its name, which is its folder's, sorted: one folder, or several that have the same name."""
    places = defaultdict(list)
    for folder in problem_folders():
        for path in folder.glob("*/problem.yaml"):
            places[path.parent.name].append(path.parent)
    return dict(sorted(places.items()))


def problem_names() -> list[str]:
    return list(problem_places())


def folder_of(name: str) -> Path:
    """The folder of a problem; where there is none of this name, the one that it would be made in.

    Raises:
        ConfigError: two problems have this name.
    """
    folders = problem_folders()
    places = [folder / name for folder in folders if (folder / name / "problem.yaml").exists()]
    if len(places) > 1:
        raise ConfigError(
            f"{len(places)} problems are named {name!r}, and their tables, models and DAGs would be the same",
            where=", ".join(str(place) for place in places),
            cure="rename all but one of these folders, or leave one out of EVERGREEN_PROBLEMS",
        )
    return places[0] if places else folders[0] / name


def _of_package(name: str) -> list[Path]:
    try:
        spec = find_spec(name)
    except ImportError:
        spec = None
    if spec is None or spec.submodule_search_locations is None:
        raise ConfigError(
            f"{PACKAGE}{name}: there is no package {name!r} in this environment",
            where="EVERGREEN_PROBLEMS",
            cure="install it in the environment of every Airflow component, or correct its name",
        )
    return [Path(location) for location in spec.submodule_search_locations]
