"""Models that can be evaluated: one file per way to reach a model."""
