"""Simulated training step of a large model, on tensors that have a shape and no data.

The model is that of Transformers, the output head and the adapter are Temper's, and the kernels are
those of a CPU. `FakeTensorMode` runs all of them without computing, and `live_bytes.py` counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

_LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 128256}
_QWEN3 = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": 151936}
_QWEN2 = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "vocab_size": 152064}

_MIXTRAL = {
    "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "vocab_size": 32000,
    "num_local_experts": 8, "num_experts_per_tok": 2,
}  # fmt: skip
_QWEN3_MOE = {
    "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "vocab_size": 151936,
    "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768,
    "norm_topk_prob": True,
}  # fmt: skip


def _shape(hidden: int, intermediate: int, layers: int, heads: int, kv: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
    }


SHAPES: dict[str, dict[str, Any]] = {
    "1B": {**_LLAMA, **_shape(2048, 8192, 16, 32, 8), "head_dim": 64, "tie_word_embeddings": True},
    "3B": {**_LLAMA, **_shape(3072, 8192, 28, 24, 8), "head_dim": 128, "tie_word_embeddings": True},
    "8B": {**_LLAMA, **_shape(4096, 14336, 32, 32, 8), "head_dim": 128},
    "14B": {**_QWEN3, **_shape(5120, 17408, 40, 40, 8), "head_dim": 128},
    "32B": {**_QWEN2, **_shape(5120, 27648, 64, 40, 8)},
    "70B": {**_LLAMA, **_shape(8192, 28672, 80, 64, 8), "head_dim": 128},
    "8x7B": {**_MIXTRAL, **_shape(4096, 14336, 32, 32, 8)},
    "30B-A3B": {**_QWEN3_MOE, **_shape(2048, 6144, 48, 32, 4), "head_dim": 128},
}
"""The shapes of Llama 3.2 1B and 3B, Llama 3.1 8B and 70B, Qwen3 14B, Qwen2.5 32B, Mixtral 8x7B and
Qwen3 30B-A3B."""


@dataclass(frozen=True)
class Simulation:
    """Settings of a simulated step.

    Attributes:
        model: A key of `SHAPES`.
        rows: Rows of the micro-batch.
        length: Tokens per row.
        lora: Train a LoRA adapter instead of all weights.
        checkpointing: Use gradient checkpointing.
        precision: The precision of the job.
        devices: Number of devices; more than one are sharded by FSDP2.
    """

    model: str
    rows: int = 1
    length: int = 2048
    lora: bool = True
    checkpointing: bool = True
    precision: str = "bf16"
    devices: int = 1

    group = "simulated"

    @property
    def name(self) -> str:
        """The settings, as they are listed."""
        parts = ["LoRA" if self.lora else "full", self.precision]
        parts += ["checkpointing"] if self.checkpointing else []
        parts += [f"{self.devices} devices"] if self.devices > 1 else []
        return f"{self.model}, {', '.join(parts)}, {self.rows} × {self.length:,} tokens"

    @property
    def processes(self) -> int:
        """Number of training processes: one per device."""
        return self.devices

    @property
    def max_length(self) -> int:
        """Tokens of the longest row: every row has the full length."""
        return self.length

    def job(self, fixtures: Path) -> dict[str, Any]:
        """Return the job that trains with these settings; write its `config.json` to `fixtures`."""
        folder = fixtures / "models" / self.model
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(SHAPES[self.model]))
        return {
            "name": "simulated",
            "model": {"source": str(folder)},
            "data": {
                "train": str(fixtures / "rows" / "texts.jsonl"),
                "validation": "none",
                "max_length": self.length,
            },
            "method": {"kind": "pretrain"},
            **({"adapter": {"kind": "lora", "r": 16}} if self.lora else {}),
            "train": {
                "max_steps": 2,
                "global_batch_size": self.rows * self.devices,
                "micro_batch_size": self.rows,
                "gradient_checkpointing": self.checkpointing,
                # The simulated step has no load-balancing loss.
                **(
                    {"router_aux_loss_coef": 0}
                    if "num_experts_per_tok" in SHAPES[self.model]
                    else {}
                ),
            },
            "precision": self.precision,
            **({"sharding": {"fsdp": "full"}} if self.devices > 1 else {}),
        }


def simulations() -> list[Simulation]:
    """Return all simulations."""
    return [
        Simulation("1B", lora=False, checkpointing=False, precision="fp32", length=1024),
        Simulation("1B", lora=False, checkpointing=False),
        Simulation("1B", lora=False, rows=8),
        Simulation("3B", lora=False),
        Simulation("3B", checkpointing=False, rows=2),
        Simulation("8B", checkpointing=False),
        Simulation("8B", rows=2),
        Simulation("8B", length=16384),
        Simulation("8B", lora=False, length=4096),
        Simulation("14B", rows=4),
        Simulation("32B", length=4096),
        Simulation("70B"),
        Simulation("70B", lora=False, length=4096),
        Simulation("8x7B"),
        Simulation("30B-A3B", rows=2),
        Simulation("8B", lora=False, devices=8),
        Simulation("8B", lora=False, devices=32, length=8192),
        Simulation("14B", lora=False, devices=16),
        Simulation("70B", lora=False, devices=64, length=4096),
    ]


def simulate(spec: Simulation, fixtures: Path) -> dict[str, int]:
    """Return the peak of live bytes in the second step."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from benchmarks.memory.live_bytes import LiveBytes

    model, learners = _model(spec, fixtures)
    with _fake_mesh(spec.devices) as mesh, _unpacked_rows(), FakeTensorMode(), LiveBytes() as alive:
        _materialize(model)
        if mesh is not None:
            _shard(model, spec.precision, mesh)
        learning = [p for p in learners.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(learning, fused=True)
        _step(spec, model, optimizer)
        alive.restart()
        _step(spec, model, optimizer)
    return {"peak": alive.peak}


def _unpacked_rows() -> Any:
    """Skip the search of Transformers for packed documents, which reads position values."""
    return patch("transformers.masking_utils.find_packed_sequence_indices", lambda _: None)


def _model(spec: Simulation, fixtures: Path) -> tuple[Any, Any]:
    """Return the model as `training/models/load.py` makes it and the model with its adapter.

    Both are on the meta device.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from training.adapters.lora import apply
    from training.config import Job
    from training.config.adapters import Lora
    from training.config.load import parse_job

    job = parse_job(spec.job(fixtures), spec.name)
    assert isinstance(job, Job)
    config = AutoConfig.from_pretrained(job.model.source)
    low = spec.lora and spec.precision == "bf16"
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16 if low else torch.float32, attn_implementation="sdpa"
        )
        whole = model
        if isinstance(job.adapter, Lora):
            tokenizer: Any = None
            whole = apply(model, job.adapter, tokenizer=tokenizer, max_length=spec.length)
    model.train()
    if spec.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        if spec.lora:
            model.enable_input_require_grads()
    return model, whole


def _materialize(model: Any) -> None:
    """Allocate every parameter and buffer of a model; tied weights stay tied."""
    import torch

    allocated: dict[int, Any] = {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                allocated.setdefault(
                    id(weight),
                    torch.nn.Parameter(
                        torch.empty(weight.shape, dtype=weight.dtype),
                        requires_grad=weight.requires_grad,
                    ),
                )
                module._parameters[name] = allocated[id(weight)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def _step(spec: Simulation, model: Any, optimizer: Any) -> None:
    import torch

    ids = torch.zeros(spec.rows, spec.length, dtype=torch.int64)
    labels = torch.zeros(spec.rows, spec.length, dtype=torch.int64)
    cast = spec.precision != "fp32" and spec.devices == 1
    with torch.autocast("cpu", torch.bfloat16) if cast else nullcontext():
        log_probs = _LogProbHead.wrap(model)(ids, labels)
        loss = -log_probs.sum() / log_probs.numel()
    del log_probs
    loss.backward()
    del loss, ids, labels
    optimizer.step()
    optimizer.zero_grad()


class _LogProbHead:
    """Output head of `training/models/fused_log_probs.py` with every position supervised.

    The real head selects positions by the values of the labels. Fake tensors have no values, so
    this one indexes all positions.
    """

    def __init__(self, model: Any):
        self.model = model

    @classmethod
    def wrap(cls, model: Any) -> Any:
        """Return the head as a callable, inside the FSDP root if the model is sharded."""
        head = cls(model)
        if not hasattr(model, "unshard"):
            return head
        model.forward = head
        return model

    def __call__(self, ids: Any, labels: Any) -> Any:
        import torch

        from training.models.fused_log_probs import LOGITS, _in_chunks, _LogitsSpec

        model = self.model
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        rows, length = hidden.shape[:2]
        of_row = torch.arange(rows).repeat_interleave(length, output_size=rows * length)
        at = torch.arange(length).repeat(rows)
        wanted, targets = hidden[of_row, at], labels[:, 1:][of_row, at]
        size = max(1, LOGITS // model.config.vocab_size)
        plain = _LogitsSpec(1.0, None, 1.0, entropy=False, top1=False)
        found, *_ = _in_chunks(wanted, model.get_output_embeddings(), targets, plain, size)
        return found


def _shard(model: Any, precision: str, mesh: Any) -> None:
    """Shard with FSDP2 as Accelerate does: one group per layer, and one for the rest."""
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    low = torch.bfloat16 if precision == "bf16" else None
    policy = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=low, output_dtype=low)
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


@contextmanager
def _fake_mesh(devices: int) -> Iterator[Any]:
    """Create a device mesh in which this process is rank 0 and no other rank exists."""
    if devices == 1:
        yield None
        return
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=devices, store=FakeStore())
    try:
        yield init_device_mesh("cpu", (devices,))
    finally:
        dist.destroy_process_group()
