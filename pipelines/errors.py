"""Every error that Evergreen raises on purpose.

    EvergreenError
    ├── PermanentError          retrying changes nothing: somebody has to act
    │   ├── ConfigError         problem.yaml or an environment variable is wrong
    │   ├── SchemaError         columns differ from what was declared
    │   ├── DataError           rows are missing, too many are bad, or they contradict each other
    │   ├── GateFailed          a model was measured and is not good enough
    │   └── AccessError         a server refused the credentials
    ├── TransientError          the same call may work in a minute
    │   └── ServiceUnavailable  a server does not answer
    └── NothingToDo             not a fault: this run has no work, and what follows it has none either
        └── NoTraining          a partition was judged, and no training is asked for

Each says what happened, where, and what to do next.
"""

from __future__ import annotations

from typing import ClassVar


class EvergreenError(Exception):
    """What happened, where, and the cure; the three survive pickling (tasks and workers pass errors on).

    >>> print(ConfigError("unknown key 'fetures'", where="problem.yaml", cure="did you mean 'features'?"))
    unknown key 'fetures'
      where: problem.yaml
      next:  did you mean 'features'?
    """

    def __init__(self, what: str, *, where: str = "", cure: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.cure = cure

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.cure:
            lines.append(f"  next:  {self.cure}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.cure)


def _rebuild(kind: type[EvergreenError], what: str, where: str, cure: str) -> EvergreenError:
    return kind(what, where=where, cure=cure)


class PermanentError(EvergreenError):
    """Retrying changes nothing."""


class ConfigError(PermanentError):
    """A setting is wrong."""


class SchemaError(PermanentError):
    """Columns differ from what was declared."""


class DataError(PermanentError):
    """Rows are missing, too many are bad, or they contradict each other."""


class GateFailed(PermanentError):
    """A model was measured and is not good enough; the champion goes on serving."""


class AccessError(PermanentError):
    """A server refused the credentials."""


class TransientError(EvergreenError):
    """The same call may work in a minute."""


class ServiceUnavailable(TransientError):
    """A server does not answer."""


class NothingToDo(EvergreenError):
    """This run has no work; not a fault. `heading` is what people read before the reason."""

    heading: ClassVar[str] = "nothing to do"


class NoTraining(NothingToDo):
    """A partition was judged and its decision carried out; it asks for no training."""

    heading = "no training"
