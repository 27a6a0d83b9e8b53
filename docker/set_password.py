"""Sets the admin's password for Airflow's UI; the passwords of others, which Airflow has made, stay in their file."""

from __future__ import annotations

import os
from pathlib import Path

from pipelines.embedded.orchestrator import set_password

set_password(
    Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]), os.environ["EVERGREEN_AIRFLOW_PASSWORD"]
)
