"""Next-token training with a penalty for the distance from the initial model, against forgetting.

- `train.l2_sp`: α/2 · ‖w − w₀‖² over the trainable parameters is added to the loss (L2-SP, Li et
  al. 2018, arXiv:1802.01483). The initial parameters w₀ need as much memory as w.
- `train.kl_to_base`: β · KL(base ‖ model), averaged over the supervised tokens, is added to the
  loss (learning without forgetting, Li and Hoiem 2016, arXiv:1606.09282). The base is the model
  with its adapter disabled; a run that trains all weights holds a second, frozen model.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from trl.models import prepare_deepspeed, prepare_fsdp

from training.methods.common.causal_lm import CausalLmTrainer, build_causal_lm
from training.methods.common.distillation_head import add_distillation_head
from training.methods.common.divergence import DistillationLoss, TopKTargets
from training.models.fused_log_probs import IGNORE
from training.trainer.context import TrainerContext


class RegularizedTrainer(CausalLmTrainer):
    """Causal LM trainer that penalizes the distance from the initial model.

    Args:
        more: Arguments of `CausalLmTrainer`.
    """

    def __init__(self, **more: Any):
        super().__init__(**more)
        train = self.setup.job.train
        self.l2_sp, self.kl = train.l2_sp, train.kl_to_base
        # A resumed run is at its initial weights here too: the checkpoint is loaded later.
        self.initial = {
            name: parameter.detach().clone()
            for name, parameter in self.model.named_parameters()
            if self.l2_sp and parameter.requires_grad
        }
        # The head returns w · soft + (1 − w) · hard. With w = β / (1 + β), (1 + β) times that is
        # hard + β · soft.
        self.loss = DistillationLoss("forward_kl", 1.0, self.kl / (1 + self.kl))
        self.base: Any = None
        if self.kl:
            all_positions = self.setup.shapes is not None
            add_distillation_head(self.model, self.loss, all_positions=all_positions)
            if not isinstance(self.model, PeftModel):
                self.base = self.setup.load_initial_model().requires_grad_(False).eval()

    def on_engine_ready(self, number: int) -> None:
        """Move the initial parameters to the device, and give the base to the engine."""
        device = self.setup.world.device
        self.initial = {name: value.to(device) for name, value in self.initial.items()}
        if self.base is None:
            return
        if self.is_deepspeed_enabled:
            self.base = prepare_deepspeed(self.base, self.accelerator)
        elif self.is_fsdp_enabled:
            self.base = prepare_fsdp(self.base, self.accelerator)
        else:
            self.base.to(device)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the loss on the labels plus the penalties.

        Args:
            model: Model, wrapped by its engine.
            inputs: Micro-batch with `input_ids` and `labels`, [batch, sequence].
            return_outputs: Must be False.
            num_items_in_batch: Supervised tokens of the step over all processes.
        """
        if self.kl:
            loss = self._loss_with_kl(model, inputs, num_items_in_batch)
        else:
            loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self.l2_sp and model.training:
            squared_distance = self._squared_distance()
            self.add_metric("l2_distance", squared_distance.detach().sqrt(), 1)
            # The penalty belongs to the step: losses of micro-batches add up, so each carries an
            # equal part. Processes are averaged, so there is no division by their number.
            steps = self.current_gradient_accumulation_steps
            loss = loss + 0.5 * self.l2_sp * squared_distance / steps
        return loss

    def _loss_with_kl(
        self, model: Any, inputs: dict[str, Any], num_tokens: torch.Tensor | int | None
    ) -> torch.Tensor:
        mask = inputs["labels"][:, 1:] != IGNORE
        logits = self._base_logits(inputs)
        logits = logits[mask] if self.setup.shapes is None else logits.flatten(0, 1)
        targets = TopKTargets(self.loss.log_softmax(logits))
        outputs = model(**inputs, soft_targets=targets, soft_weight=self.loss.soft_weight)
        supervised = mask.sum()
        self.add_metric("kl_to_base", outputs.soft.detach(), supervised)
        count = torch.as_tensor(supervised if num_tokens is None else num_tokens).clamp(min=1)
        loss: torch.Tensor = (1 + self.kl) * outputs.total / count
        return loss * self.accelerator.num_processes if model.training else loss

    def _base_logits(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Return the logits of the initial model, [batch, sequence - 1, vocabulary]."""
        named = {k: inputs[k] for k in ("input_ids", "position_ids") if k in inputs}
        with torch.no_grad():
            if self.base is not None:
                return self.base(**named, use_cache=False).logits[:, :-1]
            unwrapped = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
            was_training = unwrapped.training
            unwrapped.eval()
            with unwrapped.disable_adapter():
                logits: torch.Tensor = self.model(**named, use_cache=False).logits[:, :-1]
            unwrapped.train(was_training)
        return logits

    def _squared_distance(self) -> torch.Tensor:
        parameters = dict(self.model.named_parameters())
        parts = [
            (parameters[name].float() - value.float()).square().sum()
            for name, value in self.initial.items()
        ]
        return torch.stack(parts).sum()


def build_regularized(
    model: Any, tokenizer: Any, rows: Any, arguments: dict[str, Any], setup: TrainerContext
) -> CausalLmTrainer:
    """Return the trainer for next-token prediction, with the penalties that the job asks for.

    Args:
        model: Model, with its adapter if the job has one.
        tokenizer: Tokenizer, saved with the model.
        rows: `datasets.Dataset` of tokenized rows; their labels determine the supervised tokens.
        arguments: Arguments of `transformers.TrainingArguments`.
        setup: Context of the training run.
    """
    train = setup.job.train
    regularized = train.l2_sp or train.kl_to_base
    trainer = RegularizedTrainer if regularized else CausalLmTrainer
    built: CausalLmTrainer = build_causal_lm(model, tokenizer, rows, arguments, setup, trainer)
    return built
