"""Writes .env, with a fresh secret for each that docker-compose.yaml asks for. Never replaces one that is there.

python3 docker/make_env.py [FILE]
"""

from __future__ import annotations

import argparse
import base64
import os
import secrets
import sys
from pathlib import Path

SECRETS = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY", "AIRFLOW_PASSWORD",
           "AIRFLOW_API_KEY", "AIRFLOW_JWT_SECRET", "MLFLOW_PASSWORD", "MLFLOW_FLASK_KEY")  # fmt: skip

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument(
    "file",
    nargs="?",
    type=Path,
    default=Path(__file__).resolve().parent.parent / ".env",
    help="default: .env beside docker-compose.yaml, which git ignores",
)
PATH = parser.parse_args().file

try:
    descriptor = os.open(PATH, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
except FileExistsError:
    sys.exit(f"error: {PATH} is there already, and the stack's data is locked with it. Move it away for a new stack.")
with os.fdopen(descriptor, "w") as file:
    file.write(f"FERNET_KEY={base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()}\n")
    file.writelines(f"{name}={secrets.token_hex(32)}\n" for name in SECRETS)
