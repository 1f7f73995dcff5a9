"""Reference model of a preference or RL method: the model as it was before training.

Three forms exist. With an adapter that is new and changes nothing yet, the reference is the model
with its adapter disabled, which needs no memory. With an adapter that was trained before, TRL's
frozen copy of it (named "ref") is the reference. A run that trains all weights loads a second,
frozen model.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from trl.models import prepare_deepspeed, prepare_fsdp
from trl.trainer.utils import add_fused_lm_head

from training.errors import GuardError
from training.methods.common.fixed_rows import with_fixed_rows
from training.methods.common.per_row_loss import disable_dropout
from training.trainer.context import TrainerContext
from training.trainer.sample_order import PADDING_INDEX
from training.trainer.seed import preserve_rng_state

_ADAPTER_COPY = "ref"
"""Name that TRL gives to its frozen copy of an adapter."""
_TOLERANCE = 1e-3
"""Nats per token by which two computations of the same log-probability may differ."""


def load_reference_model(setup: TrainerContext) -> Any:
    """Return a frozen copy of the initial model; None if an adapter makes it unnecessary.

    The copy is loaded from disk, because a model that an engine has sharded cannot be copied.
    """
    if setup.job.adapter is not None:
        return None
    model = setup.load_initial_model()
    disable_dropout(model)
    return model.requires_grad_(False).eval()


def drop_redundant_adapter_copy(trainer: Any) -> None:
    """Delete TRL's frozen copy of an adapter that changes nothing yet.

    Disabling the adapter gives the same reference without the copy's memory and computation.
    """
    model = trainer.model
    if isinstance(model, PeftModel) and _is_identity_adapter(model):
        delete_adapter_copy(model)


def delete_adapter_copy(model: Any) -> None:
    """Delete the frozen copy of the adapter that a trainer of TRL made, if there is one."""
    if isinstance(model, PeftModel) and _ADAPTER_COPY in model.peft_config:
        model.delete_adapter(_ADAPTER_COPY)
        model.set_adapter("default")


def attach_reference(trainer: Any, temperature: float) -> None:
    """Give TRL's GRPO or RLOO trainer its reference, prepared as TRL would.

    Args:
        trainer: Trainer that was built without a reference.
        temperature: Sampling temperature, at which log-probabilities are computed.
    """
    setup: TrainerContext = trainer.setup
    model = load_reference_model(setup)
    if model is not None:
        add_fused_lm_head(model, temperature=temperature)
        if trainer.is_deepspeed_enabled:
            trainer.ref_model = prepare_deepspeed(model, trainer.accelerator)
        elif trainer.is_fsdp_enabled:
            trainer.ref_model = prepare_fsdp(model, trainer.accelerator)
        else:
            trainer.ref_model = trainer.accelerator.prepare_model(model, evaluation_mode=True)
    elif not _is_identity_adapter(trainer.model):
        _copy_adapter(trainer.model)


def _copy_adapter(model: PeftModel) -> None:
    """Add a frozen copy of the adapter under the name that TRL looks for."""
    model.add_adapter(_ADAPTER_COPY, model.peft_config["default"])
    for name, parameter in list(model.named_parameters()):
        if ".default." in name:
            copy = model.get_parameter(name.replace(".default.", f".{_ADAPTER_COPY}."))
            copy.data.copy_(parameter.data)
    model.set_adapter("default")


def _is_identity_adapter(model: PeftModel) -> bool:
    """Return True if the model with its adapter is still the model without it.

    A new LoRA adapter has one factor (PEFT's B) at zero, which is checked in the weights. Any other
    kind of adapter is assumed to change the model.
    """
    config = model.peft_config["default"]
    if config.is_prompt_learning or str(config.peft_type).rpartition(".")[2] != "LORA":
        return False
    factors = [p for name, p in model.named_parameters() if ".lora_B.default." in name]
    return bool(factors) and not any(_max_abs(factor) for factor in factors)


def _max_abs(parameter: torch.nn.Parameter) -> float:
    # Under ZeRO 3 the parameter itself is empty; `ds_tensor` is this process's shard. It may be
    # empty too, on a process that has no part of a small parameter.
    shard = getattr(parameter, "ds_tensor", parameter).detach()
    return float(shard.abs().max()) if shard.numel() else 0.0


def check_reference_at_start(trainer: Any) -> None:
    """Check on some rows that the reference equals the model before the first step.

    Raises:
        GuardError: They differ.
    """
    setup: TrainerContext = trainer.setup
    count = min(setup.micro_batch_size, 4)
    batch = setup.collate([setup.table[index] for index in _first_rows(setup)[:count]])
    device = setup.world.device
    batch = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    was_training = trainer.model.training
    trainer.model.eval()
    with preserve_rng_state(), torch.no_grad(), trainer.compute_loss_context_manager():
        reference = torch.cat(trainer.reference_logps(batch)).cpu().double()
        labels = batch["labels"]
        inputs = {"input_ids": batch["input_ids"], "labels": labels}
        model = with_fixed_rows(trainer.model_wrapped, setup)
        outputs = model(**inputs, next_token_log_probs=True)
        policy = outputs.log_probs.cpu().double().sum(1)
    trainer.model.train(was_training)
    tokens = (labels[:, 1:] != -100).sum(1).clamp(min=1).cpu()
    check_reference_gap(float(((policy - reference).abs() / tokens).max()))


def check_reference_gap(gap: float) -> None:
    """Stop a run whose reference is not the model that it starts from.

    Args:
        gap: Largest difference of log-probabilities, in nats per token.

    Raises:
        GuardError: The difference exceeds the rounding of two computations of the same.
    """
    # "not <=" rather than ">", so that NaN raises too.
    if not gap <= _TOLERANCE:
        raise GuardError(
            f"the reference differs from the model before the first step, by {gap:.3g} nats per "
            f"token, so that the KL penalty would be measured from another model. This is a bug "
            f"in Temper; leave out the adapter's unusual options, or method.precompute, and "
            f"report it"
        )


def _first_rows(setup: TrainerContext) -> list[int]:
    return [index for index in next(setup.order.steps()) if index != PADDING_INDEX]
