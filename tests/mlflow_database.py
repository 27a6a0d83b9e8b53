"""An empty MLflow database for a test: MLflow takes seven seconds to make one, and a copy takes none."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path


def mlflow_in(folder: Path) -> str:
    """Address of an empty database in `folder`, for MLFLOW_TRACKING_URI."""
    database = folder / "mlflow.db"
    shutil.copyfile(_empty(), database)
    return f"sqlite:///{database}"


@cache
def _empty() -> Path:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    folder = Path(tempfile.mkdtemp(prefix="evergreen-mlflow-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    SqlAlchemyStore(f"sqlite:///{folder}/mlflow.db", (folder / "artifacts").as_uri()).engine.dispose()
    return folder / "mlflow.db"
