"""Columns whose values are no numbers and no categories: texts by their terms, and what can be measured of them."""
