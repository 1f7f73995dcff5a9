"""Analysis and cleaning of preference labels: agreement, annotators, biases, a training set."""
