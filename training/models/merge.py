"""Merging of an adapter into its base.

A job that starts from an adapter folder, for instance from an earlier stage, starts from the merged
model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from training.config.adapter_files import describe_misfits, is_moved, misfits, recorded_base
from training.errors import GuardError, ModelError
from training.models.added_tokens import resize_for_adapter
from training.models.base_digest import check_base_digest
from training.models.generation_config import repair_generation_config
from training.models.heads import HEAD_OF_TASK, HEADS, HeadKind, with_score_head
from training.models.locate import explain_missing, explain_moved_base

if TYPE_CHECKING:
    from peft import PeftModel

_PROBE_TOKENS = 32
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
    base: str | None = None,
    revision: str | None = None,
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
        base: Folder or Hub id of the base; None for the one that the adapter records.
        revision: Revision of `base` on the Hub.

    Raises:
        ModelError: The base or the adapter cannot be read, they do not match, or the adapter
            cannot be merged.
        GuardError: The merged model does not compute what base and adapter do.
    """
    config = json.loads((Path(source) / _CONFIG).read_text())
    if (reason := why_not_mergeable(config["peft_type"], config.get("linear", True))) is not None:
        raise ModelError(
            f"the adapter in {source} ({config['peft_type'].lower()}) cannot be merged into "
            f"weights: {reason}. Start from its base {config['base_model_name_or_path']} in "
            f"model.source"
        )
    trained = HEAD_OF_TASK.get(config.get("task_type"))
    if base is None:
        base, revision = recorded_base(config), config.get("revision")
        if is_moved(base):
            raise ModelError(explain_moved_base(source, base))
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
            base,
            **own_head.settings,
            revision=revision,
            dtype=torch.float32,
            attn_implementation=attention,
        )
    except Exception as error:
        raise ModelError(explain_missing(f"base of the adapter {source}", base, error)) from error
    repair_generation_config(model, base)
    shapes = {
        name: tuple(parameter.shape)
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if parameter.is_floating_point()
    }
    if found := misfits(Path(source), shapes, complete=True):
        raise ModelError(describe_misfits(Path(source), base, found))
    resize_for_adapter(model, Path(source))
    # Imported here: PEFT takes seconds to load, and most models are no adapter.
    from peft import PeftModel

    try:
        tuned = PeftModel.from_pretrained(model, source).eval()
    except Exception as error:
        raise ModelError(explain_missing("adapter", source, error)) from error
    combined = _merge(tuned, source)
    if head.is_score and not own_head.is_score:
        combined = with_score_head(combined)
    # PEFT froze the base; the merged model is trainable like any other.
    result: PreTrainedModel = combined.to(dtype).requires_grad_(True)
    return result


def _merge(tuned: PeftModel, source: str) -> PreTrainedModel:
    """Return the merged model, after comparing it with its base plus adapter.

    Raises:
        GuardError: The outputs differ by more than rounding in fp32 explains.
    """
    from training.models.tied_embeddings import untie_adapted_embeddings  # it imports PEFT

    vocabulary = tuned.get_base_model().get_input_embeddings().weight.shape[0]
    ids = (torch.arange(_PROBE_TOKENS) * max(1, vocabulary // _PROBE_TOKENS) % vocabulary)[None]
    with tuned.disable_adapter():
        base = _outputs(tuned, ids)
    adapted = _outputs(tuned, ids)
    untie_adapted_embeddings(tuned)
    combined: PreTrainedModel = tuned.merge_and_unload(safe_merge=True)
    error = float((_outputs(combined, ids) - adapted).abs().max())
    changed = float((adapted - base).abs().max())
    if not error <= 1e-3 * changed + 1e-5 * float(adapted.abs().max()):
        raise GuardError(
            f"the adapter in {source} could not be merged into its base: the outputs of the merged "
            f"model differ by {error:.3g} from those of base plus adapter, and the adapter itself "
            f"changes them by {changed:.3g}. Start from the base in model.source instead, or "
            f"report this adapter's configuration"
        )
    return combined


def _outputs(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids.to(model.device), use_cache=False).logits
    return logits.float()
