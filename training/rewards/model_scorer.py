"""Scorer interface, and a standalone reward model that is loaded next to the policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch

from training.data.collators.answers import pad_sequences
from training.errors import DeviceError, ModelError
from training.models.heads import HEADS
from training.models.locate import explain_missing
from training.models.merge import is_adapter, merged
from training.models.zero_exempt import zero3_disabled


class Scorer(Protocol):
    """Interface of a reward model that scores tokenized texts."""

    pad_id: int | None
    """Padding token of the model; None until the caller sets it from the tokenizer."""

    def scores(self, texts: Sequence[list[int]]) -> list[float]:
        """Return the score of each text, given as token ids of the scorer's own vocabulary."""


class StandaloneScorer:
    """Reward model with weights of its own, in bf16 on a GPU.

    Args:
        source: Folder or Hub id; an adapter is merged into its base.
        device: Device of the model.

    Raises:
        ModelError: The model does not exist or is not a reward model.
        DeviceError: It does not fit into memory together with the policy.
    """

    def __init__(self, source: str, device: torch.device):
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self._device = device
        # Under ZeRO 3, Transformers would shard every model that it loads, including this one.
        with zero3_disabled():
            self._model = _load(source, dtype)
        _check_memory(self._model, source, device)
        self._model.to(device).eval().requires_grad_(False)
        own = self._model.config.get_text_config().pad_token_id
        # The configuration of an adapter is its base's, which may pad with the end-of-text token.
        self.pad_id: int | None = None if is_adapter(source) else own

    @torch.no_grad()
    def scores(self, texts: Sequence[list[int]]) -> list[float]:
        """Return the score of each text."""
        assert self.pad_id is not None
        # The model finds the last token of each text, where it scores, by the padding token.
        self._model.config.get_text_config().pad_token_id = self.pad_id
        batch = pad_sequences([(one, one) for one in texts], self.pad_id)
        outputs = self._model(input_ids=batch["input_ids"].to(self._device), use_cache=False)
        scores: list[float] = outputs.logits[:, 0].float().tolist()
        return scores


def _load(source: str, dtype: torch.dtype) -> Any:
    head = HEADS["score"]
    if is_adapter(source):
        return merged(source, head, dtype=dtype)
    try:
        model = head.kind.from_pretrained(source, **head.settings, dtype=dtype)
    except Exception as error:
        raise ModelError(explain_missing("reward model", source, error)) from error
    if Path(source).is_dir() and "ForCausalLM" in str(model.config.architectures):
        raise ModelError(
            f"{source} is a language model, and its scores would come from random weights. Train a "
            f"reward model first (method: {{kind: reward}}), and name its folder"
        )
    return model


def _check_memory(model: Any, source: str, device: torch.device) -> None:
    """Check that the weights fit into the free memory.

    Raises:
        DeviceError: They do not fit.
    """
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
    elif device.type == "cpu":
        return _check_ram(source)
    else:
        return
    if size > free:
        raise DeviceError(
            f"the reward model {source} takes {size / 2**30:.1f} GiB, and next to the policy "
            f"{free / 2**30:.1f} GiB are free. Use a smaller reward model, or train the policy "
            f"with an adapter (adapter: {{kind: lora}} or qlora) or sharding.zero: 3"
        )


def _check_ram(source: str) -> None:
    memory = psutil.virtual_memory()
    if memory.available < 0.02 * memory.total:
        raise DeviceError(
            f"loading the reward model {source} has left {memory.available / 2**30:.1f} GiB of "
            f"memory. Use a smaller reward model, or train the policy with an adapter"
        )
