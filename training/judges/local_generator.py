"""A model on this machine that answers questions, one batch after another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from training.data import templates
from training.data.schema.rows import Message
from training.data.tokenization.encoder import Encoder
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.errors import ModelError
from training.judges.cost_ledger import JudgeReply
from training.models.generate import sample, uniforms
from training.models.locate import explain_missing
from training.models.merge import is_adapter, merged
from training.models.zero_exempt import unsharded

Prompt = str | list[Message]
_LONGEST = 1 << 20


class LocalGenerator:
    """Answers prompts with a language model; what it says depends on nothing but the prompt.

    Args:
        model: On its device.
        tokenizer: Its own.
        rows: Writes prompts as the model was trained on them.
        batch_size: Prompts answered at once.
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
        """Return one for a model in a folder or on the Hub, an adapter included.

        Raises:
            ModelError: It is not there, or cannot be read.
        """
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        try:
            tokenizer = AutoTokenizer.from_pretrained(source)
            with unsharded():
                if is_adapter(source):
                    model = merged(source, dtype=dtype)
                else:
                    model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(explain_missing("model", source, error)) from error
        model.to(device).eval().requires_grad_(False)
        encoder = Encoder(tokenizer)
        template = templates.resolve(chat_template, tokenizer, encoder)
        rows = RowTokenizer(encoder, template, "prompt", "assistant", _LONGEST)
        return cls(model, tokenizer, rows, batch_size)

    def answers(
        self, prompts: Sequence[Prompt], *, max_new_tokens: int, temperature: float, draw: int = 0
    ) -> list[str]:
        """Return the answer to each prompt.

        Args:
            prompts: Texts or conversations. Without a chat template, the messages of a
                conversation are written one below the other.
            max_new_tokens: Longest answer.
            temperature: 0 for the likeliest answer.
            draw: Another number draws another answer to the same prompt.

        Raises:
            ModelError: A prompt and its answer do not fit the model's context.
        """
        said = self.said(prompts, max_new_tokens=max_new_tokens, temperature=temperature, draw=draw)
        return [reply.text for reply in said]

    def said(
        self, prompts: Sequence[Prompt], *, max_new_tokens: int, temperature: float, draw: int = 0
    ) -> list[JudgeReply]:
        """Return what `answers` does, and whether each was cut.

        Raises:
            ModelError: A prompt and its answer do not fit the model's context.
        """
        ids = [self._rows.prompt_ids(self._written(prompt)) for prompt in prompts]
        self._check_room(ids, max_new_tokens)
        seeds = [_seed(prompt) for prompt in prompts]
        # Those of like length together, and back into their order.
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        found = [JudgeReply("")] * len(ids)
        for first in range(0, len(order), self._batch_size):
            here = order[first : first + self._batch_size]
            answers = sample(
                self._model,
                [ids[index] for index in here],
                uniforms([draw], [seeds[index] for index in here], max_new_tokens),
                temperature=temperature,
                end_ids=self._ends(),
                pad_id=self._ends()[0],
            )
            for index, answer in zip(here, answers, strict=True):
                text = self._tokenizer.decode(answer.ids, skip_special_tokens=True)
                found[index] = JudgeReply(str(text).strip(), cut=not answer.ended)
        return found

    def log_likelihoods(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
        """Return the mean log-probability of each answer's tokens behind its prompt, in nats.

        Raises:
            ModelError: A prompt and its answer do not fit the model's context.
        """
        asked = [self._rows.prompt_ids(self._written(prompt)) for prompt in prompts]
        said = [self._tokenizer(text, add_special_tokens=False)["input_ids"] for text in answers]
        self._check_room(asked, max(map(len, said), default=0))
        order = sorted(range(len(asked)), key=lambda index: len(asked[index]) + len(said[index]))
        found = [0.0] * len(asked)
        for first in range(0, len(order), self._batch_size):
            here = order[first : first + self._batch_size]
            rows = [[*asked[index], *said[index]] for index in here]
            width = max(map(len, rows))
            ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
            with torch.no_grad():
                # Padding stands behind what counts, which attention does not see.
                logits = self._model(ids.to(self._model.device), use_cache=False).logits
            likely = logits[:, :-1].float().log_softmax(-1).cpu()
            each = likely.gather(2, ids[:, 1:, None])[:, :, 0]
            for row, index in enumerate(here):
                start, stop = len(asked[index]) - 1, len(rows[row]) - 1
                found[index] = float(each[row, start:stop].mean())
        return found

    def length(self, prompt: Prompt) -> int:
        """Return how many tokens the model reads as a prompt."""
        return len(self._rows.prompt_ids(self._written(prompt)))

    def _written(self, prompt: Prompt) -> Prompt:
        if isinstance(prompt, str) or self._rows.template is not None:
            return prompt
        return "\n\n".join(str(message["content"]) for message in prompt) + "\n\n"

    def _ends(self) -> list[int]:
        own = self._model.generation_config.eos_token_id
        return sorted({*self._rows.end_ids, *([own] if isinstance(own, int) else own or ())})

    def _check_room(self, ids: Sequence[Sequence[int]], new_tokens: int) -> None:
        room = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        longest = max((len(one) for one in ids), default=0)
        if room is not None and longest + new_tokens > room:
            raise ModelError(
                f"a question of {longest} tokens and an answer of up to {new_tokens} do not fit "
                f"the context of {room} of the model that answers. Lower max_new_tokens, leave "
                f"long prompts out with data.max_length, or name a model with more context"
            )


def _seed(prompt: Prompt) -> int:
    written = json.dumps(prompt, sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(written.encode()).digest()[:8], "big")
