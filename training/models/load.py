"""Loading of the model that a run trains, in the job's precision and attention."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from filelock import FileLock
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from training.config import Job
from training.config.model import SCRATCH, Model
from training.config.static_shapes import static_shapes
from training.errors import DeviceError, ModelError
from training.models.causal_check import check_causal
from training.models.context_length import check_context_length
from training.models.flash_attention import pass_document_boundaries
from training.models.freeze import freeze
from training.models.fused_log_probs import add_next_token_log_probs
from training.models.generation_config import repair_generation_config
from training.models.heads import HEADS
from training.models.locate import explain_missing, has_weights, looks_like_path
from training.models.merge import is_adapter, merged
from training.models.packed_attention import enable_masked_attention, enable_packed_attention
from training.models.quantize import four_bit, keep_training_layout
from training.models.safetensors_io import model_folder
from training.models.tokenizer import load_tokenizer
from training.models.vocabulary_extension import write_extended_model
from training.models.zero_exempt import zero3_disabled

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def load_model(
    job: Job, tokenizer: PreTrainedTokenizerBase, device: torch.device
) -> PreTrainedModel:
    """Return the model of a job, with the job's layers frozen.

    Args:
        job: The run.
        tokenizer: Tokenizer, which must fit the model's vocabulary.
        device: Device of the training; checked for precision and attention.

    Raises:
        ModelError: The model does not exist or cannot be read.
        DeviceError: The device does not support the precision or the attention.
    """
    check_precision(job.precision, device)
    check_attention(job.model, device)
    model = _from_source(job)
    _check_vocabulary(model, tokenizer)
    check_context_length(job, model)
    model.config.use_cache = False
    # A score model reads its score at the last token that is not this one.
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    # An adapter trains the rows of these tokens.
    model.added_token_ids = tokenizer.convert_tokens_to_ids(list(job.model.add_tokens))
    freeze(model, job.model.freeze)
    static = static_shapes(job, device.type) is not None
    # On a GPU, SDPA handles packed rows well; compiled layers must not branch on their content.
    masked = job.data.packing and job.model.attention == "sdpa"
    if masked and static:
        enable_masked_attention(model)
    elif masked and device.type == "cpu" and not job.train.compile:
        enable_packed_attention(model)
    if job.data.packing and job.model.attention == "flash_attention_2":
        pass_document_boundaries(model)
    if job.method.head == "language":
        add_next_token_log_probs(model, all_positions=static)
    return model


def save_initial_model(job: Job, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Job:
    """Save the initial model of a run if no folder holds it yet, and return a job that loads it.

    There are three such cases. For a model from scratch, every process, sharded or not, must start
    from the same random weights. For an adapter on top of another adapter, the base of the new one
    is the old one merged into its base: the merged model must exist when the new adapter is used,
    and it can then be loaded in 4 bits like any model. For added tokens, the embeddings have rows
    that the source does not have.

    Args:
        job: The run.
        tokenizer: Tokenizer, saved with the model.
        folder: Folder of the initial model.

    Raises:
        ModelError: A token cannot be added to the model.
    """
    on_adapter = job.adapter is not None and is_adapter(job.model.source)
    if job.model.source != SCRATCH and not on_adapter and not job.model.add_tokens:
        return job
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.exists():
            building = folder.with_name(f".writing-{folder.name}")
            shutil.rmtree(building, ignore_errors=True)
            if job.model.add_tokens:
                # ZeRO 3 would shard the model that the files are read by.
                with zero3_disabled():
                    _save_extended(job, tokenizer, building)
            else:
                model = _from_source(job) if on_adapter else _from_scratch(job, tokenizer)
                model.save_pretrained(building)
                tokenizer.save_pretrained(building)
            building.rename(folder)
    update = {"source": str(folder), "base_model": None, "scratch": None, "tokenizer": None}
    return job.model_copy(update={"model": job.model.model_copy(update=update)})


def _save_extended(job: Job, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save the source of a job, an adapter merged, with rows for the added tokens."""
    plain = load_tokenizer(job.model.model_copy(update={"add_tokens": ()})).get_vocab()
    tokens = job.model.add_tokens
    if not is_adapter(job.model.source):
        base = model_folder(job.model.source, job.model.revision)
        write_extended_model(base, folder, tokenizer, tokens, plain)
        return
    with TemporaryDirectory(dir=folder.parent) as merged_folder:
        _from_source(job).save_pretrained(merged_folder)
        write_extended_model(Path(merged_folder), folder, tokenizer, tokens, plain)


def check_precision(precision: str, device: torch.device) -> None:
    """Raise if `device` cannot train in `precision`.

    Raises:
        DeviceError: The device does not support it.
    """
    if precision == "fp16" and device.type == "cpu":
        raise DeviceError("precision fp16 needs a GPU; this CPU can do fp32 and bf16")
    # By default torch also accepts GPUs that only emulate bf16 (T4, V100), far slower than fp16.
    emulated = device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "bf16" and emulated:
        name = torch.cuda.get_device_name(device)
        raise DeviceError(f"precision bf16 is not possible on {name}, which can do fp32 and fp16")


def check_attention(model: Model, device: torch.device) -> None:
    """Raise if `device` does not support the attention of `model`.

    Raises:
        DeviceError: The device or a package does not support it.
    """
    if model.attention != "flash_attention_2":
        return
    if device.type != "cuda":
        raise DeviceError(
            f"attention flash_attention_2 needs an NVIDIA GPU; on {device.type} use sdpa"
        )
    try:
        import flash_attn  # type: ignore[import-not-found]  # noqa: F401  (is it installed?)
    except ImportError:
        raise DeviceError(
            "attention flash_attention_2 needs the flash-attn package, which is not installed. "
            "Use sdpa, or the GPU container image, which has it"
        ) from None


def _from_source(job: Job) -> PreTrainedModel:
    source = job.model.source
    head = HEADS[job.method.head]
    if is_adapter(source):
        return merged(
            source,
            head,
            dtype=_weight_dtype(job),
            attention=job.model.attention,
            base=job.model.base_model,
            revision=job.model.revision,
        )
    if looks_like_path(source) and Path(source).is_dir() and not has_weights(Path(source)):
        entries = ", ".join(sorted(p.name for p in Path(source).iterdir())[:8]) or "nothing"
        raise ModelError(
            f"the folder {source} has no weights (*.safetensors). It has: {entries}. Name a folder "
            f"with weights, or use source: scratch with a shape"
        )
    check_causal(source, job.model.revision, trust_remote_code=job.model.trust_remote_code)
    extra: dict[str, Any] = {}
    if job.adapter is not None and job.adapter.quantized:
        extra = four_bit(job)
    try:
        model = head.kind.from_pretrained(
            source,
            **head.settings,
            revision=job.model.revision,
            dtype=_weight_dtype(job),
            attn_implementation=job.model.attention,
            trust_remote_code=job.model.trust_remote_code,
            **extra,
        )
    except Exception as error:
        raise ModelError(explain_missing("model", source, error)) from error
    repair_generation_config(model, source)
    keep_training_layout(model)
    return model


def _weight_dtype(job: Job) -> torch.dtype:
    """Return the dtype of the weights in memory.

    Trainable weights stay in fp32 and are cast to the job's precision for computation, because a
    bf16 weight rounds small updates away. A base that an adapter freezes uses the job's precision.
    """
    return DTYPES[job.precision] if job.adapter is not None else torch.float32


def _from_scratch(job: Job, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    shape = job.model.scratch
    assert shape is not None
    config = AutoConfig.for_model(
        shape.architecture,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        num_key_value_heads=shape.num_key_value_heads or shape.num_attention_heads,
        head_dim=shape.hidden_size // shape.num_attention_heads,
        vocab_size=len(tokenizer),
        max_position_embeddings=shape.max_position_embeddings,
        tie_word_embeddings=shape.tie_word_embeddings,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return AutoModelForCausalLM.from_config(
        config, attn_implementation=job.model.attention, dtype=torch.float32
    )


def _check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    rows = model.config.get_text_config().vocab_size
    highest = max(tokenizer.get_vocab().values())
    if highest >= rows:
        beyond = sorted((i, token) for token, i in tokenizer.get_vocab().items() if i >= rows)
        listed = ", ".join(repr(token) for _, token in beyond[:5])
        more = f" and {len(beyond) - 5} more" if len(beyond) > 5 else ""
        raise ModelError(
            f"the tokenizer has ids up to {highest}, the model embeds {rows}: {listed}{more} "
            f"{'has' if len(beyond) == 1 else 'have'} no embedding. Name them in model.add_tokens "
            f"to add them to the model, or leave model.tokenizer out and use the model's own"
        )
