"""Model in a folder or on the Hub, evaluated with Transformers; an adapter is merged."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import StoppingCriteria, StoppingCriteriaList

from evaluation.items import Prompt
from evaluation.models.base import (
    GeneratedAnswers,
    GenerationSettings,
    LogLikelihood,
    TooLong,
    until_stop,
)
from evaluation.models.gguf_model import SUFFIX, load_gguf
from evaluation.models.likelihoods import compute_likelihoods, even_batches
from evaluation.models.request_encoder import NO_LENGTH_LIMIT, RequestEncoder
from evaluation.models.windows import TokenRequest, text_windows
from evaluation.results import EvaluatedModelInfo
from training.judges.local_generator import prompt_seed
from training.models.context_length import context_length
from training.models.generate import sample, uniforms
from training.models.inference import load_for_inference
from training.models.merge import is_adapter
from training.models.weights_digest import weights_digest


class TransformersModel:
    """Causal language model, evaluated in this process.

    Args:
        source: Folder or Hub id, as the user wrote it.
        folder: Folder, GGUF file or Hub id to load: for a run, that of its model.
        device: Device of the model.
        batch_size: Sequences per forward pass.

    Raises:
        ModelError: The model does not exist or cannot be read.
    """

    def __init__(self, source: str, folder: str, device: torch.device, batch_size: int):
        self._source, self._folder = source, folder
        self._batch_size = batch_size
        self._kind, self._weights = "transformers", "as stored"
        if folder.endswith(SUFFIX):
            self._model, self._tokenizer, stored = load_gguf(Path(folder), device)
            self._kind, self._weights = "gguf", f"dequantized from {stored}"
        else:
            self._model, self._tokenizer = load_for_inference(source, folder, device)
            if is_adapter(folder):
                self._kind, self._weights = "adapter", "merged"
        self._encoder = RequestEncoder(source, self._tokenizer)

    @property
    def info(self) -> EvaluatedModelInfo:
        """Identity of the model, and what can change its scores."""
        template = self._tokenizer.chat_template
        settings = {
            "backend": f"transformers {transformers.__version__}, torch {torch.__version__}",
            "weights": self._weights,
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "device": self._model.device.type,
            "batch_size": self._batch_size,
            "context_length": self._context,
            "chat_template": None if template is None else _short_digest(str(template)),
        }
        return EvaluatedModelInfo(self._source, self._digest(), self._kind, settings)

    def _digest(self) -> str | None:
        folder = Path(self._folder)
        known = folder.is_file() or any(folder.glob("*.safetensors"))
        return weights_digest(folder) if known else None

    def log_likelihoods(
        self, requests: Sequence[tuple[Prompt, str]]
    ) -> list[LogLikelihood | TooLong]:
        """Return the log-likelihood of each continuation after its context."""
        encoded = [self._encoder.pair(prompt, text) for prompt, text in requests]
        fitting = [i for i, request in enumerate(encoded) if len(request.ids) <= self._context]
        computed = self._score([encoded[index] for index in fitting])
        results: list[LogLikelihood | TooLong] = [self._too_long()] * len(encoded)
        for index, result in zip(fitting, computed, strict=True):
            results[index] = result
        return results

    def text_log_likelihoods(self, texts: Sequence[str]) -> list[LogLikelihood]:
        """Return the log-likelihood of each text, in windows if it exceeds the context."""
        windows = [list(text_windows(self._tokenizer, text, self._context)) for text in texts]
        scores = iter(self._score([window for text in windows for window in text]))
        results = []
        for text in windows:
            parts = [next(scores) for _ in text]
            results.append(
                LogLikelihood(
                    sum(part.nats for part in parts),
                    sum(part.tokens for part in parts),
                    all(part.greedy for part in parts),
                )
            )
        return results

    def generate(
        self, prompts: Sequence[Prompt], settings: GenerationSettings
    ) -> list[GeneratedAnswers | TooLong]:
        """Return answers to each prompt; they do not depend on the batch size."""
        ids = [self._encoder.prompt_ids(prompt) for prompt in prompts]
        room = self._context - settings.max_new_tokens
        fitting = sorted(
            (index for index, row in enumerate(ids) if len(row) <= room),
            key=lambda index: len(ids[index]),
        )
        drawn: dict[int, list[tuple[str, bool]]] = {index: [] for index in fitting}
        for draw in range(settings.samples):
            for batch in even_batches(fitting, self._batch_size):
                answers = self._answers([ids[i] for i in batch], prompts, batch, draw, settings)
                for index, answer in zip(batch, answers, strict=True):
                    drawn[index].append(answer)
        results: list[GeneratedAnswers | TooLong] = [self._too_long(settings.max_new_tokens)] * len(
            ids
        )
        for index, pairs in drawn.items():
            texts, truncated = zip(*pairs, strict=True)
            results[index] = GeneratedAnswers(texts, truncated, len(ids[index]))
        return results

    def _answers(
        self,
        ids: list[list[int]],
        prompts: Sequence[Prompt],
        batch: list[int],
        draw: int,
        settings: GenerationSettings,
    ) -> list[tuple[str, bool]]:
        """Return text of each answer, and whether it was cut at the maximum length.

        Args:
            ids: Token ids of the prompts of a batch.
            prompts: All prompts, by which answers are seeded.
            batch: Numbers of the batch's prompts.
            draw: Number of the sample.
            settings: How answers are generated.
        """
        width = max(map(len, ids))
        stopping = StopTexts(self._tokenizer, settings.stop, width)
        seeds = [prompt_seed(prompts[index]) for index in batch]
        generations = sample(
            self._model,
            ids,
            uniforms([settings.seed, draw], seeds, settings.max_new_tokens),
            temperature=settings.temperature,
            end_ids=self._end_ids,
            pad_id=self._end_ids[0],
            stopping=StoppingCriteriaList([stopping] if settings.stop else []),
        )
        answers = []
        for generation in generations:
            text = str(self._tokenizer.decode(generation.ids, skip_special_tokens=True))
            cut = until_stop(text, settings.stop)
            answers.append((cut, not generation.ended and cut == text))
        return answers

    def _score(self, requests: Sequence[TokenRequest]) -> list[LogLikelihood]:
        return compute_likelihoods(self._model, requests, self._batch_size)

    def _too_long(self, new_tokens: int = 0) -> TooLong:
        answer = f" with {new_tokens} new tokens" if new_tokens else ""
        return TooLong(f"longer{answer} than the context of {self._context} tokens")

    @property
    def _context(self) -> int:
        return context_length(self._model) or NO_LENGTH_LIMIT

    @property
    def _end_ids(self) -> list[int]:
        own = self._model.generation_config.eos_token_id
        return sorted({*self._encoder.end_ids, *([own] if isinstance(own, int) else own or ())})


class StopTexts(StoppingCriteria):
    """Stopping criterion that ends an answer when it contains a text.

    Args:
        tokenizer: Decodes the answers.
        texts: The texts.
        prompt_length: Tokens before the answers, including padding.
    """

    def __init__(self, tokenizer: Any, texts: tuple[str, ...], prompt_length: int):
        self._tokenizer = tokenizer
        self._texts = texts
        self._prompt_length = prompt_length
        # A token has at least one byte, so that a text that ends with the newest token lies in
        # these; the margin is for tokens without text.
        self._tail = max((len(text.encode("utf-8")) for text in texts), default=0) + 4

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> Any:
        """Return True for each answer that contains one of the texts."""
        answers = input_ids[:, self._prompt_length :]
        done = [
            self._contained(tail) and self._contained(answer.tolist())
            for tail, answer in zip(answers[:, -self._tail :].tolist(), answers, strict=True)
        ]
        return torch.tensor(done, device=input_ids.device)

    def _contained(self, ids: list[int]) -> bool:
        text = self._tokenizer.decode(ids, skip_special_tokens=True)
        return any(stop in text for stop in self._texts)


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
