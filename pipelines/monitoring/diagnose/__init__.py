"""Which kind of shift it is."""
