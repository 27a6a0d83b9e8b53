"""The embedded default: Airflow, MLflow and an S3 server on one machine, without Docker or root.

Everything listens on loopback, is reached with secrets made at first start, and keeps its state in one folder.
"""

from pipelines.embedded.processes.home import default_home, load_environment
from pipelines.embedded.processes.services import stop_running
from pipelines.embedded.runtime import Embedded, Endpoint

__all__ = ["Embedded", "Endpoint", "default_home", "load_environment", "stop_running"]
