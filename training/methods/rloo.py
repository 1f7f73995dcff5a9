"""RLOO (Ahmadian et al. 2024, arXiv:2402.14740) on TRL's trainer: REINFORCE, leave-one-out.

An answer counts by how much better it is than the other answers to its prompt; straying from the
reference is paid for out of the reward. The loss is a mean over the answers of the step.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase
from trl import RLOOConfig, RLOOTrainer

from training.config.online_rl import Rloo
from training.methods.common.online_rl import OnlineRlTrainer, build_online_rl
from training.trainer.context import TrainerContext


class RlooTrainer(OnlineRlTrainer, RLOOTrainer):
    """TRL's RLOO trainer, exact."""


def build(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
) -> RlooTrainer:
    """Return the trainer."""
    method = setup.job.method
    assert isinstance(method, Rloo)
    return build_online_rl(
        *(RlooTrainer, RLOOConfig, model, tokenizer, rows, arguments, setup),
        normalize_advantages=method.normalize_advantages,
    )
