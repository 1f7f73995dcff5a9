"""Files of models in the cache of `huggingface_hub`, found without importing it."""

from __future__ import annotations

import os
from pathlib import Path

from training.config.model import Model


def in_cache(name: str, revision: str | None, file: str) -> Path | None:
    """Return a file of a model in the cache of `huggingface_hub`; None if it is not cached.

    Args:
        name: Hub id.
        revision: Branch, tag or commit; `main` if None.
        file: Name of the file.
    """
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    repository = hub / f"models--{name.replace('/', '--')}"
    try:
        commit = (repository / "refs" / (revision or "main")).read_text().strip()
    except OSError:
        commit = revision or ""
    path = repository / "snapshots" / commit / file
    return path if commit and path.is_file() else None


def tokenizer_file(model: Model) -> Path | None:
    """Return the `tokenizer.json` of a model; None if it is not on this machine."""
    name = model.tokenizer or model.source
    here = Path(name) / "tokenizer.json"
    if here.is_file():
        return here
    return in_cache(name, None if model.tokenizer else model.revision, "tokenizer.json")
