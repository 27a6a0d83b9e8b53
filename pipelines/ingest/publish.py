"""publish: shape checked rows for the tables that keep them."""

from __future__ import annotations

import pyarrow as pa

from pipelines.errors import DataError


def statements(labels: pa.Table) -> pa.Table:
    """Natural labels as label statements: what happened says so, with full confidence."""
    count = labels.num_rows
    labels = labels.append_column("source", pa.array(["natural"] * count, pa.string()))
    return labels.append_column("confidence", pa.array([1.0] * count, pa.float64()))


def check_accounts(read: int, good: int, bad: int) -> None:
    """No row is lost between reading and publishing.

    Raises:
        DataError: good and bad rows do not add up to those that were read.
    """
    if read != good + bad:
        raise DataError(
            f"{read} rows were read, but {good} are good and {bad} bad",
            cure="clear the run from extract on: two runs may have shared a staging folder",
        )
