"""Where the state of a fit is kept while it runs: in the store."""

from __future__ import annotations

from pipelines import store
from pipelines.problem import Problem


class StoredCheckpoint:
    """Keeps the state of a fit in the store, beside what the training stages."""

    def __init__(self, uri: str, problem: Problem) -> None:
        self.uri = uri
        self.every = problem.training.rounds_between_states

    def save(self, rounds: int, model: bytes) -> None:
        store.write_bytes(self.uri, rounds.to_bytes(8, "big") + model)

    def load(self) -> tuple[int, bytes] | None:
        state = store.find_bytes(self.uri)
        if state is None:
            return None
        return int.from_bytes(state[:8], "big"), state[8:]
