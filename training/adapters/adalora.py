"""AdaLoRA: LoRA with a rank budget shared by all layers (Zhang et al. 2023, arXiv:2303.10512).

An update is B diag(E) A. Every layer starts with `init_r` values in E. During training the least
important ones of all layers are set to zero, until `r` per layer remain on average. PEFT's
`RankAllocator` computes the importance from weights and gradients.

The saved adapter keeps the full matrices, with zeros in E for removed ranks. It therefore loads,
resumes and merges with the scale it was trained with.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.adapters.target_modules import module_options
from training.config.adapters import AdaLora
from training.errors import RunError
from training.trainer.step_hooks import register_step_hook

_STATE = ("ipt", "exp_avg_ipt", "exp_avg_unc")
"""Moving averages of sensitivity and uncertainty in PEFT's allocator, one tensor per matrix."""


def apply(
    model: PreTrainedModel,
    adapter: AdaLora,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> PeftModel:
    """Return `model` with a fresh adapter and everything else frozen.

    Args:
        model: The base model.
        adapter: The job's section.
        tokenizer: Not used.
        max_length: Not used.

    Raises:
        ModelError: The job names a module that the model does not have.
    """
    config = AdaLoraConfig(
        **module_options(model, adapter),
        init_r=adapter.init_r,
        target_r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        fan_in_fan_out=adapter.fan_in_fan_out,
        deltaT=adapter.delta_t,
        beta1=adapter.beta1,
        beta2=adapter.beta2,
        orth_reg_weight=adapter.orth_reg_weight,
        # Replaced by `AdaLoraStepHook.on_train_begin`, when the number of steps is known.
        total_step=1,
    )
    tuned = get_peft_model(model, config)
    for name, parameter in tuned.named_parameters():
        if ".ranknum." in name:
            # The divisor of the scale. With a bf16 base PEFT would leave it trainable.
            parameter.requires_grad_(False)
            parameter.data = parameter.data.float()
    register_step_hook(tuned, AdaLoraStepHook(tuned, adapter))
    return tuned


class AdaLoraStepHook:
    """Step hook that removes ranks on the schedule of the job.

    Args:
        tuned: Model with an AdaLoRA adapter.
        adapter: The job's section, with the schedule.
    """

    def __init__(self, tuned: PeftModel, adapter: AdaLora):
        self.adapter = adapter
        self.model = tuned.base_model.model
        self.allocator: Any = tuned.base_model.rankallocator
        self.rank_pattern: dict[str, list[bool]] | None = None
        """Mask of the ranks that remain, by the name of each E; None before the first removal."""

    def on_train_begin(self, max_steps: int) -> None:
        """Set the schedule from the length of the run.

        Args:
            max_steps: Number of optimizer steps of the run.

        Raises:
            RunError: Warm-up and final phase leave no step for removing ranks.
        """
        config = self.allocator.peft_config
        tinit, tfinal = (w.steps(max_steps) for w in (self.adapter.tinit, self.adapter.tfinal))
        if tinit + tfinal >= max_steps:
            raise RunError(
                f"adapter.tinit ({tinit} steps) and adapter.tfinal ({tfinal} steps) leave none of "
                f"{max_steps} steps for removing ranks. Shorten them, or train longer"
            )
        config.total_step, config.tinit, config.tfinal = max_steps, tinit, tfinal

    def add_gradients(self) -> dict[str, float]:
        """Add the gradient of the orthogonality penalty, once per optimizer step.

        The penalty is the mean of ‖PPᵀ - I‖ over all A and Bᵀ (the paper's regularizer without the
        square), times `orth_reg_weight`. It depends on the weights alone, so every process adds the
        same gradient and no reduction is needed.
        """
        factors = [
            (p, p if "lora_A" in name else p.T)
            for name, p in self.model.named_parameters()
            if p.requires_grad and ("lora_A" in name or "lora_B" in name)
        ]
        distances = [torch.dist(m @ m.T, torch.eye(len(m), device=m.device)) for _, m in factors]
        distance = torch.stack(distances).mean()
        parameters = [p for p, _ in factors]
        penalty = self.adapter.orth_reg_weight * distance
        for p, gradient in zip(parameters, torch.autograd.grad(penalty, parameters), strict=True):
            p.grad = gradient if p.grad is None else p.grad.add_(gradient)
        return {"orthogonality": float(distance.detach())}

    def on_optimizer_step(self, step: int) -> dict[str, float]:
        """Update importance from the gradients, and set the least important ranks to zero.

        Args:
            step: Number of optimizer steps done.
        """
        config = self.allocator.peft_config
        last_allocation = config.total_step - config.tfinal
        if step > last_allocation:
            # The optimizer also updates removed ranks: set them to zero again after each step.
            self.allocator.mask_using_rank_pattern(self.model, self.rank_pattern)
        else:
            final = step == last_allocation
            _, pattern = self.allocator.update_and_allocate(self.model, step, force_mask=final)
            self.rank_pattern = pattern or self.rank_pattern
        for name, parameter in self.model.named_parameters():
            if "lora_E" in name and self.rank_pattern and not any(self.rank_pattern[name]):
                # A layer without ranks has no gradient: exempt it from the guard that every
                # trained parameter changes.
                parameter.may_rest = True
        total = self.allocator.init_bgt
        if self.rank_pattern is not None:
            total = sum(sum(mask) for mask in self.rank_pattern.values())
        return {"mean_rank": total / len(self.allocator.name_set)}

    def state_dict(self) -> dict[str, Any]:
        """Return the state that an exact resume needs in addition to the weights."""
        return {
            "kept": self.rank_pattern,
            **{name: getattr(self.allocator, name) for name in _STATE},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        self.rank_pattern = state["kept"]
        devices = {name: p.device for name, p in self.model.named_parameters()}
        for name in _STATE:
            moved = {key: tensor.to(devices[key]) for key, tensor in state[name].items()}
            setattr(self.allocator, name, moved)
