"""Passes over the data: runs of steps between two points where all rows must be known."""
