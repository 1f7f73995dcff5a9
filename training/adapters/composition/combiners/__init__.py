"""Combiners: one file per rule by which the outputs of several adapters are weighted."""
