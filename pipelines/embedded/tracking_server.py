"""MLflow's server in one process: `python -m pipelines.embedded.tracking_server` takes what `mlflow server` takes.

`mlflow server` prepares its databases, starts uvicorn as a child and from then on only waits for it, while it keeps all
that it has imported. Here it becomes that child: half the memory, and half the CPU of a start. What it serves is
MLflow behind a gate that lets tracking and the registry through (`pipelines.embedded.tracking_gate`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

SERVED_BY_MLFLOW = "mlflow.server.auth:create_app"


def become(command: Sequence[str], extra_env: Mapping[str, str], **_options: object) -> None:
    """Run the command `python -m uvicorn ...` in this process, until it ends."""
    import uvicorn

    os.environ.update(extra_env)
    options = command[command.index("uvicorn") + 1 : -1]
    if command[-1] != SERVED_BY_MLFLOW or "--factory" not in options:
        raise SystemExit(
            f"error: this MLflow serves {command[-1]}; `--app-name basic-auth` is what can be put behind the gate"
        )
    uvicorn.main.main(args=[*options, "pipelines.embedded.tracking_gate:create_app"], prog_name="uvicorn")


def main() -> None:
    """Run the server that the command line describes, until it ends."""
    import mlflow.server
    from mlflow.cli import cli

    mlflow.server._exec_cmd = become
    cli.main(args=["server", *sys.argv[1:]], prog_name="mlflow")


if __name__ == "__main__":
    main()
