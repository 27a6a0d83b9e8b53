from __future__ import annotations

import pickle

import pytest

from pipelines import errors


def subclasses(kind: type) -> list[type]:
    """The kind and every kind of error below it that the product defines: what another test defined may be alive."""
    own = [child for child in kind.__subclasses__() if child.__module__.startswith("pipelines.")]
    return [kind, *(deeper for child in own for deeper in subclasses(child))]


@pytest.mark.parametrize("kind", subclasses(errors.EvergreenError))
def test_an_error_survives_pickling_whole(kind: type[errors.EvergreenError]) -> None:
    error = pickle.loads(pickle.dumps(kind("the kettle is cold", where="stove", cure="light it")))  # noqa: S301
    assert type(error) is kind
    assert str(error) == "the kettle is cold\n  where: stove\n  next:  light it"


def test_the_tree_at_the_top_of_the_module_is_the_real_one() -> None:
    for kind in subclasses(errors.EvergreenError):
        assert f" {kind.__name__} " in (errors.__doc__ or "").replace("\n", " ")
