"""Repair of generation settings that Transformers loads but refuses to save."""

from __future__ import annotations

import logging
from typing import Any

from transformers import GenerationConfig, PreTrainedModel

from training.errors import ModelError

logger = logging.getLogger(__name__)

_SAMPLING = (
    *("temperature", "top_p", "top_k", "min_p", "top_h", "typical_p"),
    *("epsilon_cutoff", "eta_cutoff"),
)
_BEAMS = ("early_stopping", "length_penalty")
_OUTPUTS = ("output_attentions", "output_hidden_states", "output_scores", "output_logits")


def repair_generation_config(model: PreTrainedModel, source: str) -> None:
    """Leave out settings without effect that prevent a model from being saved.

    Some bases (Llama 2, Vicuna) ship `do_sample: false` with a temperature. Transformers ignores
    such a temperature, so the model generates the same without it.

    Args:
        model: The base, changed in place.
        source: Folder or Hub id of the base, for messages.

    Raises:
        ModelError: The settings are invalid for another reason.
    """
    settings = getattr(model, "generation_config", None)
    if settings is None or _fault(settings) is None:
        return
    unused: dict[str, Any] = {}
    if settings.do_sample is not True:
        unused |= {name: getattr(settings, name, None) for name in _SAMPLING}
    if settings.num_beams in (None, 1):
        unused |= {name: getattr(settings, name, None) for name in _BEAMS}
    if settings.return_dict_in_generate is not True:
        unused |= {name: getattr(settings, name, None) or None for name in _OUTPUTS}
    if (settings.pad_token_id or 0) < 0:
        unused["pad_token_id"] = settings.pad_token_id
    unused = {name: value for name, value in unused.items() if value is not None}
    for name in unused:
        setattr(settings, name, None)
    if (fault := _fault(settings)) is not None:
        raise ModelError(
            f"the generation_config.json of {source} is invalid, and a model with it cannot be "
            f"saved: {fault}. Correct that file, or delete it"
        )
    values = ", ".join(f"{name}: {value}" for name, value in unused.items())
    logger.warning(
        "the generation_config.json of %s has settings that are ignored (%s, while do_sample is %s "
        "and num_beams is %s), which Transformers refuses to save. The trained model is saved "
        "without them and generates the same",
        source,
        values,
        bool(settings.do_sample),
        settings.num_beams or 1,
    )


def _fault(settings: GenerationConfig) -> str | None:
    try:
        settings.validate(strict=True)
    except ValueError as error:
        return " ".join(str(error).split())
    return None
