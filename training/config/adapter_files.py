"""Files of a trained adapter, read without torch: where its base is, and whether a model fits it.

PEFT itself reports a matrix of another size, but loads an adapter onto a model with more or fewer
layers without an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from training.config.locations import existing_path
from training.errors import ModelError

CONFIG = "adapter_config.json"
Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of tensors by name."""

_PREFIX = "base_model.model."
_PART = re.compile(r"^(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_E|ia3_l)(\.weight)?$")
_LAYER = re.compile(r"^(.*?\.)(\d+)(\..+)$")
_QUANTIZED = ("U8", "I8", "I32", "F8_E4M3", "F8_E5M2")
_LISTED = 6


def read_adapter_config(folder: Path) -> dict[str, Any] | None:
    """Return the settings of an adapter; None if the folder holds none.

    Raises:
        ModelError: The file cannot be read.
    """
    path = folder / CONFIG
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a mapping. Save the adapter again with save_pretrained")
    return config


def recorded_base(config: Mapping[str, Any]) -> str:
    """Return the base that an adapter's settings name; empty if they name none."""
    return str(config.get("base_model_name_or_path") or "")


def is_moved(base: str) -> bool:
    """Return whether a recorded base is a path at which nothing is."""
    looks_like_path = base.startswith((".", "/", "~")) or base.count("/") > 1
    return not base or (looks_like_path and existing_path(base) is None)


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the unquantized tensors in a folder's safetensors files.

    Raises:
        ModelError: A file is damaged.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        except (OSError, ValueError, OverflowError, MemoryError) as error:
            raise ModelError(f"{path} is no readable safetensors file: {error}") from None
        header.pop("__metadata__", None)
        for name, tensor in header.items():
            if tensor["dtype"] not in _QUANTIZED:
                shapes[name] = tuple(tensor["shape"])
    return shapes


def misfits(adapter: Path, base: Shapes, *, complete: bool = False) -> list[str]:
    """Return every difference between the layers of an adapter and those of a model.

    Args:
        adapter: Folder of the adapter.
        base: Shapes of the model's weights.
        complete: The names are those of the loaded model. Files may name weights differently, so
            that only whole layers can be missed in them.
    """
    config = read_adapter_config(adapter) or {}
    parts = _parts(tensor_shapes(adapter))
    problems = []
    for module, sizes in parts.items():
        weight = _weight(module, base)
        if weight is None:
            if "expert" not in module and (complete or _lacks_layer(module, base)):
                problems.append(f"{module} is not in the base")
            continue
        if not _LAYER.match(module):
            # An adapter with added tokens has more rows in the embeddings and the output head.
            sizes = {part: shape for part, shape in sizes.items() if part != "lora_B"}
        if len(weight) == 2 and not _fits(sizes, weight):
            inputs, outputs = sizes.get("lora_A"), sizes.get("lora_B")
            trained = f"{outputs[0] if outputs else '?'} × {inputs[1] if inputs else '?'}"
            problems.append(
                f"{module} is {weight[0]} × {weight[1]}, and the adapter's layer {trained}"
            )
    return [*problems, *_more_layers(config, parts, base)]


def base_problem(adapter: Path, base: Path) -> str | None:
    """Return how a model in a folder differs from the base of an adapter; None if it fits.

    Raises:
        ModelError: A file of one of them is damaged.
    """
    found = misfits(adapter, tensor_shapes(base))
    return describe_misfits(adapter, str(base), found) if found else None


def describe_misfits(adapter: Path, base: str, found: list[str]) -> str:
    """Return the message about a model that an adapter does not fit.

    Args:
        adapter: Folder of the adapter.
        base: Name of the model.
        found: Its differences, from `misfits`.
    """
    more = f"; and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return (
        f"the adapter in {adapter} does not fit the base {base}: "
        f"{'; '.join(found[:_LISTED])}{more}. Name the model that it was trained on"
    )


def _parts(tensors: Shapes) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the shapes of the parts of each adapted layer, by the layer's name in the model."""
    modules: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in tensors.items():
        if match := _PART.match(name.removeprefix(_PREFIX)):
            # PEFT wraps the layer of a nested adapter (experts).
            module = match["module"].replace(".base_layer", "")
            modules.setdefault(module, {})[match["part"]] = shape
    return modules


def _fits(sizes: Mapping[str, tuple[int, ...]], weight: tuple[int, ...]) -> bool:
    """Return whether two matrices fit a weight; GPT-2 stores it as inputs × outputs."""
    down, up = sizes.get("lora_A"), sizes.get("lora_B")
    return any(
        (down is None or len(down) != 2 or down[1] == columns)
        and (up is None or len(up) != 2 or up[0] == rows)
        for rows, columns in (weight, weight[::-1])
    )


def _lacks_layer(module: str, base: Shapes) -> bool:
    """Return whether a model has layers, and that of a module is not among them."""
    match = _LAYER.match(module)
    if match is None:
        return False
    for start in (match[1], match[1].partition(".")[2]):
        if any(name.startswith(f"{start}0.") for name in base):
            return not any(name.startswith(f"{start}{match[2]}.") for name in base)
    return False


def _weight(module: str, base: Shapes) -> tuple[int, ...] | None:
    """Return the shape of a layer's weight; a base saved without its head lacks the prefix."""
    for name in (module, module.partition(".")[2]):
        for key in (f"{name}.weight", name):
            if key in base:
                return base[key]
    return None


def _more_layers(config: Mapping[str, Any], parts: Iterable[str], base: Shapes) -> list[str]:
    """Return the problem of a base that has more layers than the adapter, all of which it adapts.

    PEFT would leave the others unchanged. An adapter of chosen layers says so in its settings.
    """
    targets = config.get("target_modules")
    chosen = (
        config.get("layers_to_transform") is not None
        or config.get("exclude_modules")
        or not isinstance(targets, list)
        or any(re.search(r"\d", str(name)) for name in targets)
    )
    if chosen:
        return []
    adapted: dict[tuple[str, str], set[int]] = {}
    for module in parts:
        if match := _LAYER.match(module):
            adapted.setdefault((match[1], match[3]), set()).add(int(match[2]))
    for (before, after), layers in adapted.items():
        count = 0
        while _weight(f"{before}{count}{after}", base) is not None:
            count += 1
        if layers == set(range(len(layers))) and count > len(layers):
            return [f"it has {count} layers, and the adapter {len(layers)}"]
    return []
