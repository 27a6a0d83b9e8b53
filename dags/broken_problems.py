"""Shows every problem whose problem.yaml is wrong as an import error of Airflow, and makes no DAG.

So it does with a place that EVERGREEN_PROBLEMS names and that is not there, or holds no problem.

An import error takes all DAGs of its file down. So the other files leave a broken problem out, the DAGs of good
problems go on, and this file says what is wrong with it and how to mend it.
"""

from __future__ import annotations

from include.wiring import broken_problems
from pipelines.errors import ConfigError

if broken := broken_problems():
    raise ConfigError("\n\n".join(str(error) for error in broken)) from None
