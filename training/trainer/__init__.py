"""Processes, seeds, sharding, the training loop's exactness, and checkpoints."""
