"""Monitoring is tested on the rows and the reference that profiles are tested on."""

from tests.profiles.conftest import rows, trained, training

__all__ = ["rows", "trained", "training"]
