"""Intervals of metrics, and tests of the difference between two models on the same items."""
