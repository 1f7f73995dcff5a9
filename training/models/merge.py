"""Merging of an adapter into its base.

A job that starts from an adapter folder, for instance from an earlier stage, starts from the merged
model.
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
_BEFORE = "its virtual tokens precede the input"
UNMERGEABLE = {
    "PROMPT_TUNING": _BEFORE,
    "P_TUNING": _BEFORE,
    "PREFIX_TUNING": "its prefix precedes each layer's keys and values",
    "BOTTLENECK": "there is an activation between its two matrices",
}
"""Reasons why adapters of some PEFT types cannot be merged."""


def why_not_mergeable(peft_type: str, linear: bool = True) -> str | None:
    """Return why an adapter cannot be merged; None if it can.

    Args:
        peft_type: PEFT type of the adapter.
        linear: Whether a composed adapter as a whole is a change of weights.
    """
    if peft_type == "COMPOSED" and not linear:
        return "its members depend on the input in ways that no change of weights can express"
    return UNMERGEABLE.get(peft_type)


def is_adapter(source: str) -> bool:
    """Return whether `source` is a folder with an adapter rather than a complete model."""
    return (Path(source) / _CONFIG).is_file()


def merged(
    source: str,
    head: HeadKind = HEADS["language"],
    *,
    dtype: torch.dtype,
    attention: str | None = "sdpa",
) -> PreTrainedModel:
    """Return the base of an adapter with the adapter merged into it.

    The base is loaded unquantized even if the adapter was trained on a 4-bit base: adding to 4-bit
    weights would round the update away.

    Args:
        source: Folder of the adapter.
        head: Head of the result. An adapter of a language model also serves as the body of a score
            model.
        dtype: Dtype of the result; the merge itself is computed in fp32.
        attention: Attention implementation as in a job; None for the default of the model.

    Raises:
        ModelError: The base or the adapter cannot be read, they do not match, or the adapter
            cannot be merged.
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
            f"the model to train in model.source"
        )
    own_head = trained or head
    if Path(base).is_dir():
        check_base_digest(Path(source), Path(base))
    try:
        model = own_head.kind.from_pretrained(
            base, **own_head.settings, dtype=torch.float32, attn_implementation=attention
        )
    except Exception as error:
        raise ModelError(explain_missing(f"base of the adapter {source}", base, error)) from error
    try:
        combined = PeftModel.from_pretrained(model, source).merge_and_unload(safe_merge=True)
    except Exception as error:
        raise ModelError(explain_missing("adapter", source, error)) from error
    if head.is_score and not own_head.is_score:
        combined = with_score_head(combined)
    # PEFT froze the base; the merged model is trainable like any other.
    result: PreTrainedModel = combined.to(dtype).requires_grad_(True)
    return result
