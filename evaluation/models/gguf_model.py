"""Loading of a GGUF file with Transformers: its weights, dequantized, and its own tokenizer.

Transformers reads neither the width of the heads of every architecture, nor scaled positions, nor
the token that ends a turn; all three are read from the metadata here.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.errors import ModelError

if TYPE_CHECKING:
    import torch
    from gguf import GGUFReader

SUFFIX = ".gguf"
_ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Architectures whose scores a test compares with those of the original."""
_ROPE_FACTORS = "rope_freqs.weight"


def find_gguf(source: str) -> Path | None:
    """Return the GGUF file that a source names: itself, or the only model of a folder.

    Args:
        source: File, folder or Hub id.

    Raises:
        ModelError: The folder has several such files and no other model.
    """
    path = Path(source)
    if path.suffix == SUFFIX and path.is_file():
        return path
    if not path.is_dir() or any((path / f"{n}config.json").exists() for n in ("", "adapter_")):
        return None
    files = sorted(path.glob(f"*{SUFFIX}"))
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise ModelError(f"{source} has {len(files)} GGUF files: {names}. Name one of them")
    return files[0] if files else None


def load_gguf(path: Path, device: torch.device) -> tuple[Any, Any, str]:
    """Return the model and the tokenizer of a GGUF file, and the type of most of its weights.

    Args:
        path: The file.
        device: Device of the model, in bf16 on a GPU and in fp32 elsewhere.

    Raises:
        ModelError: The file cannot be read, or its model is not supported.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    reader = open_gguf(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    architecture = str(fields.get("general.architecture"))
    _check_supported(path, architecture, fields)
    try:
        config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
        _correct_config(config, architecture, fields)
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        model = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, config=config, dtype=dtype
        )
    except Exception as error:
        raise ModelError(f"the GGUF file {path} could not be read: {error}") from error
    for tensor in reader.tensors:
        if tensor.name == _ROPE_FACTORS:
            rotary = model.model.rotary_emb
            rotary.inv_freq = rotary.inv_freq / torch.tensor(tensor.data, dtype=torch.float32)
            rotary.original_inv_freq = rotary.inv_freq
    model.generation_config.eos_token_id = end_tokens(fields)
    model.to(device).eval().requires_grad_(False)
    return model, tokenizer, _weight_type(reader)


def end_tokens(fields: dict[str, Any]) -> list[int]:
    """Return the tokens that end an answer, by the metadata of a GGUF file."""
    ends = [fields.get(f"tokenizer.ggml.{role}_token_id") for role in ("eos", "eot")]
    return [int(number) for number in ends if number is not None]


def open_gguf(path: Path) -> GGUFReader:
    """Return the reader of a file.

    Raises:
        ModelError: It is no GGUF file.
    """
    from gguf import GGUFReader

    try:
        return GGUFReader(path)
    except Exception as error:
        raise ModelError(
            f"{path} cannot be read as GGUF: {error}. Download or export it again"
        ) from error


def _check_supported(path: Path, architecture: str, fields: dict[str, Any]) -> None:
    """Raise if Transformers would compute something else than the file describes.

    Raises:
        ModelError: The reason.
    """

    def get(name: str) -> Any:
        return fields.get(f"{architecture}.{name}")

    why = ""
    if architecture not in _ARCHITECTURES:
        why = f"its architecture, {architecture}, is not among the verified ones"
        why += f" ({', '.join(_ARCHITECTURES)})"
    elif get("expert_count"):
        why = f"it is a mixture of {get('expert_count')} experts"
    elif get("attention.sliding_window"):
        why = f"its attention slides over {get('attention.sliding_window')} tokens"
    elif get("rope.scaling.type") not in (None, "none", "linear"):
        why = f"its positions are scaled by {get('rope.scaling.type')}"
    if why:
        raise ModelError(
            f"the GGUF file {path} cannot be evaluated here: {why}. Evaluate the safetensors that "
            f"it was made from, or serve the file and evaluate the server's address"
        )


def _correct_config(config: Any, architecture: str, fields: dict[str, Any]) -> None:
    """Set what Transformers leaves out of a configuration that it reads from metadata."""
    width = fields.get(f"{architecture}.attention.key_length")
    if width is not None:
        config.head_dim = int(width)
    factor = fields.get(f"{architecture}.rope.scaling.factor")
    if fields.get(f"{architecture}.rope.scaling.type") == "linear" and factor:
        theta = config.rope_parameters["rope_theta"]
        config.rope_parameters = {
            "rope_type": "linear", "factor": float(factor), "rope_theta": theta,
        }  # fmt: skip


def _weight_type(reader: GGUFReader) -> str:
    """Return the type in which most of the weights are stored, such as `Q8_0`."""
    sizes: Counter[str] = Counter()
    for tensor in reader.tensors:
        sizes[tensor.tensor_type.name] += int(tensor.n_elements)
    return sizes.most_common(1)[0][0] if sizes else "none"
