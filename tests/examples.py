"""How many examples are tried of a property each of which is dear, by Hypothesis or of seeds: a third, or all."""

from __future__ import annotations

from hypothesis import settings

THOROUGH = "thorough"


def dear(most: int) -> int:
    """Of `most` examples that take a tenth of a CPU second or more each, those that this run of pytest tries.

    Each run draws others, so what one in ten examples shows is still seen within a few runs. All of them are tried with
    `--hypothesis-profile=thorough`.
    """
    return most if settings.get_current_profile_name() == THOROUGH else -(-most // 3)
