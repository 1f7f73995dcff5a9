"""Next-token training that is held near where it started, against forgetting.

- `train.l2_sp`: α/2 · ‖w − w₀‖² over what learns is added to the loss (Li et al. 2018,
  arXiv:1802.01483). w₀ is kept beside w: as much memory again as the weights that learn.
- `train.kl_to_base`: β · KL(base ‖ model) at every supervised token is added to the loss (learning
  without forgetting, Li and Hoiem 2016, arXiv:1606.09282). The base is the model with its adapter
  switched off; a run that trains every weight keeps a frozen second model.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from trl.models import prepare_deepspeed, prepare_fsdp

from training.methods.common.causal_lm import CausalLmTrainer, build_causal_lm
from training.methods.common.distillation_head import add_soft_head
from training.methods.common.divergence import DistillationLoss, TopKTargets
from training.models.fused_log_probs import IGNORE
from training.trainer.context import TrainerContext


class RegularizedTrainer(CausalLmTrainer):
    """A trainer whose loss grows with the distance from the start."""

    def __init__(self, **more: Any):
        super().__init__(**more)
        train = self.setup.job.train
        self.l2_sp, self.kl = train.l2_sp, train.kl_to_base
        # A run that goes on also stands here at its start: its checkpoint is read later.
        self.start = {
            name: parameter.detach().clone()
            for name, parameter in self.model.named_parameters()
            if self.l2_sp and parameter.requires_grad
        }
        # The weighted sum that the head returns, times (1 + β), is hard + β · soft.
        self.loss = DistillationLoss("forward_kl", 1.0, self.kl / (1 + self.kl))
        self.base: Any = None
        if self.kl:
            model = self.model
            adapted = isinstance(model, PeftModel)
            add_soft_head(model.get_base_model() if adapted else model, self.loss)
            if not adapted:
                self.base = self.setup.load_initial_model().requires_grad_(False).eval()

    def on_engine_ready(self, number: int) -> None:
        """Put what the model is compared with where it is."""
        device = self.setup.world.device
        self.start = {name: at.to(device) for name, at in self.start.items()}
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
        """Return the loss on the labels and what is added to it."""
        if self.kl:
            loss = self._near_the_base(model, inputs, num_items_in_batch)
        else:
            loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self.l2_sp and model.training:
            distance = self._squared_distance()
            self.add_metric("l2_distance", distance.detach().sqrt(), 1)
            # Once per step: micro-batches add up, processes are averaged.
            steps = self.current_gradient_accumulation_steps
            loss = loss + 0.5 * self.l2_sp * distance / steps
        return loss

    def _near_the_base(
        self, model: Any, inputs: dict[str, Any], number: torch.Tensor | int | None
    ) -> torch.Tensor:
        mask = inputs["labels"][:, 1:] != IGNORE
        known = TopKTargets(self.loss.soften(self._of_the_base(inputs)[mask]))
        outputs = model(**inputs, soft_targets=known, soft_weight=self.loss.soft_weight)
        supervised = mask.sum()
        self.add_metric("kl_to_base", outputs.soft.detach(), supervised)
        count = torch.as_tensor(supervised if number is None else number).clamp(min=1)
        loss: torch.Tensor = (1 + self.kl) * outputs.total / count
        return loss * self.accelerator.num_processes if model.training else loss

    def _of_the_base(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Return the untouched model's logits, [batch, length - 1, vocabulary]."""
        named = {k: inputs[k] for k in ("input_ids", "position_ids") if k in inputs}
        with torch.no_grad():
            if self.base is not None:
                return self.base(**named, use_cache=False).logits[:, :-1]
            whole = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
            was_training = whole.training
            whole.eval()
            with whole.disable_adapter():
                found: torch.Tensor = self.model(**named, use_cache=False).logits[:, :-1]
            whole.train(was_training)
        return found

    def _squared_distance(self) -> torch.Tensor:
        parameters = dict(self.model.named_parameters())
        parts = [
            (parameters[n].float() - at.float()).square().sum() for n, at in self.start.items()
        ]
        return torch.stack(parts).sum()


def build_regularized(
    model: Any, tokenizer: Any, rows: Any, arguments: dict[str, Any], setup: TrainerContext
) -> CausalLmTrainer:
    """Return the trainer of next tokens, held near its start where the job says so."""
    train = setup.job.train
    anchored = train.l2_sp or train.kl_to_base
    trainer = RegularizedTrainer if anchored else CausalLmTrainer
    return build_causal_lm(model, tokenizer, rows, arguments, setup, trainer)
