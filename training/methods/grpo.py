"""GRPO (Shao et al. 2024, arXiv:2402.03300) on TRL's trainer: a group's answers against its mean.

There is no critic. The loss is a mean over the tokens of the whole optimizer step (`dapo`), over
answers (`grpo`) or over room for tokens (`dr_grpo`), none of which depends on the micro-batch.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase
from trl import GRPOConfig, GRPOTrainer

from training.config.online_rl import Grpo
from training.methods.common.online_rl import OnlineRlTrainer, build_online_rl
from training.trainer.context import TrainerContext


class GrpoTrainer(OnlineRlTrainer, GRPOTrainer):
    """TRL's GRPO trainer, exact."""

    _one_each = (1,)


def build(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
) -> GrpoTrainer:
    """Return the trainer."""
    method = setup.job.method
    assert isinstance(method, Grpo)
    return build_online_rl(
        *(GrpoTrainer, GRPOConfig, model, tokenizer, rows, arguments, setup),
        loss_type=method.loss,
        scale_rewards=method.scale_rewards,
        importance_sampling_level="token",
    )
