"""Tools that answer one of Evergreen's questions each, on the same rows, each in an environment of its own."""
