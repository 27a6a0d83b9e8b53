"""From a training set to candidate models, tracked in MLflow."""
