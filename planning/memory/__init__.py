"""Simulation of a training step's memory on tensors that have a size and no data."""
