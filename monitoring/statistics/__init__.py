"""Two-sample permutation tests, control charts, and the decision over several windows."""
