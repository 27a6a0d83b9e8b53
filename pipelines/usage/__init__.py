"""What tasks use, and what that costs: each try of a task is measured, noted on its machine, and a row of `runs`."""

from pipelines.usage.meter import About, Result, measured, measured_run
from pipelines.usage.tries import Outcome, Try

__all__ = ["About", "Outcome", "Result", "Try", "measured", "measured_run"]
