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
    soft: ClassVar[bool] = False
    """Whether it is made of virtual tokens before a row."""

    @property
    def quantized(self) -> bool:
        """Whether the base is loaded in 4 bits."""
        return False


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

    kind: Literal["qlora"]  # type: ignore[assignment]  # narrows its parent's tag
    quant_type: Literal["nf4", "fp4"] = "nf4"
    double_quant: bool = True
    """Quantize the quantization constants too."""
    compute_dtype: Literal["bf16", "fp16", "fp32"] = "bf16"
    """What the 4-bit weights are expanded to for each product."""

    @property
    def quantized(self) -> bool:
        """Always: that is what it is for."""
        return True


class FrozenBase(Section):
    """For adapters whose base may rest in 4 bits (LoRA does so under the name `qlora`)."""

    base_4bit: bool = False
    """Load the base in 4 bits (NF4, double quantization)."""

    @property
    def quantized(self) -> bool:
        """Whether the base is loaded in 4 bits."""
        return self.base_4bit


class VirtualTokens(FrozenBase):
    """What soft prompts have in common."""

    soft: ClassVar[bool] = True

    num_virtual_tokens: PositiveInt = 20
    """Vectors before each row. They take up as much of the context."""


Start = Literal["vocabulary", "text", "random"]


class PromptTuning(VirtualTokens, AdapterSection):
    """Trained vectors before the input (Lester et al. 2021, arXiv:2104.08691)."""

    impl = "training.adapters.prompt_tuning:apply"

    kind: Literal["prompt_tuning"]
    init: Start = "vocabulary"
    """Start from words of the vocabulary, from `init_text`, or from random vectors (much worse)."""
    init_text: str | None = None
    """The text to start from, such as a description of the task."""


class PTuning(VirtualTokens, AdapterSection):
    """Vectors before the input that a small network makes (Liu et al. 2021, arXiv:2103.10385)."""

    impl = "training.adapters.p_tuning:apply"

    kind: Literal["p_tuning"]
    encoder: Literal["mlp", "lstm"] = "mlp"
    encoder_hidden_size: PositiveInt | None = None
    """Width of the network; the model's own when left out."""
    encoder_num_layers: PositiveInt = 2
    """Layers of the LSTM. The MLP always has three."""
    encoder_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Between the layers of the LSTM."""


class PrefixTuning(VirtualTokens, AdapterSection):
    """Trained keys and values in every layer (Li and Liang 2021, arXiv:2101.00190)."""

    impl = "training.adapters.prefix_tuning:apply"

    kind: Literal["prefix_tuning"]
    projection: bool = False
    """Let a small network make the prefix. It is left out of what is saved for use."""
    encoder_hidden_size: PositiveInt | None = None
    """Width of that network; the keys' own when left out."""
    init: Start | None = None
    """Start from what words of the vocabulary leave behind in each layer (as when left out), or
    those of `init_text`, or from random vectors. A projection always starts at random."""
    init_text: str | None = None


Adapter = Annotated[
    Lora | Qlora | PromptTuning | PTuning | PrefixTuning, Field(discriminator="kind")
]
