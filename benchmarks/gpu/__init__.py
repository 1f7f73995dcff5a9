"""Checks and measurements of a GPU, without a network: `make bench-gpu`."""
