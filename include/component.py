"""One component of Airflow: `python -m include.component` takes what `airflow` takes, and starts sooner.

Importing Airflow makes hundreds of thousands of objects that stay. To look through them for garbage again and again is
a fifth of what the start of a component costs, so it is done less often from before the first import.
"""

from __future__ import annotations

import gc

NEW_OBJECTS = 10_000  # between two looks; Python's default is 700


def main() -> None:
    """Run the component that the command line names, until it ends."""
    gc.set_threshold(NEW_OBJECTS, 20, 20)
    from airflow.__main__ import main as airflow

    airflow()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
