"""Several workers that learn one model together."""
