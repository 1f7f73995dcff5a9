"""Check of a model folder against what Amazon Bedrock imports, before anything is uploaded.

The rules, with their source, are in `catalog/bedrock_import.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from catalog.bedrock_import import (
    FAMILIES,
    LLAMA3_ROPE,
    MAX_CONTEXT,
    MAX_MULTIMODAL_GB,
    MAX_TEXT_GB,
    MULTIMODAL,
    NO_CONVERSE,
    ONLY_IN,
    REGIONS,
    TOKENIZERS,
    TRANSFORMERS,
)
from launch.aws.safetensors_header import TensorHeader, read_headers
from training.console import say

_DTYPES = ("F32", "F16", "BF16")
_FILES = ("config.json", "tokenizer_config.json", "tokenizer.json")
_EXPORT = "Export it: temper export RUN --format transformers-4"


class ImportFinding(NamedTuple):
    """Something that an import would refuse or change.

    Attributes:
        refused: True if the import fails, or the imported model answers wrongly.
        message: The finding, with the value and the remedy.
    """

    refused: bool
    message: str


def check_import(folder: Path, region: str) -> Iterator[ImportFinding]:
    """Yield what stands against importing a model from a folder.

    Args:
        folder: Folder of a whole model.
        region: Region of the import.
    """
    if region not in REGIONS:
        yield _refused(f"models are not imported in {region}, but in {', '.join(REGIONS)}")
    if (folder / "adapter_config.json").is_file():
        yield _refused(f"it is an adapter, and a whole model is needed. {_EXPORT}")
        return
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        yield _refused(f"there is no {', '.join(missing)} in {folder}")
    damaged = [name for name in _FILES if name not in missing and not _is_json(folder / name)]
    if damaged:
        yield _refused(f"{', '.join(damaged)} in {folder} is no JSON")
    if {"config.json", "tokenizer_config.json"} & {*missing, *damaged}:
        return
    config = _read(folder / "config.json")
    family = str(config.get("model_type", ""))
    yield from _architecture(config, family, region)
    yield from _settings(config, family)
    yield from _weights(folder, family)
    yield from _tokenizer(folder, family)


def converse_supported(family: str, *, template: bool) -> bool:
    """Return whether the Converse operations take an imported model.

    Args:
        family: `model_type` of the model.
        template: Whether the tokenizer has a chat template.
    """
    return template and family not in NO_CONVERSE


def chat_template(folder: Path) -> bool:
    """Return whether the tokenizer in a folder has a chat template where Bedrock reads it."""
    path = folder / "tokenizer_config.json"
    return path.is_file() and bool(_read(path).get("chat_template"))


def _architecture(config: Mapping[str, Any], family: str, region: str) -> Iterator[ImportFinding]:
    if family not in FAMILIES:
        yield _refused(f"the architecture {family!r} is not imported, but {', '.join(FAMILIES)}")
    elif region not in ONLY_IN.get(family, (region,)):
        yield _refused(f"{family} is imported in {', '.join(ONLY_IN[family])} only")
    names = config.get("architectures") or []
    if family.startswith("qwen3") and not all(name.endswith("ForCausalLM") for name in names):
        yield _refused(f"of Qwen3 only causal language models are imported, not {names}")
    if config.get("quantization_config"):
        yield _refused("its weights are quantized. Export the model without quantization")
    context = int(config.get("max_position_embeddings") or 0)
    if context > MAX_CONTEXT:
        yield _refused(f"its context of {context} tokens is longer than {MAX_CONTEXT}")
    elif context == MAX_CONTEXT:
        text = f"its context is {context} tokens, and the guide asks for less than 128K"
        yield ImportFinding(False, f"{text}; Llama 3.1 with this value is listed as supported")


def _settings(config: Mapping[str, Any], family: str) -> Iterator[ImportFinding]:
    if "rope_parameters" in config:
        yield _refused(
            f"config.json has rope_parameters, which Transformers {TRANSFORMERS} ignores: it would "
            f"compute positions with its default base, and answer wrongly. {_EXPORT}"
        )
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if family == "llama" and rope.get("rope_type") == "llama3":
        changed = {
            key: (rope.get(key), value)
            for key, value in LLAMA3_ROPE.items()
            if rope.get(key) != value
        }
        for key, (ours, theirs) in changed.items():
            yield ImportFinding(
                False,
                f"Bedrock replaces {key} of the positions, {ours}, with {theirs:g}: compare "
                f"answers to long prompts after the import",
            )


def _weights(folder: Path, family: str) -> Iterator[ImportFinding]:
    try:
        tensors = list(read_headers(folder))
    except (OSError, ValueError) as error:
        yield _refused(f"its weights cannot be read: {error}")
        return
    if not tensors:
        yield _refused(f"there are no .safetensors files in {folder}. {_EXPORT}")
        return
    kinds = sorted({tensor.dtype for tensor in tensors} - set(_DTYPES))
    if kinds:
        yield _refused(f"weights have the dtypes {', '.join(kinds)}, not {', '.join(_DTYPES)}")
    size = sum(tensor.size_bytes for tensor in tensors) / 1e9
    limit = MAX_MULTIMODAL_GB if family in MULTIMODAL else MAX_TEXT_GB
    if size >= limit:
        yield _refused(f"its weights have {size:.0f} GB, and must have less than {limit}")
    if _all_fp32(tensors) and size > 1:
        yield ImportFinding(
            False, f"its weights are fp32 ({size:.1f} GB): --dtype bf16 halves upload and storage"
        )


def _all_fp32(tensors: list[TensorHeader]) -> bool:
    return all(tensor.dtype == "F32" for tensor in tensors)


def _tokenizer(folder: Path, family: str) -> Iterator[ImportFinding]:
    name = str(_read(folder / "tokenizer_config.json").get("tokenizer_class", ""))
    if name not in TOKENIZERS:
        yield _refused(f"Bedrock has no tokenizer class {name or '(none)'}. {_EXPORT}")
    elsewhere = (folder / "chat_template.jinja").is_file()
    if not chat_template(folder) and elsewhere:
        yield _refused(
            f"its chat template is in chat_template.jinja, and Bedrock reads it in "
            f"tokenizer_config.json. {_EXPORT}"
        )
    elif not chat_template(folder):
        yield ImportFinding(False, "it has no chat template: only InvokeModel with a text prompt")
    elif not converse_supported(family, template=True):
        yield ImportFinding(
            False, f"Converse may not take {family} models; InvokeModel takes OpenAI's bodies"
        )


def print_import_check(folder: Path, region: str) -> int:
    """Print whether Bedrock imports the model in a folder, and what it changes.

    Args:
        folder: Folder of the model.
        region: Region of the import.

    Returns:
        Exit code: 2 if the import would fail or the imported model answer wrongly.
    """
    findings = list(check_import(folder, region))
    for finding in sorted(findings, key=lambda finding: not finding.refused):
        say(f"{'refused' if finding.refused else 'note'}: {finding.message}")
    if any(finding.refused for finding in findings):
        say(f"{folder} cannot be imported into Bedrock as it is")
        return 2
    family = str(_read(folder / "config.json").get("model_type", ""))
    converse = converse_supported(family, template=chat_template(folder))
    say(
        f"{folder} has what Bedrock's import asks for in {region}; "
        f"{'Converse and InvokeModel take' if converse else 'InvokeModel takes'} its requests"
    )
    return 0


def _refused(message: str) -> ImportFinding:
    return ImportFinding(True, message)


def _is_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    except ValueError:
        return False


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document
