"""What XGBoost trains on."""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np

from pipelines.errors import ConfigError

GPU_BUILD = "install the build with them (`.venv-uv/bin/uv sync --frozen --extra gpu --no-group cpu`)"


def device_of(wanted: str) -> str:
    """cpu or cuda, for auto, cpu or cuda.

    Raises:
        ConfigError: cuda, and XGBoost finds none.
    """
    if wanted == "cpu" or (wanted == "auto" and not _has_gpu()):
        return "cpu"
    if not _has_gpu():
        place, cure = "problem.yaml, training.device: cuda", "set device: auto, or cpu"
        if not _is_gpu_build():
            raise ConfigError("this XGBoost is built without GPUs", where=place, cure=f"{GPU_BUILD}, or {cure}")
        raise ConfigError("XGBoost sees no GPU", where=place, cure=cure)
    return "cuda"


@lru_cache(maxsize=1)
def _has_gpu() -> bool:
    """Whether a model can be trained on one; without a GPU XGBoost warns and takes the CPU, which its config tells."""
    import xgboost

    if not _is_gpu_build():
        return False
    with xgboost.config_context(verbosity=0):
        row = xgboost.DMatrix(np.zeros((1, 1), dtype=np.float32), label=np.zeros(1))
        booster = xgboost.Booster({"device": "cuda", "max_depth": 1}, [row])
        try:
            booster.update(row, 0)
        except xgboost.core.XGBoostError:  # a driver that is too old
            return False
        used = json.loads(booster.save_config())["learner"]["generic_param"]["device"]
    return str(used).startswith("cuda")


def _is_gpu_build() -> bool:
    import xgboost

    return bool(xgboost.build_info().get("USE_CUDA"))
