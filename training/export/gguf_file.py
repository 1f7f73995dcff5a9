"""Export to one GGUF file for llama.cpp and tools based on it, read back and compared.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Weights keep their dtype, but
vectors (norms, biases) are fp32, as llama.cpp requires; or matrices are quantized
(`training.export.gguf_types`).
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import (
    GGML_QUANT_SIZES,
    MODEL_ARCH,
    GGMLQuantizationType,
    GGUFReader,
    GGUFWriter,
    LlamaFileType,
    RopeScalingType,
    dequantize,
    get_tensor_name_map,
    quantize,
)
from gguf.constants import MODEL_ARCH_NAMES
from transformers import AutoConfig, PretrainedConfig

from training.errors import GuardError, ModelError
from training.export.gguf_tokenizer import GgufTokenizer, read_tokenizer
from training.export.gguf_types import QUANTIZED, matrix_type, within_rounding
from training.models.safetensors_io import TensorInfo, WeightFiles, write_tensors

_ARCHITECTURES = {
    "llama": MODEL_ARCH.LLAMA,
    "mistral": MODEL_ARCH.LLAMA,
    "qwen2": MODEL_ARCH.QWEN2,
    "qwen3": MODEL_ARCH.QWEN3,
}
"""Architecture in GGUF by `model_type` in Transformers."""
_KINDS = {
    torch.float32: GGMLQuantizationType.F32,
    torch.float16: GGMLQuantizationType.F16,
    torch.bfloat16: GGMLQuantizationType.BF16,
}
_FILE_TYPES = {
    GGMLQuantizationType.F32: LlamaFileType.ALL_F32,
    GGMLQuantizationType.F16: LlamaFileType.MOSTLY_F16,
    GGMLQuantizationType.BF16: LlamaFileType.MOSTLY_BF16,
}
_ROPE_FACTORS = "rope_freqs.weight"


@dataclass(frozen=True)
class _Tensor:
    """Tensor of the file.

    Attributes:
        name: Name in the file.
        source: Name in the model's folder; empty if computed from the configuration.
        kind: Data type in the file.
        shape: Shape, outputs first.
        heads: Number of heads if llama.cpp interleaves the halves of each head's rows, else 0.
    """

    name: str
    source: str
    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    heads: int = 0


def write_gguf(folder: Path, path: Path, name: str, outtype: str | None = None) -> str:
    """Write a model's folder as a GGUF file, read it back, and return what was compared.

    Args:
        folder: Folder of safetensors, configuration and tokenizer, without an adapter.
        path: File to write.
        name: Name of the model, which tools show (`general.name`).
        outtype: Quantized type of the matrices; None if they keep their dtype.

    Raises:
        ModelError: llama.cpp does not support the model or its tokenizer.
        GuardError: The file does not read back as written.
    """
    config = AutoConfig.from_pretrained(folder)
    _check_supported(config, folder)
    files = WeightFiles(folder)
    tokenizer = read_tokenizer(folder, config.vocab_size)
    tensors = list(_tensors(config, files, outtype))
    architecture = _ARCHITECTURES[config.model_type]
    writer = GGUFWriter(path, MODEL_ARCH_NAMES[architecture])
    _write_metadata(writer, config, name)
    writer.add_file_type(_file_type(tensors, outtype))
    tokenizer.write(writer)
    for tensor in tensors:
        raw, number, size = _stored_layout(tensor)
        writer.add_tensor_info(tensor.name, raw, number, size, raw_dtype=tensor.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        writer.write_tensor_data(_stored_values(tensor, config, files))
    writer.close()
    return _compare(path, config, files, tensors, tokenizer)


def _stored_layout(tensor: _Tensor) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return a tensor's shape and dtype as the writer expects them, and its size in bytes."""
    shape = tensor.shape
    if tensor.kind == GGMLQuantizationType.F32:
        return shape, np.dtype(np.float32), 4 * math.prod(shape)
    if tensor.kind == GGMLQuantizationType.F16:
        return shape, np.dtype(np.float16), 2 * math.prod(shape)
    # NumPy has no bf16 and no quantized types: the writer takes their rows as bytes.
    block, size = GGML_QUANT_SIZES[tensor.kind]
    row = shape[-1] // block * size
    return (*shape[:-1], row), np.dtype(np.uint8), row * math.prod(shape[:-1])


def _check_supported(config: PretrainedConfig, folder: Path) -> None:
    """Raise if llama.cpp would compute something else.

    Raises:
        ModelError: The reason.
    """

    def refusal(why: str) -> str:
        return f"{folder} cannot be written to GGUF: {why}. Use FORMAT=safetensors"

    if config.model_type not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        raise ModelError(
            refusal(f"{config.model_type} is not among the verified architectures ({known})")
        )
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True):
        raise ModelError(refusal(f"its attention slides over {window} tokens"))
    if config.hidden_act != "silu":
        raise ModelError(refusal(f"its activation is {config.hidden_act}"))
    rope = config.rope_parameters
    if rope.get("rope_type", "default") not in ("default", "linear", "llama3"):
        raise ModelError(refusal(f"its positions are scaled by {rope['rope_type']}"))
    biased = getattr(config, "mlp_bias", False) or (
        config.model_type in ("llama", "qwen3") and getattr(config, "attention_bias", False)
    )
    if biased:
        raise ModelError(refusal("its layers have biases"))


def _head_size(config: PretrainedConfig) -> int:
    given = getattr(config, "head_dim", None)
    return int(given or config.hidden_size // config.num_attention_heads)


def _write_metadata(writer: GGUFWriter, config: PretrainedConfig, name: str) -> None:
    rope, size = config.rope_parameters, _head_size(config)
    writer.add_name(name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    writer.add_vocab_size(config.vocab_size)


def _file_type(tensors: list[_Tensor], outtype: str | None) -> LlamaFileType:
    if outtype:
        return QUANTIZED[outtype][1]
    matrices = {tensor.kind for tensor in tensors if len(tensor.shape) == 2}
    return _FILE_TYPES[max(matrices, key=lambda kind: kind.value)]


def _tensors(
    config: PretrainedConfig, files: WeightFiles, outtype: str | None
) -> Iterator[_Tensor]:
    """Yield the tensors of the file, in the order of the folder.

    Args:
        config: Configuration of the model.
        files: Weights of the model.
        outtype: Quantized type of the matrices; None if they keep their dtype.

    Raises:
        ModelError: The folder has a tensor that the architecture does not have.
    """
    architecture = _ARCHITECTURES[config.model_type]
    names = get_tensor_name_map(architecture, config.num_hidden_layers)
    for source, about in files.tensors.items():
        if source == "lm_head.weight" and config.tie_word_embeddings:
            continue
        name = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if name is None or about.dtype not in _KINDS:
            raise ModelError(
                f"{files.folder} cannot be written to GGUF: {source} ({about.dtype}) has no place "
                f"in it. Use FORMAT=safetensors"
            )
        kind = _KINDS[about.dtype]
        if len(about.shape) == 1:
            kind = GGMLQuantizationType.F32
        elif outtype:
            kind = matrix_type(name, about.shape, outtype, config.tie_word_embeddings)
        yield _Tensor(name, source, kind, about.shape, _num_interleaved_heads(config, source))
    if config.rope_parameters.get("rope_type") == "llama3":
        shape = (_head_size(config) // 2,)
        yield _Tensor(_ROPE_FACTORS, "", GGMLQuantizationType.F32, shape)


def _num_interleaved_heads(config: PretrainedConfig, source: str) -> int:
    """Return the number of heads if llama.cpp rotates adjacent pairs of a tensor's rows, else 0.

    Transformers applies RoPE to the halves of each head, llama.cpp (for Llama) to adjacent pairs.
    """
    if _ARCHITECTURES[config.model_type] != MODEL_ARCH.LLAMA:
        return 0
    if ".q_proj." in source:
        return int(config.num_attention_heads)
    return int(config.num_key_value_heads) if ".k_proj." in source else 0


def _stored_values(tensor: _Tensor, config: PretrainedConfig, files: WeightFiles) -> Any:
    """Return a tensor's values as stored in the file."""
    if not tensor.source:
        return _rope_factors(config)
    found = files.read(tensor.source)
    if tensor.heads:
        halves = found.reshape(tensor.heads, 2, -1, *found.shape[1:])
        found = halves.transpose(1, 2).reshape(found.shape)
    if tensor.kind == GGMLQuantizationType.F16:
        return found.half().contiguous().numpy()
    return quantize(found.float().contiguous().numpy(), tensor.kind)


def _rope_factors(config: PretrainedConfig) -> Any:
    """Return the divisor of each RoPE frequency in Llama 3's scaling, as in Transformers."""
    rope = config.rope_parameters
    size = _head_size(config)
    frequencies = rope["rope_theta"] ** -(np.arange(0, size, 2, dtype=np.float64) / size)
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * np.pi)
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    share = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1.0 / ((1.0 - share) / factor + share)).astype(np.float32)


def _compare(
    path: Path,
    config: PretrainedConfig,
    files: WeightFiles,
    tensors: list[_Tensor],
    tokenizer: GgufTokenizer,
) -> str:
    """Read a file back, compare it, and return a summary.

    Raises:
        GuardError: A tensor or field differs.
    """
    reader = GGUFReader(path)
    there = {tensor.name: tensor for tensor in reader.tensors}
    if len(there) != len(tensors):
        raise GuardError(f"{path.name} holds {len(there)} tensors, not {len(tensors)}")
    for tensor in tensors:
        found = _read_back(there[tensor.name], tensor)
        if tensor.source:
            wanted = files.read(tensor.source).float()
        else:
            wanted = torch.from_numpy(_rope_factors(config))
        found = found.reshape(wanted.shape)
        rounded = tensor.kind not in _KINDS.values() or (
            tensor.kind == GGMLQuantizationType.F16
            and files.tensors[tensor.source].dtype != torch.float16
        )
        if not (
            within_rounding(tensor.kind, wanted.numpy(), found.numpy())
            if rounded
            else torch.equal(found, wanted)
        ):
            raise GuardError(f"{tensor.source or tensor.name} does not read back as it was written")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    expected_fields = {
        "tokenizer.ggml.tokens": tokenizer.tokens,
        "tokenizer.ggml.token_type": tokenizer.types,
        "tokenizer.ggml.merges": tokenizer.merges or None,
        "tokenizer.chat_template": tokenizer.chat_template or None,
        **{f"tokenizer.ggml.{_ROLES[role]}": n for role, n in tokenizer.special.items()},
    }
    for name, value in expected_fields.items():
        if fields.get(name) != value:
            raise GuardError(f"{name} does not read back as it was written")
    quantized = Counter(t.kind.name for t in tensors if t.kind not in _KINDS.values())
    how = ", ".join(f"{number} in {kind}" for kind, number in quantized.items())
    kept = f"of which {how}, within their rounding" if quantized else "every bit as it was"
    return f"{len(tensors)} tensors, {kept}; {len(tokenizer.tokens):,} tokens"


def _read_back(stored: Any, tensor: _Tensor) -> torch.Tensor:
    """Return the values of a tensor of the file in fp32, in the order of the model's."""
    found = torch.from_numpy(np.array(dequantize(stored.data, stored.tensor_type)))
    if tensor.heads:
        pairs = found.reshape(tensor.heads, -1, 2, *found.shape[1:])
        found = pairs.transpose(1, 2).reshape(found.shape)
    return found.reshape(tensor.shape)


def write_dequantized(path: Path, folder: Path, target: Path, outtype: str) -> None:
    """Write the model of a quantized file as a folder of fp32 tensors, one at a time.

    Args:
        path: The file.
        folder: The folder that it was written from, for the names of the tensors.
        target: Folder to create.
        outtype: Quantized type of the file.
    """
    config = AutoConfig.from_pretrained(folder)
    there = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    tensors = {t.source: t for t in _tensors(config, WeightFiles(folder), outtype) if t.source}
    kinds = {source: TensorInfo(torch.float32, t.shape) for source, t in tensors.items()}

    def values(source: str) -> torch.Tensor:
        tensor = tensors[source]
        return _read_back(there[tensor.name], tensor).float()

    target.mkdir(parents=True)
    shutil.copyfile(folder / "config.json", target / "config.json")
    write_tensors(target / "model.safetensors", kinds, values)


_ROLES = {
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "unk": "unknown_token_id",
    "pad": "padding_token_id",
    "eot": "eot_token_id",
}
