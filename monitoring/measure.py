"""Measurement of pairs by the served model: one forward pass over each prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.models.gguf_model import SUFFIX, load_gguf
from evaluation.models.load import default_device, model_folder
from monitoring.answers import is_empty, is_refusal, is_repetitive
from monitoring.features import UNKNOWN, Features, build_features
from monitoring.prompt_answer import PromptAnswer
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.errors import DataError
from training.models.context_length import context_length
from training.models.inference import load_for_inference
from training.models.weights_digest import weights_digest

_MOST_TOKENS = 512
"""Tokens of a prompt that the model reads; longer ones are cut, and counted whole."""
_LOGITS = 64_000_000
"""Most logits of a batch: a quarter of a gigabyte."""
Identify = Callable[[str], str]


class ServedModelMeasure:
    """Model that serves, as it measures prompts: its tokens, its loss on them, its hidden states.

    Args:
        source: Run, folder, GGUF file or Hub id.
        identify: Returns the language of a text; None to leave languages out.

    Raises:
        ModelError: The model does not exist or cannot be read.
    """

    def __init__(self, source: str, identify: Identify | None = None):
        folder = model_folder(source)
        device = default_device()
        if folder.endswith(SUFFIX):
            self._model, self._tokenizer, _ = load_gguf(Path(folder), device)
        else:
            self._model, self._tokenizer = load_for_inference(source, folder, device)
        self._folder, self._identify = folder, identify
        self._limit = min(_MOST_TOKENS, context_length(self._model) or _MOST_TOKENS)
        self._rows = RowTokenizer.from_tokenizer(
            self._tokenizer, chat_template=None, want="prompt", max_length=1 << 20
        )

    @property
    def digest(self) -> str | None:
        """Digest of the model's weights; None if they are not in a folder of safetensors."""
        folder = Path(self._folder)
        return weights_digest(folder) if any(folder.glob("*.safetensors")) else None

    def token_text(self, token: int) -> str:
        """Return the text of a token id."""
        return str(self._tokenizer.decode([token]))

    def features(self, pairs: Sequence[PromptAnswer]) -> Features:
        """Return the features of pairs."""
        texts = [self._ids(pair.prompt_text) for pair in pairs]
        nats, embeddings = self._forward([self._prompt_ids(e) for e in pairs])
        answers = [pair.answer for pair in pairs]

        def flags(test: Callable[[str], bool]) -> NDArray[np.int8]:
            return np.array([UNKNOWN if a is None else int(test(a)) for a in answers], np.int8)

        identify = self._identify
        return build_features(
            texts,
            prompt_tokens=np.array([len(ids) for ids in texts], np.int32),
            answer_tokens=np.array(
                [UNKNOWN if a is None else len(self._ids(a)) for a in answers], np.int32
            ),
            languages=np.array(
                ["" if identify is None else identify(e.question) for e in pairs], np.str_
            ),
            prompt_nats=nats,
            embeddings=embeddings,
            refused=flags(is_refusal),
            repeated=flags(is_repetitive),
            empty=flags(is_empty),
        )

    def _ids(self, text: str) -> NDArray[np.int32]:
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return np.asarray(ids, dtype=np.int32)

    def _prompt_ids(self, pair: PromptAnswer) -> list[int]:
        """Return the ids of a prompt as the model receives it, as text if it has no template."""
        prompt = pair.prompt if isinstance(pair.prompt, str) else [dict(m) for m in pair.prompt]
        try:
            ids = self._rows.prompt_ids(prompt)
        except DataError:
            ids = self._rows.prompt_ids(pair.prompt_text) if pair.prompt_text else []
        return ids[: self._limit] or [self._rows.encoder.eos_id or 0]

    @torch.inference_mode()
    def _forward(
        self, prompts: Sequence[list[int]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return mean negative log-likelihood and mean hidden state of each prompt."""
        nats = np.full(len(prompts), np.nan)
        embeddings: list[NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(prompts)
        vocabulary = int(self._model.config.get_text_config().vocab_size)
        for batch in _batches(prompts, _LOGITS // vocabulary):
            width = max(len(prompts[index]) for index in batch)
            ids = torch.zeros((len(batch), width), dtype=torch.long)
            mask = torch.zeros_like(ids)
            for place, index in enumerate(batch):
                ids[place, : len(prompts[index])] = torch.tensor(prompts[index])
                mask[place, : len(prompts[index])] = 1
            ids, mask = ids.to(self._model.device), mask.to(self._model.device)
            output: Any = self._model(
                input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False
            )
            log_probs = output.logits[:, :-1].float().log_softmax(dim=-1)
            loss = -log_probs.gather(-1, ids[:, 1:, None]).squeeze(-1) * mask[:, 1:]
            predicted = mask[:, 1:].sum(dim=1)
            hidden = output.hidden_states[-1].float() * mask[..., None]
            means = (hidden.sum(dim=1) / mask.sum(dim=1, keepdim=True)).cpu().numpy()
            losses = (loss.sum(dim=1) / predicted.clamp(min=1)).cpu().numpy()
            for place, index in enumerate(batch):
                nats[index] = losses[place] if int(predicted[place]) else np.nan
                embeddings[index] = means[place]
        return nats, np.array(embeddings, dtype=np.float32)


def _batches(prompts: Sequence[list[int]], most: int) -> Iterator[list[int]]:
    """Yield batches of prompts of about the same length, of at most so many tokens.

    Args:
        prompts: Token ids of each prompt.
        most: Most tokens of a batch, padding included.
    """
    batch: list[int] = []
    for index in sorted(range(len(prompts)), key=lambda i: len(prompts[i])):
        if batch and (len(batch) + 1) * len(prompts[index]) > most:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
