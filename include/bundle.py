"""dags/ as the DAG processor sees it: a DAG file is read again when what it is made from has changed.

A DAG file makes its DAGs from problem.yaml and SQL files, whose edits leave the file itself as it was. Airflow's own
answer is to read every file twice a minute, for ever. Here the processor looks at the dates of a few files instead,
each `[dag_processor] refresh_interval`, and `min_file_process_interval` can be long.
"""

from __future__ import annotations

from pathlib import Path

from airflow.dag_processing.bundles.local import LocalDagBundle
from airflow.models.dagbag import DagPriorityParsingRequest
from airflow.utils.file import list_py_file_paths
from airflow.utils.session import create_session

from pipelines.problem import problems_folder

Dates = dict[Path, tuple[int, int]]


class DagsFolder(LocalDagBundle):
    """Asks for all of its files to be read when a problem or a Python file has changed, come or gone."""

    _dates: Dates | None = None

    def refresh(self) -> None:
        """The processor calls it each `refresh_interval`, the first time before it reads anything."""
        dates = self._look()
        if self._dates not in (None, dates):
            with create_session() as session:
                for path in list_py_file_paths(self.path):
                    # Refused while a person's request for the file waits; then the next refresh asks again.
                    session.add(DagPriorityParsingRequest(self.name, str(Path(path).relative_to(self.path))))
        self._dates = dates

    def _look(self) -> Dates:
        """Date and size of what DAG files are made from."""
        problems = problems_folder()
        paths = [*self.path.rglob("*.py"), *problems.glob("*/problem.yaml"), *problems.glob("*/*.sql")]
        dates = {}
        for path in paths:
            try:
                status = path.stat()
            except OSError:  # gone since it was listed
                continue
            dates[path] = status.st_mtime_ns, status.st_size
        return dates
