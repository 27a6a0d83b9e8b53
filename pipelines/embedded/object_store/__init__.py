"""A real S3 server on one machine: OpenStack Swift with s3api, one process in a Python environment of its own.

Objects are files under `object_store/devices`; they outlive restarts and kills. Linux only, since Swift keeps an
object's metadata in extended attributes of its file.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Mapping
from pathlib import Path

from pipelines.embedded.object_store.attributes import refuse_without_attributes
from pipelines.embedded.object_store.configure import ACCESS_KEY, REGION, render
from pipelines.embedded.object_store.installation import install
from pipelines.embedded.object_store.rings import SERVERS
from pipelines.embedded.processes.health import answers
from pipelines.embedded.processes.home import write_private
from pipelines.embedded.processes.ports import HOST
from pipelines.embedded.processes.supervisor import Progress, Service, Supervisor
from pipelines.errors import ServiceUnavailable

__all__ = ["ACCESS_KEY", "client_environment", "refuse_without_attributes", "start", "why_not"]

BUCKETS = ("evergreen", "mlflow")

# What runs in the environment of the object store: modules that import each other by their bare names.
SCRIPTS = Path(__file__).parent


def why_not(store: Path) -> str | None:
    """The reason why this machine or folder cannot hold a Swift; None when it can."""
    if not sys.platform.startswith("linux"):
        return f"it runs on Linux only, and this is {sys.platform}"
    if "%" in str(store):
        return f"its configuration cannot name a folder with a % in it: {store}"
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return f"user id {os.geteuid()} has no name on this machine"
    probe = store / "probe"
    try:
        probe.touch()
        os.setxattr(probe, "user.evergreen", b"1")
    except OSError as error:
        return f"the file system of {store} keeps no extended attributes ({error.strerror})"
    finally:
        probe.unlink(missing_ok=True)
    return None


def client_environment(port: int, secrets: Mapping[str, str]) -> dict[str, str]:
    """What an S3 client needs to use the store."""
    return {
        "EVERGREEN_STORE_URI": f"s3://{BUCKETS[0]}",
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": secrets["store_secret_key"],
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ALLOW_HTTP": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def start(supervisor: Supervisor, home: Path, port: int, secrets: Mapping[str, str], progress: Progress) -> None:
    """Install if need be, start the server, and make the buckets.

    Raises:
        ConfigError, ServiceUnavailable: as `install` and `Supervisor.start` do.
    """
    argv, environment = server(supervisor, home / "object_store", HOST, port, secrets, progress)
    supervisor.start(Service("object_store", argv, environment, lambda _: answers(port, "/healthcheck")))
    make_buckets(port, secrets)
    progress(f"object store: ready on http://{HOST}:{port}")


def server(
    supervisor: Supervisor, store: Path, host: str, port: int, secrets: Mapping[str, str], progress: Progress
) -> tuple[list[str], dict[str, str]]:
    """What runs the server, and its environment, once it is installed and configured.

    Raises:
        ConfigError, ServiceUnavailable: as `install` does.
    """
    install(supervisor, store / "venv", progress)
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": str(SCRIPTS),
        "EVENTLET_NO_GREENDNS": "yes",  # it looks up no names, and what would takes a third of its start
    }
    configure(supervisor, store, host, port, secrets, environment)
    return [str(store / "venv/bin/python"), str(SCRIPTS / "serve.py"), str(store / "etc")], environment


def configure(
    supervisor: Supervisor,
    store: Path,
    host: str,
    port: int,
    secrets: Mapping[str, str],
    environment: Mapping[str, str],
) -> None:
    """Write the configuration, and the rings where they are not yet there or name other servers."""
    etc = store / "etc"
    for folder in (etc, store / "devices" / "d1"):
        folder.mkdir(parents=True, exist_ok=True)
    for name, text in render(store, host, port, secrets, pwd.getpwuid(os.geteuid()).pw_name).items():
        write_private(etc / name, text)
    wanted, written = " ".join(map(str, SERVERS.values())), etc / "rings"
    if not written.exists() or written.read_text() != wanted:
        rings = [str(store / "venv/bin/python"), str(SCRIPTS / "rings.py"), str(etc)]
        supervisor.run("object_store_rings", rings, environment)
        written.write_text(wanted)


def make_buckets(port: int, secrets: Mapping[str, str]) -> None:
    """Make the buckets; one that is there is left as it is. It also proves that the store takes our keys."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client(
        "s3",
        endpoint_url=f"http://{HOST}:{port}",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=secrets["store_secret_key"],
        region_name=REGION,
        config=Config(proxies={}),
    )
    try:
        known = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
        for bucket in set(BUCKETS) - known:
            client.create_bucket(Bucket=bucket)
    except (BotoCoreError, ClientError) as error:
        raise ServiceUnavailable(
            f"the object store runs, but does not take our keys or make a bucket: {error}",
            where=f"http://{HOST}:{port}",
            cure="read object_store.log in the logs folder; the next start tries again",
        ) from error
