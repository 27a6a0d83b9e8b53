"""Imported by the process that the workers of `include.executor` are forked from, to load what tasks need.

Airflow's `[scheduler] mp_forkserver_preload` names it.
"""

from __future__ import annotations

import atexit
import gc
import os

from include.preload import preload_for_tasks

SERVER = os.getpid()


@atexit.register
def leave() -> None:
    """End without taking the modules apart, which some complain about; forks end as they would have."""
    if os.getpid() == SERVER:
        os._exit(0)


preload_for_tasks()
# What is here now stays: a look for garbage in a fork would copy all of it.
gc.freeze()
