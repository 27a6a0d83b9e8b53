"""augment: more training rows, made from those there are."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipelines.config import Augmentation
from pipelines.dataset.columns import codes, from_codes, from_numbers, is_category, numbers


def augment(rows: pa.Table, features: list[str], categorical: list[str], augmentation: Augmentation) -> pa.Table:
    """The rows, and after them made ones: `features`, `label` and `weight`, in the order of the table's columns.

    `rows` are those of the training split and no others. `share` points are made per row, and each row is the first
    parent of as many as any other. *perturb* (Huyen, ch. 4) copies its parent and adds normal noise to numbers;
    *mixup* (Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018) lies between two rows. Made numbers stay
    within the range that was seen, and integers stay integers; a missing value stays missing. With method none the
    table comes back as it is.
    """
    if augmentation.method == "none" or not rows.num_rows:
        return rows
    rows = rows.select([name for name in rows.column_names if name in (*features, "label", "weight")])
    random = np.random.default_rng(augmentation.seed)
    points = round(rows.num_rows * augmentation.share)
    first = random.permutation(rows.num_rows)[np.arange(points) % rows.num_rows]
    make = _perturbed if augmentation.method == "perturb" else _mixed
    made = make(
        rows, first, [name for name in features if not is_category(rows[name], name, categorical)], augmentation, random
    )
    return pa.concat_tables([rows, made])


def _perturbed(
    rows: pa.Table, parents: np.ndarray, numeric: list[str], augmentation: Augmentation, random: np.random.Generator
) -> pa.Table:
    """Copies with noise on numbers, `augmentation.noise` standard deviations of each column wide."""
    made = rows.take(pa.array(parents))
    for name in numeric:
        values = numbers(rows[name])
        if np.isnan(values).all():
            continue
        noise = random.normal(scale=augmentation.noise * np.nanstd(values), size=len(parents))
        column = from_numbers(values[parents] + noise, rows[name])
        made = made.set_column(made.column_names.index(name), rows.schema.field(name), column)
    return made


def _mixed(
    rows: pa.Table, first: np.ndarray, numeric: list[str], augmentation: Augmentation, random: np.random.Generator
) -> pa.Table:
    """Points between two rows: a share s ~ Beta(alpha, alpha) of the first, 1 - s of the second.

    A number is the mean with these shares, null where either parent's is; a category is the first's with chance s.
    The label would be a mean too, which classifiers do not take. A point between two classes is two rows with the
    same features instead, one per label, that share its weight: every weighted loss that is linear in the label (log
    loss, squared error) is then the same.
    """
    second = random.integers(0, rows.num_rows, len(first))
    share = random.beta(augmentation.alpha, augmentation.alpha, len(first))
    label, weight = rows["label"].to_numpy(), rows["weight"].to_numpy().astype(np.float64)
    differs = label[first] != label[second]
    of_first, of_second = share * weight[first], (1 - share) * weight[second]
    columns = {}
    for name in rows.column_names:
        if name in numeric:
            values = numbers(rows[name])
            columns[name] = from_numbers(share * values[first] + (1 - share) * values[second], rows[name])
        elif name not in ("label", "weight"):
            coded, values = codes(rows[name])
            taken = np.where(random.random(len(first)) < share, coded[first], coded[second])
            columns[name] = from_codes(taken, values, rows[name])
    columns["label"] = rows["label"].take(pa.array(first))
    columns["weight"] = pa.array(np.where(differs, of_first, of_first + of_second)).cast(rows["weight"].type)
    mixed = pa.table(columns).select(rows.column_names).cast(rows.schema)
    others = mixed.filter(pa.array(differs))
    for name, column in (
        ("label", rows["label"].take(pa.array(second[differs]))),
        ("weight", pa.array(of_second[differs]).cast(rows["weight"].type)),
    ):
        others = others.set_column(others.column_names.index(name), rows.schema.field(name), column)
    both = pa.concat_tables([mixed, others])
    return both.filter(pa.array(both["weight"].to_numpy() > 0))  # a share may be 0 or 1 to the last digit
