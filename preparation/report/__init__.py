"""Report of a preparation: counts, examples and the card of the data set."""
