"""What scores texts for a reward: a reward model of its own, in memory beside what is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch

from training.data.collators.pairs import padded
from training.errors import DeviceError, ModelError
from training.models.heads import HEADS
from training.models.locate import explain_missing
from training.models.merge import is_adapter, merged
from training.models.zero_exempt import unsharded


class Scorer(Protocol):
    """Scores texts."""

    pad_id: int | None
    """What it takes for padding; None where its tokenizer has to say."""

    def scores(self, texts: Sequence[list[int]]) -> list[float]:
        """Return the score of each text, which are token ids in the scorer's own vocabulary."""


class StandaloneScorer:
    """A reward model that is loaded whole, in 16 bits on a GPU.

    Args:
        source: Its folder or Hub id; of an adapter, base and update are folded into one.
        device: Where it computes.

    Raises:
        ModelError: It is not there, or no reward model.
        DeviceError: It does not fit beside the model that is trained.
    """

    def __init__(self, source: str, device: torch.device):
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self._device = device
        with unsharded():
            self._model = _load(source, dtype)
        _check_room(self._model, source, device)
        self._model.to(device).eval().requires_grad_(False)
        own = self._model.config.get_text_config().pad_token_id
        # An adapter's configuration is its base's, which may pad with what ends a text.
        self.pad_id: int | None = None if is_adapter(source) else own

    @torch.no_grad()
    def scores(self, texts: Sequence[list[int]]) -> list[float]:
        """Return the score of each text."""
        assert self.pad_id is not None
        # By it the model finds the end of each text.
        self._model.config.get_text_config().pad_token_id = self.pad_id
        batch = padded([(one, one) for one in texts], self.pad_id)
        outputs = self._model(input_ids=batch["input_ids"].to(self._device), use_cache=False)
        found: list[float] = outputs.logits[:, 0].float().tolist()
        return found


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


def _check_room(model: Any, source: str, device: torch.device) -> None:
    """Raise where the weights alone do not fit beside what is there already.

    Raises:
        DeviceError: Says how large they are and what would fit.
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
            f"the reward model {source} takes {size / 2**30:.1f} GiB, and beside the model that is "
            f"trained {free / 2**30:.1f} GiB are free. A smaller reward model, an adapter "
            f"(adapter: {{kind: lora}} or qlora) or sharding.zero: 3 for what is trained would fit"
        )


def _check_ram(source: str) -> None:
    memory = psutil.virtual_memory()
    if memory.available < 0.02 * memory.total:
        raise DeviceError(
            f"loading the reward model {source} has left {memory.available / 2**30:.1f} GiB of "
            f"memory. Use a smaller reward model, or an adapter for what is trained"
        )
