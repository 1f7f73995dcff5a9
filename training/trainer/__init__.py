"""Training loop: exactly resumable trainers, sample order, checkpoints, sharding and callbacks.

Processes and their groups are in `distributed`, what a step does in `exact_trainer`, and what a
checkpoint holds in `resumable` and `checkpoints`.
"""
