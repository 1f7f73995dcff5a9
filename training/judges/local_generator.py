"""Batched text generation with a model on this machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from training.data.schema.rows import Message
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.errors import ModelError
from training.judges.reply_cache import JudgeReply
from training.models.generate import sample, uniforms
from training.models.inference import load_for_inference
from training.models.zero_exempt import zero3_disabled

Prompt = str | list[Message]
_NO_LENGTH_LIMIT = 1 << 20


class LocalGenerator:
    """Language model that answers prompts reproducibly.

    The random numbers of an answer are seeded by its prompt, so that an answer depends neither on
    the other prompts of its batch nor on the batch size.

    Args:
        model: Causal language model, on its device.
        tokenizer: Tokenizer of the model.
        rows: Formats prompts as in the model's training.
        batch_size: Prompts per batch.
    """

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, rows: RowTokenizer, batch_size: int
    ):
        self._model = model
        self._tokenizer = tokenizer
        self._rows = rows
        self._batch_size = batch_size

    @classmethod
    def load(
        cls, source: str, chat_template: str | None, device: torch.device, batch_size: int
    ) -> LocalGenerator:
        """Load a model from a folder or the Hub; an adapter is merged into its base.

        Args:
            source: Folder or Hub id.
            chat_template: Name of a chat template; None for the tokenizer's own.
            device: Device of the model.
            batch_size: Prompts per batch.

        Raises:
            ModelError: The model does not exist or cannot be read.
        """
        # Under ZeRO 3, Transformers would shard every model that it loads, including this one.
        with zero3_disabled():
            model, tokenizer = load_for_inference(source, source, device)
        rows = RowTokenizer.from_tokenizer(
            tokenizer, chat_template=chat_template, want="prompt", max_length=_NO_LENGTH_LIMIT
        )
        return cls(model, tokenizer, rows, batch_size)

    def generate(
        self, prompts: Sequence[Prompt], *, max_new_tokens: int, temperature: float, draw: int = 0
    ) -> list[str]:
        """Return the text of the answer to each prompt.

        Args:
            prompts: Texts or conversations. Without a chat template, the messages of a
                conversation are joined by blank lines.
            max_new_tokens: Length limit of an answer.
            temperature: Sampling temperature; 0 for greedy decoding.
            draw: Number of the sample: each number yields an independent answer to a prompt.

        Raises:
            ModelError: A prompt and its answer do not fit the model's context.
        """
        replies = self.generate_replies(
            prompts, max_new_tokens=max_new_tokens, temperature=temperature, draw=draw
        )
        return [reply.text for reply in replies]

    def generate_replies(
        self, prompts: Sequence[Prompt], *, max_new_tokens: int, temperature: float, draw: int = 0
    ) -> list[JudgeReply]:
        """Return the answer to each prompt and whether it was truncated.

        Args:
            prompts: Texts or conversations.
            max_new_tokens: Length limit of an answer.
            temperature: Sampling temperature; 0 for greedy decoding.
            draw: Number of the sample.

        Raises:
            ModelError: A prompt and its answer do not fit the model's context.
        """
        ids = [self._rows.prompt_ids(self._as_model_input(prompt)) for prompt in prompts]
        self._check_context(ids, max_new_tokens)
        seeds = [prompt_seed(prompt) for prompt in prompts]
        # Batches of similar lengths need little padding; the replies return to the input order.
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        replies = [JudgeReply("")] * len(ids)
        for first in range(0, len(order), self._batch_size):
            batch = order[first : first + self._batch_size]
            answers = sample(
                self._model,
                [ids[index] for index in batch],
                uniforms([draw], [seeds[index] for index in batch], max_new_tokens),
                temperature=temperature,
                end_ids=self._end_ids(),
                pad_id=self._end_ids()[0],
            )
            for index, answer in zip(batch, answers, strict=True):
                text = self._tokenizer.decode(answer.ids, skip_special_tokens=True)
                replies[index] = JudgeReply(str(text).strip(), truncated=not answer.ended)
        return replies

    def log_likelihoods(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """Return the mean log-probability per token of each answer given its prompt, in nats.

        Raises:
            ModelError: A prompt and its answer do not fit the model's context.
        """
        prompt_ids = [self._rows.prompt_ids(self._as_model_input(prompt)) for prompt in prompts]
        answer_ids = [
            self._tokenizer(text, add_special_tokens=False)["input_ids"] for text in answers
        ]
        self._check_context(prompt_ids, max(map(len, answer_ids), default=0))
        lengths = [len(p) + len(a) for p, a in zip(prompt_ids, answer_ids, strict=True)]
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        likelihoods = [0.0] * len(lengths)
        for first in range(0, len(order), self._batch_size):
            batch = order[first : first + self._batch_size]
            rows = [[*prompt_ids[index], *answer_ids[index]] for index in batch]
            width = max(map(len, rows))
            ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
            with torch.no_grad():
                # No mask is needed: padding is on the right, and attention is causal.
                logits = self._model(ids.to(self._model.device), use_cache=False).logits
            log_probs = logits[:, :-1].float().log_softmax(-1).cpu()
            token_log_probs = log_probs.gather(2, ids[:, 1:, None])[:, :, 0]
            for row, index in enumerate(batch):
                start, stop = len(prompt_ids[index]) - 1, len(rows[row]) - 1
                likelihoods[index] = float(token_log_probs[row, start:stop].mean())
        return likelihoods

    def length(self, prompt: Prompt) -> int:
        """Return the number of tokens in a formatted prompt."""
        return len(self._rows.prompt_ids(self._as_model_input(prompt)))

    def fits(self, prompt: Prompt, max_new_tokens: int) -> bool:
        """Return True if a prompt and its answer fit the context of the model."""
        limit = self._context
        return limit is None or self.length(prompt) + max_new_tokens <= limit

    @property
    def _context(self) -> int | None:
        text_config = self._model.config.get_text_config()
        limit: int | None = getattr(text_config, "max_position_embeddings", None)
        return limit

    def _as_model_input(self, prompt: Prompt) -> Prompt:
        if isinstance(prompt, str) or self._rows.template is not None:
            return prompt
        return "\n\n".join(str(message["content"]) for message in prompt) + "\n\n"

    def _end_ids(self) -> list[int]:
        own = self._model.generation_config.eos_token_id
        return sorted({*self._rows.end_ids, *([own] if isinstance(own, int) else own or ())})

    def _check_context(self, ids: Sequence[Sequence[int]], new_tokens: int) -> None:
        limit = self._context
        longest = max((len(prompt) for prompt in ids), default=0)
        if limit is not None and longest + new_tokens > limit:
            raise ModelError(
                f"a question of {longest} tokens and an answer of up to {new_tokens} do not fit "
                f"the context of {limit} of the model that answers. Lower max_new_tokens, leave "
                f"long prompts out with data.max_length, or name a model with more context"
            )


def prompt_seed(prompt: Prompt) -> int:
    """Return the seed of a prompt's answers, which depends on nothing but the prompt."""
    canonical = json.dumps(prompt, sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:8], "big")
