"""What is told about a challenger beside its gate: slices, fairness, behaviour, calibration, importance."""
