"""Problems of a model for a chat that show before its weights are loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.models.gguf_model import SUFFIX
from evaluation.models.load import model_folder
from serving.llama_cpp.metadata import read_metadata
from serving.llama_cpp.model import load_gguf_tokenizer
from serving.model import PromptFormat
from training.config.adapter_files import is_moved, recorded_base
from training.errors import ModelError
from training.models.locate import explain_missing, explain_moved_base, has_weights
from training.models.merge import is_adapter


def check_chat_models(sources: Sequence[str]) -> None:
    """Check models that are to chat.

    Args:
        sources: Run, folder, GGUF file or Hub id of each.

    Raises:
        ModelError: Some cannot; names all of them.
    """
    problems = []
    for source in sources:
        try:
            _check(source)
        except ModelError as error:
            problems.append(str(error))
    if problems:
        raise ModelError("\n".join(dict.fromkeys(problems)))


def explain_no_template(source: str) -> str:
    """Return the error message for a model without a chat template."""
    return (
        f"{source} has no chat template, so there is no conversation that it was "
        f"trained on. `temper serve` completes texts with it (/v1/completions)"
    )


def _check(source: str) -> None:
    """Check one model.

    Raises:
        ModelError: It cannot chat.
    """
    folder = model_folder(source)
    if Path(folder).suffix == SUFFIX:
        tokenizer = load_gguf_tokenizer(Path(folder), read_metadata(Path(folder)))
    else:
        tokenizer = _tokenizer(source, folder)
    if PromptFormat.from_tokenizer(tokenizer, None).rows.template is None:
        raise ModelError(explain_no_template(source))


def _tokenizer(source: str, folder: str) -> Any:
    """Return the tokenizer of a model whose files are complete.

    Raises:
        ModelError: It cannot be read, or weights or the base of an adapter are missing.
    """
    from transformers import AutoConfig, AutoTokenizer

    try:
        if is_adapter(folder):
            base = recorded_base(json.loads((Path(folder) / "adapter_config.json").read_text()))
            if is_moved(base):
                raise ModelError(explain_moved_base(folder, base))
        else:
            AutoConfig.from_pretrained(folder)
            if Path(folder).is_dir() and not has_weights(Path(folder)):
                raise ModelError(f"the model folder {folder} has no weights (*.safetensors)")
        return AutoTokenizer.from_pretrained(folder)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(explain_missing("model", source, error)) from error
