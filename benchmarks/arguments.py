"""Arguments of the benchmarks; --help says what a benchmark's module does."""

from __future__ import annotations

import argparse


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose --help is a module's docstring."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def one_number(doc: str | None, name: str, default: int) -> int:
    """The one number that a benchmark may be given."""
    asked = parser(doc)
    asked.add_argument(name, nargs="?", type=int, default=default, help=f"default: {default}")
    return int(getattr(asked.parse_args(), name))
