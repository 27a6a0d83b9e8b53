"""Every switch of `pipelines.config.training` and `pipelines.config.evaluation` does something, and a test says so."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines.config import evaluation, training
from pipelines.config.base import Config
from pipelines.evaluation.report.report import report
from pipelines.problem import Problem
from pipelines.training.fit import fit
from pipelines.training.model import Model
from tests.conftest import ROOT, ToyProblem
from tests.training.kettles import kettles

Changes = dict[str, Any]

# What a fit is told ---------------------------------------------------------------------------------------

PLAIN = {"missing": {"method": "median"}, "scaling": "standard", "encoding": "one_hot"}
LOGISTIC: Changes = {"training.candidates.it": {"model": "logistic", "preprocessing": PLAIN}}
TREES: Changes = {
    "training.candidates.it": {"model": "xgboost", "parameters": {"n_estimators": 8, "max_depth": 3, "subsample": 0.5}}
}
BARE: Changes = {"training.candidates.it": {"model": "logistic"}}  # it takes what `training` says
VOTING: Changes = {
    "training.candidates.one": {"model": "logistic"},
    "training.candidates.two": {"model": "forest", "parameters": {"n_estimators": 4}},
    "training.candidates.it": {"model": "voting", "of": ["one", "two"]},
}
RULE: Changes = {"training.candidates.it": {"model": "heuristic", "sql": "0.1"}}
COSTS: Changes = {"costs.matrix": {"0": {"1": 1.0}, "1": {"0": 9.0}}}
OWN, PREPARED = "training.candidates.it", "training.candidates.it.preprocessing"
HASHED, TARGET = ({f"{PREPARED}.encoding": encoding} for encoding in ("hashing", "target"))
BINNED = {f"{PREPARED}.discretise": {"bins": 4}}
L1 = {f"{OWN}.selection": {"method": "l1", "strength": 0.05}}
# Kettles of which somebody has noted something.
NOTED: Changes = LOGISTIC | {
    "columns.note": {"type": "text", "available": "cutoff"},
    "features.columns": ["shelf", "litres", "note"],
    f"{PREPARED}.text": {"components": 3, "min_rows": 1},
}
CHOSEN = {"training.threshold.by": "f_beta"}

# Switch -> settings, and what is changed about them.
FITS: dict[str, tuple[Changes, Changes]] = {
    "Missing.method": (LOGISTIC, {f"{PREPARED}.missing.method": "most_frequent"}),
    "Missing.value": (LOGISTIC | {f"{PREPARED}.missing.method": "constant"}, {f"{PREPARED}.missing.value": 9.0}),
    "Missing.indicator": (LOGISTIC, {f"{PREPARED}.missing.indicator": True}),
    "Discretise.bins": (LOGISTIC | BINNED, {f"{PREPARED}.discretise.bins": 9}),
    "Discretise.strategy": (LOGISTIC | BINNED, {f"{PREPARED}.discretise.strategy": "uniform"}),
    "Preprocessing.missing": (LOGISTIC, {f"{PREPARED}.missing": {"method": "mean", "indicator": True}}),
    "Preprocessing.scaling": (LOGISTIC, {f"{PREPARED}.scaling": "min_max"}),
    "Preprocessing.discretise": (LOGISTIC, BINNED),
    "Preprocessing.encoding": (LOGISTIC, {f"{PREPARED}.encoding": "ordinal"}),
    "Preprocessing.min_frequency": (LOGISTIC, {f"{PREPARED}.min_frequency": 30}),
    "Preprocessing.hash_buckets": (LOGISTIC | HASHED, {f"{PREPARED}.hash_buckets": 2}),
    "Preprocessing.target_smoothing": (LOGISTIC | TARGET, {f"{PREPARED}.target_smoothing": 500.0}),
    "Preprocessing.cross_fitting_folds": (LOGISTIC | TARGET, {f"{PREPARED}.cross_fitting_folds": 2}),
    "Preprocessing.columns": (LOGISTIC, {f"{PREPARED}.columns": {"litres": {"scaling": "log"}}}),
    "ColumnPreparation.missing": (LOGISTIC, {f"{PREPARED}.columns": {"litres": {"missing": {"method": "mean"}}}}),
    "ColumnPreparation.scaling": (LOGISTIC, {f"{PREPARED}.columns": {"shelf_count_2d": {"scaling": "none"}}}),
    "ColumnPreparation.discretise": (LOGISTIC, {f"{PREPARED}.columns": {"litres": {"discretise": {"bins": 3}}}}),
    "ColumnPreparation.encoding": (LOGISTIC, {f"{PREPARED}.columns": {"shelf": {"encoding": "ordinal"}}}),
    "ColumnPreparation.min_frequency": (LOGISTIC, {f"{PREPARED}.columns": {"shelf": {"min_frequency": 30}}}),
    "ColumnPreparation.min_share": (LOGISTIC, {f"{PREPARED}.columns": {"shelf": {"min_share": 0.2}}}),
    "ColumnPreparation.text": (NOTED, {f"{PREPARED}.columns": {"note": {"text": {"components": 2}}}}),
    "Preprocessing.min_share": (LOGISTIC, {f"{PREPARED}.min_share": 0.2}),
    "Preprocessing.text": (NOTED, {f"{PREPARED}.text": {"components": 2}}),
    "TextEncoding.method": (NOTED, {f"{PREPARED}.text.method": "hashing"}),
    "TextEncoding.components": (NOTED, {f"{PREPARED}.text.components": 2}),
    "TextEncoding.by": (NOTED, {f"{PREPARED}.text.by": "characters"}),
    "TextEncoding.ngrams": (NOTED, {f"{PREPARED}.text.ngrams": [1, 2]}),
    "TextEncoding.max_terms": (NOTED, {f"{PREPARED}.text.max_terms": 2}),
    "TextEncoding.min_rows": (NOTED, {f"{PREPARED}.text.min_rows": 10_000}),
    "Selection.method": (LOGISTIC, L1),
    "Selection.strength": (LOGISTIC | L1, {f"{OWN}.selection.strength": 0.001}),
    "Selection.always": (LOGISTIC | L1, {f"{OWN}.selection.always": ["shelf_rate_3d", "shelf_count_2d"]}),
    "Imbalance.method": (LOGISTIC, {f"{OWN}.imbalance": {"method": "class_weight"}}),
    "Imbalance.beta": (LOGISTIC | {f"{OWN}.imbalance": {"method": "class_balanced"}}, {f"{OWN}.imbalance.beta": 0.5}),
    "Imbalance.gamma": (TREES | {f"{OWN}.imbalance": {"method": "focal"}}, {f"{OWN}.imbalance.gamma": 0.5}),
    "Imbalance.alpha": (TREES | {f"{OWN}.imbalance": {"method": "focal"}}, {f"{OWN}.imbalance.alpha": 0.9}),
    "Calibration.method": (LOGISTIC, {f"{OWN}.calibration": {"method": "platt"}}),
    "Calibration.partitions": (
        LOGISTIC | {f"{OWN}.calibration": {"method": "platt"}},
        {f"{OWN}.calibration.partitions": 3},
    ),
    "Candidate.model": (LOGISTIC, {f"{OWN}.model": "forest"}),
    "Candidate.parameters": (LOGISTIC, {f"{OWN}.parameters": {"C": 0.01}}),
    "Candidate.sql": (RULE, {f"{OWN}.sql": "least(1, greatest(0, litres / 9))"}),
    "Candidate.of": (VOTING, {f"{OWN}.of": ["one"]}),
    "Candidate.weights": (VOTING, {f"{OWN}.weights": [1.0, 9.0]}),
    "Candidate.preprocessing": (BARE, {f"{OWN}.preprocessing": PLAIN | {"scaling": "none"}}),
    "Candidate.selection": (BARE, L1),
    "Candidate.imbalance": (
        BARE | {"training.imbalance": {"method": "class_weight"}},
        {f"{OWN}.imbalance": {"method": "none"}},
    ),
    "Candidate.calibration": (
        BARE | {"training.calibration": {"method": "platt"}},
        {f"{OWN}.calibration": {"method": "isotonic"}},
    ),
    "Threshold.by": (LOGISTIC | COSTS, {"training.threshold.by": "cost"}),
    "Threshold.value": (LOGISTIC, {"training.threshold.value": 0.3}),
    "Training.seed": (TREES, {"training.seed": 5}),
    "Training.preprocessing": (BARE, {"training.preprocessing": PLAIN | {"scaling": "none"}}),
    "Training.selection": (BARE, {"training.selection": {"method": "l1", "strength": 0.05}}),
    "Training.imbalance": (BARE, {"training.imbalance": {"method": "class_weight"}}),
    "Training.calibration": (BARE, {"training.calibration": {"method": "platt"}}),
    "Training.threshold": (LOGISTIC, {"training.threshold": {"by": "f_beta"}}),
    "Costs.matrix": (LOGISTIC | COSTS | {"training.threshold.by": "cost"}, {"costs.matrix": {"0": {"1": 9.0}}}),
    "Evaluation.beta": (LOGISTIC | CHOSEN, {"evaluation.beta": 0.3}),
}


def with_gaps(rows: pa.Table, seed: int) -> pa.Table:
    """Some kettles stand in the attic or in the cellar, and of some nobody knows how full they are."""
    rng = np.random.default_rng(seed)
    odd = pa.array(np.where(rng.random(len(rows)) < 0.5, "attic", "cellar"))
    shelf = pc.if_else(pa.array(rng.random(len(rows)) < 0.1), odd, rows["shelf"])
    litres = pc.if_else(pa.array(rng.random(len(rows)) < 0.2), pa.scalar(None, pa.float64()), rows["litres"])
    boiled = rows["label"].to_numpy() == 1
    words = np.where(boiled & (rng.random(len(rows)) < 0.5), "steam", rng.choice(["calm", "lid", "spout"], len(rows)))
    note = pa.array([f"{first} {other}" for first, other in zip(words, rng.permutation(words), strict=True)])
    rows = rows.set_column(2, "shelf", shelf).set_column(3, "litres", litres)
    return rows.append_column("note", note)


TRAIN, VALIDATION, TEST = (with_gaps(kettles(days, seed=seed), seed) for days, seed in ((8, 1), (3, 2), (6, 3)))


@pytest.fixture(scope="module")
def fitted(toy: ToyProblem) -> Any:
    """Scores and decisions of the candidate `it`; the same settings are fitted once."""

    @cache
    def of(settings: str) -> tuple[np.ndarray, np.ndarray]:
        model = fit(toy(**ast.literal_eval(settings)), "it", TRAIN, VALIDATION)
        scores = model.scores(TEST)
        return scores, model.decide(scores)

    return lambda changes: of(repr({"training.threads": 1, **changes}))


@pytest.mark.parametrize("switch", FITS)
def test_two_fits_that_differ_in_one_switch_are_different(fitted: Any, switch: str) -> None:
    settings, change = FITS[switch]
    before, after = fitted(settings), fitted(settings | change)
    if switch.startswith(("Threshold", "Training.threshold", "Costs", "Evaluation")):
        assert np.array_equal(before[0], after[0]), "only the decisions are others"
        assert not np.array_equal(before[1], after[1])
    else:
        assert np.abs(before[0] - after[0]).max() > 1e-4


# What a report is told ------------------------------------------------------------------------------------

NOISE = {"kind": "perturbation", "columns": ["litres"], "noise": 0.01, "max_change": 0.5}
GROUPED = {"evaluation.fairness": {"groups": ["shelf"], "min_rows": 10}}
REPORTS: dict[str, tuple[Changes, Changes, str]] = {
    "Bootstrap.resamples": ({}, {"evaluation.bootstrap.resamples": 60}, "metrics"),
    "Bootstrap.confidence": ({}, {"evaluation.bootstrap.confidence": 0.8}, "metrics"),
    "Bootstrap.block": ({}, {"evaluation.bootstrap.block": "row"}, "metrics"),
    "Bootstrap.seed": ({}, {"evaluation.bootstrap.seed": 1}, "metrics"),
    "Slices.by": ({}, {"evaluation.slices.by": ["shelf"]}, "slices"),
    "Slices.find": ({}, {"evaluation.slices.find": False}, "slices"),
    "Slices.min_rows": ({}, {"evaluation.slices.min_rows": 200}, "slices"),
    "Evaluation.bootstrap": ({}, {"evaluation.bootstrap": {"resamples": 70}}, "metrics"),
    "Evaluation.calibration_bins": ({}, {"evaluation.calibration_bins": 4}, "calibration"),
    "Evaluation.slices": ({}, {"evaluation.slices": {"by": ["litres"]}}, "slices"),
    "Evaluation.behaviours": ({}, {"evaluation.behaviours": {"noise": NOISE}}, "behaviours"),
    "Evaluation.fairness": ({}, GROUPED, "fairness"),
    "Evaluation.importance_rows": ({}, {"evaluation.importance_rows": 50}, "importances"),
    "Fairness.groups": (GROUPED, {"evaluation.fairness.groups": ["litres"]}, "fairness"),
    "Fairness.min_rows": (GROUPED, {"evaluation.fairness.min_rows": 200}, "fairness"),
}
SHORT: Changes = {"evaluation.bootstrap.resamples": 50, "evaluation.slices.min_rows": 20}


@pytest.fixture(scope="module")
def reported(toy: ToyProblem) -> Any:
    """A report on the trees; the same settings are reported once."""
    model: Model = fit(toy(**TREES), "it", TRAIN, VALIDATION)
    noon = pc.add(pc.strptime(TEST["partition"], "%Y-%m-%d", "us"), pa.scalar(43_200_000_000, pa.duration("us")))
    rows = TEST.append_column("event_time", noon.cast(pa.timestamp("us", "UTC")))

    @cache
    def of(settings: str) -> dict[str, Any]:
        problem: Problem = toy(**TREES, **ast.literal_eval(settings))
        groups = problem.evaluation.fairness.groups if problem.evaluation.fairness else ["shelf"]
        return report(problem, model, rows, name="it", run_id="r", train_rows=TRAIN, groups=rows.select(groups))

    return lambda changes: of(repr({**SHORT, **changes}))


@pytest.mark.parametrize("switch", REPORTS)
def test_two_reports_that_differ_in_one_switch_are_different(reported: Any, switch: str) -> None:
    settings, change, part = REPORTS[switch]
    before, after = reported(settings), reported(settings | change)
    assert before[part] != after[part]


# All switches ---------------------------------------------------------------------------------------------

ELSEWHERE: dict[str, dict[str, str]] = {  # file under tests -> test -> switches
    "training/test_update": {
        "test_rounds_are_bounded_each_time_and_in_all": "Training.update Update.rounds Update.max_rounds",
        "test_the_learning_rate_is_the_champions_unless_it_is_set": "Update.learning_rate",
    },
    "stages/test_update": {
        "test_a_recalibration_learns_from_as_many_partitions_as_it_is_told": "Update.recalibrate_partitions",
    },
    "training/test_select": {
        "test_rounds_are_spent": "Selection.rounds",
        "test_boruta_needs_rounds_to_drop_and_drops_earlier_at_a_laxer_significance": "Selection.significance",
        "test_permutation_asks_for_min_gain": "Selection.min_gain",
        "test_max_rows_is_all_that_is_looked_at": "Selection.max_rows",
    },
    "training/test_search": {
        "test_the_first_trial_is_the_candidate_as_it_is_and_the_result_is_never_worse": "Candidate.search",
        "test_each_setting_of_a_range_counts": "Range.low Range.high Range.log Range.step Range.choices",
        "test_the_budget_is_a_number_of_trials": "Search.trials Training.search",
        "test_no_trial_starts_after_the_seconds_but_the_first_always_does": "Search.seconds",
        "test_the_metric_and_its_direction_are_settings": "Search.metric",
        "test_hopeless_trials_are_pruned_if_wanted": "Search.prune",
    },
    "training/test_folds": {
        "test_the_number_of_folds_and_what_each_is_measured_on_are_settings": "Search.folds Search.fold_partitions",
    },
    "training/test_fit": {
        "test_a_candidate_learns_and_its_file_gives_the_same_scores": "Training.candidates",
        "test_what_training_says_reaches_the_estimator": "Training.device Training.threads",
    },
    "stages/test_release": {
        "test_rows_beyond_the_memory_limit_are_read_from_disk": "Training.memory_limit_mb",
        "test_parameters_are_searched_and_a_killed_search_and_fit_go_on": "Training.checkpoint_rounds",
    },
    "config/test_engine": {
        "test_workers_fit_what_xgboost_learns_where_the_engine_says_so": "Training.engine Engine.kind",
        "test_the_state_is_kept_as_often_as_the_engine_says": "Engine.checkpoint_rounds",
    },
    "training/workers/test_watch": {
        "test_two_workers_learn_the_model_of_one_process_even_if_one_is_killed": "Engine.workers",
    },
    "training/workers/test_ray": {"test_jobs_learn_the_model_that_processes_learn": "Engine.address"},
    "stages/train/test_refit": {"test_without_a_refit_the_tested_model_serves": "Training.refit"},
    "release/test_card": {"test_a_card_tells_what_was_declared_and_measured": "Costs.unit"},
    "evaluation/gate/test_challenger": {
        "test_a_baseline_is_never_picked_whether_named_or_by_its_kind": "Training.baselines",
        "test_the_best_on_validation_is_picked_whichever_way_the_metric_runs": "Training.select_by",
    },
    "metrics/test_scored": {"test_settings_come_from_the_problem": "Costs.over Costs.under"},
    "evaluation/report/test_slices": {
        "test_no_more_are_found_than_asked_for": "Slices.max_found",
        "test_each_switch_of_the_search_does_something": "Slices.false_discovery_rate",
    },
    "evaluation/report/test_behaviour": {
        "test_values_are_what_the_rule_says": (
            "Behaviour.kind Behaviour.columns Behaviour.add Behaviour.multiply Behaviour.set Behaviour.shuffle "
            "Behaviour.expect Behaviour.max_change Behaviour.min_share"
        ),
        "test_noise_is_in_standard_deviations_and_the_seed_gives_it": "Behaviour.noise",
    },
    "evaluation/gate/test_checks": {
        "test_each_fault_fails_with_its_reason": "Limit.min Limit.max",
        "test_a_stricter_threshold_counts": (
            "SliceGate.metric SliceGate.max_loss Gate.limits Gate.gain_over_baselines Gate.gain_over_champion "
            "Gate.max_jump Gate.max_champion_fall Gate.min_learnt_share Gate.max_bias Gate.min_rows"
        ),
        "test_a_threshold_that_is_not_set_makes_no_check": (
            "Gate.slices Gate.max_forgotten Gate.max_calibration_error Gate.max_unfairness Gate.max_latency_ms "
            "Gate.max_size_mb Gate.max_age_days Gate.max_prediction_shift"
        ),
        "test_a_tie_is_not_enough_where_more_is_asked_for": "Gate.ties_pass",
        "test_rows_that_show_nothing_let_nothing_much_worse_in": "Gate.max_tie_loss",
    },
}


def sections() -> list[type[Config]]:
    return [
        section
        for module in (training, evaluation)
        for section in vars(module).values()
        if inspect.isclass(section) and issubclass(section, Config) and section.__module__ == module.__name__
    ]


def test_every_switch_has_a_test_that_fails_if_it_does_nothing() -> None:
    """A new switch: add it to FITS or REPORTS above, or say in ELSEWHERE which test would notice."""
    switches = {f"{section.__name__}.{name}" for section in sections() for name in section.model_fields}
    assert len(switches) > 90
    tested = [*FITS, *REPORTS]
    for file, tests in ELSEWHERE.items():
        source = (ROOT / "tests" / f"{file}.py").read_text()
        for test, its_switches in tests.items():
            assert f"def {test}(" in source, f"{its_switches}: there is no {test} in {file}"
            tested += its_switches.split()
    assert sorted(tested) == sorted(switches)
