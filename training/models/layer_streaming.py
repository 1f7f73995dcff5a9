"""Layer streaming: a forward pass that holds each block's weights only while it is computed.

It runs a model of any size, with or without an adapter, on a machine that could not load it. The
model is built without weights (on the meta device); forward hooks read a block's weights from the
safetensors files before the block runs and drop them after it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from training.errors import ModelError
from training.models.safetensors_io import WeightFiles

_WRAPPERS = ("base_model.model.", "base_model.", "")
"""Prefixes that PEFT adds to the names of a model's parameters."""
_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks|layer)\.\d+$")


def empty_model(folder: Path) -> PreTrainedModel:
    """Return the model that `folder` describes, without weights, in eval mode.

    Raises:
        ModelError: The files name their tensors differently from the model.
    """
    model = _model_on_meta(folder)
    missing = _missing(model, folder)
    if missing:
        raise ModelError(
            f"{folder} stores its weights under other names than the model has ({missing[0]} is "
            f"not among them), so it cannot be streamed. Load it on a machine with more memory"
        )
    return model


def is_streamable(folder: Path) -> bool:
    """Return whether the files of `folder` hold each tensor under its name in the model.

    Mixtures of experts mostly do not: Transformers merges their experts while it loads them.
    """
    return not _missing(_model_on_meta(folder), folder)


def _model_on_meta(folder: Path) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(folder)
    with init_empty_weights(include_buffers=False):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.tie_weights()
    return model.eval()


def _missing(model: PreTrainedModel, folder: Path) -> list[str]:
    files, tied = WeightFiles(folder), tied_names(model)
    return [n for n, _ in model.named_parameters() if n not in files and n not in tied]


def tied_names(model: PreTrainedModel) -> dict[str, str]:
    """Return parameters that share a tensor with another one, with the name of that one."""
    tied = getattr(model, "_tied_weights_keys", None) or {}
    if not getattr(model.config, "tie_word_embeddings", False):
        return {}
    return dict(tied) if isinstance(tied, dict) else {}


def stream_weights(model: nn.Module, folder: Path, tied: dict[str, str]) -> None:
    """Register hooks that load the weights of `model` block by block from `folder`, in fp32.

    Args:
        model: An empty model, possibly with an adapter.
        folder: Folder with the weights.
        tied: Result of `tied_names` of the empty model.
    """
    read = _reader(folder, tied)
    within: set[str] = set()
    for name, module in model.named_modules():
        if _BLOCK.search(name):
            _fetch_around(module, name, read)
            within |= {f"{name}.{inner}" if inner else name for inner, _ in module.named_modules()}
    # Then every module outside the blocks that has weights of its own: embeddings, norm, head.
    for name, module in model.named_modules():
        if name not in within and any(p.is_meta for p in module.parameters(recurse=False)):
            _fetch_around(module, name, read)


def embedding_names(folder: Path) -> list[list[str]]:
    """Return the names of the tensors of a model with one row per token.

    For each tensor (input embeddings, output embeddings, bias of the output) there are the names
    that files may give it: that of the model, and that without the prefix of its base.
    """
    model = _model_on_meta(folder)
    modules = {id(module): name for name, module in model.named_modules()}
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    names = [f"{modules[id(inputs)]}.weight"]
    if outputs is not None:
        names += [f"{modules[id(outputs)]}.{key}" for key in ("weight", "bias")]
    return [[name, name.removeprefix(f"{model.base_model_prefix}.")] for name in names]


def load_embeddings(model: PreTrainedModel, folder: Path) -> None:
    """Load the input embeddings of an empty model permanently."""
    embeddings = model.get_input_embeddings()
    (name,) = (name for name, module in model.named_modules() if module is embeddings)
    weight = _reader(folder, {})(f"{name}.weight")
    embeddings.weight = nn.Parameter(weight, requires_grad=False)


def _reader(folder: Path, tied: dict[str, str]) -> Callable[[str], torch.Tensor]:
    files = WeightFiles(folder)

    def read(name: str) -> torch.Tensor:
        # PEFT wraps adapted layers and modules_to_save; files have the names of the plain model.
        name = name.replace(".base_layer.", ".").replace(".original_module.", ".")
        for prefix in _WRAPPERS:
            plain = name.removeprefix(prefix)
            plain = tied.get(plain, plain) if plain not in files else plain
            if plain in files:
                return files.read(plain).float()
        raise AssertionError(name)

    return read


def _fetch_around(module: nn.Module, name: str, read: Callable[[str], torch.Tensor]) -> None:
    owners = [
        (inner, key, f"{name}.{path}.{key}" if path else f"{name}.{key}", parameter)
        for path, inner in module.named_modules()
        for key, parameter in inner._parameters.items()
        if parameter is not None and parameter.is_meta
    ]

    def fetch(*_: Any) -> None:
        for inner, key, full, _parameter in owners:
            inner._parameters[key] = nn.Parameter(read(full), requires_grad=False)

    def drop(*_: Any) -> None:
        for inner, key, _full, parameter in owners:
            inner._parameters[key] = parameter

    module.register_forward_pre_hook(fetch)
    # Also when the forward raises: the next call must find an empty module.
    module.register_forward_hook(drop, always_call=True)
