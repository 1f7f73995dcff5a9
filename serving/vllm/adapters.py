"""Adapters that vLLM can serve, by their configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.lora_config import highest_rank

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of `--max-lora-rank` that vLLM accepts."""


def adapter_problems(adapters: Mapping[str, str], max_rank: int) -> list[str]:
    """Return what keeps vLLM from serving adapters, a line for each.

    Args:
        adapters: Folder of each adapter by its name.
        max_rank: Highest rank that is accepted.
    """
    problems = []
    for name, folder in adapters.items():
        config, problem = _read(folder)
        problem = problem or _problem(config, max_rank)
        if problem:
            problems.append(f"adapter {name} ({folder}): {problem}")
    return problems


def lora_rank(adapters: Mapping[str, str], at_least: int | None = None) -> int:
    """Return the value of `--max-lora-rank` for adapters.

    Args:
        adapters: Folder of each adapter by its name.
        at_least: Rank of adapters that are loaded later.
    """
    needed = max([at_least or 1, *(highest_rank(_read(folder)[0]) for folder in adapters.values())])
    return next((rank for rank in RANKS if rank >= needed), RANKS[-1])


def _read(folder: str) -> tuple[dict[str, Any], str]:
    """Return the configuration of an adapter, and what is wrong with it."""
    path = Path(folder) / "adapter_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        return {}, f"{path.name} cannot be read: {error.strerror or error}"
    except ValueError as error:
        return {}, f"{path.name} is not JSON: {error}"
    return (config, "") if isinstance(config, dict) else ({}, f"{path.name} is no JSON object")


def _problem(config: Mapping[str, Any], max_rank: int) -> str:
    kind = config.get("peft_type")
    if kind != "LORA":
        return f"it is of type {kind}, and vLLM serves LoRA. Merge it with temper export"
    if config.get("use_dora"):
        return "it is a DoRA, which vLLM does not serve. Merge it with temper export"
    if config.get("modules_to_save"):
        modules = ", ".join(config["modules_to_save"])
        return f"it has its own copy of {modules}, which vLLM ignores. Merge it with temper export"
    if (config.get("bias") or "none") != "none":
        return "it has biases, which vLLM does not serve. Merge it with temper export"
    if highest_rank(config) > max_rank:
        return f"its rank is {highest_rank(config)}, and vLLM serves ranks up to {max_rank}"
    return ""
