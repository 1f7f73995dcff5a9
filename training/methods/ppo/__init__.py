"""Proximal policy optimisation: the answers that score well become likelier, within limits.

Each rollout answers a batch of prompts, scores the answers, and learns from them for a few epochs
of optimizer steps. Every file here is one part of that; `trainer.py` puts them together.
"""

from training.methods.ppo.build import build

__all__ = ["build"]
