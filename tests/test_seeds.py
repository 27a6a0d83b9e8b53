"""Random numbers of a test come from a generator that it makes itself: what it draws depends on no test before it."""

from __future__ import annotations

import ast

from pipelines.problem import ROOT

GENERATORS = {"default_rng", "Random", "RandomState", "Generator"}


def shared_generators(text: str) -> list[str]:
    """The names of a module's variables that hold a generator.

    >>> shared_generators("RNG = np.random.default_rng(0)")
    ['RNG']
    >>> shared_generators("NOISE = np.random.default_rng(0).normal(size=3)")
    []
    """
    return [
        ast.unparse(target)
        for statement in ast.parse(text).body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call)
        if ast.unparse(statement.value.func).rpartition(".")[2] in GENERATORS
        for target in statement.targets
    ]


def test_no_generator_is_shared_by_tests() -> None:
    files = sorted((ROOT / "tests").rglob("*.py"))
    assert len(files) > 100
    shared = {str(path.relative_to(ROOT)): names for path in files if (names := shared_generators(path.read_text()))}
    assert not shared, f"make the generator inside the test, or in a function that takes a seed: {shared}"
