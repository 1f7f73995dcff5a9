"""Evaluation of models on suites of tasks, paired with the model that they are compared with."""
