"""RLOO (Ahmadian et al. 2024, arXiv:2402.14740) on TRL's trainer: REINFORCE, leave-one-out.

An answer counts by how much better it is than the other answers to its prompt; straying from the
reference is paid for out of the reward. The loss is a mean over the answers of the step.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase
from trl import RLOOConfig, RLOOTrainer

from training.config.sampled import Rloo
from training.engine.setup import Setup
from training.methods.sampled import SampledTrainer, build_sampled


class LeaveOneOutTrainer(SampledTrainer, RLOOTrainer):
    """TRL's RLOO trainer, exact."""


def build(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: Setup,
) -> LeaveOneOutTrainer:
    """Return the trainer."""
    method = setup.job.method
    assert isinstance(method, Rloo)
    return build_sampled(
        *(LeaveOneOutTrainer, RLOOConfig, model, tokenizer, rows, arguments, setup),
        normalize_advantages=method.normalize_advantages,
    )
