"""Search of texts for items of a benchmark, in data that are prepared and in those of a run."""
