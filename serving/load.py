"""Loading of the model that a server answers with, by the engine that fits it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from evaluation.models.gguf_model import SUFFIX
from evaluation.models.load import model_folder
from serving.model import ServedModel
from training.errors import ModelError

logger = logging.getLogger(__name__)


def load_served_model(
    name: str,
    source: str,
    adapters: Mapping[str, str],
    engine: str = "auto",
    max_rank: int | None = None,
) -> ServedModel:
    """Load a model and adapters.

    Args:
        name: Name by which requests mean the model.
        source: Run folder, folder of a model or an adapter, GGUF file, or Hub id.
        adapters: Run folder or folder of each further adapter, by the name that requests use.
        engine: `transformers`, `llama.cpp`, or `auto`: llama.cpp for a GGUF file.
        max_rank: Highest rank of an adapter, also of one that is loaded later; None for any.

    Raises:
        ModelError: One of them does not exist, cannot be read, or cannot be served.
    """
    from serving.llama_cpp.model import llama_cpp_problem, load_llama_cpp_model
    from serving.transformers_model import load_transformers_model

    path = Path(model_folder(source))
    is_gguf = path.suffix == SUFFIX
    if engine == "llama.cpp" and not is_gguf:
        raise ModelError(
            f"{source} is not a GGUF file, which --engine llama.cpp needs: write one with temper "
            f"export --format gguf, or use --engine transformers"
        )
    missing = llama_cpp_problem()
    if is_gguf and (engine == "llama.cpp" or (engine == "auto" and missing is None)):
        return load_llama_cpp_model(name, source, path, adapters)
    if is_gguf and missing is not None:
        logger.warning("The weights are dequantized, and Transformers computes them: %s", missing)
    return load_transformers_model(name, source, adapters, max_rank)
