"""Benchmark of `temper evaluate` against lm-eval."""
