"""`adapter:` which few weights are trained in place of all. The union is the registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from training.config.base import ConfigSection
from training.config.train import LrSchedule
from training.config.types import PositiveFloat, PositiveInt, Share, WarmupLength


def _as_modules(value: Any) -> Any:
    return (value,) if isinstance(value, str) and value != "all-linear" else value


TargetModules = Annotated[Literal["all-linear"] | tuple[str, ...], BeforeValidator(_as_modules)]


@dataclass(frozen=True)
class Widths:
    """What decides how large an adapter is on a model.

    Attributes:
        layers: Transformer layers.
        hidden: Width of the residual stream.
        queries: Width of all queries together.
        keys: Width of all keys together.
        intermediate: Width of the MLP.
    """

    layers: int
    hidden: int
    queries: int
    keys: int
    intermediate: int

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Return inputs and outputs of each linear layer of a layer, by its usual name."""
        h, q, k, i = self.hidden, self.queries, self.keys, self.intermediate
        mlp = {"gate_proj": (h, i), "up_proj": (h, i), "down_proj": (i, h)}
        return {"q_proj": (h, q), "k_proj": (h, k), "v_proj": (h, k), "o_proj": (q, h), **mlp}


class AdapterSection(ConfigSection):
    """What every adapter declares."""

    impl: ClassVar[str]
    """`module:function` that puts it on a model, imported only when used."""
    soft: ClassVar[bool] = False
    """Whether it is made of virtual tokens before a row."""

    @property
    def mergeable(self) -> bool:
        """True if the adapter can be merged into the weights of the base."""
        return not self.soft

    @property
    def quantized(self) -> bool:
        """Whether the base is loaded in 4 bits."""
        return False

    @property
    def learns(self) -> bool:
        """Whether there is anything to train."""
        return True

    def num_trained(self, model: Widths) -> int:
        """Return how many parameters it trains on a model."""
        raise NotImplementedError


_RANK = {"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"const": "auto"}]}


class RankSearch(ConfigSection):
    """How `r: auto` finds the rank."""

    ranks: Annotated[tuple[PositiveInt, ...], Field(min_length=2)] = (4, 8, 16, 32)
    """What is tried."""
    steps: PositiveInt = 20
    """Optimizer steps of each trial."""
    margin: Share = Field(default="1%")  # type: ignore[assignment]  # parsed like a job's
    """The smallest rank is kept whose held-out loss is at most this much above the least."""


class Lora(LrSchedule, AdapterSection):
    """Low-rank updates of the chosen linear layers (Hu et al. 2021, arXiv:2106.09685)."""

    impl = "training.adapters.lora:apply"

    kind: Literal["lora"]
    r: Annotated[PositiveInt, WithJsonSchema(_RANK)] = 16
    """Rank of the update; `auto` tries some briefly and keeps the smallest that does as well."""
    alpha: PositiveFloat = 32
    """Scale: the update counts alpha / r (alpha / √r with `use_rslora`)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: TargetModules = "all-linear"
    """`all-linear`, or the ends of module names such as `[q_proj, v_proj]`."""
    bias: Literal["none", "all", "lora_only"] = "none"
    fan_in_fan_out: bool = False
    """For layers that store (in, out), such as GPT-2's Conv1D."""
    init: Literal["zero", "pissa"] = "zero"
    """`zero`: B is zero, A random. `pissa`: both from the principal components of the weights, what
    they stood for being taken off again by a second half that stays (arXiv:2404.02948)."""
    use_rslora: bool = False
    use_dora: bool = False
    lora_plus_ratio: PositiveFloat = 1.0
    """LoRA+: B learns this many times as fast as A, such as 16 (arXiv:2402.12354)."""
    modules_to_save: tuple[str, ...] = ()
    """Modules trained in full and saved with the adapter, such as `[embed_tokens, lm_head]`."""
    rank_search: RankSearch | None = None
    """What `r: auto` tries; alpha is then meant for a rank of 16 and grows with the rank."""

    @model_validator(mode="before")
    @classmethod
    def _auto(cls, values: Any) -> Any:
        """Plan for the largest rank where it is yet to be found."""
        if not isinstance(values, dict) or values.get("r") != "auto":
            return values
        search = RankSearch.model_validate(values.get("rank_search") or {})
        largest = max(search.ranks)
        alpha = values.get("alpha", 32)
        scaled = alpha * largest / 16 if isinstance(alpha, int | float) else alpha
        return {**values, "r": largest, "alpha": scaled, "rank_search": search}

    @property
    def kept_rank(self) -> int:
        """Rank of the matrices in memory and on disk: twice that with PiSSA's half that stays."""
        return 2 * self.r if self.init == "pissa" else self.r

    def num_trained(self, model: Widths) -> int:
        """Return how many parameters have a gradient; whole modules are not counted."""
        targets, linear = self.target_modules, model.linear
        chosen = linear if targets == "all-linear" else [n for n in linear if n in targets]
        per_layer = sum(self.kept_rank * sum(linear[name]) for name in chosen)
        magnitudes = sum(linear[name][1] for name in chosen) if self.use_dora else 0
        return model.layers * (per_layer + magnitudes)


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


class FrozenBase(ConfigSection):
    """For adapters whose base may rest in 4 bits (LoRA does so under the name `qlora`)."""

    base_4bit: bool = False
    """Load the base in 4 bits (NF4, double quantization)."""

    @property
    def quantized(self) -> bool:
        """Whether the base is loaded in 4 bits."""
        return self.base_4bit


class AdaLora(FrozenBase, LrSchedule, AdapterSection):
    """LoRA whose ranks are dealt out among the layers (Zhang et al. 2023, arXiv:2303.10512)."""

    impl = "training.adapters.adalora:apply"

    kind: Literal["adalora"]
    r: PositiveInt = 8
    """Rank that a layer has on average in the end."""
    init_r: PositiveInt = 12
    """Rank that every layer begins with."""
    alpha: PositiveFloat = 32
    """Scale: the update counts alpha / init_r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: TargetModules = "all-linear"
    """`all-linear`, or the ends of module names such as `[q_proj, v_proj]`."""
    fan_in_fan_out: bool = False
    """For layers that store (in, out), such as GPT-2's Conv1D."""
    modules_to_save: tuple[str, ...] = ()
    """Modules trained in full and saved with the adapter, such as `[lm_head]`."""
    tinit: WarmupLength = Field(default="10%")  # type: ignore[assignment]  # parsed like a job's
    """Steps at the start in which every rank is kept: a share of all, or a number."""
    tfinal: WarmupLength = Field(default="30%")  # type: ignore[assignment]  # parsed like a job's
    """Steps in the end in which no rank changes any more."""
    delta_t: PositiveInt = 10
    """Steps from one dealing out to the next."""
    beta1: float = Field(default=0.85, gt=0, lt=1)
    """How much of the past counts in what matters."""
    beta2: float = Field(default=0.85, gt=0, lt=1)
    """How much of the past counts in how sure that is."""
    orth_reg_weight: float = Field(default=0.5, ge=0)
    """Weight of the penalty that keeps the singular vectors orthogonal."""

    def num_trained(self, model: Widths) -> int:
        """Return how many parameters it trains; whole modules are not counted."""
        targets, linear = self.target_modules, model.linear
        chosen = linear if targets == "all-linear" else [n for n in linear if n in targets]
        return model.layers * sum(self.init_r * (sum(linear[name]) + 1) for name in chosen)


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

    def num_trained(self, model: Widths) -> int:
        """Return the size of the vectors."""
        return self.num_virtual_tokens * model.hidden


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

    def num_trained(self, model: Widths) -> int:
        """Return the size of the vectors and of the network behind them."""
        h = model.hidden
        e = self.encoder_hidden_size or h
        vectors = self.num_virtual_tokens * h
        if self.encoder == "mlp":
            return vectors + (h + 1) * e + (e + 1) * e + (e + 1) * h
        inputs = [h, *[2 * e] * (self.encoder_num_layers - 1)]
        lstm = sum(2 * 4 * e * (width + e + 2) for width in inputs)
        return vectors + lstm + (2 * e + 1) * 2 * e + (2 * e + 1) * h


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

    def num_trained(self, model: Widths) -> int:
        """Return the size of keys and values, or of the network that makes them."""
        k = model.keys
        if not self.projection:
            return self.num_virtual_tokens * model.layers * 2 * k
        e = self.encoder_hidden_size or k
        return self.num_virtual_tokens * k + (k + 1) * e + (e + 1) * model.layers * 2 * k


class Bottleneck(FrozenBase, LrSchedule, AdapterSection):
    """Small networks behind each sublayer (Houlsby et al. 2019, arXiv:1902.00751) or beside it.

    In parallel: He et al. 2022, arXiv:2110.04366.
    """

    impl = "training.adapters.bottleneck:apply"

    kind: Literal["bottleneck"]
    placement: Literal["sequential", "parallel"] = "sequential"
    """`sequential`: reads what the sublayer says. `parallel`: reads what the sublayer reads."""
    after: Annotated[
        tuple[Literal["attention", "mlp"], ...], BeforeValidator(_as_modules), Field(min_length=1)
    ] = ("attention", "mlp")
    """Which sublayers of each layer have one."""
    reduction_factor: PositiveFloat | None = None
    """Width of the model relative to that of the bottleneck; 16 when `size` is left out too."""
    size: PositiveInt | None = None
    """Width of the bottleneck."""
    activation: Literal["relu", "gelu", "silu"] = "relu"
    scaling: PositiveFloat = 1.0
    """What its output is multiplied by."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """How often a whole adapter is left out while training, row by row."""

    @property
    def mergeable(self) -> bool:
        """False: a network with a nonlinearity is no change of weights."""
        return False

    def width(self, hidden: int) -> int:
        """Return the width of the bottleneck in a model `hidden` wide."""
        return self.size or int(hidden / (self.reduction_factor or 16))

    def num_trained(self, model: Widths) -> int:
        """Return the size of all its networks."""
        h, size = model.hidden, self.width(model.hidden)
        return model.layers * len(self.after) * (2 * h * size + size + h)


class Ia3(FrozenBase, LrSchedule, AdapterSection):
    """One factor per channel of keys, values and the MLP (Liu et al. 2022, arXiv:2205.05638)."""

    impl = "training.adapters.ia3:apply"

    kind: Literal["ia3"]
    target_modules: Annotated[tuple[str, ...], BeforeValidator(_as_modules)] = (
        "k_proj",
        "v_proj",
        "down_proj",
    )
    """Ends of the names of linear layers whose outputs are multiplied."""
    feedforward_modules: Annotated[tuple[str, ...], BeforeValidator(_as_modules)] = ("down_proj",)
    """Those of them whose inputs are multiplied instead."""
    modules_to_save: tuple[str, ...] = ()
    """Modules trained in full and saved with the adapter, such as `[lm_head]`."""

    def num_trained(self, model: Widths) -> int:
        """Return how many factors there are; whole modules are not counted."""
        sides = {n: n not in self.feedforward_modules for n in self.target_modules}
        linear = model.linear
        return model.layers * sum(linear[n][out] for n, out in sides.items() if n in linear)
