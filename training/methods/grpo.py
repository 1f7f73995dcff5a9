"""GRPO (Shao et al. 2024, arXiv:2402.03300) on TRL's trainer: rewards relative to their group.

Several answers are sampled to each prompt. The advantage of answer i in a group with rewards r is

    A_i = (r_i − mean(r)) / std(r)

so that no critic is needed; `scale_rewards` replaces the standard deviation. The loss is PPO's
clipped objective plus β · KL(policy ‖ reference), averaged over the tokens of the optimizer step
(`dapo`, arXiv:2503.14476), over its answers (`grpo`), or divided by the length limit (`dr_grpo`,
arXiv:2503.20783). None of these depends on the micro-batches.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase
from trl import GRPOConfig, GRPOTrainer

from training.config.online_rl import Grpo
from training.methods.common.online_rl import OnlineRlTrainer
from training.methods.common.online_rl_builder import build_online_rl
from training.trainer.context import TrainerContext


class GrpoTrainer(OnlineRlTrainer, GRPOTrainer):
    """TRL's GRPO trainer with exact resume."""

    _answers_per_prompt_argument = (1,)


def build(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
) -> GrpoTrainer:
    """Return the trainer.

    Args:
        model: Policy, with its adapter if the job has one.
        tokenizer: Tokenizer, saved with the model.
        rows: `datasets.Dataset` of prompts.
        arguments: Arguments of `transformers.TrainingArguments`.
        setup: Context of the training run.
    """
    method = setup.job.method
    assert isinstance(method, Grpo)
    trainer: GrpoTrainer = build_online_rl(
        *(GrpoTrainer, GRPOConfig, model, tokenizer, rows, arguments, setup),
        loss_type=method.loss,
        scale_rewards=method.scale_rewards,
        importance_sampling_level="token",
    )
    return trainer
