"""From events to what a model sees: declared columns and point-in-time history."""
