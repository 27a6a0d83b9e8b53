"""From raw sources to checked rows: extract, validate, publish."""
