"""Sources: files that an installed Python package carries, read to Arrow."""

from __future__ import annotations

import importlib.metadata
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.csv as csv

from pipelines.config import Source
from pipelines.errors import ConfigError, DataError
from pipelines.problem import Problem


def read_sources(problem: Problem) -> dict[str, pa.Table]:
    """Every declared source, by name, types inferred from the files.

    Raises:
        ConfigError: a package is not installed, or carries no such file.
        DataError: a file is no readable CSV.
    """
    return {name: _read(name, source, problem) for name, source in problem.sources.items()}


def _read(name: str, source: Source, problem: Problem) -> pa.Table:
    where = f"{problem.folder / 'problem.yaml'}, sources.{name}"
    try:
        package = importlib.metadata.distribution(source.package)
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigError(
            f"package {source.package!r} is not installed",
            where=where,
            cure=f"add it to pyproject.toml, or correct sources.{name}.package",
        ) from error
    path = Path(str(package.locate_file(source.file)))
    if not path.is_file():
        raise ConfigError(
            f"package {source.package!r} carries no file {source.file!r}",
            where=where,
            cure=f"correct sources.{name}.file",
        )
    try:
        with ExitStack() as stack:
            stream: IO[bytes] = stack.enter_context(path.open("rb"))
            if path.suffix == ".zip":
                archive = stack.enter_context(zipfile.ZipFile(stream))
                (member,) = archive.namelist()
                stream = stack.enter_context(archive.open(member))
            return csv.read_csv(stream)
    except (pa.ArrowInvalid, zipfile.BadZipFile, ValueError) as error:
        raise DataError(f"not a readable CSV: {error}", where=str(path), cure="replace the file") from error
