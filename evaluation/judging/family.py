"""Family of a model, to warn of a judge that prefers answers of its own kind.

Judges rate answers of their own family higher (Panickssery et al. 2024,
https://arxiv.org/abs/2404.13076).
"""

from __future__ import annotations

import json
import re
from pathlib import Path

_FAMILIES = {
    "claude": r"claude|anthropic",
    "command": r"command-?[ra]|cohere|\baya\b",
    "deepseek": r"deepseek",
    "falcon": r"falcon",
    "gemini": r"gemini|gemma|palm-2",
    "gpt": r"\bgpt(?!2|-2|-?neo|-?j\b)|\bo[134](?:-|\b)|chatgpt|openai",
    "granite": r"granite",
    "kimi": r"kimi|moonshot",
    "llama": r"llama|vicuna|alpaca",
    "mistral": r"mistral|mixtral|ministral|magistral",
    "nova": r"\bnova\b|amazon\.nova|titan",
    "olmo": r"olmo|tulu",
    "phi": r"\bphi\b|\bphi-?\d",
    "qwen": r"qwen|qwq",
    "smollm": r"smollm",
}
_CONFIGS = ("config.json", "adapter_config.json", "model/config.json", "model/adapter_config.json")
_KEYS = ("base_model_name_or_path", "_name_or_path", "model_type")


def family_of(model: str) -> str | None:
    """Return the family of a model by its name or, if it is a folder, by its configuration.

    Args:
        model: Name, Hub id, or folder of a model or of a run.

    Returns:
        None if the family is not known.
    """
    folder = Path(model)
    texts = []
    for name in _CONFIGS if folder.is_dir() else ():
        try:
            config = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        texts += [str(config[key]) for key in _KEYS if isinstance(config, dict) and key in config]
    # The name of a folder comes last: it may hold any word.
    texts.append(folder.name if folder.is_dir() else model)
    for text in texts:
        for family, pattern in _FAMILIES.items():
            if re.search(pattern, text.lower().replace("_", "-")):
                return family
    return None
