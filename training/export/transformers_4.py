"""Settings of a model and its tokenizer in the form that Transformers 4 reads.

Transformers 5 writes the base of rotary positions into `rope_parameters`. Transformers 4 does not
read that key: it computes positions with the default base, and the answers are wrong without an
error. It also knows neither the key `dtype` nor the tokenizer class `TokenizersBackend`, and reads
the number of a Qwen3 mixture's experts from another key. Amazon
Bedrock imports models with Transformers 4.51.3 (Bedrock User Guide, "Use Custom model import").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from catalog.bedrock_import import TRANSFORMERS
from training.errors import ModelError
from training.export.checksums import CHECKSUMS, write_checksums

FORMAT = "transformers-4"
"""Name of the export and of its folder."""
FAMILIES = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe")
"""Families whose exports the tests compare with Transformers 4.51.3."""
_RENAMED = {"dtype": "torch_dtype"}
_RENAMED_OF = {"qwen3_moe": {"num_local_experts": "num_experts"}}
"""Keys by their former names, which Transformers 4 reads; it ignores the present ones."""
_TOKENIZER = "PreTrainedTokenizerFast"
_OF_TRANSFORMERS_5 = ("backend", "is_local", "local_files_only")


def write_transformers_4(folder: Path) -> None:
    """Rewrite `config.json` and `tokenizer_config.json` of a model for Transformers 4.

    Raises:
        ModelError: The model is of a family that was not compared, or has settings that
            Transformers 4 has no keys for.
    """
    config = folder / "config.json"
    _write(config, legacy_config(_read(config)))
    tokenizer = folder / "tokenizer_config.json"
    if tokenizer.is_file():
        template = folder / "chat_template.jinja"
        text = template.read_text(encoding="utf-8") if template.is_file() else None
        _write(tokenizer, legacy_tokenizer_config(_read(tokenizer), text))
    if (folder / CHECKSUMS).is_file():
        write_checksums(folder)


def legacy_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a model for Transformers 4.

    Args:
        config: Content of `config.json`.

    Raises:
        ModelError: The family was not compared, or positions differ between layers.
    """
    family = str(config.get("model_type", ""))
    if family not in FAMILIES:
        raise ModelError(
            f"models of the family {family!r} were not compared with Transformers 4. It is "
            f"written for {', '.join(FAMILIES)}; use FORMAT=safetensors"
        )
    legacy = dict(config)
    for key, former in {**_RENAMED, **_RENAMED_OF.get(family, {})}.items():
        if key in legacy:
            legacy[former] = legacy.pop(key)
    rope = legacy.pop("rope_parameters", None)
    if rope is not None:
        legacy |= _legacy_rope(rope)
    legacy["transformers_version"] = TRANSFORMERS
    return legacy


def _legacy_rope(rope: Mapping[str, Any]) -> dict[str, Any]:
    """Return base and scaling of rotary positions, which are keys of their own in Transformers 4.

    Raises:
        ModelError: There are several, one for each type of layer.
    """
    if any(isinstance(value, Mapping) for value in rope.values()):
        raise ModelError("Transformers 4 has no key for positions that differ between layers")
    scaling = dict(rope)
    found: dict[str, Any] = {
        key: scaling.pop(key) for key in ("rope_theta", "partial_rotary_factor") if key in scaling
    }
    default = scaling.get("rope_type", "default") == "default"
    return {**found, "rope_scaling": None if default else scaling}


def legacy_tokenizer_config(config: Mapping[str, Any], template: str | None) -> dict[str, Any]:
    """Return the settings of a tokenizer for Transformers 4.

    `tokenizer.json` holds the whole tokenizer, which every class with a fast tokenizer reads as it
    is, so that the class of all is `PreTrainedTokenizerFast`.

    Args:
        config: Content of `tokenizer_config.json`.
        template: The chat template, if it is a file of its own.
    """
    legacy = {key: value for key, value in config.items() if key not in _OF_TRANSFORMERS_5}
    legacy["tokenizer_class"] = _TOKENIZER
    extra = legacy.pop("extra_special_tokens", None)
    if isinstance(extra, list):
        legacy["additional_special_tokens"] = extra
    elif extra is not None:
        legacy["extra_special_tokens"] = extra
    if template is not None:
        legacy["chat_template"] = template
    return legacy


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _write(path: Path, document: Mapping[str, Any]) -> None:
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
