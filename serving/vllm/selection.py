"""Decision of `--engine auto` for or against vLLM."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from serving.command import ServeOptions
from serving.vllm.command_line import gpu_count, is_installed, vllm_problems, with_folders

_REGISTRY = Path("model_executor/models/registry.py")
_TABLES = ("_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS")
"""Tables of the architectures that vLLM implements itself, in its registry. It runs others by the
code of Transformers."""


def vllm_is_usable() -> bool:
    """Return whether vLLM is installed and has a GPU of NVIDIA that torch can use."""
    if not (is_installed() and gpu_count()):
        return False
    import torch

    return torch.cuda.is_available()


def why_not_vllm(
    options: ServeOptions, adapters: Mapping[str, str], architectures: frozenset[str]
) -> list[str]:
    """Return why vLLM, which is usable, does not serve a model; nothing if it does.

    Args:
        options: Options of the server.
        adapters: Folder of each adapter by its name.
        architectures: Architectures that vLLM implements.
    """
    if options.log_requests is not None:
        return ["--log-requests: it logs no answers"]
    options, adapters = with_folders(options, adapters)
    problems = vllm_problems(options, adapters)
    if problems:
        return [problem.removeprefix("--engine vllm: ") for problem in problems]
    found = model_architectures(Path(options.model))
    if not found:
        # A model of the Hub must be downloaded first, and the engine of Transformers does that.
        return [f"the architecture of {options.model} is not known before it is downloaded"]
    if not set(found) & architectures:
        return [f"vLLM has no implementation of its own of {', '.join(found)}"]
    return []


def model_architectures(folder: Path) -> list[str]:
    """Return the architectures that the configuration of a model names; none if it has none.

    Args:
        folder: Folder of the model.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [str(name) for name in config.get("architectures") or ()]


def own_architectures() -> frozenset[str]:
    """Return the architectures that the installed vLLM implements itself.

    They are read from the source of its registry: an import of vLLM takes many seconds.
    """
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:
        return frozenset()
    try:
        module = ast.parse((Path(spec.origin).parent / _REGISTRY).read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return frozenset()
    return frozenset(
        key.value
        for statement in module.body
        if (table := _table(statement)) is not None
        for key in table.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    )


def _table(statement: ast.stmt) -> ast.Dict | None:
    """Return the dictionary that a statement assigns to one of the tables."""
    if isinstance(statement, ast.Assign):
        names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        names = [statement.target.id]
    else:
        return None
    value = statement.value
    return value if isinstance(value, ast.Dict) and set(names) & set(_TABLES) else None
