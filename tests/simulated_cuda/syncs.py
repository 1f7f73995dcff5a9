"""Every point of a training step at which the host waits for the device, with the reason.

A step is forward, backward, the adapter's hook and the metrics; sampling before it is not counted.
`read` copies values to the host, `shape` makes a tensor whose size depends on values, and `write`
copies to the device from memory that is not pinned (the host waits for work queued before).
"""

from __future__ import annotations

_PACKED = "transformers:find_packed_sequence_indices"
_MODELS = "training/models"
_METHODS = "training/methods"
_COMMON = "training/methods/common"
_LOOP = "training/trainer"

_WHY_PACKED = "Transformers looks for packed documents in the positions, once per forward pass"
_WHY_POSITIONS = "only supervised positions reach the head: their number is a shape"
_WHY_TRL = "TRL reads the metrics of a micro-batch one by one"

EXPECTED: dict[tuple[str, str, str], str] = {
    (f"{_LOOP}/metrics.py:read_numbers", "", "read"): "losses and metrics, together, once per step",
    (f"{_LOOP}/exact_trainer.py:_step_metrics", "", "read"): "the norm of the gradient is logged",
    (f"{_LOOP}/batches.py:<dictcomp>", "", "write"): "sampled answers are made in ordinary memory",
    (f"{_MODELS}/fused_log_probs.py:_score", "", "shape"): _WHY_POSITIONS,
    (f"{_MODELS}/fused_log_probs.py:forward", _PACKED, "read"): _WHY_PACKED,
    (f"{_MODELS}/adapter_switching.py:hidden_states", _PACKED, "read"): _WHY_PACKED,
    (f"{_COMMON}/distillation_head.py:forward", "", "shape"): _WHY_POSITIONS,
    (f"{_COMMON}/distillation_head.py:forward", _PACKED, "read"): _WHY_PACKED,
    (f"{_COMMON}/logit_teacher.py:logits", "", "shape"): _WHY_POSITIONS,
    (f"{_COMMON}/logit_teacher.py:_all_logits", _PACKED, "read"): _WHY_PACKED,
    (f"{_COMMON}/per_row_loss.py:forward", _PACKED, "read"): _WHY_PACKED,
    (f"{_METHODS}/dpo.py:micro_batch_means", "trl:_compute_loss", "read"): _WHY_TRL,
    (f"{_METHODS}/dpo.py:micro_batch_means", "trl:_compute_loss", "shape"): _WHY_TRL,
    (f"{_METHODS}/kto.py:_loss", "trl:_compute_loss", "read"): _WHY_TRL,
    (f"{_METHODS}/kto.py:_loss", "trl:_compute_loss", "shape"): "TRL separates good and bad rows",
    (f"{_METHODS}/kto.py:_loss", "trl:_compute_loss", "write"): "TRL moves the rows' indices",
    (f"{_METHODS}/reward.py:_loss_and_scores", "trl:compute_loss", "read"): _WHY_TRL,
    (f"{_COMMON}/online_rl.py:compute_loss", "trl:_compute_loss", "read"): _WHY_TRL,
    (f"{_COMMON}/online_rl.py:compute_loss", "trl:global_masked_mean", "read"): _WHY_TRL,
    (f"{_COMMON}/online_rl.py:compute_loss", "trl:nanmax", "read"): _WHY_TRL,
    (f"{_COMMON}/online_rl.py:compute_loss", "trl:nanmax", "shape"): _WHY_TRL,
    (f"{_COMMON}/online_rl.py:compute_loss", "trl:nanmin", "read"): _WHY_TRL,
    (f"{_COMMON}/online_rl.py:compute_loss", "trl:nanmin", "shape"): _WHY_TRL,
    (
        f"{_COMMON}/online_rl.py:compute_loss",
        "transformers:_ignore_causal_mask_sdpa",
        "read",
    ): "Transformers looks for padding in the attention mask of prompts and answers",
    (f"{_METHODS}/ppo/actor_critic.py:forward", "", "shape"): _WHY_POSITIONS,
    (
        f"{_METHODS}/ppo/trainer.py:_add_loss_metrics",
        "",
        "read",
    ): "the first step on a rollout checks that its ratios are 1",
    ("training/adapters/adalora.py:add_gradients", "", "read"): "the penalty is logged",
    (
        "training/adapters/adalora.py:on_optimizer_step",
        "peft:mask_to_budget",
        "read",
    ): "PEFT finds the ranks to remove on the host",
    (
        "training/adapters/adalora.py:on_optimizer_step",
        "peft:mask_using_rank_pattern",
        "write",
    ): "PEFT makes the mask of the ranks on the host",
    (
        "training/adapters/soft_prompts.py:forward",
        "peft:get_prompt",
        "write",
    ): "PEFT keeps the indices of the virtual tokens on the host",
    (
        "training/adapters/soft_prompts.py:forward",
        "transformers:lazy_initialization",
        "write",
    ): "the cache of a prefix starts as an empty tensor from the host",
}
"""Reason by place, caller and kind (`tensors.Sync`)."""

EVERY_STEP = {
    (f"{_LOOP}/metrics.py:read_numbers", "", "read"): 1,
    (f"{_LOOP}/exact_trainer.py:_step_metrics", "", "read"): 1,
    (f"{_MODELS}/fused_log_probs.py:_score", "", "shape"): 2,
    (f"{_MODELS}/fused_log_probs.py:forward", _PACKED, "read"): 2,
}
"""Waits of one step of sft with two micro-batches."""
