"""An adapter and its base as one model.

A job that starts from an adapter folder (the stage before may have trained one) starts from this.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from training.errors import ModelError
from training.models.base_digest import check_base_digest
from training.models.heads import HEAD_OF_TASK, HEADS, HeadKind, with_score_head
from training.models.locate import explain_missing

_CONFIG = "adapter_config.json"
_BEFORE = "its virtual tokens stand before the input"
UNMERGEABLE = {
    "PROMPT_TUNING": _BEFORE,
    "P_TUNING": _BEFORE,
    "PREFIX_TUNING": "its prefix stands before each layer's keys and values",
    "BOTTLENECK": "there is an activation between its two matrices",
}
"""Why adapters of some types, by PEFT's name of the type, have no merged form."""


def why_not_mergeable(peft_type: str, linear: bool = True) -> str | None:
    """Return why an adapter has no merged form; None where it has one.

    Args:
        peft_type: PEFT's name of its type.
        linear: Whether a composed adapter is, all in all, a change of weights.
    """
    if peft_type == "COMPOSED" and not linear:
        return "what its members do depends on the input in more than a change of weights can say"
    return UNMERGEABLE.get(peft_type)


def is_adapter(source: str) -> bool:
    """Whether a folder holds an adapter rather than a whole model."""
    return (Path(source) / _CONFIG).is_file()


def merged(
    source: str,
    head: HeadKind = HEADS["language"],
    *,
    dtype: torch.dtype,
    attention: str | None = "sdpa",
) -> PreTrainedModel:
    """Return the base that an adapter was trained on, with the adapter's update added to it.

    The base is read unquantized, whatever it was trained on: adding to 4-bit weights would round
    the update away.

    Args:
        source: Folder of the adapter.
        head: What the result is to put out. An adapter of a language model also gives the body of
            a model that scores.
        dtype: Of the result; the addition itself is done in fp32.
        attention: As in a job; None for what the model is best at.

    Raises:
        ModelError: The base or the adapter cannot be read, or do not belong together.
    """
    config = json.loads((Path(source) / _CONFIG).read_text())
    if (reason := why_not_mergeable(config["peft_type"], config.get("linear", True))) is not None:
        raise ModelError(
            f"the adapter in {source} ({config['peft_type'].lower()}) cannot be merged into "
            f"weights: {reason}. Start from its base {config['base_model_name_or_path']} in "
            f"model.source"
        )
    base, trained = config["base_model_name_or_path"], HEAD_OF_TASK.get(config.get("task_type"))
    if trained is not None and trained.is_score and not head.is_score:
        raise ModelError(
            f"{source} is an adapter of a reward model, which scores texts and writes none. Name "
            f"the model that is to be trained in model.source"
        )
    had = trained or head
    if Path(base).is_dir():
        check_base_digest(Path(source), Path(base))
    try:
        model = had.kind.from_pretrained(
            base, **had.settings, dtype=torch.float32, attn_implementation=attention
        )
    except Exception as error:
        raise ModelError(explain_missing(f"base of the adapter {source}", base, error)) from error
    try:
        whole = PeftModel.from_pretrained(model, source).merge_and_unload(safe_merge=True)
    except Exception as error:
        raise ModelError(explain_missing("adapter", source, error)) from error
    if head.is_score and not had.is_score:
        whole = with_score_head(whole)
    # PEFT froze the base; from here on it is a model like any other.
    result: PreTrainedModel = whole.to(dtype).requires_grad_(True)
    return result
