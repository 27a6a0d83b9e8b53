"""What `evergreen` exits with: the one place that says so, for the commands and for the documentation."""

from __future__ import annotations

from enum import IntEnum

from pipelines.errors import EvergreenError, GateFailed, NothingToDo, TransientError


class ExitCode(IntEnum):
    """A number that scripts go by."""

    DONE = 0
    WRONG = 1
    USAGE = 2
    TRY_AGAIN = 4
    REFUSED = 5
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.DONE: "done; or there was nothing to do, which is said",
    ExitCode.WRONG: "something is wrong: settings, data, credentials, a problem that is not sound (`check`), "
    "predictions that differ (`reproduce`), something out of step (`doctor`)",
    ExitCode.USAGE: "a command, an argument or an option that there is not",
    ExitCode.TRY_AGAIN: "a service does not answer: the same command may work in a minute",
    ExitCode.REFUSED: "a model did not pass its gate; what served goes on serving",
    ExitCode.INTERRUPTED: "stopped by Ctrl-C",
}


def exit_code(error: EvergreenError) -> ExitCode:
    """What a command exits with that an error has ended.

    >>> exit_code(GateFailed("worse than the champion")), exit_code(NothingToDo("no rows"))
    (<ExitCode.REFUSED: 5>, <ExitCode.DONE: 0>)
    """
    if isinstance(error, NothingToDo):
        return ExitCode.DONE
    if isinstance(error, TransientError):
        return ExitCode.TRY_AGAIN
    return ExitCode.REFUSED if isinstance(error, GateFailed) else ExitCode.WRONG
