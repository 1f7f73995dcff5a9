"""AdaLoRA: LoRA whose ranks are dealt out among the layers (Zhang et al. 2023, arXiv:2303.10512).

An update is B diag(E) A. Every layer begins with `init_r` values in E; step by step those that
matter least, wherever they are, are set to zero, until `r` are left in a layer on average. What
matters is told from weights and gradients by PEFT's own `RankAllocator`.

What is saved keeps the full matrices, with E zero where nothing is left: so it loads, goes on and
merges with the scale it was trained with.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from training.adapters.target_modules import check_targets
from training.config.adapters import AdaLora
from training.errors import RunError
from training.models.heads import task_of
from training.trainer.step_hooks import register_step_hook

_STATE = ("ipt", "exp_avg_ipt", "exp_avg_unc")
"""What PEFT's allocator remembers of each matrix."""


def apply(
    model: PreTrainedModel,
    adapter: AdaLora,
    *,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> PeftModel:
    """Return `model` with a fresh adapter that changes nothing yet; everything else is frozen.

    Raises:
        ModelError: A target names no module of this model.
    """
    check_targets(model, adapter)
    targets = adapter.target_modules
    config = AdaLoraConfig(
        task_type=task_of(model),
        init_r=adapter.init_r,
        target_r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        fan_in_fan_out=adapter.fan_in_fan_out,
        modules_to_save=list(adapter.modules_to_save) or None,
        deltaT=adapter.delta_t,
        beta1=adapter.beta1,
        beta2=adapter.beta2,
        orth_reg_weight=adapter.orth_reg_weight,
        # The run's length is known when its rows are: see `RankBudget.begin`.
        total_step=1,
    )
    tuned = get_peft_model(model, config)
    for name, parameter in tuned.named_parameters():
        if ".ranknum." in name:
            # What updates are divided by; on a base in bf16 PEFT would have it learn.
            parameter.requires_grad_(False)
            parameter.data = parameter.data.float()
    register_step_hook(tuned, AdaLoraStepHook(tuned, adapter))
    return tuned


class AdaLoraStepHook:
    """Deals ranks out while a run trains.

    Args:
        tuned: With an adapter of this kind.
        adapter: Says when and how fast.
    """

    def __init__(self, tuned: PeftModel, adapter: AdaLora):
        self.adapter = adapter
        self.model = tuned.base_model.model
        self.allocator: Any = tuned.base_model.rankallocator
        self.kept: dict[str, list[bool]] | None = None
        """Which values of each E stay, once that is settled."""

    def on_train_begin(self, max_steps: int) -> None:
        """Lay out when ranks fall.

        Args:
            max_steps: Optimizer steps of the whole run.

        Raises:
            RunError: No step is left in which they could.
        """
        config = self.allocator.peft_config
        tinit, tfinal = (w.steps(max_steps) for w in (self.adapter.tinit, self.adapter.tfinal))
        if tinit + tfinal >= max_steps:
            raise RunError(
                f"adapter.tinit ({tinit} steps) and adapter.tfinal ({tfinal} steps) leave none of "
                f"{max_steps} steps for dealing out ranks. Shorten them, or train longer"
            )
        config.total_step, config.tinit, config.tfinal = max_steps, tinit, tfinal

    def add_gradients(self) -> dict[str, float]:
        """Add the gradient of a penalty that keeps A and B orthogonal, once per step.

        It is the mean over all of them of ‖PPᵀ - I‖, times `orth_reg_weight`; every process has the
        same weights, and so the same gradient.
        """
        sides = [
            (p, p if "lora_A" in name else p.T)
            for name, p in self.model.named_parameters()
            if p.requires_grad and ("lora_A" in name or "lora_B" in name)
        ]
        distances = [torch.dist(m @ m.T, torch.eye(len(m), device=m.device)) for _, m in sides]
        distance = torch.stack(distances).mean()
        vectors = [p for p, _ in sides]
        penalty = self.adapter.orth_reg_weight * distance
        for p, gradient in zip(vectors, torch.autograd.grad(penalty, vectors), strict=True):
            p.grad = gradient if p.grad is None else p.grad.add_(gradient)
        return {"orthogonality": float(distance.detach())}

    def on_optimizer_step(self, step: int) -> dict[str, float]:
        """Take note of gradients, which are still there, and set to zero what matters least.

        Args:
            step: Optimizer steps done.
        """
        config = self.allocator.peft_config
        settled = config.total_step - config.tfinal
        if step > settled:
            # The optimizer moves what was set to zero; it stays zero from here on.
            self.allocator.mask_using_rank_pattern(self.model, self.kept)
        else:
            last = step == settled
            _, kept = self.allocator.update_and_allocate(self.model, step, force_mask=last)
            self.kept = kept or self.kept
        for name, parameter in self.model.named_parameters():
            if "lora_E" in name and self.kept and not any(self.kept[name]):
                # Where nothing is left, nothing moves.
                parameter.may_rest = True
        total = self.allocator.init_bgt
        left = total if self.kept is None else sum(sum(kept) for kept in self.kept.values())
        return {"mean_rank": left / len(self.allocator.name_set)}

    def state_dict(self) -> dict[str, Any]:
        """Return what going on needs beside the weights."""
        return {"kept": self.kept, **{name: getattr(self.allocator, name) for name in _STATE}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.kept = state["kept"]
        devices = {name: p.device for name, p in self.model.named_parameters()}
        for name in _STATE:
            moved = {key: tensor.to(devices[key]) for key, tensor in state[name].items()}
            setattr(self.allocator, name, moved)
