"""The full stack of docker-compose.yaml without Docker, on one machine."""

from pipelines.embedded.stack.runtime import Stack

__all__ = ["Stack"]
