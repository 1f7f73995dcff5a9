"""A reward model's score of an answer, read as it was trained to read.

It may have another tokenizer than the model that is trained: answers come to it as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoTokenizer

from training.config.rewards import RewardModel
from training.data import templates
from training.data.collate_pairs import padded
from training.data.encoder import Encoder
from training.data.rows import PromptRow, UnpairedRow
from training.data.tokenize import RowTokenizer
from training.errors import DeviceError, ModelError
from training.models.heads import HEADS
from training.models.merge import is_adapter, merged
from training.models.source import explain_missing
from training.rewards.reward import Place, Prompt, Reward


class _ModelReward:
    def __init__(self, section: RewardModel, place: Place):
        self._section = section
        self._device = place.device
        dtype = torch.bfloat16 if place.device.type == "cuda" else torch.float32
        self._model = _load(section.source, dtype)
        _check_room(self._model, section.source, place.device)
        self._model.to(place.device).eval().requires_grad_(False)
        try:
            tokenizer = AutoTokenizer.from_pretrained(section.source)
        except Exception as error:
            raise ModelError(
                explain_missing("tokenizer of the reward model", section.source, error)
            ) from error
        self._pad_id = self._model.config.get_text_config().pad_token_id
        if self._pad_id is None:
            self._pad_id = tokenizer.pad_token_id or tokenizer.eos_token_id
            self._model.config.get_text_config().pad_token_id = self._pad_id
        encoder = Encoder(tokenizer)
        template = templates.resolve(section.chat_template, tokenizer, encoder)
        self._tokenize = RowTokenizer(
            encoder, template, "unpaired", "assistant", section.max_length
        )

    def score(
        self, prompts: Sequence[Prompt], completions: Sequence[str], rows: Sequence[PromptRow]
    ) -> list[float]:
        ids = [self._ids(p, c, r.id) for p, c, r in zip(prompts, completions, rows, strict=True)]
        # Those of like length together, and back into their order.
        order = sorted(range(len(ids)), key=lambda index: -len(ids[index]))
        scores = [0.0] * len(ids)
        size = self._section.batch_size
        for first in range(0, len(order), size):
            here = order[first : first + size]
            for index, value in zip(here, self._batch([ids[i] for i in here]), strict=True):
                scores[index] = value
        return scores

    def _ids(self, prompt: Prompt, answer: str, name: str) -> list[int]:
        said: Any = answer
        if not isinstance(prompt, str):
            said = [{"role": "assistant", "content": answer}]
        (outcome,) = self._tokenize([UnpairedRow(name, prompt, said, True)])
        if isinstance(outcome, list):
            return [int(token) for token in outcome[0].input_ids]
        # An answer that says nothing, or a prompt that fills everything: the prompt is scored.
        return self._tokenize.prompt_ids(prompt)[: self._section.max_length]

    @torch.no_grad()
    def _batch(self, ids: list[list[int]]) -> list[float]:
        batch = padded([(one, one) for one in ids], self._pad_id)
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


def build(section: RewardModel, place: Place) -> Reward:
    """Return the reward.

    Raises:
        ModelError: It is not there, or no reward model.
        DeviceError: It does not fit beside the model that is trained.
    """
    return _ModelReward(section, place)
