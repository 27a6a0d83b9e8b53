"""What is measured, against what, in one run: ratios of CPU time, since machines differ and are noisy."""
