"""How much a bandit's challenger serves next: the more, the surer it is that it is the better one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from scipy.special import ndtr

from pipelines.metrics.effects import Effect

if TYPE_CHECKING:
    from pipelines.config.release import Bandit


def share(effect: Effect | None, settings: Bandit) -> float:
    """The challenger's share of the next partition: the chance that its mean loss is the lower one.

    That is Thompson sampling (Biometrika 1933; Russo, Van Roy, Kazerouni, Osband and Wen, A tutorial on Thompson
    sampling, 2018) of two versions for all rows of a partition at once: what draws from both posteriors give as the
    share of wins is with a normal posterior of the difference, under a flat prior, a closed form. Either version keeps
    `settings.floor`, so that the weights of its rows stay bounded and a bad start can be made good.

    Args:
        effect: the challenger's loss less the champion's so far, weighted by the odds of the assignment; None: nothing
            is known yet.

    >>> from pipelines.config.release import Bandit
    >>> share(None, Bandit()), share(Effect(-0.01, 1e-4, 500, 500), Bandit()), share(Effect(1.0, 1e-4, 9, 9), Bandit())
    (0.5, 0.8413447460685429, 0.05)
    """
    if effect is None or not effect.information:
        return 0.5
    chance = float(ndtr(-effect.value * math.sqrt(effect.information)))
    return min(max(chance, settings.floor), 1 - settings.floor)
