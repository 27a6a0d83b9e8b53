"""Swift's configuration files: four servers in one process, one device, no replication."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipelines.embedded.object_store.rings import SERVERS

ACCESS_KEY = "evergreen:evergreen"
REGION = "us-east-1"

# Swift's own limits are for a data centre, where a slow server is skipped and its update done later by a daemon.
# There is one of each server here and no daemon: on a busy machine an update is waited for instead, so that
# an object that was acknowledged is in the next listing.
PATIENCE = """\
conn_timeout = 20
node_timeout = 120
container_update_timeout = 120
"""

# Pieces in which a body goes from client to disk and back; Swift's 64 KiB cost a switch between green threads each.
CHUNKS = "".join(
    f"{name} = {2**20}\n"
    for name in ("client_chunk_size", "object_chunk_size", "network_chunk_size", "disk_chunk_size")
)

# The order matters: symlink in front of versioned_writes yields empty objects.
PROXY_PIPELINE = (
    "catch_errors gatekeeper healthcheck memory_cache listing_formats bulk create_once s3api tempauth "
    "copy slo dlo versioned_writes symlink proxy-server"
)

# Middleware of this folder; each keeps what it knows in the memory of the one proxy process.
OURS = ("memory_cache", "create_once")


def render(store: Path, host: str, port: int, secrets: Mapping[str, str], user: str) -> dict[str, str]:
    """The text of each file of the store's `etc` folder, by its name."""
    files = {"swift.conf": swift_conf(secrets["store_path_salt"])}
    for kind in SERVERS:
        files[f"{kind}.conf"] = backend_conf(kind, store, user)
    files["proxy.conf"] = proxy_conf(store, host, port, secrets["store_secret_key"], user)
    return files


def swift_conf(salt: str) -> str:
    """The salt decides where each object lies: with another one, none is found again."""
    return f"[swift-hash]\nswift_hash_path_suffix = {salt}\n\n[storage-policy:0]\nname = single\ndefault = yes\n"


def backend_conf(kind: str, store: Path, user: str) -> str:
    """An account, container or object server."""
    return f"""{_defaults(store, user)}\
devices = {store / "devices"}
mount_check = false

[pipeline:main]
pipeline = {kind}-server

[app:{kind}-server]
use = egg:swift#{kind}
log_requests = false
{PATIENCE}{CHUNKS}"""


def proxy_conf(store: Path, host: str, port: int, secret_key: str, user: str) -> str:
    """The server that clients talk to, by the S3 API; never more than one process (see OURS)."""
    plain = [name for name in PROXY_PIPELINE.split() if name not in (*OURS, "tempauth", "proxy-server")]
    ours = "\n".join(f"[filter:{name}]\npaste.filter_factory = {name}:filter_factory\n" for name in OURS)
    filters = "\n".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in plain)
    return f"""{_defaults(store, user)}\
bind_ip = {host}
bind_port = {port}
workers = 0
expose_info = false

[pipeline:main]
pipeline = {PROXY_PIPELINE}

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
error_suppression_limit = 1000000
{PATIENCE}{CHUNKS}
{ours}
[filter:tempauth]
use = egg:swift#tempauth
user_{ACCESS_KEY.replace(":", "_")} = {secret_key} .admin

{filters}"""


def _defaults(store: Path, user: str) -> str:
    return f"""[DEFAULT]
swift_dir = {store / "etc"}
user = {user}
log_level = WARNING
log_address = /nonexistent
disable_fallocate = true
"""
