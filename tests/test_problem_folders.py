"""Problems in several folders and packages."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pipelines.errors import ConfigError
from pipelines.problem import load_problem
from pipelines.problem_folders import (
    DEFAULT,
    folder_of,
    place_faults,
    problem_folders,
    problem_names,
    problem_places,
)
from pipelines.usage.prices import prices_file


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two folders, and a package none of whose modules must be run."""
    package = tmp_path / "site" / "kitchen_team" / "problems"
    for folder, name in ((tmp_path / "one", "kettle"), (tmp_path / "two", "oven"), (package, "fridge")):
        (folder / name).mkdir(parents=True)
        (folder / name / "problem.yaml").write_text("- no settings\n")
    for module in (package, package.parent):
        (module / "__init__.py").write_text("raise RuntimeError('run')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    named = [str(tmp_path / "one"), "package:kitchen_team.problems", str(tmp_path / "two")]
    monkeypatch.setenv("EVERGREEN_PROBLEMS", os.pathsep.join(named))
    return [tmp_path / "one", package, tmp_path / "two"]


def test_folders_and_packages_are_named_like_path(folders: list[Path]) -> None:
    assert problem_folders() == folders
    assert problem_names() == ["fridge", "kettle", "oven"]
    assert folder_of("fridge") == folders[1] / "fridge"
    assert folder_of("oven") == folders[2] / "oven"
    assert folder_of("new") == folders[0] / "new"
    assert "kitchen_team.problems" not in sys.modules


def test_a_name_that_is_there_twice_is_refused_with_both_places(folders: list[Path]) -> None:
    twice = folders[2] / "kettle"
    twice.mkdir()
    (twice / "problem.yaml").write_text("- no settings\n")
    assert problem_places()["kettle"] == [folders[0] / "kettle", twice]
    with pytest.raises(ConfigError, match="2 problems are named 'kettle'") as refused:
        load_problem("kettle")
    assert refused.value.where == f"{folders[0] / 'kettle'}, {twice}"
    with pytest.raises(ConfigError, match="expected settings"):
        load_problem("oven")


def test_a_folder_that_is_named_twice_is_one(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", f"{folders[0]}{os.pathsep}{folders[0]}/{os.pathsep}")
    assert problem_folders() == folders[:1]


@pytest.mark.parametrize("name", ["no_team.problems", "nothing", "json.decoder"])
def test_a_package_that_is_none_is_told_and_the_others_go_on(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", f"package:{name}{os.pathsep}{folders[0]}")
    assert problem_names() == ["kettle"]
    assert [fault.what.partition(": ")[2] for fault in place_faults()] == [
        f"there is no package {name!r} in this environment"
    ]
    monkeypatch.setenv("EVERGREEN_PROBLEMS", f"package:{name}")
    assert problem_names() == [], "and not those of Evergreen"
    with pytest.raises(ConfigError, match=f"there is no package {name!r}"):
        folder_of("kettle")


def test_a_place_without_problems_is_told_by_name_and_the_others_go_on(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bare").mkdir()
    named = ["/nope", str(folders[0]), "package:json", str(tmp_path / "bare"), "fraud,pricing"]
    monkeypatch.setenv("EVERGREEN_PROBLEMS", os.pathsep.join(named))
    assert problem_names() == ["kettle"]
    absent, package, bare, comma = place_faults()
    assert absent.what == "there is no folder '/nope'" and absent.where == "EVERGREEN_PROBLEMS"
    assert package.what.startswith("'package:json' holds no problem")
    assert bare.what.startswith(repr(str(tmp_path / "bare")))
    assert comma.what == "there is no folder 'fraud,pricing'"
    assert f"places are separated by {os.pathsep!r}" in comma.cure
    with pytest.raises(ConfigError, match="there is no problem 'fraud'") as refused:
        load_problem("fraud")
    assert "there is no folder '/nope'" in refused.value.cure


def test_a_folder_may_be_named_from_ones_home(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folders[0].parent))
    monkeypatch.setenv("EVERGREEN_PROBLEMS", "~/one")
    assert problem_folders() == folders[:1]


def test_a_folder_may_be_called_as_the_notation_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", f"/srv/package{os.pathsep}/srv/two")
    assert problem_folders() == [Path("/srv/package"), Path("/srv/two")]
    monkeypatch.setenv("EVERGREEN_PROBLEMS", "")
    assert problem_folders() == [DEFAULT]


def test_prices_are_those_of_the_first_folder_that_has_some(folders: list[Path]) -> None:
    assert prices_file() == folders[0] / "prices.yaml"
    (folders[2] / "prices.yaml").write_text("cpu_hour: 1\n")
    assert prices_file() == folders[2] / "prices.yaml"


def test_of_many_problems_some_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path))
    for number in range(23):
        (tmp_path / f"kettle_{number:02}").mkdir()
        (tmp_path / f"kettle_{number:02}" / "problem.yaml").touch()
    with pytest.raises(ConfigError, match=r"kettle_19 and 3 more; did you mean 'kettle_2\d'"):
        load_problem("kettle_2x")
