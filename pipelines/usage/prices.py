"""What a machine costs: one file for the whole project, `prices.yaml` beside the problems' folders.

Where problems lie in several folders, it is the first that there is.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from pipelines.config.base import Config
from pipelines.errors import ConfigError
from pipelines.problem_folders import problem_folders
from pipelines.usage.tries import Try

GIB = 2**30
HOUR_S = 3600.0


class Prices(Config):
    """Money, of what is named; what the file leaves out has these values, and so has everything where it is missing."""

    currency: str = Field("USD", min_length=1, max_length=12, description="what the prices are in, as it is shown")
    cpu_hour: float = Field(0.04, ge=0, allow_inf_nan=False, description="of one core, for an hour of its time")
    gib_hour: float = Field(0.005, ge=0, allow_inf_nan=False, description="of memory: a GiB for an hour")
    thousand_requests: float = Field(0.005, ge=0, allow_inf_nan=False, description="to the object store")
    gib_moved: float = Field(0.0, ge=0, allow_inf_nan=False, description="to and from the object store")

    def of(self, attempt: Try) -> float:
        """What a try cost. Of memory its own share counts, for as long as it took: at most what it held."""
        is_far = attempt.requests > 0
        moved = attempt.bytes_read + attempt.bytes_written if is_far else 0
        return (
            attempt.cpu_s / HOUR_S * self.cpu_hour
            + attempt.wall_s / HOUR_S * attempt.grown_bytes / GIB * self.gib_hour
            + attempt.requests / 1000 * self.thousand_requests
            + moved / GIB * self.gib_moved
        )


def prices_file() -> Path:
    """The project's prices; where there are none, where they would lie."""
    files = [folder / "prices.yaml" for folder in problem_folders()]
    return next((file for file in files if file.exists()), files[0])


def load_prices() -> Prices:
    """The project's prices.

    Raises:
        ConfigError: the file says something that is none.
    """
    path = prices_file()
    try:
        return Prices.model_validate(yaml.safe_load(path.read_text()) or {})
    except FileNotFoundError:
        return Prices()
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}" for fault in error.errors())
        what, known = "; ".join(faults), ", ".join(Prices.model_fields)
        raise ConfigError(f"no prices: {what}", where=str(path), cure=f"known: {known}; each from 0 on") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the prices cannot be read: {error}", where=str(path), cure="make it a YAML file") from error
