"""The DAG files that Airflow reads: one for each problem, read again when what it is made from has changed.

The files of dags/ make the DAGs of all problems. Read as they are, the edit of one problem.yaml has Airflow parse and
store the DAGs of all others too, and a task reads every problem.yaml before it runs. So each problem gets a DAG file of
its own, a few lines that call the files of dags/ for it alone. What else lies in dags/ is linked beside these.

DAGs come from problem.yaml and SQL files, whose edits leave the DAG file itself as it was. Airflow's own answer is to
read every file twice a minute, for ever. Here the processor looks at the dates of these files instead, each
`[dag_processor] refresh_interval`, and `min_file_process_interval` can be long.

So a file is read once after an edit, and that has to work. Airflow drops what it is asked for while it reads the same
file, and forgets a file that it has read and could not store; later it takes the DAGs of such a file for removed. Once
a minute Airflow's database is asked whether what was to be read has been, and Airflow for what has not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

from airflow import settings
from airflow.configuration import AIRFLOW_HOME
from airflow.dag_processing.bundles.local import LocalDagBundle
from airflow.models.dag import DagModel
from airflow.models.dagbag import DagPriorityParsingRequest
from airflow.models.errors import ParseImportError
from airflow.sdk import get_parsing_context
from airflow.utils.file import list_py_file_paths
from airflow.utils.session import create_session
from sqlalchemy import select

from include.problem_dags import FILES, PROBLEMS
from pipelines.problem_folders import place_faults, problem_places

Dates = dict[Path, tuple[int, int]]

PATIENCE = timedelta(minutes=1)
"""Until Airflow is asked once more for a file."""
OTHERS = "others"  # the folder of the bundle that links to the rest of dags/
DAG_FILE = '''"""The DAGs of one problem: its problem.yaml says what they are, the files of dags/ how they are made.

Airflow's DAG processor writes this file (include/bundle.py), and removes it when the problem is gone.
"""

from include.problem_dags import make_dags

make_dags({name!r})
'''
PLACE_FILE = '''"""No DAGs: an import error of Airflow for a place of EVERGREEN_PROBLEMS that has no problem.

Airflow's DAG processor writes this file (include/bundle.py), and removes it when the place has problems.
"""

from pipelines.errors import ConfigError

raise ConfigError({what!r}, where={where!r}, cure={cure!r})
'''


class DagsFolder(LocalDagBundle):
    """A folder with a DAG file for each problem.

    Args:
        path: where these files are kept; default: in `AIRFLOW_HOME`.
    """

    _dates: Mapping[str, Dates] | None = None
    _changes: Mapping[str, datetime] = {}
    """When each problem's file was new, or what it is made from had changed."""
    _looked = datetime.min.replace(tzinfo=UTC)
    """When it was last looked up what has been read."""

    def __init__(self, *, path: str | None = None, **options: Any) -> None:
        super().__init__(path=path or str(Path(AIRFLOW_HOME, "dags_of_problems")), **options)
        self._dags = Path(settings.DAGS_FOLDER)

    def initialize(self) -> None:
        """Write what is missing. A task needs its own problem's file alone."""
        names = set(problem_places())
        if task_dag := get_parsing_context().dag_id:
            names &= {task_dag.rpartition(".")[0]}
        self._write(names)
        super().initialize()

    def refresh(self) -> None:
        """The processor calls it each `refresh_interval`, the first time before it reads anything."""
        places, now = problem_places(), datetime.now(UTC)
        self._write(places)
        faults = _fault_files(places)
        for name, text in faults.items():
            (self.path / OTHERS / name).write_text(text)
        self._remove_all_but(places, faults)
        dates = self._look(places)
        changed = [] if self._dates is None else self._changed(self._dates, dates)
        changes = {_file(name): self._changes.get(_file(name), now) for name in places}
        changes |= {file: now for file in changed if file in changes}
        self._ask_for({*changed, *self._unread(changes, now)})
        self._dates, self._changes = dates, changes

    def _write(self, names: Iterable[str]) -> None:
        """The DAG file of each of these problems, and links to what else lies in dags/, where they are missing."""
        for folder in (PROBLEMS, OTHERS):
            (self.path / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            text = DAG_FILE.format(name=name)
            path = self.path / _file(name)
            if not (path.exists() and path.read_text() == text):
                # Tasks and the processor may write it at the same time.
                new = path.with_name(f"{path.name}.{os.getpid()}")
                new.write_text(text)
                new.replace(path)
        for path in self._others():
            link = self.path / OTHERS / path.name
            if not (link.is_symlink() and link.readlink() == path):
                link.unlink(missing_ok=True)
                with suppress(FileExistsError):  # a task has just made it
                    link.symlink_to(path)

    def _others(self) -> list[Path]:
        """What lies in dags/ and makes no DAGs of problems."""
        return [path for path in self._dags.iterdir() if path.stem not in {*FILES, "__pycache__"}]

    def _remove_all_but(self, names: Iterable[str], faults: Iterable[str]) -> None:
        wanted = {self.path / _file(name) for name in names}
        wanted |= {self.path / OTHERS / name for name in (*faults, *(path.name for path in self._others()))}
        for folder in (PROBLEMS, OTHERS):
            for path in (self.path / folder).iterdir():
                if path not in wanted and (path.suffix == ".py" or path.is_symlink()):
                    path.unlink(missing_ok=True)

    def _look(self, places: Mapping[str, list[Path]]) -> dict[str, Dates]:
        """Date and size of what each problem's DAG file is made from; under no name, of what all are made from."""
        dates = {"": _dates(self._dags.rglob("*.py"))}
        for name, folders in places.items():
            made_from = [path for folder in folders for path in (folder / "problem.yaml", *folder.glob("*.sql"))]
            dates[_file(name)] = _dates(made_from)
        return dates

    def _changed(self, before: Mapping[str, Dates], now: Mapping[str, Dates]) -> list[str]:
        """Files that are to be read again; one that is new is read anyway."""
        if before[""] != now[""]:
            return [str(Path(path).relative_to(self.path)) for path in list_py_file_paths(self.path)]
        return [file for file, dates in now.items() if file in before and before[file] != dates]

    def _unread(self, changes: Mapping[str, datetime], now: datetime) -> list[str]:
        """Problems' files, changed a while ago, of which Airflow has not stored what they say since."""
        if now - self._looked < PATIENCE:
            return []
        self._looked = now
        dags = select(
            DagModel.relative_fileloc, DagModel.last_parsed_time, DagModel.last_parse_duration, DagModel.is_stale
        )
        errors = select(ParseImportError.filename, ParseImportError.timestamp)
        with create_session() as session:
            parsed = session.execute(dags.where(DagModel.bundle_name == self.name)).all()
            refused = session.execute(errors.where(ParseImportError.bundle_name == self.name)).all()

        def is_new(file: str | None, at: datetime | None) -> bool:
            changed = changes.get(file or "")
            return changed is not None and at is not None and at >= changed

        read: set[str | None] = set()
        lost: set[str | None] = set()
        for file, ended, seconds, is_stale in parsed:
            if is_new(file, ended and ended - timedelta(seconds=seconds or 0)):
                # A DAG that this reading has found is not removed, whatever Airflow takes it for.
                (lost if is_stale else read).add(file)
        read = read - lost | {file for file, at in refused if is_new(file, at)}
        return [file for file, at in changes.items() if file not in read and now - at >= PATIENCE]

    def _ask_for(self, files: Iterable[str]) -> None:
        """Refused while a person's request for a file waits; then the next refresh asks again."""
        with create_session() as session:
            for file in files:
                session.add(DagPriorityParsingRequest(self.name, file))


def _fault_files(places: Mapping[str, list[Path]]) -> dict[str, str]:
    """A file for each place without problems; one that says something else has another name, and so is read."""
    texts = [PLACE_FILE.format(what=fault.what, where=fault.where, cure=fault.cure) for fault in place_faults(places)]
    return {f"place_{crc32(text.encode()):08x}.py": text for text in texts}


def _file(problem: str) -> str:
    return f"{PROBLEMS}/{problem}.py"


def _dates(paths: Iterable[Path]) -> Dates:
    dates = {}
    for path in paths:
        try:
            status = path.stat()
        except OSError:  # gone since it was listed
            continue
        dates[path] = status.st_mtime_ns, status.st_size
    return dates
