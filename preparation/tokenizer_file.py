"""Location of a tokenizer's file, without a download."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from validation.problem import Problem

_FILE = "tokenizer.json"


def tokenizer_file(name: str) -> Path:
    """Return the `tokenizer.json` of a tokenizer; it may not exist.

    Args:
        name: The file, a folder that holds it, or the Hub id of a model in the local cache.
    """
    path = Path(name)
    if path.suffix == ".json":
        return path
    if path.exists() or not _may_be_hub_id(name):
        return path / _FILE
    return _cached(name) or path / _FILE


def tokenizer_problems(name: str, key: str) -> Iterable[Problem]:
    """Yield a tokenizer that is not on this machine.

    Args:
        name: The tokenizer, as in the job.
        key: Key of the setting.
    """
    if not tokenizer_file(name).is_file():
        yield Problem(
            key,
            f"no file {tokenizer_file(name)}",
            name,
            "Name a local folder with a tokenizer.json, the file, or a model in the local Hub "
            "cache; nothing is downloaded",
        )


def _may_be_hub_id(name: str) -> bool:
    return name.count("/") <= 1 and not name.startswith((".", "/", "~"))


def _cached(name: str) -> Path | None:
    """Return the file in the cache of the Hub."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(name, _FILE)
    except HFValidationError:
        return None
    return Path(path) if isinstance(path, str) else None
