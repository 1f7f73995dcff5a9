"""LoRA on the experts of a mixture, which are parameters of three dimensions, not linear layers.

PEFT adapts them by `target_parameters`. For models whose published files have a linear layer per
expert (Mixtral, Qwen-MoE, DeepSeek-V3), it also counts the experts and the router among
`all-linear`; for others (GPT-OSS, Granite-MoE) it does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from peft import PeftModel
from peft.tuners.lora.layer import ParamWrapper
from torch import nn
from transformers import PreTrainedModel

from training.errors import ModelError

_REACH = "experts.gate_up_proj, experts.down_proj"


def target_parameters(model: PreTrainedModel, targets: Iterable[str]) -> list[str] | None:
    """Return the parameters that PEFT is to adapt, checked against the model's.

    Args:
        model: The model without its adapter.
        targets: `adapter.target_parameters` of the job.

    Raises:
        ModelError: The model has no such parameter.
    """
    names = [name for name, _ in model.named_parameters()]
    missing = [t for t in targets if not any(n == t or n.endswith(f".{t}") for n in names)]
    if missing:
        ends = sorted({".".join(name.split(".")[-2:]) for name in _stacked(model)})
        has = f"It has {', '.join(ends)}" if ends else "It has no parameters but those of layers"
        raise ModelError(
            f"adapter.target_parameters: this model has no parameter {', '.join(missing)}. {has}"
        )
    return list(targets) or None


@contextmanager
def explain_unsupported_experts() -> Iterator[None]:
    """Raise what PEFT's LoRA on parameters refuses as an error that says what to change.

    Raises:
        ModelError: It refuses an option of the job.
        ValueError: PEFT refuses something else.
    """
    try:
        yield
    except ValueError as error:
        if "ParamWrapper" not in str(error):
            raise
        raise ModelError(
            f"the adapter includes experts, and PEFT's LoRA on them cannot do this: {error}. Leave "
            f"that option of the adapter out, or name other layers in adapter.target_modules, such "
            f"as [q_proj, k_proj, v_proj, o_proj]"
        ) from error


def check_expert_init(model: PeftModel, init: str) -> None:
    """Raise if an initialization that needs a matrix is asked for experts.

    Args:
        model: Model with its adapter.
        init: `adapter.init` of the job.

    Raises:
        ModelError: It is.
    """
    if init in ("zero", "gaussian") or not any(
        isinstance(m, ParamWrapper) for m in model.modules()
    ):
        return
    raise ModelError(
        f"adapter.init is {init}, which is for the weights of linear layers, and the adapter "
        f"includes experts. Use init: zero, or name other layers in adapter.target_modules, such "
        f"as [q_proj, k_proj, v_proj, o_proj]"
    )


def expert_reach(model: nn.Module) -> str | None:
    """Return a sentence on how much of the experts an adapter reaches; None without experts.

    Args:
        model: Model with its adapter.
    """
    stacked = _stacked(model)
    if not stacked:
        return None
    adapted = {
        id(getattr(wrapper.get_base_layer(), wrapper.parameter_name))
        for wrapper in model.modules()
        if isinstance(wrapper, ParamWrapper)
    }
    reached = sum(_size(p) for p in stacked.values() if id(p) in adapted)
    experts = sum(map(_size, stacked.values()))
    total = sum(_size(p) for p in model.parameters() if not p.requires_grad)
    share = f"{experts / total:.0%} of the model's weights"
    if reached:
        return f"The adapter includes {reached / experts:.0%} of the experts' weights ({share})."
    return (
        f"warning: the adapter includes none of the experts, which are {share}: they are one "
        f"tensor per layer, not linear layers. A lora adapter reaches them with "
        f"target_parameters: [{_REACH}]"
    )


def _stacked(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that hold the matrices of all experts of a layer, by name."""
    return {
        f"{name}.{key}": parameter
        for name, module in model.named_modules()
        if hasattr(module, "num_experts") and "down_proj" in module._parameters
        for key, parameter in module._parameters.items()
        if parameter is not None and len(getattr(parameter, "ds_shape", parameter.shape)) == 3
    }


def _size(parameter: nn.Parameter) -> int:
    return int(getattr(parameter, "ds_numel", parameter.numel()))
