"""Next-token training on TRL's SFT trainer, shared by pre-training, fine-tuning and distillation.

The loss is the mean over the supervised tokens of the optimizer step, over all micro-batches and
processes, so that it does not depend on how the step was split.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from training.trainer.context import TrainerContext
from training.trainer.exact_trainer import ExactTrainerMixin


class CausalLmTrainer(ExactTrainerMixin, SFTTrainer):
    """TRL's SFT trainer with exact resume and a loss per supervised token of the step."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the sum of the token losses divided by the supervised tokens of the step.

        TRL's own `compute_loss` also gathers entropy and accuracy from every process in every
        micro-batch, which costs time and is not logged here.

        Args:
            model: Model, wrapped by its engine.
            inputs: Micro-batch with `input_ids` and `labels`, [batch, sequence].
            return_outputs: Must be False.
            num_items_in_batch: Supervised tokens of the step over all processes; None to average
                over this micro-batch.
        """
        assert not return_outputs, "the outputs are not available: the model returns log-probs"
        outputs = model(**inputs, next_token_log_probs=True)
        if num_items_in_batch is None:
            num_items_in_batch = outputs.label_mask.sum()
        # A padding micro-batch has no supervised token and a loss of 0: avoid 0 / 0.
        loss = -outputs.log_probs.sum() / torch.as_tensor(num_items_in_batch).clamp(min=1)
        # Data parallelism averages gradients over processes, but the divisor is global already.
        return loss * self.accelerator.num_processes if model.training else loss


def build_causal_lm(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Any,
    arguments: dict[str, Any],
    setup: TrainerContext,
    trainer: type[CausalLmTrainer] = CausalLmTrainer,
    **more: Any,
) -> Any:
    """Return a trainer for rows that are tokenized and masked.

    Args:
        model: Model, with its adapter if the job has one.
        tokenizer: Tokenizer, saved with the model.
        rows: `datasets.Dataset` of tokenized rows.
        arguments: Arguments of `transformers.TrainingArguments`.
        setup: Context of the training run.
        trainer: Class of the trainer.
        **more: Further arguments of that class.
    """
    config = SFTConfig(
        **arguments,
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        activation_offloading=False,
    )
    return trainer(
        setup=setup,
        model=model,
        args=config,
        train_dataset=rows,
        data_collator=setup.collate,
        processing_class=tokenizer,
        **more,
    )
