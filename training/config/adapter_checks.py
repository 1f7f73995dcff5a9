"""Checks of the adapter against its own keys and against the rest of a job."""

from __future__ import annotations

from collections.abc import Iterator

from training.config.adapter_base import AdapterSection, LayerSelection
from training.config.adapters import (
    AdaLora,
    Bottleneck,
    Ia3,
    Lora,
    PrefixTuning,
    PromptTuning,
)
from training.config.composition import Compose
from training.config.job import Job
from training.config.lora_init import DECOMPOSED
from training.errors import Problem


def check_adapter(job: Job, first: bool) -> Iterator[Problem]:
    """Yield what an adapter cannot be combined with, and what its own keys contradict."""
    adapter = job.adapter
    yield from _export(job)
    if adapter is None:
        return
    if adapter.soft and job.data.packing:
        yield Problem(
            "data.packing",
            f"{adapter.kind} puts its virtual tokens before a row, and a packed row holds several "
            "documents: all but the first would be without them",
            "true",
            "Leave packing out",
        )
    if adapter.soft and job.method.head == "score":
        yield Problem(
            "adapter.kind",
            f"{job.method.kind} learns to score a text by its last word, and virtual tokens before "
            "it are made for the next word",
            adapter.kind,
            "Use lora, qlora or bottleneck",
        )
    if isinstance(adapter, Compose):
        yield from _compose(job, adapter)
    yield from _own_keys(job, adapter)
    search = getattr(adapter, "rank_search", None)
    if search and getattr(adapter, "r", 0) != max(search.ranks):
        yield Problem("adapter.rank_search", "is for r: auto", fix="Set adapter.r: auto")
    if search and not job.data.validation.wanted:
        yield Problem(
            "adapter.r",
            "auto compares ranks on held-out rows, and there are none",
            "auto",
            "Set data.validation, for instance {split: 5%}",
        )
    for key in ("unfreeze", "layer_decay"):
        if getattr(job.train, key) != type(job.train).model_fields[key].default:
            yield Problem(
                f"train.{key}",
                "is for a run that trains every weight",
                str(getattr(job.train, key)),
                f"Write adapter.{key}"
                if key in type(adapter).model_fields
                else f"Adapter {adapter.kind} has no layers to tell apart: leave it out",
            )


def _compose(job: Job, adapter: Compose) -> Iterator[Problem]:
    yield from adapter.validate_members_below("compose")
    if job.data.packing and any(combiner.reads_back for combiner in adapter.combiners):
        yield Problem(
            "data.packing",
            "an adapter is chosen by all of a row so far, and a packed row holds several documents",
            "true",
            "Leave packing out, or let a gate decide per: token",
        )
    if not adapter.learns and job.method.kind not in ("sft", "pretrain"):
        yield Problem(
            "compose.method",
            f"nothing in it is trained, and {job.method.kind} is a training method",
            adapter.method.kind,
            "Use method sft, which evaluates and saves it, or a combiner that is trained",
        )


def _lora_init(job: Job, adapter: Lora) -> Iterator[Problem]:
    """Yield problems of the start of a LoRA."""
    ranks = adapter.rank_search.ranks if adapter.rank_search else (adapter.r,)
    if adapter.init == "orthogonal" and (odd := [r for r in ranks if r % 2]):
        yield Problem(
            "adapter.r",
            "must be even with init: orthogonal, which gives A and B half of the directions each",
            ", ".join(map(str, odd)),
            f"Set {odd[0] + 1}",
        )
    if adapter.init in DECOMPOSED:
        yield from _decomposed(job, adapter)


def _target_parameters(job: Job, adapter: Lora) -> Iterator[Problem]:
    """Yield what PEFT's LoRA on parameters cannot be combined with."""
    impossible = (
        (adapter.dropout > 0, "adapter.dropout", "has no input that could be dropped", "Set 0"),
        (adapter.use_dora, "adapter.use_dora", "is for linear layers", "Leave it out"),
        (adapter.fan_in_fan_out, "adapter.fan_in_fan_out", "is for linear layers", "Leave it out"),
        (
            adapter.init not in ("zero", "gaussian"),
            "adapter.init",
            "is for the weights of linear layers",
            "Use zero or gaussian",
        ),
        (
            adapter.layers_to_transform is not None,
            "adapter.layers_to_transform",
            "limits linear layers only, so that the parameters of every layer would be adapted",
            "Name complete parameters, such as layers.20.mlp.experts.down_proj, and no layers",
        ),
        (
            adapter.quantized,
            "adapter.kind",
            "quantizes linear layers only: experts would be widened to fp32",
            "Use kind lora",
        ),
    )
    for is_so, key, message, fix in impossible:
        if is_so:
            value = str(getattr(adapter, key.partition(".")[2]))
            yield Problem(key, f"with target_parameters, {value} {message}", value, fix)


def _decomposed(job: Job, adapter: Lora) -> Iterator[Problem]:
    """Yield problems of PiSSA and OLoRA.

    They need unquantized weights and freeze half of their matrices.
    """
    impossible = (
        (
            adapter.quantized,
            "starts from a decomposition of the weights, which a 4-bit base does not have",
            "Use adapter kind lora, or init: zero",
        ),
        (
            adapter.use_dora,
            "and use_dora each have their own initialization",
            "Leave one out",
        ),
        (
            job.sharding.fsdp != "none",
            "freezes half of its matrices, which FSDP's shards cannot separate",
            "Use sharding.zero",
        ),
        (
            job.train.weight_decay > 0,
            "freezes half of its matrices, which train.weight_decay would shrink",
            "Leave train.weight_decay out",
        ),
    )
    for is_so, message, fix in impossible:
        if is_so:
            yield Problem("adapter.init", message, adapter.init, fix)


def _adalora(job: Job, adapter: AdaLora) -> Iterator[Problem]:
    """Yield problems of AdaLoRA, which allocates ranks by complete, unscaled gradients."""
    if adapter.init_r <= adapter.r:
        yield Problem(
            "adapter.init_r",
            "must be above adapter.r: AdaLoRA only removes ranks",
            str(adapter.init_r),
            f"Set at least {adapter.r + 1}; {-(-adapter.r * 3 // 2)} is usual",
        )
    if job.method.rows not in ("text", "dialogue"):
        yield Problem(
            "adapter.kind",
            f"adalora is for learning the next token; {job.method.kind} may need a second copy of "
            "the adapter, which PEFT does not allow it",
            "adalora",
            "Use kind lora with r: auto",
        )
    if job.precision == "fp16":
        yield Problem(
            "precision",
            "adalora reads gradients, which fp16 scales from step to step",
            "fp16",
            "Use bf16",
        )
    if job.sharding.zero or job.sharding.fsdp != "none":
        key = "zero" if job.sharding.zero else "fsdp"
        yield Problem(
            f"sharding.{key}",
            "adalora allocates ranks by complete gradients, which are sharded here",
            str(getattr(job.sharding, key)),
            "Leave sharding out (DDP), or use kind lora with r: auto",
        )


def _layers(adapter: LayerSelection) -> Iterator[Problem]:
    """Yield problems of a choice of layers that its keys alone show."""
    chosen = adapter.layers_to_transform or ()
    if repeated := sorted({layer for layer in chosen if chosen.count(layer) > 1}):
        yield Problem(
            "adapter.layers_to_transform",
            f"names layer {', '.join(map(str, repeated))} more than once",
            str(list(chosen)),
            "Name each layer once",
        )
    if adapter.layers_pattern and not chosen:
        yield Problem(
            "adapter.layers_pattern",
            "says where layers_to_transform is counted, which is not set",
            ", ".join(adapter.layers_pattern),
            "Set adapter.layers_to_transform, or leave it out",
        )


def _own_keys(job: Job, adapter: AdapterSection) -> Iterator[Problem]:
    if isinstance(adapter, Lora):
        yield from _lora_init(job, adapter)
        if adapter.target_parameters:
            yield from _target_parameters(job, adapter)
    if isinstance(adapter, AdaLora):
        yield from _adalora(job, adapter)
    if isinstance(adapter, LayerSelection):
        yield from _layers(adapter)
    if isinstance(adapter, Bottleneck) and adapter.size and adapter.reduction_factor:
        yield Problem("adapter.size", "give size or reduction_factor, not both", str(adapter.size))
    if isinstance(adapter, Ia3):
        for name in set(adapter.feedforward_modules) - set(adapter.target_modules):
            yield Problem(
                "adapter.feedforward_modules",
                "must be among adapter.target_modules",
                name,
                f"Choose from {', '.join(adapter.target_modules)}",
            )
    from_text = isinstance(adapter, PromptTuning | PrefixTuning) and adapter.init == "text"
    text = getattr(adapter, "init_text", None)
    if from_text != (text is not None):
        yield Problem(
            "adapter.init_text",
            "is required by init: text" if from_text else "needs init: text",
            text or "",
        )
    if isinstance(adapter, PrefixTuning) and adapter.projection and adapter.init is not None:
        yield Problem("adapter.init", "a projection always starts at random", adapter.init)


def _export(job: Job) -> Iterator[Problem]:
    if job.export_formats:
        yield from _export_formats(job)
    if job.export is None:
        return
    if job.adapter is None or not job.method.trains:
        yield Problem(
            "export",
            "is for a run that trains an adapter; without one, the trained model is published",
            job.export,
            "Leave it out",
        )
    elif job.export != "adapter" and not job.adapter.mergeable:
        yield Problem(
            "export",
            f"{job.adapter.kind} cannot be merged into the weights of its base",
            job.export,
            "Set export: adapter",
        )


def _export_formats(job: Job) -> Iterator[Problem]:
    """Yield the reasons why a run has no model that could be written in other formats."""
    formats = ", ".join(job.export_formats)
    if not job.method.trains:
        yield Problem("export_formats", "is for a run that trains a model", formats, "Leave it out")
    elif job.method.head != "language":
        yield Problem("export_formats", "is for models that generate text", formats, "Leave it out")
    elif job.adapter is not None and not job.adapter.mergeable:
        yield Problem(
            "export_formats",
            f"{job.adapter.kind} cannot be merged into the weights of its base",
            formats,
            "Leave it out",
        )
