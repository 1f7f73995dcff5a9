"""Generation metrics: one file per metric, named as in `evaluate.generation_metrics`."""
