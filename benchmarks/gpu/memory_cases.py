"""Configurations whose memory is planned and measured: 1, 3 and 8 billion parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.gpu.scale import Scale, Size
from benchmarks.memory.cases import Case as MemoryCase


@dataclass(frozen=True)
class MemorySpec:
    """Settings of one configuration.

    Attributes:
        size: Model.
        rows: Rows of a micro-batch.
        length: Tokens of a row.
        adapter: Adapter section; None for full fine-tuning.
        precision: Precision of the job.
        checkpointing: Whether layers are recomputed.
        more: Other sections of the job.
        label: What differs from plain fine-tuning on text, if anything does.
    """

    size: Size
    rows: int = 1
    length: int = 1024
    adapter: dict[str, Any] | None = None
    precision: str = "bf16"
    checkpointing: bool = False
    more: tuple[tuple[str, dict[str, Any]], ...] = ()
    label: str = ""

    @property
    def name(self) -> str:
        """The settings, as they are listed."""
        kind = self.adapter["kind"] if self.adapter else "full"
        parts = [self.size, self.label or kind, self.precision]
        parts += ["checkpointing"] if self.checkpointing else []
        return f"{', '.join(parts)}, {self.rows} × {self.length:,} tokens"

    @property
    def attention(self) -> str:
        """Attention of the job."""
        return str(dict(self.more).get("model", {}).get("attention", "sdpa"))

    def case(self, scale: Scale) -> MemoryCase:
        """Return the configuration for `benchmarks.memory`, with small rows on a CPU."""
        length = self.length if scale.on_gpu else min(self.length, 128)
        rows = self.rows if scale.on_gpu else min(self.rows, 2)
        more = dict(self.more)
        train = more.pop("train", {})
        sections: dict[str, Any] = {
            "model": {"source": scale.model_name(self.size), **more.pop("model", {})},
            "data": {"train": "long", "max_length": length, **more.pop("data", {})},
            "method": more.pop("method", {"kind": "pretrain"}),
            "precision": self.precision,
            "train": {
                "micro_batch_size": rows,
                "global_batch_size": rows,
                "gradient_checkpointing": self.checkpointing,
                **train,
            },
            **more,
        }
        if self.adapter:
            sections["adapter"] = self.adapter
        return MemoryCase(self.name, "gpu", (sections,))


def specs(group: str) -> Iterator[MemorySpec]:
    """Yield the configurations of `full`, `adapters` or `methods`."""
    yield from {"full": _full, "adapters": _adapters, "methods": _methods}[group]()


def _full() -> Iterator[MemorySpec]:
    for checkpointing in (True, False):
        for precision in ("bf16", "fp32"):
            for rows in (1, 4):
                yield MemorySpec("1B", rows, precision=precision, checkpointing=checkpointing)
    for rows in (1, 4):
        yield MemorySpec("3B", rows, 2048, checkpointing=True)
    for optimizer in ("adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd"):
        more = (("train", {"optimizer": optimizer}),)
        yield MemorySpec("1B", 2, checkpointing=True, more=more, label=f"full, {optimizer}")
    frozen = (("model", {"freeze": {"layers": 1, "embeddings": True}}),)
    yield MemorySpec("1B", 2, more=frozen, label="full, embeddings frozen")
    accumulated = (("train", {"global_batch_size": 8}),)
    yield MemorySpec("1B", 2, more=accumulated, label="full, accumulated")


def _adapters() -> Iterator[MemorySpec]:
    lora, qlora = {"kind": "lora", "r": 16}, {"kind": "qlora", "r": 16}
    sizes: tuple[Size, ...] = ("8B", "3B", "1B")
    for size in sizes:
        for checkpointing in (True, False):
            yield MemorySpec(size, 1, 2048, lora, checkpointing=checkpointing)
            yield MemorySpec(size, 2, 2048, qlora, checkpointing=checkpointing)
        yield MemorySpec(size, 4, 2048, lora, checkpointing=True)
    for adapter in (
        {"kind": "lora", "r": 16, "use_dora": True},
        {"kind": "lora", "r": 16, "dropout": 0.1},
        {"kind": "bottleneck", "size": 64},
        {"kind": "prompt_tuning"},
        {"kind": "prefix_tuning"},
        {"kind": "ia3"},
    ):
        label = "DoRA" if "use_dora" in adapter else str(adapter["kind"])
        label += " with dropout" if "dropout" in adapter else ""
        yield MemorySpec("1B", 2, 2048, adapter, checkpointing=True, label=label)


def _methods() -> Iterator[MemorySpec]:
    lora = {"kind": "lora", "r": 16}
    plain = MemorySpec("1B", 2, 512, lora, checkpointing=True)
    for kind, rows in (("dpo", "pairs"), ("reward", "pairs"), ("orpo", "pairs"), ("kto", "judged")):
        more = (("data", {"train": rows}), ("method", {"kind": kind}))
        yield replace(plain, more=more, label=f"{kind}, lora")
        if kind in ("dpo", "reward"):
            yield replace(plain, more=more, adapter=None, label=f"{kind}, full")
    reward = [{"kind": "length", "min_words": 8, "max_words": 16}]
    sampled: dict[str, Any] = {"num_generations": 4, "reward": reward}
    for kind in ("grpo", "rloo"):
        method = {"kind": kind, **sampled, "rollout": {"max_new_tokens": 64}}
        train = {"micro_batch_size": 4, "global_batch_size": 8}
        more = (("data", {"train": "prompts", "max_length": 64}), ("method", method))
        yield replace(plain, more=(*more, ("train", train)), label=f"{kind}, lora")
    for attention in ("sdpa", "flash_attention_2", "eager"):
        model = ("model", {"attention": attention})
        wide = replace(plain, length=2048)
        yield replace(wide, more=(model,), label=f"lora, {attention}")
        packed = (model, ("data", {"train": "documents", "packing": True}))
        yield replace(wide, more=packed, label=f"lora, {attention}, packed")
