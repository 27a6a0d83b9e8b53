"""From events and label statements to a training set: label, split, sample."""
