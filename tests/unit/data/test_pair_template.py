"""Preference pairs with earlier turns, through a template whose turns end in a token of their own.

The template has the format that the model card of Phi-3 documents
(https://huggingface.co/microsoft/Phi-3-mini-4k-instruct), and tokens and masks are compared with
those of `apply_chat_template`.
"""

from __future__ import annotations

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tests.unit.data.data_factories import byte_level, sentencepiece_like
from training.config.data import Source
from training.data.readers.records import SourceRecord
from training.data.schema.schema_reader import SchemaReader
from training.data.tokenization.row_tokenizer import RowTokenizer
from training.data.tokenization.token_rows import IGNORE, TokenRow

TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] "
    "+ '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
SPECIAL = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
EARLIER = [
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "The capital of France is Paris."},
]
LAST = {"role": "user", "content": "And the weather today?"}
GOOD = {"role": "assistant", "content": "It rains in Paris."}
BAD = {"role": "assistant", "content": "The dog ran to the river."}
SYSTEM = {"role": "system", "content": "Answer kindly."}
ROWS: dict[str, tuple[dict[str, Any], list[dict[str, str]]]] = {
    "prompt of messages": (
        {
            "prompt": [*EARLIER, LAST],
            "chosen": GOOD["content"],
            "rejected": BAD["content"],
        },
        [*EARLIER, LAST],
    ),
    "answers as messages": (
        {"prompt": [SYSTEM, *EARLIER, LAST], "chosen": [GOOD], "rejected": [BAD]},
        [SYSTEM, *EARLIER, LAST],
    ),
    "whole conversations": (
        {"chosen": [*EARLIER, LAST, GOOD], "rejected": [*EARLIER, LAST, BAD]},
        [*EARLIER, LAST],
    ),
    "history": (
        {
            "system": SYSTEM["content"],
            "history": [[EARLIER[0]["content"], EARLIER[1]["content"]]],
            "prompt": LAST["content"],
            "chosen": GOOD["content"],
            "rejected": BAD["content"],
        },
        [SYSTEM, *EARLIER, LAST],
    ),
}


Side = tuple[list[int], list[int]]
"""Token ids and labels of one answer with its prompt."""


def with_template(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def pair(tokenizer: PreTrainedTokenizerFast, values: dict[str, Any]) -> list[Side]:
    row = SchemaReader(Source(source="x"), "preference").read(SourceRecord("x:1", values))
    rows = RowTokenizer.from_tokenizer(
        tokenizer, chat_template=None, want="preference", max_length=512
    )
    (outcome,) = rows([row])  # type: ignore[list-item]
    assert isinstance(outcome, list), outcome
    (both,) = outcome
    assert isinstance(both, TokenRow) and both.split
    ids, labels, split = both.input_ids.tolist(), both.labels.tolist(), both.split
    return [(ids[:split], labels[:split]), (ids[split:], labels[split:])]


@pytest.mark.parametrize("make", [byte_level, sentencepiece_like])
@pytest.mark.parametrize("name", ROWS)
def test_prompts_and_answers_are_masked_as_the_template_renders_them(make: Any, name: str) -> None:
    tokenizer = with_template(make())
    values, prompt = ROWS[name]
    chosen, rejected = pair(tokenizer, values)
    asked = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    for (input_ids, labels), answer in ((chosen, GOOD), (rejected, BAD)):
        whole = tokenizer.apply_chat_template([*prompt, answer], tokenize=False)
        assert whole.startswith(asked)
        expected = tokenizer(whole.rstrip("\n"), add_special_tokens=False)["input_ids"]
        ids = [token for token in input_ids if token != tokenizer.bos_token_id]
        end = tokenizer.convert_tokens_to_ids("<|end|>")
        shown = ids[: len(ids) - ids[::-1].index(end)]
        assert shown == expected
        learned = [i for i, label in enumerate(labels) if label != IGNORE]
        assert learned == list(range(learned[0], learned[-1] + 1)), "one answer, without gaps"
        text = tokenizer.decode([labels[i] for i in learned])
        assert text.startswith(answer["content"]) and "<|end|>" in text
        assert "<|assistant|>" not in text and EARLIER[1]["content"] not in text
        before = tokenizer.decode(input_ids[: learned[0]])
        assert before.rstrip().endswith("<|assistant|>")
        assert before.count("<|end|>") == len(prompt), "earlier answers are context"
