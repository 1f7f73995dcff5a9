"""Engine that answers many requests at once with one model in memory."""
