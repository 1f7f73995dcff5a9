"""`adapter:` which few weights are trained in place of all. The union is the registry."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from training.config.section import Section
from training.config.units import PositiveFloat, PositiveInt


def _as_modules(value: Any) -> Any:
    return (value,) if isinstance(value, str) and value != "all-linear" else value


TargetModules = Annotated[Literal["all-linear"] | tuple[str, ...], BeforeValidator(_as_modules)]


class AdapterSection(Section):
    """What every adapter declares."""

    impl: ClassVar[str]
    """`module:function` that puts it on a model, imported only when used."""
    quantized: ClassVar[bool] = False
    """Whether the base is loaded in 4 bits."""


class Lora(AdapterSection):
    """Low-rank updates of the chosen linear layers (Hu et al. 2021, arXiv:2106.09685)."""

    impl = "training.adapters.lora:apply"

    kind: Literal["lora"]
    r: PositiveInt = 16
    """Rank of the update."""
    alpha: PositiveFloat = 32
    """Scale: the update counts alpha / r (alpha / √r with `use_rslora`)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: TargetModules = "all-linear"
    """`all-linear`, or the ends of module names such as `[q_proj, v_proj]`."""
    bias: Literal["none", "all", "lora_only"] = "none"
    fan_in_fan_out: bool = False
    """For layers that store (in, out), such as GPT-2's Conv1D."""
    use_rslora: bool = False
    use_dora: bool = False
    modules_to_save: tuple[str, ...] = ()
    """Modules trained in full and saved with the adapter, such as `[embed_tokens, lm_head]`."""


class Qlora(Lora):
    """LoRA on a 4-bit base (Dettmers et al. 2023, arXiv:2305.14314)."""

    impl = "training.adapters.qlora:apply"
    quantized = True

    kind: Literal["qlora"]  # type: ignore[assignment]  # narrows its parent's tag
    quant_type: Literal["nf4", "fp4"] = "nf4"
    double_quant: bool = True
    """Quantize the quantization constants too."""
    compute_dtype: Literal["bf16", "fp16", "fp32"] = "bf16"
    """What the 4-bit weights are expanded to for each product."""


Adapter = Annotated[Lora | Qlora, Field(discriminator="kind")]
