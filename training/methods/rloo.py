"""RLOO (Ahmadian et al. 2024, arXiv:2402.14740) on TRL's trainer: REINFORCE leave-one-out.

Of k answers to a prompt with rewards r, the advantage of answer i is its reward minus the mean of
the others:

    A_i = r_i − (Σ_{j≠i} r_j) / (k − 1)

The KL divergence from the reference is subtracted from the reward, rather than added to the loss as
in GRPO. The loss is a mean over the answers of the step.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase
from trl import RLOOConfig, RLOOTrainer

from training.config.online_rl import Rloo
from training.methods.common.online_rl import OnlineRlTrainer
from training.methods.common.online_rl_builder import build_online_rl
from training.trainer.context import TrainerContext


class RlooTrainer(OnlineRlTrainer, RLOOTrainer):
    """TRL's RLOO trainer with exact resume."""


def build(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
) -> RlooTrainer:
    """Return the trainer.

    Args:
        model: Policy, with its adapter if the job has one.
        tokenizer: Tokenizer, saved with the model.
        rows: `datasets.Dataset` of prompts.
        arguments: Arguments of `transformers.TrainingArguments`.
        setup: Context of the training run.
    """
    method = setup.job.method
    assert isinstance(method, Rloo)
    trainer: RlooTrainer = build_online_rl(
        *(RlooTrainer, RLOOConfig, model, tokenizer, rows, arguments, setup),
        normalize_advantages=method.normalize_advantages,
    )
    return trainer
