"""Proximal policy optimization (Schulman et al. 2017, arXiv:1707.06347) for language models.

Each rollout samples answers to a batch of prompts, scores them, and trains on them for a few epochs
of optimizer steps; the clipped objective limits how far the policy moves from the one that sampled.
An action is a token of an answer. `trainer.py` combines the parts: `sampler` (answers),
`rollout` (data), `advantages` (GAE), `losses`, `critic`, `kl_controller` and `stop_rules`.
"""

from training.methods.ppo.build import build

__all__ = ["build"]
