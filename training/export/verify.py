"""Proof that an export says what the run's model says: logits on fixed prompts, compared.

The classic it catches: a merged model that equals its base, with no error anywhere. So the
difference to the adapter's logits is measured against what the adapter changes.
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
"""By the dtype of what was written: its rounding, relative to what the adapter changes."""


@dataclass(frozen=True)
class VerificationResult:
    """What was compared.

    Attributes:
        changed: Largest difference that the adapter makes to the base's logits.
        error: Largest difference between the export's logits and the adapter's.
        largest: Largest logit.
        kl: Mean divergence of the export's next-token distributions from the adapter's, in nats.
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
    """Return fixed prompts as token ids, [prompts, 24], of one length and without padding."""
    rows = []
    for text in PROMPTS:
        ids = tokenizer(text)["input_ids"] or [0]
        rows.append((ids * _TOKENS)[:_TOKENS])
    # Every corner of the vocabulary has a say too.
    step = max(1, vocabulary // _TOKENS)
    rows.append([index * step % vocabulary for index in range(_TOKENS)])
    return torch.tensor(rows)


def ids_for(folder: Path, vocabulary: int) -> torch.Tensor:
    """Return the prompts in the words of the tokenizer in `folder`."""
    return prompt_ids(AutoTokenizer.from_pretrained(folder), vocabulary)


def logits_of(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    """Return the logits of the model in `folder`, its weights streamed from disk if they can be."""
    if not is_streamable(folder):
        return _logits(whole(folder), ids)
    model = empty_model(folder)
    stream_weights(model, folder, tied_names(model))
    return _logits(model, ids)


def logits_with(adapter: Path, base: Path, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits of a base without and with its adapter, the base streamed if it can be."""
    if not is_streamable(base) or needs_complete_base(adapter, base):
        complete = whole(base)
        resize_for_adapter(complete, adapter)
        tuned = PeftModel.from_pretrained(complete, str(adapter), torch_device="cpu").eval()
        _fill_ranknum(tuned)
        with tuned.disable_adapter():
            without = _logits(tuned, ids)
        return without, _logits(tuned, ids)
    bare = empty_model(base)
    tied = tied_names(bare)
    # PEFT puts virtual tokens where the embeddings are.
    load_embeddings(bare, base)
    tuned = PeftModel.from_pretrained(
        bare, str(adapter), torch_device="cpu", low_cpu_mem_usage=True
    ).eval()
    _fetch_adapter(tuned, WeightFiles(adapter))
    _fill_ranknum(tuned)
    stream_weights(tuned, base, tied)
    with tuned.disable_adapter():
        without = _logits(tuned, ids)
    return without, _logits(tuned, ids)


def whole(folder: Path) -> Any:
    """Return the model in `folder`, all of it in memory, in fp32 and eval mode."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def _fetch_adapter(model: nn.Module, files: WeightFiles) -> None:
    """Read the adapter's own tensors, which PEFT has moved to where the base's weights are not."""
    for path, module in model.named_modules():
        for key, parameter in list(module._parameters.items()):
            name = f"{path}.{key}"
            if parameter is None or ".original_module." in name:
                continue
            if not parameter.is_meta:
                # PEFT leaves a module that was trained in full as it was stored.
                parameter.data = _in_fp32(parameter.data)
            elif (stored := name_on_disk(name)) in files:
                module._parameters[key] = nn.Parameter(
                    _in_fp32(files.read(stored)), requires_grad=False
                )


def _fill_ranknum(tuned: PeftModel) -> None:
    """Set what AdaLoRA divides its updates by, which is in the configuration and in no file."""
    for path, module in tuned.named_modules():
        for key in list(module._parameters) if path.endswith(".ranknum") else ():
            rank = torch.tensor([float(tuned.active_peft_config.init_r)])
            module._parameters[key] = nn.Parameter(rank, requires_grad=False)


def _in_fp32(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor in the precision that the base is streamed in, however it was stored."""
    return tensor.float() if tensor.is_floating_point() else tensor


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    return found[:, -ids.shape[1] :].float()


def compare(
    base: torch.Tensor, adapted: torch.Tensor, exported: torch.Tensor, dtype: torch.dtype
) -> VerificationResult:
    """Return how close an export is, if it is close enough.

    Args:
        base: Logits without the adapter.
        adapted: Logits with it.
        exported: Logits of what was written.
        dtype: Of what was written.

    Raises:
        GuardError: The export is not the model that was trained, or the adapter changes nothing.
    """
    p, q = adapted.log_softmax(-1), exported.log_softmax(-1)
    proof = VerificationResult(
        changed=float((adapted - base).abs().max()),
        error=float((exported - adapted).abs().max()),
        largest=float(adapted.abs().max()),
        kl=float((p.exp() * (p - q)).sum(-1).mean()),
    )
    if not proof.changed > 1e-6 * proof.largest:
        raise GuardError(
            "the adapter changes nothing: with it and without it the model says the same. It was "
            "not trained, or not saved"
        )
    allowed = _TOLERANCES.get(dtype, 1e-4) * proof.changed + 1e-5 * proof.largest
    if not proof.error <= allowed:
        rounding = "" if dtype == torch.float32 else f", more than {dtype} explains by rounding"
        raise GuardError(
            f"the merged model is not the adapted one: its logits differ by {proof.error:.3g}"
            f"{rounding}, where the adapter changes them by {proof.changed:.3g}. Nothing was kept"
        )
    return proof
