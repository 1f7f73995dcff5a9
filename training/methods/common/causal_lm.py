"""Next-token training on TRL's SFT trainer: what pre-training and fine-tuning have in common.

The loss is the mean over the supervised tokens of the whole optimizer step, on all processes, and
so does not depend on how the step was cut into micro-batches.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from training.trainer.context import TrainerContext
from training.trainer.exact_trainer import ExactTrainerMixin


class CausalLmTrainer(ExactTrainerMixin, SFTTrainer):
    """TRL's SFT trainer, exact."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the summed token losses over the number of supervised tokens of the step.

        TRL's own also gathers entropy and accuracy from every process for every micro-batch.
        """
        assert not return_outputs, "the loss is all that is asked for here"
        outputs = model(**inputs, next_token_log_probs=True)
        if num_items_in_batch is None:
            num_items_in_batch = outputs.label_mask.sum()
        # At least one: a filler micro-batch has no supervised token and adds nothing.
        loss = -outputs.log_probs.sum() / torch.as_tensor(num_items_in_batch).clamp(min=1)
        return loss * self.accelerator.num_processes if model.training else loss


def build_causal_lm(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
    trainer: type[CausalLmTrainer] = CausalLmTrainer,
) -> CausalLmTrainer:
    """Return the trainer for rows that are already tokenized and masked.

    Args:
        model: With its adapter, if any.
        tokenizer: Saved with the model.
        rows: A `datasets.Dataset` of tokenized rows.
        arguments: Transformers' training arguments.
        setup: What the loop needs.
        trainer: Its class.
    """
    return trainer(
        setup=setup,
        model=model,
        args=config_of(arguments),
        train_dataset=rows,
        data_collator=setup.collate,
        processing_class=tokenizer,
    )


def config_of(arguments: dict[str, Any]) -> SFTConfig:
    """Return TRL's configuration for rows that are prepared already.

    Args:
        arguments: Transformers' training arguments.
    """
    return SFTConfig(
        **arguments,
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        activation_offloading=False,
    )
