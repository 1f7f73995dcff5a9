"""Peak memory of a device in GiB by category."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from planning.expert_adapters import expert_ranks
from planning.machine import Machine
from planning.memory.adapters import (
    Adapter,
    BottleneckCost,
    FourBitLayout,
    LoraCost,
    LowRankFactors,
    SoftPromptCost,
)
from planning.memory.allocator import PARTS
from planning.memory.parameters import NOTHING, MemoryConfig
from planning.memory.simulate_step import simulate, static_peaks
from planning.memory.zero3_gather import REUSE_ELEMENTS
from planning.method_costs import method_profile
from planning.model_shape import ModelShape
from training.config import Job
from training.config import adapters as sections
from training.config.adapter_base import Widths
from training.config.composition import Compose
from training.config.runtime import BUCKET_SIZE, PREFETCH_BUCKET_SIZE
from training.config.step_profile import StepSpec

_GIB = 2.0**30

# Outside PyTorch's allocator. CUDA's context with cuBLAS and kernels loaded is 0.5 to 0.7 GiB on
# these devices; NCCL's channels to the devices of one machine take up to about 1 GiB more.
CONTEXT_GIB = {"cuda": 0.7, "neuron": 1.0, "cpu": 0.75}
_COLLECTIVES_GIB = {"cuda": 1.0, "neuron": 1.0, "cpu": 0.1}
WORKSPACE_GIB = {"cuda": 0.032, "neuron": 0.0, "cpu": 0.0}
"""cuBLAS's scratch, within the allocator (32 MiB on Hopper)."""
FRAGMENTS = {"cuda": 0.04, "neuron": 0.04, "cpu": 0.0}
"""Share of what the allocator holds that no tensor uses."""

_FEW = 3
"""Layers of the smaller of the two simulations that `quick_peak_gib` extrapolates from."""

Moments = dict[str, dict[str, int]]


@dataclass(frozen=True)
class ParallelismChoice:
    """Settings that a plan decides if the job leaves them open.

    Attributes:
        rows: Rows per device in a micro-batch.
        checkpointing: True for gradient checkpointing.
        zero: ZeRO stage.
    """

    rows: int
    checkpointing: bool
    zero: int


def memory_config_of(
    job: Job, shape: ModelShape, machine: Machine, choice: ParallelismChoice, longest: int
) -> MemoryConfig:
    """Return the settings that decide the memory of a job.

    Args:
        job: The run.
        shape: Shape of its model.
        machine: The machine.
        choice: Micro-batch size, checkpointing and ZeRO stage.
        longest: Tokens of the longest sequence.
    """
    in_step = choice.rows * machine.world
    share = -(-job.train.global_batch_size // machine.world)
    method = method_profile(job, StepSpec(choice.rows, share, longest))
    if job.train.router_aux_loss_coef is not None:
        shape = replace(shape, balanced=shape.balanced and job.train.router_aux_loss_coef > 0)
    length = job.data.max_length if job.data.packing else longest + job.method.max_new_tokens
    adapter = adapter_of(job, shape)
    ahead = adapter.tokens if isinstance(adapter, SoftPromptCost) and not adapter.prefix else 0
    return MemoryConfig(
        shape=shape,
        device=machine.device.kind,
        rows=choice.rows * method.sequences,
        length=length + ahead,
        packed=job.data.packing,
        attention=job.model.attention,
        checkpointing=choice.checkpointing,
        precision=job.precision,
        adapter=adapter,
        four_bit=four_bit_of(job),
        accumulates=job.train.global_batch_size > in_step,
        optimizer=job.train.optimizer,
        zero=choice.zero,
        fsdp=job.sharding.fsdp != "none",
        world=machine.world,
        offload=job.sharding.offload,
        bucket=job.sharding.reduce_bucket_size or BUCKET_SIZE,
        ahead=job.sharding.stage3_prefetch_bucket_size or PREFETCH_BUCKET_SIZE,
        overlap=job.sharding.overlap_comm,
        evaluates=job.data.validation.wanted,
        method=method,
        freeze=job.model.freeze if adapter is None else NOTHING,
    )


def adapter_of(job: Job, shape: ModelShape) -> Adapter | None:
    """Return the adapter of a job as the simulation describes it; None without an adapter."""
    section = job.adapter
    if isinstance(section, sections.Lora):
        modules = None if section.target_modules == "all-linear" else tuple(section.target_modules)
        dropout, saved = section.dropout > 0, section.modules_to_save
        layers = section.layers_to_transform
        return LoraCost(
            section.kept_rank,
            modules,
            dropout,
            section.use_dora,
            saved,
            layers=layers,
            tokens=len(job.model.add_tokens),
            experts=tuple(expert_ranks(section, shape).items()),
        )
    if isinstance(section, sections.AdaLora):
        modules = None if section.target_modules == "all-linear" else tuple(section.target_modules)
        saved, layers = section.modules_to_save, section.layers_to_transform
        dropout = section.dropout > 0
        return LoraCost(section.init_r, modules, dropout, saved=saved, scored=True, layers=layers)
    if isinstance(section, Compose):
        # The members may exist only where the job runs: assume each has the default rank of 16.
        return LoraCost(16 * section.num_members)
    if isinstance(section, sections.Ia3):
        modules = section.target_modules
        return LowRankFactors(modules, section.feedforward_modules, section.modules_to_save)
    if isinstance(section, sections.Bottleneck):
        size = section.width(shape.hidden)
        return BottleneckCost(size, section.after, section.placement == "parallel")
    if isinstance(section, sections.VirtualTokens):
        assert job.adapter is not None
        learned = job.adapter.num_trained(widths(shape))
        prefix = isinstance(section, sections.PrefixTuning)
        return SoftPromptCost(section.num_virtual_tokens, learned, prefix)
    return None


def four_bit_of(job: Job) -> FourBitLayout | None:
    """Return the layout of a base in 4 bits; None if the base is not quantized."""
    section = job.adapter
    if section is None or not section.quantized:
        return None
    if isinstance(section, sections.Qlora):
        return FourBitLayout(section.double_quant, section.compute_dtype, widens=True)
    return FourBitLayout(double=True, compute="bf16", widens=False)


def widths(shape: ModelShape) -> Widths:
    """Return the dimensions from which an adapter computes its number of parameters."""
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return Widths(shape.layers, shape.hidden, queries, keys, shape.intermediate)


def peak_gib(config: MemoryConfig) -> dict[str, float]:
    """Return the GiB by category at the peak of a step, with every layer simulated."""
    return _with_surroundings(config, _fullest(simulate(config)))


@lru_cache(maxsize=512)
def quick_peak_gib(config: MemoryConfig) -> float:
    """Return about the same in total, much faster.

    The persistent state is exact. Activations and gradients grow linearly with the number of
    layers, so they are extrapolated from two simulations with few layers, unless the layers
    differ. With ZeRO 3 these need enough layers to exceed the reuse distance; below it, weights
    stay gathered.
    """
    shape = config.shape
    base = _FEW + (-(-REUSE_ELEMENTS // shape.per_layer) if config.zero == 3 else 0)
    differ = config.freeze.anything or getattr(config.adapter, "layers", None) is not None
    if shape.layers <= base + 1 or differ:
        return sum(peak_gib(config).values())
    few, more = (
        simulate(replace(config, shape=replace(shape, layers=count))) for count in (base, base + 1)
    )
    rest = static_peaks(config)
    drawn = [rest[name] for name in ("optimizer", "generation", "loading") if name in rest]
    for moment in ("forward", "loss", "last layer", "backward", "evaluation"):
        drawn.append(
            {
                part: rest["start"][part]
                + more[moment][part]
                - more["start"][part]
                + (shape.layers - base - 1) * _growth(few, more, moment, part)
                for part in PARTS
            }
        )
    return sum(_with_surroundings(config, max(drawn, key=_total)).values())


def _growth(few: Moments, more: Moments, moment: str, part: str) -> int:
    """Return the bytes that one more layer adds to a category; buffers have a constant size."""
    if part not in ("activations", "gradients"):
        return 0
    return (more[moment][part] - more["start"][part]) - (few[moment][part] - few["start"][part])


def _fullest(moments: Moments) -> dict[str, int]:
    return max(moments.values(), key=_total)


def _total(parts: dict[str, int]) -> int:
    return sum(parts.values())


def _with_surroundings(config: MemoryConfig, parts: dict[str, int]) -> dict[str, float]:
    """Return GiB by category, with the memory outside tensors: context, collectives, fragments."""
    gib = {part: parts[part] / _GIB for part in PARTS}
    gib["buffers"] += WORKSPACE_GIB[config.device]
    allocated = sum(gib.values())
    gib["fragmentation"] = allocated * FRAGMENTS[config.device]
    gib["runtime"] = CONTEXT_GIB[config.device]
    if config.world > 1:
        gib["runtime"] += _COLLECTIVES_GIB[config.device]
    return gib
