"""Error messages for models and tokenizers that cannot be located or loaded."""

from __future__ import annotations

from pathlib import Path


def looks_like_path(source: str) -> bool:
    """Return whether `source` is a path rather than a Hub id (`owner/name`)."""
    return source.startswith((".", "/", "~")) or source.count("/") > 1 or Path(source).exists()


def explain_missing(what: str, source: str, error: Exception) -> str:
    """Return the error message for a model or tokenizer that could not be loaded.

    Args:
        what: Role of the model in the message, such as "teacher".
        source: Folder or Hub id.
        error: Error of the library that tried to load it.
    """
    path = Path(source)
    if "scaled_dot_product_attention" in str(error):
        return (
            f"the {what} {source} has an architecture that does not support sdpa attention. "
            f"Set model.attention: eager"
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first_line = lines[0].rstrip(".,") if lines else repr(error)
    if first_line.endswith(":") and len(lines) > 1:
        # torch names the tensors that do not fit in the lines that follow.
        first_line = f"{first_line} {lines[1]}"
    if not looks_like_path(source):
        return (
            f"the {what} {source!r} could not be downloaded from the Hub ({first_line}). Check the "
            f"spelling, the network and HF_TOKEN, or name a folder"
        )
    if not path.exists():
        return f"the {what} folder {source} does not exist. Check the path"
    if not path.is_dir():
        return f"{source} is a file; a {what} is a folder with config.json and weights"
    if "tokenizer" not in what and not (path / "config.json").exists():
        first_line = "it has no config.json"
    entries = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
    return f"the {what} in {source} could not be read: {first_line}. The folder has: {entries}"


def explain_moved_base(adapter: str, base: str) -> str:
    """Return the error message for an adapter whose recorded base does not exist.

    Args:
        adapter: Folder of the adapter.
        base: Folder that it records; empty if none is recorded.
    """
    return (
        f"the base of the adapter {adapter}, {base or '(not recorded)'}, does not exist on this "
        f"machine. Set model.base_model in a job, or --base-model of temper export, to where the "
        f"base is; elsewhere change base_model_name_or_path in {adapter}/adapter_config.json"
    )


def has_weights(folder: Path) -> bool:
    """Return whether a folder holds weight files that Transformers loads."""
    return any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin"))
