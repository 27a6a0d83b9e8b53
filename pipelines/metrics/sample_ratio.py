"""Were rows assigned as they were to be? A test that may be asked after every partition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy.special import gammaln


class Assigned(NamedTuple):
    """Units that each variant got while the shares were these, in the same order."""

    counts: tuple[int, ...]
    shares: tuple[float, ...]


def p_value(periods: Sequence[Assigned], concentration: float = 100.0) -> float:
    """Chance, at any time, of counts as far from their shares as these where all was as it was to be.

    Lindon and Malek (NeurIPS 2022): counts against a Dirichlet prior about the shares. Each period has shares of its
    own; its evidence multiplies that of those before.

    Args:
        concentration: of the prior: large finds small deviations late, small finds large ones early.

    >>> p_value([Assigned((520, 480), (0.5, 0.5))]) > 0.5
    True
    >>> p_value([Assigned((600, 400), (0.5, 0.5))]) < 1e-6
    True
    """
    evidence = worst = 0.0
    for counts, shares in periods:
        prior = [concentration * share for share in shares]
        evidence += (
            gammaln(concentration)
            - gammaln(concentration + sum(counts))
            + sum(gammaln(a + n) - gammaln(a) for a, n in zip(prior, counts, strict=True))
            - sum(n * math.log(share) for n, share in zip(counts, shares, strict=True) if n)
        )
        worst = max(worst, float(evidence))
    return math.exp(-worst)
