"""Every method draws each row with the probability that it states: measured over many seeds, not seen in one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import Sampling
from pipelines.dataset.sample import sample, sample_batches
from pipelines.errors import ConfigError, DataError
from tests.examples import dear

START = datetime(2024, 1, 1, tzinfo=UTC)
DRAWS = dear(600)


def rows(train: int = 400, **columns: list[Any]) -> pa.Table:
    """`train` training rows, one an hour, then ten of validation and ten of test; labels take turns."""
    split = ["train"] * train + ["validation"] * 10 + ["test"] * 10
    held_out = {name: [*values, *values[:1] * 20] for name, values in columns.items()}
    return pa.table(
        {
            "kettle_id": [f"k{n}" for n in range(len(split))],
            "event_time": pa.array([START + timedelta(hours=n) for n in range(len(split))], pa.timestamp("us", "UTC")),
            "split": split,
            "label": pa.array([n % 2 for n in range(len(split))], pa.int8()),
            **held_out,
        }
    )


def count(table: pa.Table, split: str) -> int:
    return table["split"].to_pylist().count(split)


def positions(drawn: pa.Table) -> np.ndarray:
    """Which training rows were drawn."""
    is_train = np.array(drawn["split"].to_pylist()) == "train"
    return np.array([int(key[1:]) for key in drawn["kettle_id"].to_pylist()])[is_train]


def in_train(drawn: pa.Table, column: str) -> np.ndarray:
    return drawn[column].to_numpy()[: len(positions(drawn))]


STEEP = [float(2 ** (n % 6)) for n in range(60)]
SIZES = ["small"] * 6 + ["middle"] * 20 + ["large"] * 34
METHODS = {
    "random": Sampling(method="random", fraction=0.3),
    "systematic": Sampling(method="systematic", rows=17),
    "stratified": Sampling(method="stratified", fraction=0.25, by=["size"]),
    "stratified with shares": Sampling(
        method="stratified", rows=22, by=["size"], shares={"small": 0.3, "middle": 0.3, "large": 0.4}
    ),
    "cluster": Sampling(method="cluster", fraction=0.4, by=["shop"]),
    "weighted": Sampling(method="weighted", rows=15, weight_column="steep"),
    "weighted by age": Sampling(method="weighted", rows=15, half_life_days=0.5),
    "reservoir": Sampling(method="reservoir", rows=20),
    "importance": Sampling(method="importance", rows=15, weight_column="steep"),
    "importance with shares": Sampling(
        method="importance", rows=15, by=["size"], shares={"small": 0.5, "large": 0.5}, half_life_days=1
    ),
}


def population() -> pa.Table:
    """60 training rows with strata of 6, 20 and 34, 15 shops of four rows, and weights from 1 to 32."""
    return rows(60, size=SIZES, steep=STEEP, shop=[f"shop {n % 15}" for n in range(60)])


def draws(sampling: Sampling, table: pa.Table, number: int = DRAWS) -> list[pa.Table]:
    """Samples by the seeds from 0 on. Whether each split has two labels, which takes longer than to draw, is asked of
    the first: it hangs on no seed."""
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        for seed in range(number):
            drawn.append(sample(table, sampling.model_copy(update={"seed": seed})))
            patch.setattr("pipelines.dataset.sample._require_two_labels_each", lambda *_: None)
    return drawn


@cache
def drawn_by(name: str) -> list[pa.Table]:
    """Samples of the population, for all tests that look at them."""
    return draws(METHODS[name], population())


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_rows_are_drawn_as_often_as_their_probability_says(name: str) -> None:
    """Each of 60 frequencies over 200 seeds (600: see `dear`) lies within 4.5 standard deviations of the stated
    probability, and the mean of their squared deviations is less than three times that of chance, which is one.

    By the normal law one of 60 strays so far in 1 of 2,500 cases (Bonferroni); with these seeds none does. One row that
    is drawn in 1 of 10 samples, and said to be in 3, is found as good as always; so is that all of them are in 4 or in
    2.
    """
    drawn, stated = np.zeros(60), np.full(60, np.nan)
    for table in drawn_by(name):
        found = positions(table)
        drawn[found] += 1
        stated[found] = in_train(table, "probability")
    if name == "importance with shares":
        assert np.isnan(stated[6:26]).all(), "middle ones are no part of the world that is learnt for"
        stated[6:26] = 0
    assert np.isfinite(stated).all()
    deviation = np.sqrt(DRAWS * stated * (1 - stated))
    assert (np.abs(drawn - DRAWS * stated) <= 4.5 * deviation + 1e-9).all()
    by_chance = deviation > 0
    assert np.mean(((drawn - DRAWS * stated)[by_chance] / deviation[by_chance]) ** 2) < 3


@pytest.mark.parametrize("name", METHODS)
def test_probabilities_are_those_of_the_design(name: str) -> None:
    expected = {
        "random": 18 / 60,
        "systematic": 17 / 60,
        "stratified": 15 / 60,
        "stratified with shares": np.repeat([1, 0.33, 22 * 0.4 / 34], [6, 20, 34]),  # 6.6 of 6 small ones: all
        "cluster": 6 / 15,
        "weighted": np.minimum(1, np.array(STEEP) * 15 / sum(STEEP)),
        "weighted by age": None,
        "reservoir": 20 / 60,
        "importance": np.minimum(1, np.array(STEEP) * 15 / sum(STEEP)),
        "importance with shares": None,
    }[name]
    drawn = sample(population(), METHODS[name])
    found = in_train(drawn, "probability")
    if expected is not None:
        assert found == pytest.approx(np.broadcast_to(expected, 60)[positions(drawn)])
    else:
        assert (np.diff(found) >= 0).all() and found[-1] > 2 * found[0], "the younger, the likelier"


@pytest.mark.parametrize("name", [*METHODS, "all"])
def test_rows_are_drawn_batch_by_batch_wherever_a_batch_ends(name: str) -> None:
    sampling = METHODS.get(name, Sampling())
    drawn = sample(population(), sampling)
    batches = ds.dataset(population().to_batches(max_chunksize=7))
    schema, pieces = sample_batches(batches, sampling)
    assert pa.Table.from_batches(sizes := list(pieces), schema).equals(drawn)
    assert max(batch.num_rows for batch in sizes) <= 7, "never all rows at once"


def test_all_keeps_every_labelled_row_of_a_split() -> None:
    table = rows()
    holes = table.set_column(3, "label", pa.array([None, *table["label"].to_pylist()[1:]], pa.int8()))
    left_out = holes.set_column(2, "split", pa.array(["train", "embargo", *table["split"].to_pylist()[2:]]))
    kept = sample(left_out, Sampling())
    assert kept["kettle_id"].to_pylist() == table["kettle_id"].to_pylist()[2:]
    assert set(kept["weight"].to_pylist()) == set(kept["probability"].to_pylist()) == {1.0}


def test_random_draws_from_the_training_split_alone_and_by_its_seed() -> None:
    drawn = sample(rows(), Sampling(method="random", fraction=0.25, seed=3))
    assert [count(drawn, split) for split in ("train", "validation", "test")] == [100, 10, 10]
    assert drawn.equals(sample(rows(), Sampling(method="random", fraction=0.25, seed=3)))
    assert not drawn.equals(sample(rows(), Sampling(method="random", fraction=0.25, seed=4)))
    assert drawn["kettle_id"].to_pylist() == sorted(drawn["kettle_id"].to_pylist(), key=lambda key: int(key[1:]))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("random", 18),
        ("systematic", 17),
        ("stratified", 15),
        ("weighted", 15),
        ("weighted by age", 15),
        ("reservoir", 20),
        ("importance", 15),
        ("importance with shares", 15),
        ("cluster", 24),
    ],
)
def test_the_size_does_not_depend_on_the_seed(name: str, size: int) -> None:
    assert {count(table, "train") for table in draws(METHODS[name], population(), 60)} == {size}


def test_systematic_rows_are_evenly_spaced_in_time_whatever_their_order() -> None:
    table = population()
    shuffled = table.take(np.concatenate([np.random.default_rng(8).permutation(60), np.arange(60, 80)]))
    for drawn in draws(METHODS["systematic"], shuffled, 50):
        gaps = np.diff(np.sort(positions(drawn)))
        assert set(gaps.tolist()) <= {3, 4}, "60 hours over 17 rows are 3.5 hours"
    keys = drawn["kettle_id"].to_pylist()
    assert keys == [key for key in shuffled["kettle_id"].to_pylist() if key in keys], "rows keep their order"


def test_strata_get_their_number_and_a_fraction_left_over_goes_by_chance() -> None:
    even = rows(60, size=["small"] * 12 + ["large"] * 48)
    for drawn in draws(METHODS["stratified"], even, 40):
        assert in_strata(drawn, "size") == {"small": 3, "large": 12}
    numbers = [in_strata(drawn, "size") for drawn in draws(METHODS["stratified"], population(), 100)]
    assert {found.get("small", 0) for found in numbers} == {1, 2}, "25 % of 6"
    assert {found["middle"] for found in numbers} == {5}
    assert {found["large"] for found in numbers} == {8, 9}, "25 % of 34"


def test_shares_make_the_mix_and_a_stratum_gives_no_more_than_it_has() -> None:
    mix = METHODS["stratified with shares"].model_copy(update={"rows": 10})
    assert in_strata(sample(population(), mix), "size") == {"small": 3, "middle": 3, "large": 4}
    all_of_it = METHODS["stratified with shares"].model_copy(update={"rows": 40})
    assert in_strata(sample(population(), all_of_it), "size") == {"small": 6, "middle": 12, "large": 16}


def test_strata_of_the_label_and_of_several_columns() -> None:
    table = rows(60, size=SIZES, hot=[True, None] * 30)
    by_label = Sampling(method="stratified", rows=20, by=["label"], shares={"1": 0.25, "0": 0.75})
    assert in_strata(sample(table, by_label), "label") == {0: 15, 1: 5}
    both = Sampling(method="stratified", rows=6, by=["size", "hot"], shares={"small|true": 0.5, "large|null": 0.5})
    drawn = sample(table, both)
    found = list(zip(in_train(drawn, "size"), in_train(drawn, "hot"), strict=True))
    assert sorted(found, key=str) == [("large", None)] * 3 + [("small", True)] * 3


def test_clusters_are_whole_and_enough_of_them_for_the_rows() -> None:
    for drawn in draws(METHODS["cluster"], population(), 40):
        assert set(in_strata(drawn, "shop").values()) == {4} and len(in_strata(drawn, "shop")) == 6
    of_rows = Sampling(method="cluster", rows=9, by=["shop"])
    assert len(in_strata(sample(population(), of_rows), "shop")) == 3, "nine rows take three shops of four"


def test_the_more_weight_the_likelier_and_the_heaviest_are_certain() -> None:
    heavy = [1.0] * 56 + [1000.0] * 4
    for drawn in draws(METHODS["weighted"], rows(60, steep=heavy), 40):
        assert set(range(56, 60)) <= set(positions(drawn).tolist())
        assert in_train(drawn, "probability") == pytest.approx([11 / 56] * 11 + [1] * 4)


def test_rows_without_weight_are_never_drawn() -> None:
    some = [0.0] * 50 + [1.0] * 10
    drawn = sample(rows(60, steep=some), METHODS["weighted"])
    assert positions(drawn).tolist() == list(range(50, 60)), "15 were asked for, ten may be drawn"
    assert set(drawn["probability"].to_pylist()) == {1.0}


def test_a_chance_halves_with_each_half_life() -> None:
    drawn = sample(rows(49), Sampling(method="weighted", rows=3, half_life_days=1, seed=5))
    chance = dict(zip(positions(drawn).tolist(), in_train(drawn, "probability"), strict=True))
    one, *others = chance
    for other in others:
        assert chance[other] / chance[one] == pytest.approx(2 ** ((other - one) / 24))


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_weighted_totals_are_those_of_the_population(name: str) -> None:
    """Horvitz-Thompson: the mean over the samples of the sum of y / probability lies within 4 standard errors."""
    y = np.array(STEEP) + np.arange(60)
    if name == "importance with shares":
        y[6:26] = 0  # that sample speaks for the others alone
    totals = [(y[positions(drawn)] / in_train(drawn, "probability")).sum() for drawn in drawn_by(name)]
    assert abs(np.mean(totals) - y.sum()) <= 4 * np.std(totals) / np.sqrt(DRAWS) + 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["weighted", "weighted by age", "stratified with shares", "cluster"])
def test_corrected_weights_speak_for_the_whole(name: str) -> None:
    """Sums of weight * y over the samples are, in the mean, those of the population times its drawn share."""
    y = np.array(STEEP) + np.arange(60)
    corrected = METHODS[name].model_copy(update={"correct": True})
    sums, weights, sizes, shares = [], [], [], set()
    for drawn in draws(corrected, population()):
        assert set(drawn["weight"].to_pylist()[-20:]) == {1.0}
        weight = in_train(drawn, "weight")
        sums.append((weight * y[positions(drawn)]).sum())
        weights.append(weight.sum())
        sizes.append(len(weight))
        shares |= set(np.round(weight * in_train(drawn, "probability"), 12).tolist())
    (share,) = shares
    assert abs(np.mean(sums) - y.sum() * share) <= 4 * np.std(sums) / np.sqrt(DRAWS) + 1e-6
    assert np.mean(weights) == pytest.approx(np.mean(sizes), rel=0.05), "mean weight about 1"


def test_without_correct_each_row_weighs_the_same() -> None:
    assert set(sample(population(), METHODS["weighted"])["weight"].to_pylist()) == {1.0}


def test_importance_weights_speak_for_the_population() -> None:
    y = np.array(STEEP) + np.arange(60)
    means, weights = [], []
    for drawn in drawn_by("importance"):
        weight = in_train(drawn, "weight")
        means.append((weight * y[positions(drawn)]).sum() / 15)
        weights.append(weight.mean())
    assert abs(np.mean(means) - y.mean()) <= 4 * np.std(means) / np.sqrt(DRAWS)
    assert abs(np.mean(weights) - 1) <= 4 * np.std(weights) / np.sqrt(DRAWS)


def test_importance_weights_make_the_mix_that_is_asked_for() -> None:
    world = {"small": 0.5, "middle": 0.2, "large": 0.3}
    sampling = Sampling(method="importance", rows=15, by=["size"], shares=world, weight_column="steep")
    y = np.array(STEEP) + np.arange(60)
    groups = {name: np.array(SIZES) == name for name in world}
    sums: dict[str, list[float]] = {name: [] for name in world}
    means = []
    for drawn in draws(sampling, population()):
        found, weight = positions(drawn), in_train(drawn, "weight")
        means.append((weight * y[found]).sum() / 15)
        for name, members in groups.items():
            sums[name].append(weight[members[found]].sum() / 15)
    for name, share in world.items():
        assert abs(np.mean(sums[name]) - share) <= 4 * np.std(sums[name]) / np.sqrt(DRAWS)
    expected = sum(share * y[groups[name]].mean() for name, share in world.items())
    assert abs(np.mean(means) - expected) <= 4 * np.std(means) / np.sqrt(DRAWS)


def test_importance_of_all_rows_reweighs_them() -> None:
    sampling = Sampling(method="importance", fraction=1.0, by=["size"], shares={"small": 0.5, "large": 0.5})
    drawn = sample(population(), sampling)
    assert in_strata(drawn, "size") == {"small": 6, "large": 34}
    weight = in_train(drawn, "weight")
    assert weight[:6].sum() == pytest.approx(20) and weight[6:].sum() == pytest.approx(20)


@pytest.mark.parametrize("name", METHODS)
def test_asking_for_more_rows_than_there_are_gives_them_all(name: str) -> None:
    given_rows = METHODS[name].model_copy(update={"rows": 1000, "fraction": None})
    expected = 40 if name == "importance with shares" else 60
    drawn = sample(population(), given_rows)
    assert count(drawn, "train") == expected and set(drawn["probability"].to_pylist()) == {1.0}


@pytest.mark.parametrize("wrong", [None, -1.0, float("nan"), float("inf")])
def test_unusable_weights_are_refused(wrong: float | None) -> None:
    with pytest.raises(DataError, match="1 of 60 training rows have no usable weight in 'steep'"):
        sample(rows(60, steep=[*STEEP[:59], wrong]), METHODS["weighted"])


def test_weights_of_nought_or_of_text_are_refused() -> None:
    with pytest.raises(DataError, match="every training row has weight 0"):
        sample(rows(60, steep=[0] * 60), METHODS["weighted"])
    with pytest.raises(DataError, match="'steep' is string, and weights are numbers"):
        sample(rows(60, steep=["much"] * 60), METHODS["weighted"])


def test_a_sample_cannot_speak_for_rows_that_it_never_draws() -> None:
    with pytest.raises(DataError, match=r"1 training rows .* have no chance"):
        sample(rows(60, steep=[0.0, *STEEP[1:]]), METHODS["importance"])
    with pytest.raises(DataError, match=r"20 training rows .* have no chance"):
        lacking = {"shares": {"small": 0.5, "large": 0.5}, "correct": True}
        sample(population(), METHODS["stratified with shares"].model_copy(update=lacking))


def test_a_share_of_a_stratum_that_is_not_there_is_refused() -> None:
    misspelt = Sampling(method="stratified", rows=9, by=["size"], shares={"smal": 0.5, "large": 0.5})
    with pytest.raises(DataError, match="no training row is in stratum 'smal'; did you mean 'small'"):
        sample(population(), misspelt)


def test_a_split_of_one_class_or_none_is_refused() -> None:
    table = rows()
    with pytest.raises(DataError, match="the test split has one class only"):
        sample(table.filter(pa.array([True] * 410 + [n % 2 == 0 for n in range(10)])), Sampling())
    with pytest.raises(DataError, match="the train split has no rows"):
        sample(table.slice(400), Sampling(method="random", fraction=0.5))


def test_a_sample_of_one_class_is_refused_and_says_that_the_draw_did_it() -> None:
    with pytest.raises(DataError, match="the sampled train split has one class only"):
        sample(rows(), Sampling(method="random", rows=1))


def in_strata(drawn: pa.Table, column: str) -> dict[Any, int]:
    values, numbers = np.unique(in_train(drawn, column).astype(object), return_counts=True)
    return dict(zip(values.tolist(), numbers.tolist(), strict=True))


LABELS = st.lists(st.sampled_from([0, 1, None]), min_size=0, max_size=60)
WEIGHTS = st.floats(0, allow_nan=False, allow_infinity=False)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), labels=LABELS, seed=st.integers(0, 1000), rows_wanted=st.integers(1, 80))
def test_any_sampling_keeps_its_promises(data: Any, labels: list[int | None], seed: int, rows_wanted: int) -> None:
    """Held-out splits whole, probabilities in (0, 1], weights finite and positive, equal seeds equal samples."""
    method = data.draw(
        st.sampled_from(["all", "random", "systematic", "stratified", "cluster", "weighted", "reservoir", "importance"])
    )
    size = {} if method == "all" else {"rows": rows_wanted}
    by = {"by": ["size"]} if method in ("stratified", "cluster") else {}
    weight = {"weight_column": "steep"} if method in ("weighted", "importance") else {}
    correct = data.draw(st.booleans()) and method != "all"
    sampling = Sampling(method=method, seed=seed, correct=correct, **size, **by, **weight)
    train = len(labels) + 2
    sizes = data.draw(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=train, max_size=train))
    steep = data.draw(st.lists(WEIGHTS, min_size=train, max_size=train))
    table = rows(train, size=sizes, steep=steep)
    labelled = pa.array([0, 1, *labels, *[0, 1] * 10], pa.int8())
    table = table.set_column(3, "label", labelled)
    try:
        drawn = sample(table, sampling)
    except DataError as refused:
        assert any(word in refused.what for word in ("one class only", "no chance", "weight 0"))
        return
    assert drawn.slice(drawn.num_rows - 20).select(table.column_names).equals(table.slice(train))
    assert set(drawn["split"].to_pylist()[-20:]) == {"validation", "test"}
    found = positions(drawn)
    assert (np.diff(found) > 0).all() and drawn["label"].null_count == 0
    assert drawn.drop_columns(["probability", "weight"]).slice(0, len(found)).equals(table.take(found))
    probability, weights = drawn["probability"].to_numpy(), drawn["weight"].to_numpy()
    assert ((probability > 0) & (probability <= 1)).all()
    assert (np.isfinite(weights) & (weights > 0)).all()
    assert drawn.equals(sample(table, sampling))


def of_label(table: pa.Table, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index("label"), "label", pa.array(values))


def test_classes_by_name_are_strata() -> None:
    names = [("dry", "wet", "boil", "boil")[n % 4] for n in range(120)]
    table = of_label(rows(100), names)
    shares = {"dry": 0.5, "wet": 0.25, "boil": 0.25}
    drawn = sample(table, Sampling(method="stratified", rows=20, by=["label"], shares=shares))
    labels = np.array(drawn["label"].to_pylist())[: len(positions(drawn))]
    assert {name: int((labels == name).sum()) for name in shares} == {"dry": 10, "wet": 5, "boil": 5}


def test_numbers_form_no_strata_but_are_drawn_at_random() -> None:
    table = of_label(rows(100), [n / 7 for n in range(120)])
    with pytest.raises(ConfigError, match="label is a number"):
        sample(table, Sampling(method="stratified", rows=20, by=["label"]))
    assert len(positions(sample(table, Sampling(method="random", rows=20)))) == 20
    with pytest.raises(DataError, match="the train split has one value of the label only"):
        sample(of_label(table, [1.0] * 100 + [n / 7 for n in range(20)]), Sampling())
