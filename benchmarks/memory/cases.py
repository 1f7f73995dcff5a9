"""Configurations to measure: methods, adapters, gradient checkpointing, sharding.

Each is a job that differs in a few keys from full fine-tuning of `llama-10m` in fp32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LENGTH, ROWS = 256, 2
_STEPS = 2

_PLAIN: dict[str, Any] = {
    "name": "memory",
    "model": {"source": "llama-10m"},
    "data": {"train": "answers", "validation": "none", "max_length": LENGTH},
    "method": {"kind": "sft", "loss_on": "all"},
    "train": {
        "max_steps": _STEPS,
        "global_batch_size": ROWS,
        "micro_batch_size": ROWS,
        "learning_rate": 1.0e-4,
        "gradient_checkpointing": False,
    },
    "tracking": {"mlflow": False},
}
_MEDIUM = {"model": {"source": "llama-33m"}}
_LARGE = {"model": {"source": "llama-83m"}}
_BF16 = {"precision": "bf16"}
_CHECKPOINTING = {"train": {"gradient_checkpointing": True}}
_TWO_MICRO_BATCHES = {"train": {"global_batch_size": 2 * ROWS}}
_LORA = {"adapter": {"kind": "lora", "r": 16}}
_QLORA = {"adapter": {"kind": "qlora", "r": 16}}
_TWO_PROCESSES = {"resources": {"processes": 2}, "train": {"global_batch_size": 2 * ROWS}}


@dataclass(frozen=True)
class Case:
    """One configuration.

    Attributes:
        name: The difference from the base job.
        group: The heading it is listed under.
        changes: Keys of the job by section, merged from left to right.
    """

    name: str
    group: str
    changes: tuple[dict[str, Any], ...] = field(default=())

    def job(self, fixtures: Path) -> dict[str, Any]:
        """Return the job, whose model and rows are in the folder `fixtures`."""
        document = {name: _copy(section) for name, section in _PLAIN.items()}
        for change in self.changes:
            for name, section in change.items():
                before = document.get(name)
                if name in ("method", "adapter") or not isinstance(before, dict):
                    document[name] = _copy(section)
                else:
                    document[name] = {**before, **section}
        document["model"]["source"] = str(fixtures / "models" / document["model"]["source"])
        document["data"]["train"] = str(fixtures / "rows" / f"{document['data']['train']}.jsonl")
        if "teacher" in document["method"]:
            document["method"]["teacher"] = str(fixtures / "models" / document["method"]["teacher"])
        return document

    @property
    def model(self) -> str:
        """Name of the model in the fixtures."""
        return Path(self.job(Path())["model"]["source"]).name

    @property
    def processes(self) -> int:
        """Number of training processes."""
        return max(c.get("resources", {}).get("processes", 1) for c in (*self.changes, {}))

    @property
    def max_length(self) -> int | None:
        """None: the rows determine the length."""
        return None


def cases() -> list[Case]:
    """Return all configurations."""
    return [*_full(), *_adapters(), *_methods(), *_mixtures(), *_sharding()]


def _full() -> Iterator[Case]:
    def case(name: str, *changes: dict[str, Any]) -> Case:
        return Case(name, "full", changes)

    yield case("fp32")
    yield case("fp32, 4 micro-batches a step", {"train": {"global_batch_size": 4 * ROWS}})
    yield case("fp32, checkpointing", _CHECKPOINTING)
    yield case("bf16", _BF16)
    yield case("bf16, checkpointing", _BF16, _CHECKPOINTING)
    yield case("fp32, packed documents", {"data": {"train": "documents", "packing": True}})
    yield case("fp32, eager attention", {"model": {"attention": "eager"}})
    yield case("fp32, rows of 1,024", {"data": {"max_length": 1024}}, _CHECKPOINTING)
    yield case("fp32, 8 rows", _EIGHT_ROWS)
    yield case("fp32, 33M weights", _MEDIUM)
    yield case("fp32, 83M weights", _LARGE)
    yield case("fp32, Qwen3", {"model": {"source": "qwen3-11m"}})
    yield case("fp32, frozen layers", {"model": {"freeze": {"layers": 2, "embeddings": True}}})
    yield case("fp32, SGD", {"train": {"optimizer": "sgd"}})
    yield case("fp32, Adafactor", {"train": {"optimizer": "adafactor"}})


def _adapters() -> Iterator[Case]:
    def case(name: str, *changes: dict[str, Any]) -> Case:
        return Case(name, "adapter", changes)

    attention = ["q_proj", "v_proj"]
    yield case("LoRA", _LORA)
    yield case("LoRA, checkpointing", _LORA, _CHECKPOINTING)
    yield case("LoRA, bf16", _LORA, _BF16)
    yield case("LoRA, bf16, checkpointing", _LORA, _BF16, _CHECKPOINTING)
    yield case("LoRA with dropout", {"adapter": {"kind": "lora", "r": 16, "dropout": 0.1}})
    yield case("LoRA of q, v", {"adapter": {"kind": "lora", "target_modules": attention}})
    yield case("LoRA, 33M weights", _MEDIUM, _LORA)
    dora = {"adapter": {"kind": "lora", "r": 16, "use_dora": True}}
    yield case("DoRA", dora)
    yield case("DoRA, bf16, checkpointing", dora, _BF16, _CHECKPOINTING)
    whole = {"kind": "lora", "r": 16, "modules_to_save": ["embed_tokens", "lm_head"]}
    yield case("LoRA, embeddings in full", _MEDIUM, {"adapter": whole})
    yield case("LoRA, embeddings in full, bf16", _MEDIUM, {"adapter": whole}, _BF16)
    yield case("IA3", {"adapter": {"kind": "ia3"}})
    yield case("QLoRA, bf16", _QLORA, _BF16)
    yield case("QLoRA, bf16, checkpointing", _QLORA, _BF16, _CHECKPOINTING)
    yield case("bottleneck", {"adapter": {"kind": "bottleneck", "size": 64}})
    yield case(
        "bottleneck, parallel, checkpointing",
        {"adapter": {"kind": "bottleneck", "size": 64, "placement": "parallel"}},
        _CHECKPOINTING,
    )
    yield case("prompt tuning", {"adapter": {"kind": "prompt_tuning"}})
    yield case("P-tuning", {"adapter": {"kind": "p_tuning"}})
    yield case("prefix tuning", {"adapter": {"kind": "prefix_tuning"}})


def _methods() -> Iterator[Case]:
    def case(name: str, rows: str, method: dict[str, Any], *changes: dict[str, Any]) -> Case:
        return Case(name, "method", ({"data": {"train": rows}, "method": method}, *changes))

    yield case("pre-training", "texts", {"kind": "pretrain"})
    sft = {"kind": "sft", "loss_on": "all"}
    held = {"train": {"kl_to_base": 0.5}}
    yield case("L2-SP", "answers", sft, {"train": {"l2_sp": 0.01}})
    yield case("L2-SP, LoRA", "answers", sft, {"train": {"l2_sp": 0.01}}, _LORA)
    yield case("KL to the base", "answers", sft, held)
    yield case("KL to the base, LoRA", "answers", sft, held, _LORA)
    yield case("reward model", "pairs", {"kind": "reward"})
    yield case("reward model, LoRA", "pairs", {"kind": "reward"}, _LORA)
    yield case("DPO", "pairs", {"kind": "dpo"})
    yield case("DPO, LoRA", "pairs", {"kind": "dpo"}, _LORA)
    yield case("DPO, checkpointing", "pairs", {"kind": "dpo"}, _CHECKPOINTING)
    yield case("KTO", "judged", {"kind": "kto"})
    yield case("KTO, LoRA", "judged", {"kind": "kto"}, _LORA)
    yield case("ORPO", "pairs", {"kind": "orpo"})
    yield case("SimPO, LoRA", "pairs", {"kind": "simpo"}, _LORA)
    yield case("distillation", "answers", _distill())
    yield case("distillation, top 16", "answers", _distill(top_k=16))
    yield case("GRPO, LoRA", "prompts", _sampling("grpo", beta=0.02), _LORA, _EIGHT)
    yield case("GRPO", "prompts", _sampling("grpo", beta=0.02), _EIGHT)
    yield case("RLOO, LoRA", "prompts", _sampling("rloo"), _LORA, _EIGHT)


_EIGHT_ROWS = {"train": {"micro_batch_size": 8, "global_batch_size": 8}}
_EIGHT = {"train": {"micro_batch_size": 4, "global_batch_size": 8}, "data": {"max_length": 64}}


def _distill(**more: Any) -> dict[str, Any]:
    return {"kind": "distill", "teacher": "llama-33m", "loss_on": "all", "calibrate": False, **more}


def _sampling(kind: str, **more: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "num_generations": 4,
        "reward": [{"kind": "length", "min_words": 8, "max_words": 16}],
        "rollout": {"max_new_tokens": 64},
        **more,
    }


def _mixtures() -> Iterator[Case]:
    def case(name: str, *changes: dict[str, Any]) -> Case:
        return Case(name, "mixture of experts", changes)

    mixtral = {"model": {"source": "mixtral-16m"}}
    qwen = {"model": {"source": "qwen3-moe-17m"}}
    experts = {
        "adapter": {
            "kind": "lora", "r": 8, "target_modules": ["q_proj", "v_proj"],
            "target_parameters": ["experts.gate_up_proj", "experts.down_proj"],
        }
    }  # fmt: skip
    attention = {"adapter": {"kind": "lora", "r": 16, "target_modules": ["q_proj", "v_proj"]}}
    for name, model in (("Mixtral", mixtral), ("Qwen3-MoE", qwen)):
        yield case(name, model)
        yield case(f"{name}, checkpointing", model, _CHECKPOINTING)
        yield case(f"{name}, bf16", model, _BF16)
        yield case(f"{name}, LoRA of attention, bf16", model, _BF16, attention)
        yield case(f"{name}, LoRA of experts", model, experts)
    yield case("Mixtral, 8 rows", mixtral, _EIGHT_ROWS)
    yield case("Qwen3-MoE, LoRA of attention, bf16, 8 rows", qwen, _BF16, attention, _EIGHT_ROWS)
    yield case(
        "Qwen3-MoE, rows of 1,024, checkpointing",
        qwen,
        _CHECKPOINTING,
        _EIGHT_ROWS,
        {"data": {"max_length": 1024}},
    )
    yield case(
        "Mixtral, DPO, LoRA of attention",
        mixtral,
        attention,
        {"data": {"train": "pairs"}, "method": {"kind": "dpo"}},
    )
    yield case("Mixtral, no load-balancing loss", mixtral, {"train": {"router_aux_loss_coef": 0}})
    yield case("Mixtral, LoRA of all linear layers", mixtral, _LORA)
    yield case("Mixtral, LoRA of experts, bf16", mixtral, _BF16, experts)
    yield case("Mixtral, LoRA of experts, checkpointing", mixtral, experts, _CHECKPOINTING)
    yield case("Mixtral, ZeRO 2", mixtral, _TWO_PROCESSES, {"sharding": {"zero": 2}})
    yield case("Mixtral, ZeRO 3", mixtral, _TWO_PROCESSES, {"sharding": {"zero": 3}})


def _sharding() -> Iterator[Case]:
    def case(name: str, *changes: dict[str, Any]) -> Case:
        return Case(name, "two processes", (_TWO_PROCESSES, *changes))

    four = {"train": {"global_batch_size": 4 * ROWS}}
    yield case("DDP")
    yield case("DDP, 33M weights", _MEDIUM)
    yield case("DDP, LoRA", _LORA)
    for stage in (1, 2, 3):
        zero = {"sharding": {"zero": stage}}
        yield case(f"ZeRO {stage}", zero)
        yield case(f"ZeRO {stage}, 2 micro-batches a step", zero, four)
        yield case(f"ZeRO {stage}, LoRA", zero, _LORA)
    yield case("ZeRO 2, bf16, checkpointing", {"sharding": {"zero": 2}}, _BF16, _CHECKPOINTING)
    yield case("ZeRO 3, bf16, checkpointing", {"sharding": {"zero": 3}}, _BF16, _CHECKPOINTING)
    yield case(
        "ZeRO 2, DPO",
        {"sharding": {"zero": 2}, "data": {"train": "pairs"}, "method": {"kind": "dpo"}},
    )


def _copy(section: Any) -> Any:
    return dict(section) if isinstance(section, dict) else section
