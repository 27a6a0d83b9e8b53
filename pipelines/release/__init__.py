"""From a model that passed its gate to the one that serves, with every decision on the ledger."""
