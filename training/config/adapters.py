"""Section `adapter:` of parameter-efficient fine-tuning, one class per kind of adapter."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from training.config.adapter_base import (
    AdapterSection,
    LayerSelection,
    ModuleNames,
    TargetModules,
    Widths,
    as_modules,
)
from training.config.base import ConfigSection
from training.config.lora_init import DECOMPOSED, InitName, refuse_unsupported
from training.config.train import LrSchedule
from training.config.types import PositiveFloat, PositiveInt, Share, WarmupLength

_RANK = {"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"const": "auto"}]}


class RankSearch(ConfigSection):
    """Settings of the search for a rank with `r: auto`."""

    ranks: Annotated[tuple[PositiveInt, ...], Field(min_length=2)] = (4, 8, 16, 32)
    """Ranks to try."""
    steps: PositiveInt = 20
    """Optimizer steps of each trial."""
    margin: Share = Field(default="1%")  # type: ignore[assignment]  # parsed like a job's
    """The search keeps the smallest rank whose held-out loss is within this share of the lowest."""


class Lora(LayerSelection, LrSchedule, AdapterSection):
    """Low-rank updates of the chosen linear layers (Hu et al. 2021, arXiv:2106.09685)."""

    impl = "training.adapters.lora:apply"

    kind: Literal["lora"]
    r: Annotated[PositiveInt, WithJsonSchema(_RANK)] = 16
    """Rank of the update; `auto` tries several and keeps the smallest that does as well."""
    alpha: PositiveFloat = 32
    """Scale of the update: alpha / r, or alpha / √r with `use_rslora`."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: TargetModules = "all-linear"
    """`all-linear`, or the ends of module names such as `[q_proj, v_proj]`."""
    target_parameters: ModuleNames = ()
    """Ends of the names of parameters that no linear layer holds, such as the experts of a mixture:
    `[experts.gate_up_proj, experts.down_proj]`."""
    bias: Literal["none", "all", "lora_only"] = "none"
    fan_in_fan_out: bool = False
    """For layers that store (in, out), such as GPT-2's Conv1D."""
    init: Annotated[InitName, BeforeValidator(refuse_unsupported)] = "zero"
    """`zero`: B is zero, A is Kaiming-uniform (PEFT's default); `gaussian` and `xavier_uniform`
    draw A otherwise. `orthogonal`: neither is zero, their product is. `pissa` (arXiv:2404.02948)
    and `olora` (arXiv:2406.01775): both from the weights, and a frozen second half subtracts them,
    so that the model starts unchanged."""
    use_rslora: bool = False
    use_dora: bool = False
    lora_plus_ratio: PositiveFloat = 1.0
    """LoRA+: ratio of the learning rate of B to that of A, such as 16 (arXiv:2402.12354)."""
    modules_to_save: tuple[str, ...] = ()
    """Modules trained in full and saved with the adapter, such as `[embed_tokens, lm_head]`."""
    rank_search: RankSearch | None = None
    """Search settings of `r: auto`; alpha is then given for rank 16 and scales with the rank."""

    @model_validator(mode="before")
    @classmethod
    def _auto(cls, values: Any) -> Any:
        """Set the largest rank of the search until the search has chosen one.

        Plans and size checks then hold for every rank that is tried.
        """
        if not isinstance(values, dict) or values.get("r") != "auto":
            return values
        search = RankSearch.model_validate(values.get("rank_search") or {})
        largest = max(search.ranks)
        alpha = values.get("alpha", 32)
        scaled = alpha * largest / 16 if isinstance(alpha, int | float) else alpha
        return {**values, "r": largest, "alpha": scaled, "rank_search": search}

    @property
    def kept_rank(self) -> int:
        """Rank of the matrices in memory and on disk: 2r if a frozen half subtracts the start."""
        return 2 * self.r if self.init in DECOMPOSED else self.r

    def num_trained(self, model: Widths) -> int:
        """Return the number of trainable parameters, without `modules_to_save`."""
        targets, linear = self.target_modules, model.linear
        chosen = linear if targets == "all-linear" else [n for n in linear if n in targets]
        per_layer = sum(self.kept_rank * sum(linear[name]) for name in chosen)
        magnitudes = sum(linear[name][1] for name in chosen) if self.use_dora else 0
        return self.num_layers(model.layers) * (per_layer + magnitudes)


class Qlora(Lora):
    """LoRA on a 4-bit base (Dettmers et al. 2023, arXiv:2305.14314)."""

    impl = "training.adapters.qlora:apply"

    kind: Literal["qlora"]  # type: ignore[assignment]  # narrows its parent's tag
    quant_type: Literal["nf4", "fp4"] = "nf4"
    double_quant: bool = True
    """Quantize the quantization constants too."""
    compute_dtype: Literal["bf16", "fp16", "fp32"] = "bf16"
    """Data type that the 4-bit weights are dequantized to for each matrix product."""

    @property
    def quantized(self) -> bool:
        """True: QLoRA is LoRA on a quantized base."""
        return True


class FrozenBase(ConfigSection):
    """Keys of adapters whose base can be loaded in 4 bits (for LoRA, use kind `qlora`)."""

    base_4bit: bool = False
    """Load the base in 4 bits (NF4, double quantization)."""

    @property
    def quantized(self) -> bool:
        """True if the base is loaded in 4 bits."""
        return self.base_4bit


class AdaLora(FrozenBase, LayerSelection, LrSchedule, AdapterSection):
    """AdaLoRA: a rank budget allocated over the layers (Zhang et al. 2023, arXiv:2303.10512)."""

    impl = "training.adapters.adalora:apply"

    kind: Literal["adalora"]
    r: PositiveInt = 8
    """Average rank of a layer at the end of training."""
    init_r: PositiveInt = 12
    """Initial rank of every layer."""
    alpha: PositiveFloat = 32
    """Scale of the update: alpha / init_r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: TargetModules = "all-linear"
    """`all-linear`, or the ends of module names such as `[q_proj, v_proj]`."""
    fan_in_fan_out: bool = False
    """For layers that store (in, out), such as GPT-2's Conv1D."""
    modules_to_save: tuple[str, ...] = ()
    """Modules trained in full and saved with the adapter, such as `[lm_head]`."""
    tinit: WarmupLength = Field(default="10%")  # type: ignore[assignment]  # parsed like a job's
    """Warm-up steps in which no rank is pruned: a share of all steps, or a number."""
    tfinal: WarmupLength = Field(default="30%")  # type: ignore[assignment]  # parsed like a job's
    """Final steps in which ranks no longer change."""
    delta_t: PositiveInt = 10
    """Steps between two allocations of the rank budget."""
    beta1: float = Field(default=0.85, gt=0, lt=1)
    """Decay of the moving average of the sensitivity."""
    beta2: float = Field(default=0.85, gt=0, lt=1)
    """Decay of the moving average of its uncertainty."""
    orth_reg_weight: float = Field(default=0.5, ge=0)
    """Weight of the penalty that keeps the singular vectors orthogonal."""

    def num_trained(self, model: Widths) -> int:
        """Return the number of trainable parameters, without `modules_to_save`."""
        targets, linear = self.target_modules, model.linear
        chosen = linear if targets == "all-linear" else [n for n in linear if n in targets]
        values = sum(self.init_r * (sum(linear[name]) + 1) for name in chosen)
        return self.num_layers(model.layers) * values


class VirtualTokens(FrozenBase):
    """Keys that all soft prompts share."""

    soft: ClassVar[bool] = True

    num_virtual_tokens: PositiveInt = 20
    """Vectors before each row; they use as many positions of the context."""


Start = Literal["vocabulary", "text", "random"]


class PromptTuning(VirtualTokens, AdapterSection):
    """Prompt tuning: trained vectors before the input (Lester et al. 2021, arXiv:2104.08691)."""

    impl = "training.adapters.prompt_tuning:apply"

    kind: Literal["prompt_tuning"]
    init: Start = "vocabulary"
    """Initialize from embeddings of the vocabulary, of `init_text`, or at random (much worse)."""
    init_text: str | None = None
    """Text for `init: text`, such as a description of the task."""

    def num_trained(self, model: Widths) -> int:
        """Return the number of parameters of the vectors."""
        return self.num_virtual_tokens * model.hidden


class PTuning(VirtualTokens, AdapterSection):
    """P-tuning: an encoder computes the vectors (Liu et al. 2021, arXiv:2103.10385)."""

    impl = "training.adapters.p_tuning:apply"

    kind: Literal["p_tuning"]
    encoder: Literal["mlp", "lstm"] = "mlp"
    encoder_hidden_size: PositiveInt | None = None
    """Width of the encoder; that of the model if not set."""
    encoder_num_layers: PositiveInt = 2
    """Layers of the LSTM; the MLP always has three."""
    encoder_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout between the layers of the LSTM."""

    def num_trained(self, model: Widths) -> int:
        """Return the number of parameters of the vectors and of their encoder."""
        h = model.hidden
        e = self.encoder_hidden_size or h
        vectors = self.num_virtual_tokens * h
        if self.encoder == "mlp":
            return vectors + (h + 1) * e + (e + 1) * e + (e + 1) * h
        inputs = [h, *[2 * e] * (self.encoder_num_layers - 1)]
        lstm = sum(2 * 4 * e * (width + e + 2) for width in inputs)
        return vectors + lstm + (2 * e + 1) * 2 * e + (2 * e + 1) * h


class PrefixTuning(VirtualTokens, AdapterSection):
    """Prefix tuning: trained keys and values per layer (Li and Liang 2021, arXiv:2101.00190)."""

    impl = "training.adapters.prefix_tuning:apply"

    kind: Literal["prefix_tuning"]
    projection: bool = False
    """Compute the prefix by an MLP while training; only its output is saved."""
    encoder_hidden_size: PositiveInt | None = None
    """Width of that MLP; that of the keys if not set."""
    init: Start | None = None
    """Initialize from the keys and values that the model computes for tokens of the vocabulary (the
    default), for `init_text`, or at random. A projection always starts at random."""
    init_text: str | None = None

    def num_trained(self, model: Widths) -> int:
        """Return the number of parameters of the keys and values, or of the projection."""
        k = model.keys
        if not self.projection:
            return self.num_virtual_tokens * model.layers * 2 * k
        e = self.encoder_hidden_size or k
        return self.num_virtual_tokens * k + (k + 1) * e + (e + 1) * model.layers * 2 * k


Sublayer = Literal["attention", "mlp"]


class Bottleneck(FrozenBase, LrSchedule, AdapterSection):
    """Bottleneck adapters: small MLPs after each sublayer (Houlsby et al. 2019, arXiv:1902.00751).

    With `placement: parallel`, next to each sublayer (He et al. 2022, arXiv:2110.04366).
    """

    impl = "training.adapters.bottleneck:apply"

    kind: Literal["bottleneck"]
    placement: Literal["sequential", "parallel"] = "sequential"
    """Input of the adapter: the output (`sequential`) or the input (`parallel`) of the sublayer."""
    after: Annotated[
        tuple[Sublayer, ...],
        BeforeValidator(as_modules, json_schema_input_type=Sublayer | tuple[Sublayer, ...]),
        Field(min_length=1),
    ] = ("attention", "mlp")
    """Sublayers of each layer that have an adapter."""
    reduction_factor: PositiveFloat | None = None
    """Width of the model divided by that of the bottleneck; 16 if `size` is not set either."""
    size: PositiveInt | None = None
    """Width of the bottleneck."""
    activation: Literal["relu", "gelu", "silu"] = "relu"
    scaling: PositiveFloat = 1.0
    """Factor of the output."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability that an adapter is skipped for a row while training (stochastic depth)."""

    @property
    def mergeable(self) -> bool:
        """False: a network with a nonlinearity is no change of weights."""
        return False

    def width(self, hidden: int) -> int:
        """Return the width of the bottleneck in a model of width `hidden`."""
        return self.size or int(hidden / (self.reduction_factor or 16))

    def num_trained(self, model: Widths) -> int:
        """Return the number of parameters of all its MLPs."""
        h, size = model.hidden, self.width(model.hidden)
        return model.layers * len(self.after) * (2 * h * size + size + h)


class Ia3(FrozenBase, LrSchedule, AdapterSection):
    """(IA)³: a factor per channel of keys, values and MLP (Liu et al. 2022, arXiv:2205.05638)."""

    impl = "training.adapters.ia3:apply"

    kind: Literal["ia3"]
    target_modules: ModuleNames = (
        "k_proj",
        "v_proj",
        "down_proj",
    )
    """Suffixes of the names of linear layers whose outputs are scaled."""
    feedforward_modules: ModuleNames = ("down_proj",)
    """Target modules whose inputs are scaled instead."""
    modules_to_save: tuple[str, ...] = ()
    """Modules trained in full and saved with the adapter, such as `[lm_head]`."""

    def num_trained(self, model: Widths) -> int:
        """Return the number of factors, without `modules_to_save`."""
        scales_output = {n: n not in self.feedforward_modules for n in self.target_modules}
        linear = model.linear
        return model.layers * sum(linear[n][out] for n, out in scales_output.items() if n in linear)
