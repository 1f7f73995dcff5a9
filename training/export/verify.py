"""Verification of an export: its logits on fixed prompts equal those of the trained model.

A typical defect is a merged model that equals its base, without any error. The difference from the
adapted model's logits is therefore measured relative to what the adapter changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

import training.adapters.composition.tuner  # noqa: F401  (PEFT then knows these types)
from training.errors import GuardError
from training.models.added_tokens import needs_complete_base, resize_for_adapter
from training.models.layer_streaming import (
    empty_model,
    is_streamable,
    load_embeddings,
    stream_weights,
    tied_names,
)
from training.models.safetensors_io import WeightFiles
from training.trainer.checkpoints import name_on_disk

PROMPTS = (
    "The quick brown fox jumps over the lazy dog, and then",
    "Question: What is the capital of France? Answer:",
    "def main():\n    return",
)
_TOKENS = 24
_TOLERANCES = {torch.float32: 1e-4, torch.float16: 5e-2, torch.bfloat16: 2e-1}
"""Tolerated rounding by dtype of the export, relative to what the adapter changes."""


@dataclass(frozen=True)
class VerificationResult:
    """Result of a comparison of logits.

    Attributes:
        changed: Largest absolute change of the base's logits by the adapter.
        error: Largest absolute difference of the export's logits from the adapted model's.
        largest: Largest absolute logit of the adapted model.
        kl: Mean KL divergence of the next-token distributions, adapted from exported, in nats.
    """

    changed: float
    error: float
    largest: float
    kl: float

    def __str__(self) -> str:
        return (
            f"logits differ by at most {self.error:.2g}; the adapter itself changes them by "
            f"{self.changed:.2g} (mean KL {self.kl:.2g} nats)"
        )


def prompt_ids(tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> torch.Tensor:
    """Return fixed prompts as token ids of one length without padding, `[prompts, 24]`."""
    rows = []
    for text in PROMPTS:
        ids = tokenizer(text)["input_ids"] or [0]
        rows.append((ids * _TOKENS)[:_TOKENS])
    # A last row spreads over the entire vocabulary, so that all embeddings are sampled.
    step = max(1, vocabulary // _TOKENS)
    rows.append([index * step % vocabulary for index in range(_TOKENS)])
    return torch.tensor(rows)


def verification_ids(folder: Path, vocabulary: int) -> torch.Tensor:
    """Return the fixed prompts tokenized with the tokenizer in `folder`, `[prompts, 24]`."""
    return prompt_ids(AutoTokenizer.from_pretrained(folder), vocabulary)


def logits_of(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    """Return the logits of the model in `folder`, `[prompts, tokens, vocabulary]`.

    Weights are streamed from disk layer by layer if the architecture supports it.
    """
    if not is_streamable(folder):
        return run_model(load_fp32(folder), ids)
    model = empty_model(folder)
    stream_weights(model, folder, tied_names(model))
    return run_model(model, ids)


def logits_with(adapter: Path, base: Path, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits of a base model without and with an adapter.

    The base is streamed from disk layer by layer if the architecture supports it.

    Args:
        adapter: Folder of the adapter.
        base: Folder of the base model.
        ids: Token ids, `[prompts, tokens]`.
    """
    if not is_streamable(base) or needs_complete_base(adapter, base):
        complete = load_fp32(base)
        resize_for_adapter(complete, adapter)
        tuned = PeftModel.from_pretrained(complete, str(adapter), torch_device="cpu").eval()
        _fill_ranknum(tuned)
        with tuned.disable_adapter():
            without = run_model(tuned, ids)
        return without, run_model(tuned, ids)
    bare = empty_model(base)
    tied = tied_names(bare)
    # PEFT creates virtual tokens on the device of the embeddings, so these must be loaded first.
    load_embeddings(bare, base)
    tuned = PeftModel.from_pretrained(
        bare, str(adapter), torch_device="cpu", low_cpu_mem_usage=True
    ).eval()
    _load_adapter_tensors(tuned, WeightFiles(adapter))
    _fill_ranknum(tuned)
    stream_weights(tuned, base, tied)
    with tuned.disable_adapter():
        without = run_model(tuned, ids)
    return without, run_model(tuned, ids)


def load_fp32(folder: Path) -> Any:
    """Return the model in `folder`, loaded into memory in fp32 and in eval mode."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def _load_adapter_tensors(model: nn.Module, files: WeightFiles) -> None:
    """Read the adapter's tensors, which PEFT has placed on the meta device with the base's."""
    for path, module in model.named_modules():
        for key, parameter in list(module._parameters.items()):
            name = f"{path}.{key}"
            if parameter is None or ".original_module." in name:
                continue
            if not parameter.is_meta:
                # A fully trained module (modules_to_save) keeps its stored dtype in PEFT.
                parameter.data = _in_fp32(parameter.data)
            elif (stored := name_on_disk(name)) in files:
                module._parameters[key] = nn.Parameter(
                    _in_fp32(files.read(stored)), requires_grad=False
                )


def _fill_ranknum(tuned: PeftModel) -> None:
    """Set the divisor of AdaLoRA's scale, which PEFT does not save with the weights."""
    for path, module in tuned.named_modules():
        for key in list(module._parameters) if path.endswith(".ranknum") else ():
            rank = torch.tensor([float(tuned.active_peft_config.init_r)])
            module._parameters[key] = nn.Parameter(rank, requires_grad=False)


def _in_fp32(tensor: torch.Tensor) -> torch.Tensor:
    """Return a floating-point tensor in fp32, the precision in which the base is streamed."""
    return tensor.float() if tensor.is_floating_point() else tensor


def run_model(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Return the logits of a model in memory, `[prompts, tokens, vocabulary]`."""
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    # Models with a soft prompt may also return logits of the virtual tokens.
    return logits[:, -ids.shape[1] :].float()


def compare(
    base: torch.Tensor, adapted: torch.Tensor, exported: torch.Tensor, dtype: torch.dtype
) -> VerificationResult:
    """Return the comparison of an export with the adapted model, if it is within tolerance.

    Args:
        base: Logits without the adapter, `[prompts, tokens, vocabulary]`.
        adapted: Logits with the adapter, of the same shape.
        exported: Logits of the export, of the same shape.
        dtype: Dtype of the exported weights.

    Raises:
        GuardError: The export is not the model that was trained, or the adapter changes nothing.
    """
    p, q = adapted.log_softmax(-1), exported.log_softmax(-1)
    result = VerificationResult(
        changed=float((adapted - base).abs().max()),
        error=float((exported - adapted).abs().max()),
        largest=float(adapted.abs().max()),
        kl=float((p.exp() * (p - q)).sum(-1).mean()),
    )
    if not result.changed > 1e-6 * result.largest:
        raise GuardError(
            "the adapter changes nothing: the logits are equal with and without it. It was "
            "not trained, or was not saved"
        )
    allowed = _TOLERANCES.get(dtype, 1e-4) * result.changed + 1e-5 * result.largest
    if not result.error <= allowed:
        rounding = "" if dtype == torch.float32 else f", more than {dtype} explains by rounding"
        raise GuardError(
            f"the merged model is not the adapted one: its logits differ by {result.error:.3g}"
            f"{rounding}, while the adapter changes them by {result.changed:.3g}. "
            f"The export was discarded"
        )
    return result
