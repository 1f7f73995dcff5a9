"""Contamination of rows with benchmark items, copied, edited or rephrased."""
