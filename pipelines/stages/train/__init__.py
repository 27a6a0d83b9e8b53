"""`<problem>.train`: label, sample, featurize, check, train (mapped), evaluate, gate, refit, register, promote."""
